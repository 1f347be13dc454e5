"""3DOH50K, people behind objects: where its files are, and what is in them.

The publisher's `annots.json` of a split is {number: {`img_path` (with backslashes), `bbox` ((x0, y0), (x1, y1)), `pose`
72, `betas` 10, `trans` 3, `scale` 1, `intri` 3 x 3, `extri` 4 x 4, `smpl_joints_2d`, `smpl_joints_3d` (24), ...}}. As
PARE and MMHuman3D read it, the body is `scale` times SMPL's plus `trans` in a world that `extri` takes to the camera;
here everything is divided by `scale`, which leaves the image as it is and makes the body as large as SMPL's. Whether
the 3-D joints are in the world or in the camera frame is not documented: what projects them on the 2-D joints is taken.

JOTR's file is {image: {`pose`, `shape`, `trans`, `scale`, `bbox`, `hrnet_results` (17 x 3)}} of the test split alone,
with the body in the camera frame and no camera.

Shape letters: N people.
"""

import argparse
import re
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from datamodules.preparation import Expected, Part, Plan, Rows
from datamodules.sources.common.files import Faults, finite_numbers, folder_with, leads_out, numbers, read_dictionary
from datamodules.sources.common.joints import extent, seen_joints
from noise2pose.errors import InputError
from noise2pose.images.photographs import open_image

SUMMARY = "3DOH50K"
PAGE = "https://www.yangangwang.com/papers/ZHANG-OOH-2020-03.html"
DESCRIPTION = f"""3DOH50K: people behind objects in a room, neutral SMPL; its test split is a benchmark of occlusion.

  noise2pose prepare threedoh --source 3DOH50K --output data/threedoh

what goes in: a folder with
  {{trainset,testset}}/annots.json        as downloaded; or the content of one of the two folders
  {{trainset,testset}}/images/*.jpg       as downloaded
and, or instead, JOTR's annotations of the test split with HRNet's joints: a JSON file beside them (such as
3doh_test_annots_scale_1.json) that gives `hrnet_results` for each image. If annots.json is there, it is read and the
detected joints are added to it; --layout community reads the people from JOTR's file.

what comes out: one row for each person: body parameters in the camera frame, camera (not in JOTR's file), detected
joints and box. Ground-truth joints are not stored: they come from the neutral body, see `scripts/prepare.py body`.

licence: non-commercial research; ask for the data at {PAGE}
"""
_LICENCE = f"3DOH50K (Zhang et al., CVPR 2020): non-commercial research, no redistribution; {PAGE}"
_TEST_PEOPLE = 1_290
_FOLDERS = {"train": ("trainset", "train"), "test": ("testset", "test")}
_DETECTIONS = b'"hrnet_results"'
_HEAD = 65_536  # bytes of a JSON file within which its first person is
_MIN_CONFIDENCE = 0.05  # of a joint that the box must hold, as in JOTR and DPMesh
_LARGEST_ERROR = 0.05  # between projected 3-D joints and 2-D joints, in longer sides of the extent of the 2-D joints


def add_options(parser: argparse.ArgumentParser) -> None:
    """What only this data set needs."""
    parser.add_argument(
        "--layout",
        choices=["publisher", "community"],
        help="where people come from: annots.json, or JOTR's file (default: annots.json if it is there)",
    )


def plan(source: Path, output: Path, options: argparse.Namespace) -> Plan:
    """A part for each split of the publisher, or one for JOTR's file.

    Raises:
        InputError: if this is not 3DOH50K.
    """
    folders = [folder for names in _FOLDERS.values() for folder in names]
    root = folder_with(source, [*(f"{folder}/annots.json" for folder in folders), "annots.json"])
    root = root or folder_with(source, ["*.json"])
    detections = None if root is None else _detections(root)
    published = {} if root is None else _published(root)
    if root is None or (detections is None and not published):
        raise InputError(
            f"{source} is not 3DOH50K: found neither testset/annots.json nor a JSON file with `hrnet_results`"
        )
    layout = getattr(options, "layout", None) or ("publisher" if published else "community")
    parts = []
    if layout == "publisher":
        for split, folder in published.items():
            given = detections if split == "test" else None
            files = (folder / "annots.json", *((given,) if given else ()))
            parts.append(Part(split, read_published, (folder / "annots.json", root, split, given), files))
    elif detections is not None:
        parts.append(Part("test", read_community, (detections, root), (detections,)))
    if not parts:
        raise InputError(f"{root}: nothing to read with --layout {layout}")
    facts = {
        "skeletons": {"keypoints_2d_detected": "coco_17", "smpl_joints": "smpl_24"},
        "detector": "HRNet" if detections is not None else "none",
        "box_rule": "dpmesh",
        "layout": layout,
        "bounds": f"detected joints with confidence above {_MIN_CONFIDENCE}, else `bbox`",
        "gender": "neutral for everybody",
        "scale": "everything is divided by `scale` of annots.json; `trans` of JOTR's file is as it is",
    }
    return Plan("threedoh", _LICENCE, facts, root, parts, [Expected("test: people", _TEST_PEOPLE)], [])


def read_published(path: Path, root: Path, split: str, detections: Path | None) -> Rows:
    """Reads the publisher's annotations of a split.

    Args:
        path: its annots.json.
        root: folder that names of images are relative to.
        split: train or test.
        detections: JOTR's file, or None.

    Raises:
        InputError: if a file cannot be read or is of another kind.
    """
    faults, rows = Faults(path.name), []
    people = read_dictionary(path, faults)
    given = {} if detections is None else read_dictionary(detections)
    detected = {_base(name): person for name, person in given.items()}
    for name, person in people.items():
        try:
            image, size = _image(root, path.parent, str(person.get("img_path", f"images/{name}.jpg")))
            scale = float(finite_numbers(person, "scale", ())) if "scale" in person else 1.0
            if scale <= 0:
                raise InputError("has a `scale` that is not above 0")
            intrinsics = finite_numbers(person, "intri", (3, 3))
            extrinsics = finite_numbers(person, "extri", (4, 4))[:3].copy()
            if abs(np.linalg.det(extrinsics[:, :3]) - 1.0) > 0.05:
                raise InputError("has an `extri` that is no rotation")
            pose = finite_numbers(person, "pose", (24, 3))
            turned = Rotation.from_matrix(extrinsics[:, :3]) * Rotation.from_rotvec(pose[0])
            pose[0] = turned.as_rotvec()
            extrinsics[:, 3] /= scale
            rows.append(
                {
                    **_common(image, size, pose, person, "betas", detected.get(_base(image))),
                    "translation_world": finite_numbers(person, "trans", (3,)) / scale,
                    "extrinsics": extrinsics,
                    "focal": intrinsics[[0, 1], [0, 1]],
                    "principal_point": intrinsics[:2, 2],
                    "smpl_joints": _joints(person, intrinsics, extrinsics, scale),
                }
            )
        except InputError as error:
            faults.add(f"person {name}", f"{error}; skipped")
    if detections is None:
        for row in rows:
            del row["keypoints_2d_detected"]
    without = sum(not row["smpl_joints"][:, 3].any() for row in rows)
    counts = {f"{split}: people whose 24 joints are missing or do not project on their pixels": without}
    if detections is not None:
        counts[f"{split}: people detected by HRNet"] = sum(bool(row["keypoints_2d_detected"].any()) for row in rows)
    return _rows(rows, split, counts, faults.lines())


def read_community(path: Path, root: Path) -> Rows:
    """Reads JOTR's annotations of the test split.

    Args:
        path: of the file.
        root: folder that names of images are relative to.

    Raises:
        InputError: if the file cannot be read or is of another kind.
    """
    faults, rows, scaled = Faults(path.name), [], 0
    for name, person in read_dictionary(path, faults).items():
        try:
            image, size = _image(root, root, name)
            scaled += "scale" in person and abs(float(numbers(person, "scale", ())) - 1.0) > 1e-3
            pose = finite_numbers(person, "pose", (24, 3))
            numbers(person, "hrnet_results", (17, 3))  # without it, there is no 2-D input of the person
            row = _common(image, size, pose, person, "shape", person)
            rows.append({**row, "translation": finite_numbers(person, "trans", (3,))})
        except InputError as error:
            faults.add(f"person {name}", f"{error}; skipped")
    counts = {"test: people whose scale is not 1, which is left alone as JOTR does": int(scaled)}
    return _rows(rows, "test", counts, faults.lines())


def _rows(people: list[dict[str, Any]], split: str, counts: dict[str, int], skipped: list[tuple[str, str]]) -> Rows:
    people = sorted(people, key=lambda row: row["image"])
    images = [row.pop("image") for row in people]
    arrays = {key: np.array([row[key] for row in people]) for key in (people[0] if people else {})}
    if people:
        arrays["picture"] = np.arange(len(people))
    sequences = [{"name": f"3doh_{split}", "split": split, "subject": "", "action": ""}]
    return Rows(
        arrays,
        sequences,
        np.zeros(len(people), np.int32),
        images,
        {f"{split}: people": len(people), **counts},
        skipped,
    )


def _common(
    image: str,
    size: np.ndarray,
    pose: np.ndarray,
    person: dict[str, Any],
    betas: str,
    detected: dict[str, Any] | None,
) -> dict[str, Any]:
    """Columns that both layouts have, and the name of the image."""
    found = np.zeros((17, 3)) if detected is None else numbers(detected, "hrnet_results", (17, 3))
    keypoints = seen_joints(found)
    bounds = extent(keypoints[:, :2], keypoints[:, 2] > _MIN_CONFIDENCE)
    if not np.isfinite(bounds).all():
        bounds = finite_numbers(person, "bbox", (4,))
        if (bounds[2:] - bounds[:2]).max() <= 0:
            raise InputError("has neither detected joints nor a `bbox` with an area")
    digits = re.search(r"(\d+)\D*$", image)
    return {
        "image": image,
        "frame": int(digits[1]) if digits else 0,
        "image_size": size,
        "poses": pose,
        "betas": finite_numbers(person, betas, (10,)),
        "gender": 0,
        "has_smpl": True,
        "keypoints_2d_detected": keypoints,
        "bounds": bounds,
        "valid": True,
    }


def _joints(person: dict[str, Any], intrinsics: np.ndarray, extrinsics: np.ndarray, scale: float) -> np.ndarray:
    """(24, 4) in the camera frame and metres; zeros where the file does not show in which frame its joints are."""
    nothing = np.zeros((24, 4))
    try:
        points = finite_numbers(person, "smpl_joints_3d", (24, 3)) / scale
        pixels = finite_numbers(person, "smpl_joints_2d", (24, 2))
    except InputError:
        return nothing
    turned = points @ extrinsics[:, :3].T + extrinsics[:, 3]
    for joints in (turned, points):
        projected = joints @ intrinsics.T
        if (joints[:, 2] > 0).all():
            errors = np.linalg.norm(projected[:, :2] / projected[:, 2:] - pixels, axis=1)
            if np.median(errors) < _LARGEST_ERROR * np.ptp(pixels, axis=0).max():
                return np.concatenate((joints, np.ones((24, 1))), axis=1)
    return nothing


def _image(root: Path, folder: Path, given: str) -> tuple[str, np.ndarray]:
    """Name below the root and size of an image, wherever the file says that it is."""
    name = given.replace("\\", "/")
    tests = (root / split / part for split in _FOLDERS["test"] for part in (".", "images"))
    starts = [] if leads_out(name) else [folder, folder / "images", root, *tests]
    for place in (*(start / name for start in starts), folder / "images" / _base(given)):
        if place.is_file():
            try:
                size = open_image(name, place).size
            except InputError as error:
                raise InputError(f"has an image that cannot be opened ({error})") from error
            return place.relative_to(root).as_posix(), np.array(size)
    raise InputError("has an image that is missing")


def _base(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).name


def _detections(root: Path) -> Path | None:
    """The JSON file of detected joints, if there is one."""
    for path in sorted(root.glob("*.json")):
        with path.open("rb") as file:
            if path.name != "annots.json" and _DETECTIONS in file.read(_HEAD):
                return path
    return None


def _published(root: Path) -> dict[str, Path]:
    """The folders of the publisher's annotations by split."""
    if (root / "annots.json").is_file():
        return {"train" if root.name.startswith("train") else "test": root}
    found = {split: [root / name for name in names] for split, names in _FOLDERS.items()}
    found = {split: [path for path in paths if (path / "annots.json").is_file()] for split, paths in found.items()}
    return {split: paths[0] for split, paths in found.items() if paths}
