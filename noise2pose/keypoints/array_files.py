"""Keypoints in files of NumPy: arrays by name, one array, and VideoPose3D's pickled dictionaries.

Their contents are described in `noise2pose.keypoints.files`.
"""

import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from noise2pose.errors import InputError
from noise2pose.keypoints import arrays
from noise2pose.keypoints.arrays import Keypoints, frame_rate
from noise2pose.keypoints.entries import CONFIDENCES
from noise2pose.keypoints.images import image_path
from noise2pose.limits import check_arrays
from noise2pose.safe_pickle import read_object_npz

_ARRAYS = ("keypoints", "keypoints_2d", "arr_0")  # the last is what numpy calls an array without a name
_NO_NPZ = (OSError, ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error)


def read_arrays(path: Path, skeleton: str | None) -> Keypoints:
    """Reads an npz or npy file, or a custom video of VideoPose3D.

    Args:
        path: the file.
        skeleton: of its joints; None for what it says itself, else by their number.

    Raises:
        InputError: if it is broken, holds no keypoints or says another skeleton.
    """
    expected = "expected an array `keypoints` of shape (poses, joints, 2 or 3)"
    try:
        check_arrays(path)
        file = np.load(path, allow_pickle=False)
        if isinstance(file, np.ndarray):
            return arrays.from_array(str(path), file, skeleton, stem=path.stem)
        with file:
            if "positions_2d" in file.files:
                return _read_videopose3d(path, skeleton)
            key = next((key for key in _ARRAYS if key in file.files), None)
            if key is None:
                raise InputError(f"{path}: {expected}, found {', '.join(file.files) or 'nothing'}")
            values = _with_scores(str(path), file[key], {key: file[key] for key in CONFIDENCES if key in file.files})
            more = {key: file[key] for key in ("skeleton", "image_size", "names", "images", "people", "frames", "fps")
                    if key in file.files}  # fmt: skip
    except InputError:
        raise
    except _NO_NPZ as error:
        if "Object arrays" in str(error):
            raise InputError(f"{path}: holds pickled Python objects, which are not read; {expected}") from error
        about = "it is no file of NumPy" if "allow_pickle" in str(error) else error
        raise InputError(f"{path} cannot be read as an npz file ({about}); {expected}") from error
    if "skeleton" in more and skeleton not in (None, str(more["skeleton"])):
        raise InputError(f"{path}: skeleton is {skeleton}, but the file says {more['skeleton']}")
    stated = str(more["skeleton"]) if "skeleton" in more else skeleton
    names = more.get("images", more.get("names"))
    if names is not None and names.ndim == 1:
        names = np.array([image_path(str(name)) for name in names])
    found = arrays.from_array(
        str(path), values, stated, more.get("image_size"), names, path.stem, more.get("people"), more.get("frames")
    )
    return replace(found, fps=frame_rate(str(path), more["fps"]) if "fps" in more else None)


def _with_scores(title: str, values: np.ndarray, scores: dict[str, np.ndarray]) -> np.ndarray:
    """The keypoints with their confidences, where these are an array of their own, (T, J) or (T, P, J).

    Raises:
        InputError: if the array has another shape.
    """
    if not scores or values.ndim < 2 or values.shape[-1] not in (2, 3):
        return values
    key, found = next(iter(scores.items()))
    found = found[..., 0] if found.ndim == values.ndim and found.shape[-1] == 1 else found
    if found.shape != values.shape[:-1]:
        raise InputError(f"{title}: {key} has shape {found.shape}, expected {values.shape[:-1]}, one for each joint")
    return np.concatenate((values[..., :2], found[..., None]), axis=-1)


def _read_videopose3d(path: Path, skeleton: str | None) -> Keypoints:
    """VideoPose3D's file of custom videos: one clip each, one person; files of a data set have many views instead."""
    content = read_object_npz(path)
    videos, metadata = content["positions_2d"], content.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    if not isinstance(videos, dict) or not all(isinstance(actions, dict) for actions in videos.values()):
        raise InputError(f"{path}: positions_2d is not as VideoPose3D writes it")
    clips = [(video, action, views) for video, actions in videos.items() for action, views in actions.items()]
    if len(clips) != 1 or len(clips[0][2]) != 1:
        raise InputError(
            f"{path}: holds {len(clips)} clips ({', '.join(str(video) for video in list(videos)[:3])}), expected one: "
            "a data set of VideoPose3D is read by `noise2pose prepare`, a custom video is a file of its own"
        )
    video, _, views = clips[0]
    layout = {"coco": "coco_17", "h36m": "h36m_17"}.get(str(metadata.get("layout_name")))
    if layout is not None and skeleton not in (None, layout):
        raise InputError(f"{path}: skeleton is {skeleton}, but the file says {layout}")
    size = (metadata.get("video_metadata") or {}).get(video) or {}
    known = [size.get("w"), size.get("h")] if size.get("w") and size.get("h") else None
    found = arrays.from_array(str(path), views[0], layout or skeleton, known, stem=Path(str(video)).stem)
    fps = size.get("fps")
    return replace(found, form="a custom video of VideoPose3D", fps=frame_rate(str(path), fps) if fps else None)
