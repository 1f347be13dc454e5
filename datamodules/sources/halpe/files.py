"""Halpe-FullBody as it is published: 26 joints of the body, and optionally only the people that are fit for use."""

import argparse
from pathlib import Path

import numpy as np

from datamodules.preparation.engine import Expected, Part, Plan, Rows
from datamodules.sources.common.coco_layout import bounds, check_keypoints, keypoints_2d, read_people
from datamodules.sources.common.files import find_file, find_folder
from datamodules.sources.halpe import PAGE
from datamodules.sources.halpe.cleansing import SKELETON, HalpeCleansing, cleanse
from noise2pose import skeletons
from noise2pose.errors import InputError

LICENCE = (
    f"Halpe-FullBody names none, ask its authors ({PAGE}); pictures are those of "
    "HICO-DET (http://www-personal.umich.edu/~ywchao/hico) and COCO (https://cocodataset.org/#termsofuse)"
)
DESCRIPTION = f"""Prepare Halpe-FullBody's people with 26 joints of the body.

what goes in: the folder with what was unpacked, wherever in it
  halpe_train_v1.json, halpe_val_v1.json
  train2015/      pictures of HICO-DET (hico_20160224_det/images/train2015)
  val2017/        pictures of COCO

what comes out: 26 joints (halpe_26), whose confidence is the published score up to 1, since it is no 0/1/2 here (as it
is in the file: the column `visibility`); the annotated box. The published num_keypoints is wrong and not used.
Coordinates outside a picture are kept and counted. With --cleanse only people who are fit for use are kept; the data
module has the same filter, so that the folder need not be prepared again for other rules.

licence:
{LICENCE}
"""
_FOLDERS = {"train": "train2015", "val": "val2017"}
# "41712 objs anns in 38,118 images": Fang-Haoshu/Halpe-FullBody, issue 6.
EXPECTED = [Expected("train: pictures listed", 38_118), Expected("train: annotations", 41_712)]


def add_options(parser: argparse.ArgumentParser) -> None:
    """The filter."""
    rules = HalpeCleansing()
    parser.add_argument("--cleanse", action="store_true", help="keep only people who are fit for use")
    group = parser.add_argument_group("what --cleanse keeps")
    group.add_argument("--max_people", type=int, default=rules.max_people, help="in a picture (default: %(default)s)")
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
    parts, skipped = [], []
    for split, pictures in _FOLDERS.items():
        name = f"halpe_{split}_v1.json"
        file = find_file(source, name)
        if file is None:
            skipped.append((name, "not found"))
            continue
        folder = find_folder(source, pictures, near=file)
        if folder is None:
            skipped.append((name, f"left out: its pictures are not here, looked for a folder {pictures}"))
            continue
        arguments = (file, source, folder.relative_to(source).as_posix(), split, kept)
        parts.append(Part(split, read, arguments, (file,)))
    if not parts:
        found = "; ".join(f"{name}: {reason}" for name, reason in skipped)
        raise InputError(f"--source: {source} is not Halpe-FullBody ({found})")
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
    rows = people.rows(arrays, split, people.findings.lines())
    return rows if kept is None else _cleansed(rows, HalpeCleansing(*kept), split)  # type: ignore[arg-type]


def _cleansed(rows: Rows, rules: HalpeCleansing, split: str) -> Rows:
    result = cleanse(rules, rows.arrays["visibility"], rows.arrays["bounds"], rows.arrays["picture"])
    left, picture = np.unique(rows.arrays["picture"][result.keep], return_inverse=True)
    arrays = {name: array[result.keep] for name, array in rows.arrays.items()}
    counts = {f"{split}: cleansing, {reason}": number for reason, number in result.counts.items()}
    return rows._replace(
        arrays={**arrays, "picture": picture.reshape(-1)},
        of=rows.of[result.keep],
        pictures=[rows.pictures[number] for number in left.tolist()],
        counts={**rows.counts, **counts},
    )
