"""Keypoints in files of NumPy: arrays by name, one array, and VideoPose3D's pickled dictionaries.

Their contents are described in `noise2pose.keypoints.files`.
"""

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from noise2pose.errors import InputError
from noise2pose.keypoints import arrays
from noise2pose.keypoints.arrays import Keypoints, frame_rate, regular
from noise2pose.keypoints.entries import CONFIDENCES, FRAME
from noise2pose.keypoints.images import image_path
from noise2pose.limits import check_arrays
from noise2pose.safe_pickle import read_object_npz

_ARRAYS = ("keypoints", "keypoints_2d", "arr_0")  # the last is what numpy calls an array without a name
# How else what is said of the poses is called, in small letters.
_SPELLINGS = {
    "skeleton": (),
    "image_size": ("image_sizes", "img_size"),
    "images": ("image_names", "file_names", "names"),
    "people": ("person", "person_id", "person_ids", "track_id", "track_ids", "tracking_id", "instance_id"),
    "frames": ("frame_ids", "frame_indices", *FRAME),
    "fps": ("frame_rate", "framerate"),
}
_PER_POSE = ("people", "frames")
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
            found = {key: file[key] for key in _read_keys(file.files)}
            listed = file.files
    except InputError:
        raise
    except _NO_NPZ as error:
        if "Object arrays" in str(error):
            raise InputError(f"{path}: holds pickled Python objects, which are not read; {expected}") from error
        about = "it is no file of NumPy" if "allow_pickle" in str(error) else error
        raise InputError(f"{path} cannot be read as an npz file ({about}); {expected}") from error
    return from_named(path, found, skeleton, listed)


def _read_keys(listed: Sequence[str]) -> list[str]:
    """Those of some keys that are read."""
    spelled = {spelling for key, others in _SPELLINGS.items() for spelling in (key, *others)}
    return [key for key in listed if key in (*_ARRAYS, *CONFIDENCES) or key.lower() in spelled]


def from_named(path: Path, arrays_of: Mapping[str, Any], skeleton: str | None, listed: Sequence[str]) -> Keypoints:
    """Keypoints from arrays by name, as an npz file or a JSON object has them.

    Args:
        path: of the file.
        arrays_of: what is read of the file, by its keys.
        skeleton: of the joints; None for what the file says itself, else by their number.
        listed: all keys of the file; those that are not read are told.

    Raises:
        InputError: if there are no keypoints, or the file says another skeleton.
    """
    title, expected = str(path), "expected an array `keypoints` of shape (poses, joints, 2 or 3)"
    key = next((key for key in _ARRAYS if key in arrays_of), None)
    if key is None:
        raise InputError(f"{path}: {expected}, found {', '.join(listed) or 'nothing'}")
    values = regular(title, arrays_of[key])
    scores = next((name for name in CONFIDENCES if name in arrays_of), None)
    values = (
        values if scores is None else _with_scores(title, values, scores, regular(title, arrays_of[scores], scores))
    )
    more, used = {}, {key, scores}
    for name in _SPELLINGS:
        said = _said(arrays_of, name, len(values))
        if said is not None:
            more[name] = np.asarray(arrays_of[said])
            used.add(said)
    if "skeleton" in more and skeleton not in (None, str(more["skeleton"])):
        raise InputError(f"{path}: skeleton is {skeleton}, but the file says {more['skeleton']}")
    stated = str(more["skeleton"]) if "skeleton" in more else skeleton
    names = more.get("images")
    if names is not None and names.ndim == 1:
        names = np.array([image_path(str(name)) for name in names])
    found = arrays.from_array(
        title, values, stated, more.get("image_size"), names, path.stem, more.get("people"), more.get("frames")
    )
    unused = [name for name in listed if name not in used]
    notes = (*found.notes, f"not read: {', '.join(unused)}") if unused else found.notes
    return replace(found, fps=frame_rate(title, more["fps"]) if "fps" in more else None, notes=notes)


def _said(arrays_of: Mapping[str, Any], name: str, number: int) -> str | None:
    """The key that says something of some poses; keys in another spelling must have a value for each pose."""
    by_spelling = {key.lower(): key for key in arrays_of}
    if name in by_spelling:
        return by_spelling[name]
    others = [by_spelling[spelling] for spelling in _SPELLINGS[name] if spelling in by_spelling]
    return next((key for key in others if name not in _PER_POSE or np.shape(arrays_of[key]) == (number,)), None)


def _with_scores(title: str, values: np.ndarray, key: str, found: np.ndarray) -> np.ndarray:
    """The keypoints with their confidences, where these are an array of their own, (T, J) or (T, P, J).

    Raises:
        InputError: if the array has another shape.
    """
    if values.ndim < 2 or values.shape[-1] not in (2, 3):
        return values
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
