"""BEDLAM, rendered people in clothes, with its labels for SMPL: where its files are, and what is in them.

The publisher's `data_processing/df_full_body_smpl.py` writes a file for each scene, SCENE.npz, of N rows: `imgname`
(sequence/image below SCENE/png), `center` (N, 2) and `scale` (N,) of a box of 200 `scale` pixels, which is 1.2 times
the extent of the joints, `pose_cam` (N, 72) with the root in the camera frame, `shape` (N, 10 or 11), `trans_cam`
(N, 3), `cam_int` (N, 3, 3), `cam_ext` (N, 4, 4), `gender` of the person who was scanned and `sub`. Joints are projected
after `trans_cam` plus the last column of `cam_ext`. Images of scenes called `closeup` are stored on their side.

Labels for SMPL-X have the same keys with 165 numbers of `pose_cam`; prepared folders hold SMPL's, so they are refused.

Shape letters: N people.
"""

import argparse
import re
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.preparation import Part, Plan, Rows
from datamodules.sources.common.files import Faults, find_folder, finite_numbers, image_sizes, leads_out
from noise2pose.errors import InputError
from noise2pose.safe_pickle import read_object_npz

SUMMARY = "BEDLAM, with its labels for SMPL"
PAGE = "https://bedlam.is.tue.mpg.de"
DESCRIPTION = f"""BEDLAM: rendered people in simulated clothes.

  noise2pose prepare bedlam --source bedlam_data --output data/bedlam

what goes in: a folder with
  SCENE.npz               labels for SMPL, as data_processing/df_full_body_smpl.py of pixelite1201/BEDLAM writes them
  SCENE/png/SEQUENCE/*.png
wherever in it; scenes without images are named. Labels for SMPL-X are refused. Images of `closeup` scenes are stored on
their side: turn them clockwise first (mogrify -rotate 90), or their people are left out.

what comes out: one row for each person: body parameters in the camera frame, camera and box. The last fifth of the
sequences of each scene is validation, where BEDLAM's training code leaves out the last fifth of the rows. The labels of
the published test are withheld.

licence: non-commercial research; ask for the data at {PAGE}
"""
_LICENCE = f"BEDLAM (Black et al., CVPR 2023): non-commercial research, no redistribution; {PAGE}"
_KEYS = ("imgname", "center", "scale", "pose_cam", "shape", "trans_cam", "cam_int", "cam_ext", "gender", "sub")
_GENDERS = {"m": 1, "f": 2, "n": 0}
_BOX_SCALE = 1.2  # which `scale` holds
_VALIDATION = 0.2  # of the sequences of a scene
_SMPLX_NUMBERS = 165


def add_options(parser: argparse.ArgumentParser) -> None:
    """What only this data set needs."""
    parser.add_argument(
        "--bodies",
        choices=["neutral", "gendered"],
        default="neutral",
        help="whose shape coefficients the labels have; BEDLAM's body labels are of the neutral body (default)",
    )


def plan(source: Path, output: Path, options: argparse.Namespace) -> Plan:
    """A part for each scene.

    Raises:
        InputError: if this is not BEDLAM.
    """
    labels = sorted(path for path in source.rglob("*.npz") if output not in path.parents)
    parts, skipped = [], []
    for path in labels:
        folder = find_folder(source, path.stem, near=path)
        if folder is None:
            skipped.append((path.name, f"left out: its images are not here, looked for a folder {path.stem}"))
            continue
        images = folder / "png" if (folder / "png").is_dir() else folder
        gendered = options.bodies == "gendered"
        parts.append(Part(path.stem, read_scene, (path, source, images.relative_to(source), gendered), (path,)))
    if not parts:
        found = "; ".join(f"{name}: {reason}" for name, reason in skipped) or "no SCENE.npz"
        raise InputError(f"--source: {source} is not BEDLAM ({found})")
    facts = {
        "box_rule": "keypoints",
        "bounds": f"center and scale, divided by {_BOX_SCALE}",
        "validation": f"the last {_VALIDATION:.0%} of the sequences of each scene",
        "gender": options.bodies,
    }
    return Plan("bedlam", _LICENCE, facts, source, parts, [], skipped)


def read_scene(path: Path, root: Path, images: Path, gendered: bool) -> Rows:
    """Reads the people of one scene.

    Args:
        path: of its labels.
        root: folder that names of images will be relative to.
        images: folder of the scene's images, relative to `root`.
        gendered: whether shape coefficients are of the bodies of `gender`.

    Raises:
        InputError: if the file cannot be read or is of another kind.
    """
    arrays = read_object_npz(path, only=_KEYS)
    if missing := [key for key in _KEYS if key not in arrays]:
        raise InputError(f"{path}: has no `{missing[0]}`")
    number = len(arrays["imgname"])
    if uneven := [key for key in _KEYS if len(np.atleast_1d(arrays[key])) != number]:
        raise InputError(f"{path}: `{uneven[0]}` has another number of rows than `imgname`, {number}")
    if np.asarray(arrays["pose_cam"]).reshape(number, -1).shape[1] == _SMPLX_NUMBERS:
        raise InputError(f"{path}: these are labels for SMPL-X: make those for SMPL with df_full_body_smpl.py")
    names = [str(name).replace("\\", "/") for name in arrays["imgname"]]
    unique = sorted({name for name in names if not leads_out(name)})
    sizes = dict(zip(unique, image_sizes([root / images / name for name in unique]), strict=True))
    faults, rows = Faults(path.name), []
    for index, name in enumerate(names):
        try:
            row = _person({key: arrays[key][index] for key in _KEYS}, sizes.get(name), gendered)
            rows.append({"name": name, "subject": str(arrays["sub"][index]), **row})
        except InputError as error:
            faults.add(f"row {index} ({name})", f"{error}; skipped")
    rows.sort(key=lambda row: (row["name"].rpartition("/")[0], row["subject"], row["frame"]))
    return _rows(rows, path.stem, images.as_posix(), faults)


def _rows(people: list[dict[str, Any]], scene: str, folder: str, faults: Faults) -> Rows:
    names = [row.pop("name") for row in people]
    subjects = [row.pop("subject") for row in people]
    keys = [(name.rpartition("/")[0], subject) for name, subject in zip(names, subjects, strict=True)]
    recordings = sorted({recording for recording, _ in keys})
    held_out = set(recordings[len(recordings) - int(_VALIDATION * len(recordings)) :])
    order = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    sequences = [
        {
            "name": f"{scene}/{recording}/{subject}",
            "split": "val" if recording in held_out else "train",
            "subject": subject,
            "action": "",
        }
        for recording, subject in order
    ]
    columns = {key: np.array([row[key] for row in people]) for key in (people[0] if people else {})}
    pictures = {name: place for place, name in enumerate(dict.fromkeys(names))}
    if people:
        columns["picture"] = np.array([pictures[name] for name in names])
    of = np.array([order[key] for key in keys], np.int32)
    counts = {f"{split}: people": sum(sequences[at]["split"] == split for at in of) for split in ("train", "val")}
    return Rows(columns, sequences, of, [f"{folder}/{name}" for name in pictures], counts, faults.lines())


def _person(entry: dict[str, Any], size: tuple[int, int] | None, gendered: bool) -> dict[str, Any]:
    """Columns of one row."""
    if size is None:
        raise InputError("has an image that is missing or cannot be opened")
    intrinsics, extrinsics = finite_numbers(entry, "cam_int", (3, 3)), finite_numbers(entry, "cam_ext", (4, 4))
    principal_point = intrinsics[:2, 2]
    if np.abs(2.0 * principal_point - size).max() > 1.0:
        on_side = np.abs(2.0 * principal_point - size[::-1]).max() <= 1.0
        raise InputError(
            "has an image that is stored on its side: turn it clockwise by 90 degrees first"
            if on_side
            else "has an image of another size than its camera"
        )
    gender = _GENDERS.get(str(entry["gender"])[:1].lower())
    if gender is None:
        raise InputError("has a `gender` that is none of male, female and neutral")
    betas = np.asarray(entry["shape"], dtype=np.float64).ravel()
    if len(betas) not in (10, 11) or not np.isfinite(betas).all():
        raise InputError("has a `shape` that is not 10 or 11 numbers")
    centre, half = finite_numbers(entry, "center", (2,)), 100.0 * float(finite_numbers(entry, "scale", ())) / _BOX_SCALE
    if half <= 0.0:
        raise InputError("has a `scale` that is not above 0")
    digits = re.search(r"(\d+)\.\w+$", str(entry["imgname"]))
    return {
        "frame": int(digits[1]) if digits else 0,
        "image_size": np.array(size),
        "focal": intrinsics[[0, 1], [0, 1]],
        "principal_point": principal_point,
        "poses": finite_numbers(entry, "pose_cam", (24, 3)),
        "betas": betas[:10],
        "translation": finite_numbers(entry, "trans_cam", (3,)) + extrinsics[:3, 3],
        "gender": gender if gendered else 0,
        "has_smpl": True,
        "bounds": np.concatenate((centre - half, centre + half)),
        "valid": True,
    }
