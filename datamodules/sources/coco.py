"""COCO's keypoints of people as they are published, with NeuralAnnot's bodies where they are given."""

import argparse
from pathlib import Path

from datamodules.preparation import Expected, Plan, Rows
from datamodules.sources.common import neural_annot
from datamodules.sources.common.files import find_splits

SUMMARY = "COCO keypoints, with NeuralAnnot's bodies if given"
PAGE = "https://cocodataset.org/#termsofuse"
LICENCE = f"COCO: annotations CC BY 4.0, images under Flickr's terms ({PAGE}); {neural_annot.LICENCE}"
DESCRIPTION = f"""Prepare COCO's people with keypoints, and NeuralAnnot's SMPL bodies of them if they are there.

what goes in: the folder with what was unpacked, wherever in it
  person_keypoints_train2017.json, person_keypoints_val2017.json   (annotations_trainval2017.zip)
  train2017/, val2017/                                             (images, also in a folder images/)
  MSCOCO_train_SMPL_NeuralAnnot.json                               (optional)

what comes out: 17 joints (coco_17) with confidence 1 where a joint is labelled (v is 1 or 2; the published value is
the column `visibility`); the annotated box; poses, betas, translation and camera where NeuralAnnot has a body. People
without any labelled joint and crowds are counted and left out.

licence:
{LICENCE}
"""
SKELETON = "coco_17"
# 118,287 and 5,000 images: cocodataset.org. 64,115 with people: model zoo of AlphaPose (MVIG-SJTU/AlphaPose, issue
# 986). 2,693 of val2017: sydsim/personlab-tf, issue 11. 149,813 people with labelled joints: what those who train on
# train2017 say they have.
EXPECTED = [
    Expected("train: images listed", 118_287),
    Expected("train: images with annotations", 64_115),
    Expected("train: people", 149_813),
    Expected("val: images listed", 5_000),
    Expected("val: images with annotations", 2_693),
]


def add_options(parser: argparse.ArgumentParser) -> None:
    """This data set has none."""


def plan(source: Path, output: Path, options: argparse.Namespace) -> Plan:
    """What there is to read.

    Raises:
        InputError: if no annotation file is there.
    """
    wanted = {split: (f"person_keypoints_{split}2017.json", f"{split}2017") for split in ("train", "val")}
    splits, skipped = find_splits(source, wanted, "COCO")
    parts = [
        neural_annot.part_of(f"{split.name}2017", read, source, split, f"MSCOCO_{split.name}_SMPL_NeuralAnnot.json")
        for split in splits
    ]
    facts = {"skeletons": {"keypoints_2d_gt": SKELETON}, **neural_annot.FACTS}
    return Plan("coco", LICENCE, facts, source, parts, EXPECTED, skipped)


def read(file: Path, root: Path, folder: str, split: str, fits: Path | None) -> Rows:
    """The people of one split.

    Raises:
        InputError: if its annotations cannot be read.
    """
    people, arrays, skipped = neural_annot.read_fitted_people(file, root, folder, fits, SKELETON)
    return people.rows(arrays, split, skipped)
