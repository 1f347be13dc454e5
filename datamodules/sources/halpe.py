"""Halpe-FullBody as it is published: 26 joints of the body, and which of its people are fit for use.

DiffAnnot's paper evaluates on a part of Halpe: it names two reasons to leave an image out, too many people in it and
bodies that are very incomplete, and no rule. The numbers of `HalpeCleansing` are therefore this project's; what is kept
is counted and is not the paper's selection.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np

from datamodules.preparation import Expected, Part, Plan, Rows
from datamodules.sources.common.files import find_splits
from datamodules.sources.common.neural_annot import read_fitted_people
from noise2pose import skeletons

SUMMARY = "Halpe-FullBody"
PAGE = "https://github.com/Fang-Haoshu/Halpe-FullBody"
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
SKELETON = "halpe_26"
# The joints of LSP: limbs, neck and top of the head.
CORE_JOINTS = tuple(skeletons.get(SKELETON).index(joint) for joint in skeletons.get("lsp_14").joints)
_LIMBS = tuple(
    tuple(skeletons.get(SKELETON).index(f"{side}_{joint}") for joint in limb)
    for side in ("left", "right")
    for limb in (("shoulder", "elbow", "wrist"), ("hip", "knee", "ankle"))
)


class HalpeCleansing(NamedTuple):
    """The rules, in the order in which they are applied. Each has a value that admits everybody.

    Attributes:
        max_people: most annotated people in an image; 0 for any number. Halpe annotates few of those one sees.
        min_side: shortest length of the longer side of a person's box, pixels.
        min_joints: fewest of the 14 core joints that are seen: limbs, neck and top of the head.
        min_limbs: fewest of the 4 limbs whose three joints are all seen.
        min_visibility: a joint of this published score is seen. AlphaPose takes 0.35, Halpe's own viewer 0.6.
    """

    max_people: int = 3
    min_side: float = 64.0
    min_joints: int = 10
    min_limbs: int = 2
    min_visibility: float = 0.35


class Cleansed(NamedTuple):
    """What a filter made of a number of people.

    Attributes:
        keep: (N,) who stays.
        counts: people left out for each reason, under the first that applies, in order; then those kept.
    """

    keep: np.ndarray
    counts: dict[str, int]

    def line(self, name: str) -> str:
        """All counts in one line."""
        left_out = ", ".join(f"{number} with {reason}" for reason, number in list(self.counts.items())[:-1])
        return f"{name}: kept {int(self.keep.sum())} of {len(self.keep)} people; left out {left_out}"


def add_options(parser: argparse.ArgumentParser) -> None:
    """What only this data set needs."""
    parser.add_argument("--cleanse", action="store_true", help="keep only people who are fit for use")
    group = parser.add_argument_group("what --cleanse keeps")
    asked = {
        "max_people": "in an image",
        "min_side": "longer side of the box, pixels",
        "min_joints": "seen of 14",
        "min_limbs": "seen whole of 4",
        "min_visibility": "of a seen joint",
    }
    for name, value in HalpeCleansing()._asdict().items():
        group.add_argument(f"--{name}", type=type(value), default=value, help=f"{asked[name]} (default: %(default)s)")


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
    # 136 joints of the whole body as published, whose first 26 are those of the body, or these alone.
    people, arrays, skipped = read_fitted_people(file, root, folder, None, SKELETON, num_joints=(136, 26))
    arrays["keypoints_2d_gt"][..., 2] = np.minimum(arrays["visibility"], 1.0)
    rows = people.rows(arrays, split, skipped)
    return rows if kept is None else _cleansed(rows, HalpeCleansing(*kept), split)  # type: ignore[arg-type]


def cleanse(rules: HalpeCleansing, visibility: np.ndarray, bounds: np.ndarray, image: np.ndarray) -> Cleansed:
    """Applies the rules.

    Args:
        rules: what is asked of a person.
        visibility: (N, 26) published scores of the joints of halpe_26; 0 for absent ones.
        bounds: (N, 4) x0, y0, x1, y1, pixels.
        image: (N,) number of each person's image; all people of an image are among the N.
    """
    _, of, people = np.unique(image, return_inverse=True, return_counts=True)
    seen = visibility >= max(rules.min_visibility, np.finfo(np.float32).tiny)  # absent joints never count
    sides = (bounds[:, 2:] - bounds[:, :2]).max(axis=1, initial=0.0)
    joints = seen[:, CORE_JOINTS].sum(axis=1)
    limbs = sum(seen[:, limb].all(axis=1).astype(int) for limb in _LIMBS)
    asked = {
        f"more than {rules.max_people} people in the image": (people[of] > rules.max_people) & (rules.max_people > 0),
        f"a box under {rules.min_side:g} pixels": sides < rules.min_side,
        f"fewer than {rules.min_joints} of 14 joints seen": joints < rules.min_joints,
        f"fewer than {rules.min_limbs} of 4 limbs seen": limbs < rules.min_limbs,
    }
    keep, counts = np.ones(len(visibility), bool), {}
    for reason, fails in asked.items():
        counts[reason] = int((keep & fails).sum())
        keep &= ~fails
    return Cleansed(keep, {**counts, "kept": int(keep.sum())})


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
