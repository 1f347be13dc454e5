"""CrowdPose as it is published, with NeuralAnnot's bodies where they are given."""

import argparse
from pathlib import Path

import numpy as np

from datamodules.preparation.engine import Part, Plan, Rows
from datamodules.sources.common.coco_layout import bounds, check_keypoints, keypoints_2d, read_people
from datamodules.sources.common.files import find_file, find_folder
from datamodules.sources.common.neural_annot import read_fits
from noise2pose import skeletons
from noise2pose.errors import InputError

SUMMARY = "CrowdPose, with NeuralAnnot's bodies if given"
PAGE = "https://github.com/Jeff-sjtu/CrowdPose"
LICENCE = (
    f"CrowdPose names none, ask its authors ({PAGE}); "
    "NeuralAnnot names none (https://github.com/mks0601/NeuralAnnot_RELEASE), SMPL is for non-commercial research"
)
DESCRIPTION = f"""Prepare CrowdPose's people with key-points, and NeuralAnnot's SMPL bodies of them if they are there.

what goes in: the folder with what was unpacked, wherever in it
  crowdpose_train.json, crowdpose_val.json, crowdpose_test.json   (crowdpose_trainval.json only where train is missing)
  images/
  CrowdPose_train_SMPL_NeuralAnnot.json                           (optional)

what comes out: 14 joints (crowdpose_14) with confidence 1 where a joint is labelled; the annotated box; the crowd index
of the picture; poses, betas, translation and camera where NeuralAnnot has a body, with its fit_err as the column
`score`. Every fit is kept: the data module decides by `score`, since 3DCrowdNet and JOTR keep errors of 5 and more,
which looks inverted. In the first release the width and height of pictures are swapped in train and test
(Jeff-sjtu/CrowdPose, issue 12): the picture's own header decides.

licence:
{LICENCE}
"""
# Order of the joints: the loaders of mmpose, OpenPifPaf and 3DCrowdNet, which agree.
SKELETON = "crowdpose_14"
FIT_ERROR = 5.0  # pixels of 3DCrowdNet's heat-maps, its threshold


def add_options(parser: argparse.ArgumentParser) -> None:
    """CrowdPose needs none."""


def plan(source: Path, output: Path, options: argparse.Namespace) -> Plan:
    """What there is to read.

    Raises:
        InputError: if no annotation file is there.
    """
    parts, skipped = [], []
    both = "crowdpose_trainval.json"
    whole = find_file(source, "crowdpose_train.json") is None and find_file(source, both) is not None
    names = {split: f"crowdpose_{split}.json" for split in ("train", "val", "test")}
    if whole:
        names = {"train": both, "test": names["test"]}
        skipped.append(("crowdpose_train.json", f"not found; {both} is taken as train, and nothing as val"))
    for split, name in names.items():
        file = find_file(source, name)
        if file is None:
            skipped.append((name, "not found"))
            continue
        folder = find_folder(source, "images", near=file)
        if folder is None:
            skipped.append((name, "left out: its pictures are not here, looked for a folder images"))
            continue
        fits = find_file(source, f"CrowdPose_{split}_SMPL_NeuralAnnot.json")
        arguments = (file, source, folder.relative_to(source).as_posix(), split, fits)
        parts.append(Part(split, read, arguments, (file,) if fits is None else (file, fits)))
    if not parts:
        found = "; ".join(f"{name}: {reason}" for name, reason in skipped)
        raise InputError(f"--source: {source} is not CrowdPose ({found})")
    facts = {
        "skeletons": {"keypoints_2d_gt": SKELETON},
        "box_rule": "keypoints",
        "bounds": "annotated box; labelled joints where it is none",
        "confidence": "1 for v = 1 (hidden) and v = 2 (visible); visibility holds v",
        "smpl": "NeuralAnnot, neutral SMPL, fitted to the annotated joints",
        "score": "fit_err of NeuralAnnot",
    }
    return Plan("crowdpose", LICENCE, facts, source, parts, [], skipped)


def read(file: Path, root: Path, folder: str, split: str, fits: Path | None) -> Rows:
    """The people of one split.

    Raises:
        InputError: if its annotations cannot be read.
    """
    joints = skeletons.get(SKELETON).joints
    people = read_people(file, root, folder, lambda annotation: check_keypoints(annotation, len(joints)))
    keypoints, visibility = keypoints_2d(people, joints)
    arrays = {**people.columns(), "keypoints_2d_gt": keypoints, "visibility": visibility}
    arrays["bounds"] = bounds(people, keypoints)
    indices = [image.get("crowdIndex") for image in people.images]
    arrays["crowd_index"] = np.array([i if isinstance(i, int | float) else np.nan for i in indices], np.float32)
    skipped = people.findings.lines()
    if fits is not None:
        bodies, unread = read_fits(fits, people.numbers)
        arrays, skipped = {**arrays, **bodies}, skipped + unread
        score = bodies.get("score", np.empty(0))
        people.counts["people with a fitted body"] = int(bodies["has_smpl"].sum()) if bodies else 0
        people.counts[f"fitted bodies with fit_err below {FIT_ERROR:g}"] = int((score < FIT_ERROR).sum())
        people.counts[f"fitted bodies with fit_err of {FIT_ERROR:g} and more"] = int((score >= FIT_ERROR).sum())
    return people.rows(arrays, split, skipped)
