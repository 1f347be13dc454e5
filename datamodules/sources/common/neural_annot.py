"""SMPL bodies fitted to annotated people: JSON, one entry an annotation, as NeuralAnnot and SMPLify-X fits are shared.

Rotations and translations are in the camera frame of the whole image, in metres: 3DCrowdNet's loaders put pose, shape
and trans into SMPL and project its mesh with the entry's focal length and principal point, without another rotation.
The author of NeuralAnnot says the same (mks0601/NeuralAnnot_RELEASE, issue 14).
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from datamodules.preparation import Part, Rows
from datamodules.sources.common.coco_layout import (
    People,
    bounds,
    check_keypoints,
    keypoints_2d,
    read_compact,
    read_people,
)
from datamodules.sources.common.files import Faults, SplitFiles, find_file, finite_numbers
from noise2pose import skeletons
from noise2pose.errors import InputError

LICENCE = "NeuralAnnot names none (https://github.com/mks0601/NeuralAnnot_RELEASE), SMPL is for non-commercial research"
FACTS = {
    "box_rule": "keypoints",
    "bounds": "annotated box; labelled joints where it is none",
    "confidence": "1 for v = 1 (hidden) and v = 2 (visible); visibility holds v",
    "smpl": "NeuralAnnot, neutral SMPL, fitted to the annotated joints",
}
_SHAPES = {"pose": (24, 3), "shape": (10,), "trans": (3,)}


def part_of(name: str, read: Callable[..., Rows], source: Path, split: SplitFiles, fits: str) -> Part:
    """The part of one split.

    Args:
        name: of the part.
        read: takes annotation file, root of all images, folder of the split's, split, and file of bodies or None.
        source: folder of the whole download.
        split: where its files are.
        fits: name of the file of bodies, which need not be there.
    """
    found = find_file(source, fits)
    files = (split.annotations,) if found is None else (split.annotations, found)
    return Part(name, read, (split.annotations, source, split.folder, split.name, found), files)


def read_fitted_people(
    file: Path, root: Path, folder: str, fits: Path | None, skeleton: str, num_joints: tuple[int, ...] = ()
) -> tuple[People, dict[str, np.ndarray], list[tuple[str, str]]]:
    """The people of one split, their columns with bodies where they are given, and what was skipped.

    Args:
        file: annotations.
        root: folder that names of images are relative to.
        folder: of the split's images, relative to `root`.
        fits: file of bodies, or None.
        skeleton: of the annotated joints.
        num_joints: that a list of keypoints may have, of which the first are those of the skeleton; by default these.

    Raises:
        InputError: if the annotations cannot be read.
    """
    joints = skeletons.get(skeleton).joints
    lengths = num_joints or (len(joints),)
    people = read_people(file, root, folder, lambda annotation: check_keypoints(annotation, *lengths))
    keypoints, visibility = keypoints_2d(people, joints)
    arrays = {**people.columns(), "keypoints_2d_gt": keypoints, "visibility": visibility}
    arrays["bounds"] = bounds(people, keypoints)
    skipped = people.faults.lines()
    if fits is not None:
        bodies, unread = read_fits(fits, people.numbers)
        arrays, skipped = {**arrays, **bodies}, skipped + unread
        people.counts["people with a fitted body"] = int(bodies["has_smpl"].sum()) if bodies else 0
    return people, arrays, skipped


def read_fits(path: Path, numbers: np.ndarray) -> tuple[dict[str, np.ndarray], list[tuple[str, str]]]:
    """Columns of a prepared folder with the bodies of annotations.

    Args:
        path: JSON file: annotation id -> `smpl_param` (pose, shape, trans), `cam_param` (focal, princpt) and perhaps
            `fit_err`; or the three parameters alone.
        numbers: (N,) annotation ids.

    Returns:
        poses, betas, translation and has_smpl, and focal, principal_point and score (`fit_err`) where the file has
        them; none if the file cannot be read. Then what was left out and why.
    """
    try:
        entries = read_compact(path)
        if not isinstance(entries, dict):
            raise InputError(f"{path.name} is no object with an entry for each annotation id")
    except InputError as error:
        return {}, [(path.name, f"{error}; people are prepared without bodies")]
    count, faults = len(numbers), Faults(path.name)
    columns = {
        "poses": np.zeros((count, 24, 3), np.float32),
        "betas": np.zeros((count, 10), np.float32),
        "translation": np.zeros((count, 3), np.float32),
        "has_smpl": np.zeros(count, bool),
        "focal": np.full((count, 2), np.nan, np.float32),
        "principal_point": np.full((count, 2), np.nan, np.float32),
        "score": np.full(count, np.nan, np.float32),
    }
    for row, number in enumerate(numbers.tolist()):
        entry = entries.get(str(number))
        if entry is None:
            continue
        given = entry.get("smpl_param", entry) if isinstance(entry, dict) else None
        try:
            pose, shape, trans = (finite_numbers(given, key, size) for key, size in _SHAPES.items())
        except InputError:
            faults.add(f"annotation {number}", "its body is not 72, 10 and 3 numbers; left out")
            continue
        if "smpl_param" in entry:  # an entry of its own has its own camera
            try:
                focal, centre = (finite_numbers(entry.get("cam_param"), key, (2,)) for key in ("focal", "princpt"))
            except InputError:
                focal = np.zeros(2)
            if not (focal > 0).all():
                faults.add(f"annotation {number}", "the camera of its body is not 2 and 2 numbers; left out")
                continue
            columns["focal"][row], columns["principal_point"][row] = focal, centre
        columns["poses"][row], columns["betas"][row], columns["translation"][row] = pose, shape, trans
        columns["has_smpl"][row] = True
        error = entry.get("fit_err")
        columns["score"][row] = error if isinstance(error, int | float) else np.nan
    for name in ("focal", "principal_point", "score"):
        if np.isnan(columns[name]).all():
            del columns[name]
    return columns, faults.lines()
