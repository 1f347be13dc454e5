"""Results that `LiftedPoses.save` and `Annotations.save` wrote, read again."""

import json
import shlex
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from methods.inference.results import Annotations, LiftedPoses
from noise2pose.annotation.layout import ARRAYS
from noise2pose.bodies import BodyModel
from noise2pose.errors import InputError
from noise2pose.keypoints.arrays import counted, frame_rate
from noise2pose.rendering.levelling import Levels

FILES = ("poses.npz", "annotations.npz")
_OF_POSES = ("joints_3d", "keypoints_2d", "level_rotation", "level", "names", "images", "people", "frames", "clips")
# Options that change nothing in poses.npz, and whether a value follows them.
_ELSEWHERE = {"--format": True, "--max_pictures": True, "--device": True, "--batch_size": True, "--profile": False}
_SHOWN = 4  # files of a folder that a message names


def load_result(place: str | Path, body: str | Path | None = None) -> LiftedPoses | Annotations:
    """Reads what a method answered.

    What the files do not hold is not known of the result: a lifter's title and the skeleton of its input, and an
    annotator's photographs.

    Args:
        place: folder that was written, or the npz file in it.
        body: name or file of the body of annotations; None for the one that they name.

    Raises:
        InputError: if nothing is there, the folder holds no result or several, a file is damaged, or the body is
            missing.
    """
    path = find_result(Path(place))
    arrays = _read(path)
    return _annotations(path, arrays, body) if path.name == FILES[1] else _poses(path, arrays)


def made_with(command: str) -> str:
    """The part of a command that decides what poses.npz holds: without what is written beside it, and the device."""
    kept, words = [], shlex.split(command)
    while words:
        word = words.pop(0)
        name, equals, _ = word.partition("=")
        if name not in _ELSEWHERE:
            kept.append(word)
        elif _ELSEWHERE[name] and not equals:
            words = words[1:]
    return shlex.join(kept)


def check_same(folder: Path, command: str) -> None:
    """Refuses a folder whose poses.npz another command wrote, before anything is computed.

    Args:
        folder: to write to.
        command: of `made_with`.

    Raises:
        InputError: if it holds other poses.
    """
    path = folder / FILES[0]
    if not path.is_file():
        return
    try:
        with np.load(path, allow_pickle=False) as file:
            before = str(file["command"]) if "command" in file.files else "an earlier version, or Python"
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zipfile.LargeZipFile):
        return  # a file that nobody can read is replaced
    if before != command:
        raise InputError(
            f"{folder} holds poses that another command made ({before}): delete {path}, or write to another folder"
        )


def find_result(place: Path) -> Path:
    """The npz file that is meant.

    Raises:
        InputError: if nothing is there, or the folder holds no result or several.
    """
    if not place.exists():
        raise InputError(f"{place} does not exist: give the folder that `noise2pose predict SOURCE --output DIR` wrote")
    if place.is_file():
        if place.name not in FILES:
            raise InputError(f"{place} is none of {' and '.join(FILES)}: give one of these, or its folder")
        return place
    found = [place / name for name in FILES if (place / name).is_file()]
    if len(found) > 1:
        raise InputError(f"{place} holds {' and '.join(FILES)}: say which, as {found[0]}")
    if found:
        return found[0]
    inside = sorted({path.parent for name in FILES for path in place.glob(f"*/{name}")})
    if inside:
        raise InputError(f"{place} holds no {' or '.join(FILES)}, but folders in it do: give {_some(inside)}")
    held = sorted(path.name for path in place.iterdir())
    raise InputError(
        f"{place} holds no {' or '.join(FILES)}, {f'only {_some(held)}' if held else 'it is empty'}: write them with "
        f"`noise2pose predict SOURCE --output {place}`"
    )


def _some(names: Sequence[str | Path]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(map(str, names[:_SHOWN])) + (f" and {more} more" if more > 0 else "")


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zipfile.LargeZipFile) as error:
        raise InputError(f"{path} is damaged ({str(error) or type(error).__name__}): predict again") from None


def _check(path: Path, arrays: dict[str, np.ndarray], shapes: dict[str, tuple[int, ...]]) -> None:
    """Refuses files in which an array is missing, or of another shape after the number of poses."""
    if missing := [key for key in shapes if key not in arrays]:
        raise InputError(f"{path} lacks {', '.join(missing)}: it was not written by this version; predict again")
    count = len(arrays["joints_3d"]) if arrays["joints_3d"].ndim else 0
    for key, shape in shapes.items():
        if arrays[key].shape != (count, *shape):
            expected = f"{(count, *shape)}, as joints_3d has {counted(count, 'pose')}"
            raise InputError(f"{path}: {key} has the shape {arrays[key].shape}, expected {expected}")
    if not count:
        raise InputError(f"{path} holds nobody")


def _poses(path: Path, arrays: dict[str, np.ndarray]) -> LiftedPoses:
    known: dict[str, tuple[int, ...]] = {key: () for key in _OF_POSES}
    known |= {"joints_3d": (17, 3), "keypoints_2d": (17, 3), "level_rotation": (3, 3)}
    optional = {"uncertainty": (17,), "image_size": (2,), "times": (), "from_camera": (3, 3)}
    known |= {key: shape for key, shape in optional.items() if key in arrays}
    if "hypotheses" in arrays:
        known["hypotheses"] = (arrays["hypotheses"].shape[1] if arrays["hypotheses"].ndim > 1 else 0, 17, 3)
    _check(path, arrays, known)
    points = arrays["keypoints_2d"]
    checkpoint = str(arrays.get("checkpoint", ""))
    return LiftedPoses(
        joints_3d=arrays["joints_3d"],
        uncertainty=arrays.get("uncertainty"),
        hypotheses=arrays.get("hypotheses"),
        keypoints_2d=points,
        image_size=arrays.get("image_size"),
        names=arrays["names"].tolist(),
        images=arrays["images"].tolist(),
        people=[person or None for person in arrays["people"].tolist()],
        frames=[None if frame < 0 else frame for frame in arrays["frames"].tolist()],
        method=checkpoint,
        checkpoint=checkpoint,
        input_skeleton=LiftedPoses.skeleton,
        num_hidden=int((points[..., 2] <= 0).sum()),
        about=f"{counted(len(points), 'pose')} of {path}",
        is_clip=bool((arrays["clips"] >= 0).any()),
        levels=Levels(arrays["level_rotation"], arrays["level"].tolist()),
        fps=float(arrays["fps"]) if "fps" in arrays else None,
        times=arrays["times"].tolist() if "times" in arrays else [],
        frame=str(arrays.get("frame", LiftedPoses.frame)),
        from_camera=arrays.get("from_camera"),
        clips=arrays["clips"].tolist(),
    )


def _annotations(path: Path, arrays: dict[str, np.ndarray], body: str | Path | None) -> Annotations:
    _check(path, arrays, {key: shape for key, (shape, _) in ARRAYS.items()})
    beside = path.with_suffix(".json")
    try:
        content = json.loads(beside.read_text()) if beside.is_file() else {}
        info = {"camera_pitch": None, "method": "", "keypoints_about": "", **content.get("info", {})}
        fps = None if info.get("fps") is None else frame_rate(str(beside), info["fps"])
        skipped = [(str(entry["file_name"]), str(entry["reason"])) for entry in content.get("skipped", [])]
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise InputError(f"{beside} is damaged ({error}): predict again, or delete it") from None
    name = str(body or arrays.get("body") or "free")
    if name != "free" and not Path(name).is_file():
        raise InputError(f"{path} has bodies of {name}, which is not there: say where it is now with --body FILE")
    return Annotations(
        arrays={key: arrays[key] for key in ARRAYS},
        skipped=skipped,
        body=BodyModel.load(name),
        photographs=[],
        focal=None,
        info=info,
        made_from={},
        joint_maps=lambda batch: None,
        fps=fps,
    )
