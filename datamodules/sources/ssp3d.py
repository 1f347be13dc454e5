"""SSP-3D, the shapes of sportspeople: where its files are, and what is in them.

The publisher's `labels.npz` has arrays of N = 311 rows: `fnames`, `shapes` (N, 10) and `poses` (N, 72) of SMPL,
`genders` (`m` or `f`), `cam_trans` (N, 3), `joints2D` (N, 17, 2 or 3), `bbox_centres` (N, 2) and `bbox_whs` (N,), the
centre and the side of a tight square. Centres are (row, column), as the publisher's loader cuts with them. Images have
512 x 512 pixels; the body is projected with a focal length of 5000 pixels about their middle. Shapes were fitted to
several frames of each person with one shape: pseudo ground truth.

Shape letters: N people.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.preparation import Expected, Part, Plan, Rows
from datamodules.sources.common.files import Faults, find_file, finite_numbers, image_sizes, leads_out
from datamodules.sources.common.joints import seen_joints
from noise2pose.errors import InputError
from noise2pose.safe_pickle import read_object_npz

SUMMARY = "SSP-3D"
PAGE = "https://github.com/akashsengupta1997/SSP-3D"
DESCRIPTION = f"""SSP-3D: sportspeople in tight clothes, gendered SMPL; a benchmark of body shape, for tests alone.

  noise2pose prepare ssp3d --source ssp_3d --output data/ssp3d

what goes in: the folder of the publisher's ssp_3d.zip, with
  labels.npz
  images/*.png

what comes out: one row for each person: body parameters in the camera frame, camera, 2-D joints and box.
Ground-truth joints and meshes are not stored: they come from the gendered bodies, see `noise2pose prepare body`.

licence: the repository states none; images are of Sports-1M: {PAGE}
"""
_LICENCE = f"SSP-3D (Sengupta et al., BMVC 2020): the publisher states no licence, images are of Sports-1M; {PAGE}"
_PEOPLE = 311
_FOCAL = 5000.0  # of the publisher's config.py, pixels
_GENDERS = {"m": 1, "f": 2}
_KEYS = ("fnames", "shapes", "poses", "genders", "cam_trans", "joints2D", "bbox_centres", "bbox_whs")


def add_options(parser: argparse.ArgumentParser) -> None:
    """What only this data set needs: nothing."""


def plan(source: Path, output: Path, options: argparse.Namespace) -> Plan:
    """One part.

    Raises:
        InputError: if this is not SSP-3D.
    """
    labels = find_file(source, "labels.npz")
    if labels is None or not (labels.parent / "images").is_dir():
        raise InputError(f"{source} is not SSP-3D: found no labels.npz beside a folder images")
    facts = {
        "skeletons": {"keypoints_2d_detected": "coco_17"},
        "detector": "joints2D of labels.npz; how they were found is not said",
        "box_rule": "keypoints",
        "bounds": "bbox_centres and bbox_whs",
        "camera": f"focal length {_FOCAL:g}, principal point in the middle, as the publisher projects",
    }
    parts = [Part("test", read_labels, (labels,), (labels,))]
    return Plan("ssp3d", _LICENCE, facts, labels.parent, parts, [Expected("test: people", _PEOPLE)], [])


def read_labels(path: Path) -> Rows:
    """Reads the people.

    Args:
        path: of labels.npz.

    Raises:
        InputError: if the file cannot be read or lacks an array.
    """
    arrays = read_object_npz(path, only=_KEYS)
    if missing := [key for key in _KEYS if key not in arrays]:
        raise InputError(f"{path}: has no `{missing[0]}`")
    number = len(arrays["fnames"])
    if uneven := [key for key in _KEYS if len(np.atleast_1d(arrays[key])) != number]:
        raise InputError(f"{path}: `{uneven[0]}` has another number of rows than `fnames`, {number}")
    names = [str(name) for name in arrays["fnames"]]
    sizes = image_sizes([path.parent / "images" / ("" if leads_out(name) else name) for name in names])
    faults, rows = Faults(path.name), []
    for index, (name, size) in enumerate(zip(names, sizes, strict=True)):
        try:
            if size is None:
                raise InputError("has an image that is missing or cannot be opened")
            rows.append({"image": f"images/{name}", **_person({key: arrays[key][index] for key in _KEYS}, size)})
        except InputError as error:
            faults.add(f"row {index} ({name})", f"{error}; skipped")
    rows.sort(key=lambda row: row["image"])
    images = [row.pop("image") for row in rows]
    columns = {key: np.array([row[key] for row in rows]) for key in (rows[0] if rows else {})}
    if rows:
        columns |= {"picture": np.arange(len(rows)), "frame": np.arange(len(rows))}
    sequences = [{"name": "ssp3d", "split": "test", "subject": "", "action": ""}]
    of = np.zeros(len(rows), np.int32)
    return Rows(columns, sequences, of, images, {"test: people": len(rows)}, faults.lines())


def _person(entry: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    """Columns of one row."""
    gender = _GENDERS.get(str(entry["genders"])[:1].lower())
    if gender is None:
        raise InputError("has a `genders` that is neither m nor f")
    joints = np.asarray(entry["joints2D"], dtype=np.float64)
    if joints.shape not in ((17, 2), (17, 3)):
        raise InputError("has a `joints2D` of another size than 17 x 2 or 17 x 3")
    seen = joints if joints.shape[1] == 3 else np.concatenate((joints, np.ones((17, 1))), axis=1)
    row, column = finite_numbers(entry, "bbox_centres", (2,))
    half = float(finite_numbers(entry, "bbox_whs", ())) / 2.0
    if half <= 0.0:
        raise InputError("has a `bbox_whs` that is not above 0")
    return {
        "image_size": np.array(size),
        "focal": np.array((_FOCAL, _FOCAL)),
        "principal_point": np.array(size) / 2.0,
        "poses": finite_numbers(entry, "poses", (24, 3)),
        "betas": finite_numbers(entry, "shapes", (10,)),
        "translation": finite_numbers(entry, "cam_trans", (3,)),
        "gender": gender,
        "has_smpl": True,
        "keypoints_2d_detected": seen_joints(seen),
        "bounds": np.array((column - half, row - half, column + half, row + half)),
        "valid": True,
    }
