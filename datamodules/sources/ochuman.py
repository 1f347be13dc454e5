"""OCHuman, people who hide each other, as it is published in COCO's layout."""

import argparse
from pathlib import Path

from datamodules.preparation import Expected, Part, Plan, Rows
from datamodules.sources.common import neural_annot
from datamodules.sources.common.files import find_splits

SUMMARY = "OCHuman: people who hide each other, in 2-D"
PAGE = "https://github.com/liruilong940607/OCHumanApi"
LICENCE = f"OCHuman (Zhang et al., CVPR 2019): MIT for its API; ask for the data and its terms at {PAGE}"
DESCRIPTION = f"""Prepare OCHuman's people with keypoints, for tests alone.

what goes in: the folder with what was unpacked, wherever in it
  ochuman_coco_format_val_range_0.00_1.00.json, ochuman_coco_format_test_range_0.00_1.00.json
  images/

what comes out: 17 joints (coco_17) with confidence 1 where a joint is labelled; the annotated box. In the published
conversion v is 2 for a joint that is seen or hidden by its own body, 1 for one that others hide: the column
`visibility`. ochuman.json, with 19 joints and another layout, is not read.

licence:
{LICENCE}
"""
SKELETON = "coco_17"
# The publisher's conversion takes the first 2,500 of 4,731 images as val; its page counts 8,110 people in both.
EXPECTED = [Expected("val: images listed", 2_500), Expected("test: images listed", 2_231)]


def add_options(parser: argparse.ArgumentParser) -> None:
    """This data set has none."""


def plan(source: Path, output: Path, options: argparse.Namespace) -> Plan:
    """What there is to read.

    Raises:
        InputError: if no annotation file is there.
    """
    wanted = {split: (f"ochuman_coco_format_{split}_range_0.00_1.00.json", "images") for split in ("val", "test")}
    splits, skipped = find_splits(source, wanted, "OCHuman")
    parts = [
        Part(split.name, read, (split.annotations, source, split.folder, split.name), (split.annotations,))
        for split in splits
    ]
    facts = {
        "skeletons": {"keypoints_2d_gt": SKELETON},
        "box_rule": "keypoints",
        "bounds": neural_annot.FACTS["bounds"],
        "confidence": "1 for v = 1 (hidden by others) and v = 2; visibility holds v",
    }
    return Plan("ochuman", LICENCE, facts, source, parts, EXPECTED, skipped)


def read(file: Path, root: Path, folder: str, split: str) -> Rows:
    """The people of one split.

    Raises:
        InputError: if its annotations cannot be read.
    """
    people, arrays, skipped = neural_annot.read_fitted_people(file, root, folder, None, SKELETON)
    return people.rows(arrays, split, skipped)
