"""CrowdPose as it is published, with NeuralAnnot's bodies where they are given."""

import argparse
from pathlib import Path

import numpy as np

from datamodules.preparation import Plan, Rows
from datamodules.sources.common import neural_annot
from datamodules.sources.common.files import find_file, find_splits

SUMMARY = "CrowdPose, with NeuralAnnot's bodies if given"
PAGE = "https://github.com/Jeff-sjtu/CrowdPose"
LICENCE = f"CrowdPose names none, ask its authors ({PAGE}); {neural_annot.LICENCE}"
DESCRIPTION = f"""Prepare CrowdPose's people with keypoints, and NeuralAnnot's SMPL bodies of them if they are there.

what goes in: the folder with what was unpacked, wherever in it
  crowdpose_train.json, crowdpose_val.json, crowdpose_test.json   (crowdpose_trainval.json only where train is missing)
  images/
  CrowdPose_train_SMPL_NeuralAnnot.json                           (optional)

what comes out: 14 joints (crowdpose_14) with confidence 1 where a joint is labelled; the annotated box; the crowd index
of the image; poses, betas, translation and camera where NeuralAnnot has a body, with its fit_err as the column
`score`. Every fit is kept: the data module decides by `score`, since 3DCrowdNet and JOTR keep errors of 5 and more,
which looks inverted. In the first release the width and height of images are swapped in train and test
(Jeff-sjtu/CrowdPose, issue 12): the header of the image decides.

licence:
{LICENCE}
"""
# Order of the joints: the loaders of mmpose, OpenPifPaf and 3DCrowdNet, which agree.
SKELETON = "crowdpose_14"
FIT_ERROR = 5.0  # pixels of 3DCrowdNet's heat-maps, its threshold
_BOTH = "crowdpose_trainval.json"


def add_options(parser: argparse.ArgumentParser) -> None:
    """This data set has none."""


def plan(source: Path, output: Path, options: argparse.Namespace) -> Plan:
    """What there is to read.

    Raises:
        InputError: if no annotation file is there.
    """
    wanted = {split: (f"crowdpose_{split}.json", "images") for split in ("train", "val", "test")}
    joined = find_file(source, "crowdpose_train.json") is None and find_file(source, _BOTH) is not None
    if joined:
        wanted = {"train": (_BOTH, "images"), "test": wanted["test"]}
    splits, skipped = find_splits(source, wanted, "CrowdPose")
    if joined:
        skipped.insert(0, ("crowdpose_train.json", f"not found; {_BOTH} is taken as train, and nothing as val"))
    parts = [
        neural_annot.part_of(split.name, read, source, split, f"CrowdPose_{split.name}_SMPL_NeuralAnnot.json")
        for split in splits
    ]
    facts = {"skeletons": {"keypoints_2d_gt": SKELETON}, **neural_annot.FACTS, "score": "fit_err of NeuralAnnot"}
    return Plan("crowdpose", LICENCE, facts, source, parts, [], skipped)


def read(file: Path, root: Path, folder: str, split: str, fits: Path | None) -> Rows:
    """The people of one split.

    Raises:
        InputError: if its annotations cannot be read.
    """
    people, arrays, skipped = neural_annot.read_fitted_people(file, root, folder, fits, SKELETON)
    indices = [image.get("crowdIndex") for image in people.images]
    arrays["crowd_index"] = np.array([i if isinstance(i, int | float) else np.nan for i in indices], np.float32)
    if fits is not None:
        score = arrays.get("score", np.empty(0))
        people.counts[f"fitted bodies with fit_err below {FIT_ERROR:g}"] = int((score < FIT_ERROR).sum())
        people.counts[f"fitted bodies with fit_err of {FIT_ERROR:g} and more"] = int((score >= FIT_ERROR).sum())
    return people.rows(arrays, split, skipped)
