"""3DPW as 3DCrowdNet, JOTR and DPMesh pass it on (COCO-style JSON files with OpenPose's joints), and its subsets.

`images` have `id`, `width`, `height`, `sequence`, `file_name` and `cam_param` {`focal`, `princpt`}; `annotations` have
`id`, `image_id`, `bbox` (x, y, width, height), `smpl_param` {`pose` 72, `shape` 10, `trans` 3, `gender`} and
`openpose_result` (18 x 3). Unlike the pickles they have the body in the camera frame already: 3DCrowdNet's loader adds
`trans` to SMPL's mesh and projects it as it is. Only frames that count are in them.

The file of the Crowd subset, {annotation id: {`coco_joints`: 17 x 3}}, holds HigherHRNet's joints; people who are not
in it keep OpenPose's, as in 3DCrowdNet.

The occlusion subsets: OC (people behind objects) and PC (people behind people) were chosen by Zhang et al. (CVPR 2020)
and Sun et al. (ROMP, ICCV 2021); issue 60 of Arthur151/ROMP lists them. OC takes every number of each recording there,
and both lists run through the training, validation and test sequences alike, so whoever trained on 3DPW has seen most
of them. Crowd is 3DCrowdNet's (Choi et al., CVPR 2022): two sequences of the validation split.

Shape letters: N people, J joints.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int

from datamodules.preparation import Rows
from datamodules.sources.common.files import (
    Faults,
    find_file,
    finite_numbers,
    missing_files,
    numbers,
    read_dictionary,
    read_json,
)
from datamodules.sources.common.joints import extent, seen_joints
from noise2pose.errors import InputError
from noise2pose.images.photographs import open_image
from noise2pose.skeletons import convert_partly

SUBSETS = ("oc", "pc", "crowd")
SPLITS = ("train", "validation", "test")  # as the authors call them
COUNTS = {"oc": 20_243, "pc": 2_218, "crowd": 1_923}  # people, as JOTR and DPMesh report them
FILES = {"oc": "3DPW_oc.json", "pc": "3DPW_pc.json", "crowd": "3DPW_validation_crowd_hhrnet_result.json"}
_OC = {
    *("courtyard_backpack", "courtyard_basketball", "courtyard_bodyScannerMotions", "courtyard_box", "courtyard_golf"),
    *("courtyard_jacket", "courtyard_laceShoe", "downtown_stairs", "flat_guitar", "flat_packBags", "outdoors_climbing"),
    *("outdoors_crosscountry", "outdoors_fencing", "outdoors_freestyle", "outdoors_golf", "outdoors_parcours"),
    "outdoors_slalom",
}
_PC = {  # first frame, and the one behind the last
    "courtyard_basketball_00": (200, 280),
    "courtyard_captureSelfies_00": (500, 600),
    "courtyard_dancing_00": (60, 370),
    "courtyard_dancing_01": (60, 270),
    "courtyard_hug_00": (100, 500),
    "downtown_bus_00": (1620, 1900),
}
CROWD = ("courtyard_dancing_00", "courtyard_hug_00")
MIN_CONFIDENCE = 0.05  # of a joint that the box must hold, as in 3DCrowdNet, JOTR and DPMesh
_SMPL = {"pose": (72,), "shape": (10,), "trans": (3,)}
_GENDERS = {"neutral": 0, "male": 1, "female": 2, "n": 0, "m": 1, "f": 2}


def read(
    path: Path, root: Path, split: str, has_images: bool, subsets: tuple[str, ...], crowd: Path | None = None
) -> Rows:
    """Reads one annotation file.

    Args:
        path: the file.
        root: folder that `imageFiles` is in.
        split: or subset that its people belong to.
        has_images: whether images are wanted; people whose image is missing are then skipped.
        subsets: to count the members of.
        crowd: HigherHRNet's joints of the Crowd subset: only its people are read then.

    Raises:
        InputError: if a file cannot be read or is of another kind.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not all(isinstance(content.get(k), list) for k in ("images", "annotations")):
        raise InputError(f"{path}: expected the lists `images` and `annotations`, as in 3DPW_latest_test.json")
    faults = Faults(path.name)
    higher = {} if crowd is None else read_dictionary(crowd, faults)
    images = _Images(content["images"], root, has_images, faults)
    rows: dict[int, dict[str, Any]] = {}
    for annotation in content["annotations"]:
        try:
            number = int(finite_numbers(annotation, "id", ()))
            image = images.of(annotation)
            if crowd is not None and image["video"] not in CROWD:
                continue
            if number in rows:
                raise InputError("has the id of another one")
            rows[number] = {"person": number, **image, **_person(annotation, higher.get(str(number)))}
        except InputError as error:
            name = annotation.get("id") if isinstance(annotation, dict) else annotation
            faults.add(f"annotation {name}"[:80], f"{error}; skipped")
    people = sorted(rows.values(), key=lambda row: (row["video"], row["frame"], row["person"]))
    return _rows(people, split, has_images, subsets, crowd is not None, images.notes + faults.lines())


def splits_of(subset: str) -> tuple[str, ...]:
    """The splits that a subset takes people from."""
    return ("validation",) if subset == "crowd" else SPLITS


def members(
    subset: str, video: str, frames: Int[np.ndarray, " N"], detected: Bool[np.ndarray, " N"]
) -> Bool[np.ndarray, " N"]:
    """Which people of a recording are in a subset, among those whose frames count.

    Args:
        subset: one of `SUBSETS`.
        video: name of the recording, such as "downtown_bus_00".
        frames: counted from 0.
        detected: whether the authors' 2-D joints are there, without which ROMP leaves people out of PC.
    """
    if subset == "oc":
        return np.full(len(frames), video.rsplit("_", 1)[0] in _OC)
    if subset == "crowd":
        return np.full(len(frames), video in CROWD)
    first, behind = _PC.get(video, (0, 0))
    return (frames >= first) & (frames < behind) & detected


def subset_files(source: Path) -> dict[str, tuple[Path, ...]]:
    """The community's annotation files of each subset, as far as they are there."""
    names: dict[str, tuple[str, ...]] = {subset: (name,) for subset, name in FILES.items()}
    names["crowd"] = ("3DPW_latest_validation.json", *names["crowd"])
    found = {subset: [find_file(source, name) for name in files] for subset, files in names.items()}
    return {subset: tuple(path for path in paths if path is not None) for subset, paths in found.items() if all(paths)}


def _rows(
    people: list[dict[str, Any]],
    split: str,
    has_images: bool,
    subsets: tuple[str, ...],
    is_crowd: bool,
    skipped: list[tuple[str, str]],
) -> Rows:
    videos = sorted({row["video"] for row in people})
    images = sorted({row["name"] for row in people})
    places = {name: place for place, name in enumerate(images)}
    of = np.array([videos.index(row["video"]) for row in people], np.int32)
    names = [key for key in people[0] if key not in ("video", "name", "boxed", "higher")] if people else []
    arrays = {key: np.array([row[key] for row in people]) for key in names}
    if has_images:
        arrays["picture"] = np.array([places[row["name"]] for row in people], np.int32)
    counts = {
        f"{split}: sequences": len(videos),
        f"{split}: frames": len(images),
        f"{split}: people": len(people),
        "boxes as annotated, since no joint was detected": sum(not row["boxed"] for row in people),
    }
    if is_crowd:
        counts[f"{split}: people detected by HigherHRNet"] = sum(row["higher"] for row in people)
    for subset in subsets:
        chosen = [
            members(
                subset, row["video"], np.array([row["frame"]]), row["keypoints_2d_detected"][:, 2].any(keepdims=True)
            )
            for row in people
        ]
        counts[f"{subset}: people"] = int(np.sum(chosen))
    sequences = [{"name": video, "split": split, "video": video, "subject": video, "action": video} for video in videos]
    return Rows(arrays, sequences, of, images if has_images else [], counts, skipped)


def _person(annotation: dict[str, Any], higher: Any) -> dict[str, Any]:
    """The columns of one annotation; InputError says what it lacks."""
    keypoints = seen_joints(numbers(annotation, "openpose_result", (18, 3)))
    if higher is not None:
        found = torch.from_numpy(seen_joints(numbers(higher, "coco_joints", (17, 3))))
        keypoints = convert_partly(found, "coco_17", "openpose_18").numpy()
    smpl = annotation.get("smpl_param") or {}
    pose, betas, trans = (finite_numbers(smpl, key, shape) for key, shape in _SMPL.items())
    gender = str(smpl.get("gender", "none given")).lower()
    if gender not in _GENDERS:
        raise InputError(f"has the gender `{gender}`, expected male, female or neutral")
    bounds = extent(keypoints[:, :2], keypoints[:, 2] > MIN_CONFIDENCE)
    boxed = bool(np.isfinite(bounds).all())
    if not boxed:
        x, y, width, height = finite_numbers(annotation, "bbox", (4,))
        bounds = np.array([x, y, x + width, y + height])
        if max(width, height) <= 0:
            raise InputError("has neither detected joints nor a `bbox` with an area")
    return {
        "keypoints_2d_detected": keypoints,
        "poses": pose.reshape(24, 3),
        "betas": betas,
        "translation": trans,
        "gender": _GENDERS[gender],
        "has_smpl": True,
        "bounds": bounds,
        "valid": True,
        "boxed": boxed,
        "higher": higher is not None,
    }


class _Images:
    """The images of a file by id, with their camera; those that are missing are named."""

    def __init__(self, images: list[Any], root: Path, has_images: bool, faults: Faults) -> None:
        self.root = root
        self.has_images = has_images
        self.notes: list[tuple[str, str]] = []
        self._sizes: dict[str, np.ndarray] = {}
        self._images: dict[Any, Any] = {}
        for image in images:
            number = image.get("id") if isinstance(image, dict) else None
            if number in self._images:
                faults.add(f"image {number}", "an image of this id was there before; the first counts")
            elif number is not None:
                self._images[number] = image
        self._missing = missing_files(root, map(_name, self._images.values())) if has_images else set()

    def of(self, annotation: Any) -> dict[str, Any]:
        """Columns of the image of an annotation; InputError says what is wrong with it."""
        if not isinstance(annotation, dict) or annotation.get("image_id") not in self._images:
            raise InputError("has an `image_id` that is not among the images")
        image = self._images[annotation["image_id"]]
        name = _name(image)
        number = re.search(r"(\d+)\D*$", str(image.get("file_name")))
        if number is None:
            raise InputError("has an image whose name ends in no number")
        size = np.array([*finite_numbers(image, "width", (1,)), *finite_numbers(image, "height", (1,))])
        video = str(image.get("sequence"))
        return {
            "video": video,
            "name": name,
            "frame": int(number[1]),
            "focal": finite_numbers(image.get("cam_param"), "focal", (2,)),
            "principal_point": finite_numbers(image.get("cam_param"), "princpt", (2,)),
            "image_size": self._size(video, name, size) if self.has_images else size,
        }

    def _size(self, video: str, name: str, said: np.ndarray) -> np.ndarray:
        """Width and height: those of the first image of a video, where the annotation says something else."""
        if name in self._missing:
            raise InputError("has an image that is missing")
        if video not in self._sizes:
            try:
                found = np.array(open_image(name, self.root / name).size, dtype=np.float64)
            except InputError as error:
                self._missing.add(name)
                raise InputError(f"has an image that cannot be opened ({error})") from error
            self._sizes[video] = found
            if not np.array_equal(found, said):
                width, height = found.astype(int)
                self.notes.append((name, f"is {width} x {height}, not {said} as annotated; the image counts"))
        return self._sizes[video]


def _name(image: dict[str, Any]) -> str:
    """Of an image, relative to the root."""
    return f"imageFiles/{image.get('sequence')}/{image.get('file_name')}"
