"""MuCo-3DHP as 3DMPPE's authors composed and annotated it, with SMPLify-X bodies where they are given."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.preparation import Part, Plan, Rows
from datamodules.sources.common.coco_layout import People, bounds, read_people
from datamodules.sources.common.files import Faults, find_file, find_folder
from datamodules.sources.common.joints import with_validity
from datamodules.sources.common.neural_annot import read_fits
from noise2pose import skeletons
from noise2pose.errors import InputError

SUMMARY = "MuCo-3DHP"
PAGE = "https://vcai.mpi-inf.mpg.de/3dhp-dataset"
LICENCE = (
    f"that of MPI-INF-3DHP, whose people are shown ({PAGE}), and of MuCo-3DHP "
    "(https://vcai.mpi-inf.mpg.de/projects/SingleShotMultiPerson); "
    "composed by https://github.com/mks0601/3DMPPE_POSENET_RELEASE"
)
DESCRIPTION = f"""Prepare MuCo-3DHP: images composed of MPI-INF-3DHP's people, with joints in 3-D.

what goes in: the folder with what was unpacked, wherever in it
  MuCo-3DHP.json
  augmented_set/, unaugmented_set/     images
  smpl_param.json                      (optional) fitted bodies by annotation id

what comes out: 21 joints (muco_21) in 2-D and, in metres, in 3-D; the annotated box, camera and size of the image;
poses, betas and translation where there is a body. Of each image only the person nearest to the camera is kept, whom
nobody hides, as 3DCrowdNet and its successors do; --people all keeps everybody.

licence:
{LICENCE}
"""
# Order, and millimetres in the camera frame: the loaders of 3DMPPE (and its issue 77) and 3DCrowdNet.
SKELETON = "muco_21"
_LONGEST = 100.0  # metres between a person and the camera; what is more is in millimetres
_OFF = 5.0  # pixels between an annotated joint and the projection of its place in 3-D


def add_options(parser: argparse.ArgumentParser) -> None:
    """What only this data set needs."""
    parser.add_argument(
        "--people", choices=["nearest", "all"], default="nearest", help="of each image (default: %(default)s)"
    )


def plan(source: Path, output: Path, options: argparse.Namespace) -> Plan:
    """What there is to read.

    Raises:
        InputError: if the annotations or all images are missing.
    """
    file = find_file(source, "MuCo-3DHP.json")
    if file is None:
        raise InputError(f"--source: {source} is not MuCo-3DHP (MuCo-3DHP.json: not found)")
    folders = {name: find_folder(source, name, near=file) for name in ("augmented_set", "unaugmented_set")}
    found = [folder for folder in folders.values() if folder is not None]
    if not found:
        raise InputError(f"--source: {source} has no images, looked for folders {' and '.join(folders)}")
    skipped = [(name, "not found; its images are missing") for name, folder in folders.items() if folder is None]
    base = found[0].parent.relative_to(source).as_posix()
    fits = find_file(source, "smpl_param.json")
    arguments = (file, source, "" if base == "." else base, fits, options.people)
    facts = {
        "skeletons": {"keypoints_2d_gt": SKELETON, "keypoints_3d": SKELETON},
        "box_rule": "keypoints",
        "bounds": "annotated box; joints where it is none",
        "smpl": "SMPLify-X, neutral SMPL, fitted to the joints in 3-D",
        "people": options.people,
    }
    parts = [Part("train", read, arguments, (file,) if fits is None else (file, fits))]
    return Plan("muco", LICENCE, facts, source, parts, [], skipped)


def read(file: Path, root: Path, folder: str, fits: Path | None, which: str) -> Rows:
    """The people of all images.

    Raises:
        InputError: if the annotations cannot be read.
    """
    people = read_people(file, root, folder, _check)
    if which == "nearest":
        people = _nearest(people)
    count = len(people.annotations)
    points, visibility = np.zeros((count, 21, 5), np.float32), np.ones((count, 21), np.float32)
    for row, annotation in enumerate(people.annotations):
        points[row, :, :3], points[row, :, 3:] = annotation["keypoints_cam"] / 1000.0, annotation["keypoints_img"]
        seen = annotation.get("keypoints_vis")
        if isinstance(seen, np.ndarray) and seen.size == 21:
            visibility[row] = seen.reshape(21)
    known = with_validity(points)
    pixels, keypoints = known[..., 3:], known[..., [0, 1, 2, 5]]
    joints = skeletons.get(SKELETON).joints
    for person, joint in zip(*np.nonzero(known[..., 5] == 0.0), strict=True):
        people.faults.add(f"{joints[joint]} of annotation {people.numbers[person]}", "the joint is no number")
    arrays = {**people.columns(), "keypoints_2d_gt": pixels, "keypoints_3d": keypoints, "visibility": visibility}
    arrays["bounds"] = bounds(people, pixels)
    skipped = []
    if fits is not None:
        bodies, skipped = read_fits(fits, people.numbers)
        arrays |= _metres(bodies)
        people.counts["people with a fitted body"] = int(bodies["has_smpl"].sum()) if bodies else 0
    arrays["focal"], arrays["principal_point"] = _cameras(people.images, people.faults)
    people.counts[f"joints more than {_OFF:g} pixels from their projection"] = _off(arrays)
    return people.rows(arrays, "train", people.faults.lines() + skipped)


def _check(annotation: dict[str, Any]) -> str | None:
    for key, shape in (("keypoints_cam", (21, 3)), ("keypoints_img", (21, 2))):
        values = annotation.get(key)
        if values is None:
            return f"it has no {key}"
        if not isinstance(values, np.ndarray) or values.shape != shape:
            return f"its {key} are not {shape[0]} x {shape[1]} numbers"
    usable = np.isfinite(annotation["keypoints_cam"]).all(axis=1) & np.isfinite(annotation["keypoints_img"]).all(axis=1)
    return None if usable.any() else "none of its joints is a number"


def _nearest(people: People) -> People:
    """The person of each image whose pelvis is nearest to the camera; the first of several."""
    pelvis = skeletons.get(SKELETON).index("pelvis")
    depths = np.array([annotation["keypoints_cam"][pelvis, 2] for annotation in people.annotations])
    depths = np.where(np.isfinite(depths), depths, np.inf)
    order = np.lexsort((np.arange(len(depths)), depths, people.image))
    first = np.ones(len(order), bool)
    first[1:] = np.diff(people.image[order]) > 0
    chosen = order[first]  # in the order of the images
    return people._replace(
        annotations=[people.annotations[row] for row in chosen.tolist()],
        images=[people.images[row] for row in chosen.tolist()],
        numbers=people.numbers[chosen],
        image=people.image[chosen],
        sizes=people.sizes[chosen],
        counts={**people.counts, "people nearest to the camera": len(chosen)},
    )


def _cameras(images: list[dict[str, Any]], faults: Faults) -> tuple[np.ndarray, np.ndarray]:
    """Focal lengths and principal points, NaN where an image has none."""
    values = np.full((len(images), 2, 2), np.nan, np.float32)
    for row, image in zip(values, images, strict=True):
        camera = [image.get(key) for key in ("f", "c")]
        if all(isinstance(part, np.ndarray) and part.shape == (2,) and np.isfinite(part).all() for part in camera):
            row[:] = camera
        else:
            faults.add(f"image {image['file_name']}", "it has no camera (f and c); its focal length is unknown")
    return values[:, 0], values[:, 1]


def _metres(bodies: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Bodies with translations in metres, as loaders take them; some files have millimetres, as their joints are."""
    if bodies and bodies["has_smpl"].any():
        distances = np.linalg.norm(bodies["translation"][bodies["has_smpl"]], axis=1)
        if np.median(distances) > _LONGEST:
            bodies["translation"] = bodies["translation"] / 1000.0
    return bodies


def _off(arrays: dict[str, np.ndarray]) -> int:
    """Number of joints far from the projection of their place in 3-D; many of them mean that the file is broken."""
    places, valid = arrays["keypoints_3d"][..., :3], arrays["keypoints_3d"][..., 3] > 0
    depths = np.where(valid & (places[..., 2] > 0), places[..., 2], np.nan)
    seen = arrays["focal"][:, None] * places[..., :2] / depths[..., None] + arrays["principal_point"][:, None]
    return int((np.linalg.norm(seen - arrays["keypoints_2d_gt"][..., :2], axis=-1) > _OFF).sum())
