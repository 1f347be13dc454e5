"""Annotation sets that grow on the disk part by part, so that a killed process loses one part at most.

DIR/state.json               what the set is made of and from: see `AnnotationWriter`
   /parts/part_000000.npz    finished batches, until all are
   /annotations.npz  .json   the set, see `noise2pose.annotation.layout`

Nothing in these files depends on when or how often the process was started, so the same work gives the same bytes.
"""

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from noise2pose.annotation import layout
from noise2pose.errors import InputError
from noise2pose.files import commit, write_npz, write_text

_ANOTHER = {"checkpoint": "another checkpoint", "model": "another model", "seed_everything": "another seed"}
_SKIPPED = ("skipped_files", "skipped_reasons")
Settle = Callable[[dict[str, np.ndarray]], tuple[dict[str, np.ndarray], str]]
Part = tuple[Mapping[str, np.ndarray] | None, Sequence[tuple[str, str]]]  # of `annotate_batch`, and what was left out


class Summary(NamedTuple):
    """What a finished set holds."""

    people: int
    suspect: int
    skipped: int


class AnnotationWriter:
    """Writes one annotation set, or resumes one that an interrupted process began.

    Args:
        folder: DIR.
        info: what annotations.json says about the set's making; `body` names the body, `camera_pitch` is
            that of `layout.levels_of`. The commit is added.
        fingerprint: what the set depends on, by name, such as hashes of the checkpoint, the options and the inputs.

    Raises:
        InputError: if the folder holds a set, finished or not, that was made from something else.
    """

    def __init__(self, folder: Path, info: Mapping[str, Any], fingerprint: Mapping[str, str]) -> None:
        self.folder = folder
        self.info = {**info, "commit": commit()}
        self.state = {"fingerprint": dict(fingerprint), "finished": False}
        path = folder / "state.json"
        if path.is_file():
            try:
                found = json.loads(path.read_text(encoding="utf-8"))
                before, finished = dict(found["fingerprint"]), bool(found["finished"])
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise InputError(f"{path} cannot be read ({error}): delete {folder}") from error
            if before != self.state["fingerprint"]:
                names = {**before, **fingerprint}
                changed = [name for name in names if before.get(name) != fingerprint.get(name)]
                said = " and ".join(_ANOTHER.get(name, f"other {name}") for name in changed)
                raise InputError(f"{folder} holds annotations made with {said}: delete it, or write to another folder")
            self.state["finished"] = finished
            if finished:
                shutil.rmtree(folder / "parts", ignore_errors=True)  # a kill may have left them
        elif (folder / "annotations.npz").exists():
            raise InputError(f"{folder} holds annotations without {path.name}: delete it, or write to another folder")
        else:
            shutil.rmtree(folder / "parts", ignore_errors=True)  # what these were made from is unknown
            write_text(path, json.dumps(self.state, indent=2) + "\n")

    @property
    def finished(self) -> bool:
        """Whether the set is complete."""
        return bool(self.state["finished"])

    def part(self, number: int) -> Path:
        """Where a part is until the set is complete."""
        return self.folder / "parts" / f"part_{number:06d}.npz"

    def has(self, number: int) -> bool:
        """Whether a part is written already."""
        return self.finished or self.part(number).is_file()

    def write(
        self, number: int, arrays: Mapping[str, np.ndarray] | None, skipped: Sequence[tuple[str, str]] = ()
    ) -> None:
        """Writes a part.

        Args:
            number: parts are put together in this order.
            arrays: of `annotate_batch`, or None if nobody could be annotated.
            skipped: file name and reason of what was left out.
        """
        files = {key: np.array([entry[i] for entry in skipped], dtype=np.str_) for i, key in enumerate(_SKIPPED)}
        write_npz(self.part(number), **(arrays or layout.empty()), **files)

    def finish(
        self, parts: int, skipped: Sequence[tuple[str, str]] = (), settle: Settle = lambda arrays: (arrays, "")
    ) -> Summary:
        """Joins the parts into the set; a finished set is only read.

        Args:
            parts: how many there are.
            skipped: what was left out before there were parts.
            settle: changes the whole set before it is written, and says how; `info` keeps that as `motion`.

        Raises:
            InputError: if a part is missing or broken.
        """
        if not self.finished:
            joined, left_out = join_parts([self._read(number) for number in range(parts)], skipped)
            arrays, said = settle(joined)
            self.info |= {"motion": said} if said else {}
            self.save(arrays, left_out)
        arrays = read_annotations(self.folder)
        return Summary(len(arrays["names"]), int(arrays["suspect"].sum()), len(read_skipped(self.folder)))

    def save(self, arrays: Mapping[str, np.ndarray], skipped: Sequence[tuple[str, str]]) -> None:
        """Writes the whole set at once and removes its parts; a finished set stays as it is.

        Args:
            arrays: of `layout.ARRAYS`.
            skipped: file name and reason of everything that was left out.
        """
        if not self.finished:
            levels = layout.levels_of(arrays, self.info.get("camera_pitch"))
            content = layout.to_coco(arrays, self.info, skipped)
            write_text(self.folder / "annotations.json", layout.to_text(content))
            write_npz(
                self.folder / "annotations.npz",
                **{key: arrays[key] for key in (*layout.ARRAYS, *layout.LEVELLED) if key in arrays},
                level_rotation=levels.rotation,
                level=np.array(levels.about, dtype=np.str_),
                gender=np.array(str(self.info.get("gender", "neutral"))),
                body=np.array(str(self.info.get("body", ""))),
            )
            self.state["finished"] = True
            write_text(self.folder / "state.json", json.dumps(self.state, indent=2) + "\n")
        shutil.rmtree(self.folder / "parts", ignore_errors=True)

    def _read(self, number: int) -> Part:
        path = self.part(number)
        try:
            part = _load(path)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"{path} cannot be read ({error}): delete it and run again") from error
        return part, list(zip(*(part[key].tolist() for key in _SKIPPED), strict=True))


def join_parts(
    parts: Sequence[Part], skipped: Sequence[tuple[str, str]] = ()
) -> tuple[dict[str, np.ndarray], list[tuple[str, str]]]:
    """The arrays of a set from those of its parts, and everything that was left out, sorted.

    Args:
        parts: in their order; None for the arrays of a part in which nobody could be annotated.
        skipped: what was left out before there were parts.
    """
    found = [arrays or layout.empty() for arrays, _ in parts] or [layout.empty()]
    joined = {key: np.concatenate([arrays[key] for arrays in found]) for key in layout.ARRAYS}
    return joined, sorted([*skipped, *(entry for _, left_out in parts for entry in left_out)])


def read_annotations(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of a finished set.

    Raises:
        InputError: if annotations.npz is missing or broken.
    """
    path = folder / "annotations.npz"
    try:
        return _load(path)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read ({error})") from error


def read_about(folder: Path, key: str = "keypoints_about") -> str:
    """What the keypoints of a finished set were read as, in words, or something else that its `info` says.

    Raises:
        InputError: if annotations.json is missing or broken.
    """
    return str(_content(folder)["info"].get(key, ""))


def read_skipped(folder: Path) -> list[tuple[str, str]]:
    """File name and reason of everything that was left out of a finished set.

    Raises:
        InputError: if annotations.json is missing or broken.
    """
    return [(str(entry["file_name"]), str(entry["reason"])) for entry in _content(folder)["skipped"]]


def _content(folder: Path) -> dict[str, Any]:
    path = folder / "annotations.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {"info": dict(content["info"]), "skipped": list(content["skipped"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} cannot be read ({error})") from error


def fingerprint(*values: Any) -> str:
    """A hash of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {key: file[key] for key in file.files}
