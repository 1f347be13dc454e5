"""COCO's key-points of people as they are published, with NeuralAnnot's bodies where they are given."""

import argparse
from pathlib import Path

from datamodules.preparation.engine import Expected, Part, Plan, Rows
from datamodules.sources.common.coco_layout import bounds, check_keypoints, keypoints_2d, read_people
from datamodules.sources.common.files import find_file, find_folder
from datamodules.sources.common.neural_annot import read_fits
from noise2pose import skeletons
from noise2pose.errors import InputError

SUMMARY = "COCO keypoints, with NeuralAnnot's bodies if given"
PAGE = "https://cocodataset.org/#termsofuse"
LICENCE = (
    f"COCO: annotations CC BY 4.0, pictures under Flickr's terms ({PAGE}); "
    "NeuralAnnot names none (https://github.com/mks0601/NeuralAnnot_RELEASE), SMPL is for non-commercial research"
)
DESCRIPTION = f"""Prepare COCO's people with key-points, and NeuralAnnot's SMPL bodies of them if they are there.

what goes in: the folder with what was unpacked, wherever in it
  person_keypoints_train2017.json, person_keypoints_val2017.json   (annotations_trainval2017.zip)
  train2017/, val2017/                                             (pictures, also under images/)
  MSCOCO_train_SMPL_NeuralAnnot.json                               (optional)

what comes out: 17 joints (coco_17) with confidence 1 where a joint is labelled (v is 1 or 2; the published value is
the column `visibility`); the annotated box; poses, betas, translation and camera where NeuralAnnot has a body. People
without any labelled joint and crowds are counted and left out.

licence:
{LICENCE}
"""
SKELETON = "coco_17"
_FITS = "MSCOCO_{}_SMPL_NeuralAnnot.json"
# 118,287 and 5,000 pictures: cocodataset.org. 64,115 with people: model zoo of AlphaPose (MVIG-SJTU/AlphaPose, issue
# 986). 2,693 of val2017: sydsim/personlab-tf, issue 11. 149,813 people with labelled joints: what those who train on
# train2017 say they have.
EXPECTED = [
    Expected("train: pictures listed", 118_287),
    Expected("train: pictures with annotations", 64_115),
    Expected("train: people", 149_813),
    Expected("val: pictures listed", 5_000),
    Expected("val: pictures with annotations", 2_693),
]


def add_options(parser: argparse.ArgumentParser) -> None:
    """COCO needs none."""


def plan(source: Path, output: Path, options: argparse.Namespace) -> Plan:
    """What there is to read.

    Raises:
        InputError: if no annotation file is there.
    """
    parts, skipped = [], []
    for split in ("train", "val"):
        name = f"person_keypoints_{split}2017.json"
        file = find_file(source, name)
        if file is None:
            skipped.append((name, "not found"))
            continue
        folder = find_folder(source, f"{split}2017", near=file)
        if folder is None:
            skipped.append((name, f"left out: its pictures are not here, looked for a folder {split}2017"))
            continue
        fits = find_file(source, _FITS.format(split))
        arguments = (file, source, folder.relative_to(source).as_posix(), split, fits)
        parts.append(Part(f"{split}2017", read, arguments, (file,) if fits is None else (file, fits)))
    if not parts:
        found = "; ".join(f"{name}: {reason}" for name, reason in skipped)
        raise InputError(f"--source: {source} is not COCO ({found})")
    facts = {
        "skeletons": {"keypoints_2d_gt": SKELETON},
        "box_rule": "keypoints",
        "bounds": "annotated box; labelled joints where it is none",
        "confidence": "1 for v = 1 (hidden) and v = 2 (visible); visibility holds v",
        "smpl": "NeuralAnnot, neutral SMPL, fitted to the annotated joints",
    }
    return Plan("coco", LICENCE, facts, source, parts, EXPECTED, skipped)


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
    skipped = people.findings.lines()
    if fits is not None:
        bodies, unread = read_fits(fits, people.numbers)
        arrays, skipped = {**arrays, **bodies}, skipped + unread
        people.counts["people with a fitted body"] = int(bodies["has_smpl"].sum()) if bodies else 0
    return people.rows(arrays, split, skipped)
