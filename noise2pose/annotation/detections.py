"""2-D joints of people in images, detected once and kept in a COCO file."""

import importlib.util
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from noise2pose.annotation.layout import to_text
from noise2pose.errors import InputError
from noise2pose.files import sha256, write_text
from noise2pose.images.photographs import Photograph, open_images, read_image
from noise2pose.keypoints.arrays import Keypoints, counted
from noise2pose.keypoints.cleaning import usable
from noise2pose.keypoints.detectors.finder import SKELETON, DetectorFiles, PeopleFinder, left_out_for
from noise2pose.keypoints.images import person_names
from noise2pose.keypoints.videos import Detect, Detector
from noise2pose.progress import progress

__all__ = ["SKELETON", "detect_people", "detector_files", "finder_of", "model_files"]
FOLDER = Path("data/detector")  # where `noise2pose prepare detector` puts the files
MODELS = ("pose_detection.tflite", "pose_landmark_full.tflite")
_SAVE_EVERY = 20  # images


def model_files(folder: Path | None = None) -> list[Path]:
    """The files of the detector.

    Args:
        folder: where they are; None for `data/detector`.

    Raises:
        InputError: if a file, or the package that runs them, is missing; the message says what to do instead.
    """
    folder = folder or FOLDER
    files = [folder / name for name in MODELS]
    if not all(file.is_file() for file in files):
        raise InputError(
            "images need the 2-D joints of their people: give a keypoint file with --keypoints FILE, or fetch the "
            f"detector once with `noise2pose prepare detector --output {folder}`"
        )
    if importlib.util.find_spec("ai_edge_litert") is None:
        raise InputError(
            "the 2-D detector needs ai-edge-litert: pip install -e '.[detection]', or give --keypoints FILE"
        )
    return files


def detector_files(
    folder: Path | None = None, person_detector: Path | None = None, pose_model: Path | None = None
) -> DetectorFiles:
    """Which models find people and joints: those that are given, else BlazePose's.

    Args:
        folder: of BlazePose; None for `data/detector`.
        person_detector: .onnx or .tflite; None for BlazePose's.
        pose_model: .onnx or .tflite; None for BlazePose's.

    Raises:
        InputError: as `model_files`, unless both are given or the pose model is all that there is.
    """
    if pose_model is None:
        people, joints = model_files(folder)
        return DetectorFiles(person_detector or people, joints)
    people = (folder or FOLDER) / MODELS[0]
    return DetectorFiles(person_detector or (people if people.is_file() else None), pose_model)


def finder_of(files: DetectorFiles, tiled: bool = True) -> PeopleFinder:
    """The loaded detectors; the same files are loaded once.

    Args:
        files: the models.
        tiled: as of `PeopleFinder`.

    Raises:
        InputError: as `PeopleFinder`.
    """
    return _load(files, tuple(files.hashes), tiled)


@lru_cache(maxsize=2)
def _load(files: DetectorFiles, hashes: tuple[str, ...], tiled: bool) -> PeopleFinder:
    return PeopleFinder(files, tiled)


def video_detector(files: DetectorFiles) -> Detector:
    """The detectors as `keypoints.videos` takes them."""

    def load() -> Detect:
        finders = [finder_of(files, tiled) for tiled in (False, True)]

        def detect(image: np.ndarray, tiled: bool) -> tuple[Tensor, list[str]]:
            found = finders[tiled](image)
            return found.joints, found.left_out

        return detect

    return Detector(load, SKELETON, files.hashes)


def keypoints_of_images(
    images: Sequence[tuple[str, Path]], models: DetectorFiles, cache: Path | None = None
) -> tuple[Keypoints, list[Photograph]]:
    """Everybody in some images as one record, in the order of the images; and the images that can be opened.

    Args:
        images: file name and path of each.
        models: of `detector_files`.
        cache: as of `detect_people`.

    Raises:
        InputError: as `PeopleFinder`, or if nobody is found.
    """
    photographs, skipped = open_images(images)
    found, unreadable = detect_people(models, photographs, cache)
    left_out = left_out_for([reason for _, reason in unreadable])
    broken = {photograph.file_name for photograph in photographs} - set(found)
    skipped = [*skipped, *(entry for entry in unreadable if entry[0] in broken)]
    notes = [f"{counted(len(skipped), 'image')} skipped, {skipped[0][0]} the first: {skipped[0][1]}"] if skipped else []
    empty = sum(not len(people) for people in found.values())
    if empty:
        notes.append(f"nobody found in {counted(empty, 'image')}")
    points = torch.cat([torch.zeros(0, 17, 3), *found.values()])
    owners = [photograph for photograph in photographs for _ in found.get(photograph.file_name, ())]
    kept = usable(points).nonzero().flatten().tolist()
    if left_out:
        notes.append(f"left out: {left_out}")
    if not kept:
        raise InputError(f"nobody was found in {counted(len(images), 'image')}{'; '.join(['', *notes])}")
    names = [owners[row].file_name for row in kept]
    sizes = torch.tensor([owners[row].size for row in kept], dtype=torch.float32)
    record = Keypoints(
        points[kept], SKELETON, person_names(names), sizes, images=names, form="images, detected", notes=tuple(notes)
    )
    return record, photographs


def detect_people(
    models: DetectorFiles, photographs: Sequence[Photograph], cache: Path | None = None
) -> tuple[dict[str, Tensor], list[tuple[str, str]]]:
    """Everybody in some images.

    Args:
        models: of `detector_files`.
        photographs: the images.
        cache: COCO file that keeps what was detected, so that an interrupted call resumes; None to keep nothing. What
            the file says of other images, or by other models, is not used.

    Returns:
        (P, 17, 3) for each image by file name; and what is left out with the reason: images that cannot be read, and
        people of images that can.
    """
    hashes = models.hashes
    known = {} if cache is None else _read(cache, hashes)
    found: dict[str, dict[str, Any]] = {}
    finder: PeopleFinder | None = None
    with progress(photographs, unit=" images", desc="2-D joints") as bar:
        for number, photograph in enumerate(bar, start=1):
            content = sha256(photograph.path)
            entry = known.get(photograph.file_name, {})
            if entry.get("sha256") != content:
                finder = finder or finder_of(models)
                entry = {**_detect(finder, photograph), "sha256": content, "size": list(photograph.size)}
            found[photograph.file_name] = entry
            if cache is not None and finder is not None and (number % _SAVE_EVERY == 0 or number == len(photographs)):
                write_text(cache, to_text(_to_coco({**known, **found}, models)))
    skipped = [(name, entry["reason"]) for name, entry in found.items() if entry["reason"]]
    skipped += [(name, reason) for name, entry in found.items() for reason in entry["left_out"]]
    readable = {name: entry["people"] for name, entry in found.items() if not entry["reason"]}
    return {name: torch.tensor(people).reshape(-1, 17, 3) for name, people in readable.items()}, skipped


def _detect(finder: PeopleFinder, photograph: Photograph) -> dict[str, Any]:
    try:
        found = finder(read_image(photograph.path))
    except InputError as error:
        return {"people": [], "left_out": [], "reason": str(error)}
    people = [[round(number, 3) for number in person] for person in found.joints.flatten(1).tolist()]
    return {"people": people, "left_out": found.left_out, "reason": ""}


def _to_coco(entries: Mapping[str, Mapping[str, Any]], files: DetectorFiles) -> dict[str, Any]:
    """The layout of COCO's results: the third number of a joint is a confidence."""
    images, annotations = [], []
    for identity, (name, entry) in enumerate(sorted(entries.items()), start=1):
        width, height = entry["size"]
        images.append({"id": identity, "file_name": name, "width": width, "height": height})
        images[-1] |= {key: entry[key] for key in ("sha256", "reason", "left_out")}
        for person in entry["people"]:
            annotations.append(
                {"id": len(annotations) + 1, "image_id": identity, "category_id": 1, "keypoints": person}
            )
    info = {"detector": files.title, "models": files.hashes}
    return {"info": info, "images": images, "annotations": annotations}


def _read(cache: Path, hashes: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The entries of the file by image; none if it is missing, broken, or of other models."""
    try:
        content = json.loads(cache.read_text(encoding="utf-8"))
        if content["info"]["models"] != list(hashes):
            return {}
        names = {image["id"]: image["file_name"] for image in content["images"]}
        entries = {
            image["file_name"]: {
                "people": [],
                **{key: image[key] for key in ("sha256", "reason", "left_out")},
                "size": [image["width"], image["height"]],
            }
            for image in content["images"]
        }
        for annotation in content["annotations"]:
            entries[names[annotation["image_id"]]]["people"].append(annotation["keypoints"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return entries
