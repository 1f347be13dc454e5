"""Halpe-FullBody as it is published: 26 joints of the body, and optionally only the people that are fit for use."""

import argparse
from pathlib import Path

import numpy as np

from datamodules.preparation import Expected, Part, Plan, Rows
from datamodules.sources.common.coco_layout import bounds, check_keypoints, keypoints_2d, read_people
from datamodules.sources.common.files import find_splits
from datamodules.sources.halpe import PAGE
from datamodules.sources.halpe.cleansing import SKELETON, HalpeCleansing, cleanse
from noise2pose import skeletons

LICENCE = (
    f"Halpe-FullBody names none, ask its authors ({PAGE}); images are those of "
    "HICO-DET (http://www-personal.umich.edu/~ywchao/hico) and COCO (https://cocodataset.org/#termsofuse)"
)
DESCRIPTION = f"""Prepare Halpe-FullBody's people with 26 joints of the body.

what goes in: the folder with what was unpacked, wherever in it
  halpe_train_v1.json, halpe_val_v1.json
  train2015/      images of HICO-DET (hico_20160224_det/images/train2015)
  val2017/        images of COCO

what comes out: 26 joints (halpe_26), whose confidence is the published score up to 1, since it is no 0/1/2 here (the
column `visibility` has it as in the file); the annotated box. The published num_keypoints is wrong and not used.
Coordinates outside an image are kept and counted. With --cleanse only people who are fit for use are kept; the data
module has the same filter, so that the folder need not be prepared again for other rules.

licence:
{LICENCE}
"""
_FOLDERS = {"train": "train2015", "val": "val2017"}
# "41712 objs anns in 38,118 images": Fang-Haoshu/Halpe-FullBody, issue 6.
EXPECTED = [Expected("train: images listed", 38_118), Expected("train: annotations", 41_712)]


def add_options(parser: argparse.ArgumentParser) -> None:
    """What only this data set needs."""
    rules = HalpeCleansing()
    parser.add_argument("--cleanse", action="store_true", help="keep only people who are fit for use")
    group = parser.add_argument_group("what --cleanse keeps")
    group.add_argument("--max_people", type=int, default=rules.max_people, help="in an image (default: %(default)s)")
    group.add_argument(
        "--min_side", type=float, default=rules.min_side, help="longer side of the box, pixels (default: %(default)s)"
    )
    group.add_argument("--min_joints", type=int, default=rules.min_joints, help="seen of 14 (default: %(default)s)")
    group.add_argument("--min_limbs", type=int, default=rules.min_limbs, help="seen whole of 4 (default: %(default)s)")
    group.add_argument(
        "--min_visibility", type=float, default=rules.min_visibility, help="of a seen joint (default: %(default)s)"
    )


def plan(source: Path, output: Path, options: argparse.Namespace) -> Plan:
    """What there is to read.

    Raises:
        InputError: if no annotation file is there.
    """
    rules = HalpeCleansing(**{name: getattr(options, name) for name in HalpeCleansing._fields})
    kept = tuple(rules) if options.cleanse else None
    wanted = {split: (f"halpe_{split}_v1.json", folder) for split, folder in _FOLDERS.items()}
    splits, skipped = find_splits(source, wanted, "Halpe-FullBody")
    parts = [
        Part(split.name, read, (split.annotations, source, split.folder, split.name, kept), (split.annotations,))
        for split in splits
    ]
    facts = {
        "skeletons": {"keypoints_2d_gt": SKELETON},
        "box_rule": "keypoints",
        "bounds": "annotated box; labelled joints where it is none",
        "confidence": "published score, at most 1; visibility holds it as published",
        "cleansing": rules._asdict() if options.cleanse else None,
    }
    return Plan("halpe", LICENCE, facts, source, parts, EXPECTED, skipped)


def read(file: Path, root: Path, folder: str, split: str, kept: tuple[float, ...] | None) -> Rows:
    """The people of one split.

    Args:
        kept: rules of `HalpeCleansing`, or None to keep everybody.

    Raises:
        InputError: if its annotations cannot be read.
    """
    joints = skeletons.get(SKELETON).joints
    # 136 joints of the whole body as published, whose first 26 are those of the body, or these alone.
    people = read_people(file, root, folder, lambda annotation: check_keypoints(annotation, 136, 26))
    keypoints, visibility = keypoints_2d(people, joints)
    keypoints[..., 2] = np.minimum(visibility, 1.0)
    arrays = {**people.columns(), "keypoints_2d_gt": keypoints, "visibility": visibility}
    arrays["bounds"] = bounds(people, keypoints)
    rows = people.rows(arrays, split, people.faults.lines())
    return rows if kept is None else _cleansed(rows, HalpeCleansing(*kept), split)  # type: ignore[arg-type]


def _cleansed(rows: Rows, rules: HalpeCleansing, split: str) -> Rows:
    result = cleanse(rules, rows.arrays["visibility"], rows.arrays["bounds"], rows.arrays["picture"])
    left, image = np.unique(rows.arrays["picture"][result.keep], return_inverse=True)
    arrays = {name: array[result.keep] for name, array in rows.arrays.items()}
    counts = {f"{split}: cleansing, {reason}": number for reason, number in result.counts.items()}
    return rows._replace(
        arrays={**arrays, "picture": image.reshape(-1)},
        of=rows.of[result.keep],
        images=[rows.images[number] for number in left.tolist()],
        counts={**rows.counts, **counts},
    )
