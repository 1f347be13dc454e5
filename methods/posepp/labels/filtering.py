"""Which generated images show the person of their label: detections are compared with the projected keypoints.

Symmetric joints alone are scored (Pose++): a nose cannot tell a person from their mirror image. Every image that is
left out has a reason; the mirror image of the labelled person, which a diffusion model makes easily of a person seen
from behind, is one of its own.

Shape letters: N images, P people found in one, J = 17 joints of COCO.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from methods.posepp.labels.settings import Filter
from noise2pose import skeletons
from noise2pose.metrics.similarity import average_precision, oks

NO_PERSON, TWO_PERSONS, TOO_FEW, MIRROR, MISALIGNED = (
    "no_person",
    "two_persons",
    "too_few_points",
    "mirror",
    "misaligned",
)
REASONS = (NO_PERSON, TWO_PERSONS, TOO_FEW, MIRROR, MISALIGNED)
_COCO = skeletons.get("coco_17")
_FLIP = list(_COCO.flip_order)
_PAIRED = [joint for pair in _COCO.pairs for joint in pair]
_FACE_PAIRED = [_COCO.index(f"{side}_{joint}") for joint in ("eye", "ear") for side in ("left", "right")]
_EARS = (_COCO.index("left_ear"), _COCO.index("right_ear"))
_SAME_PERSON = 0.5  # similarity above which two detections are one person found twice
_SECOND_SIZE = 0.3  # of the labelled person's height: smaller people in the background do not count


class Verdict(NamedTuple):
    """What was found of one image.

    Attributes:
        reason: why it is left out; empty if it is kept.
        person: row of the detection that fits the label best; -1 without a person.
        ap: share of the thresholds .50:.05:.95 that `oks` passes; NaN where nothing could be compared, as below.
        oks: similarity of the symmetric joints.
        oks_mirrored: the same with left and right of the label exchanged.
        points: joints that were compared.
        people: that count.
    """

    reason: str
    person: int
    ap: float
    oks: float
    oks_mirrored: float
    points: int
    people: int

    @property
    def kept(self) -> bool:
        return not self.reason


def judge(
    labels: Float[Tensor, "N J 3"],
    area: Float[Tensor, " N"],
    detections: Sequence[Float[Tensor, "P J 3"]],
    options: Filter,
) -> list[Verdict]:
    """Compares the labels of images with what a detector found in them.

    Args:
        labels: pixels, and 0 for joints that cannot be seen.
        area: of each person's silhouette, square pixels.
        detections: of each image: pixels and scores.
        options: of the filter.

    Returns:
        One verdict for each image.
    """
    if not len(labels):
        return []
    most = max(1, *(len(found) for found in detections))
    found = labels.new_zeros(len(labels), most, len(_PAIRED) + 1, 3)
    for row, people in enumerate(detections):
        found[row, : len(people)] = people.to(found)
    sure = found[..., 2] >= options.least_score
    is_person = sure.sum(dim=-1) >= options.least_points
    scored = torch.zeros(len(_COCO.joints), dtype=torch.bool)
    scored[[joint for joint in _PAIRED if options.face or joint not in _FACE_PAIRED]] = True
    exchanged = labels[:, _FLIP]
    counted, counted_mirrored = ((each[:, None, :, 2] > 0) & sure & scored for each in (labels, exchanged))
    area = area[:, None].expand(-1, most)
    similar = oks(found[..., :2], labels[:, None, :, :2], area, counted)
    mirrored = oks(found[..., :2], exchanged[:, None, :, :2], area, counted_mirrored)
    # The person whom the label fits best, either way round: of the wrong person in the foreground neither does.
    fit = torch.maximum(similar.nan_to_num(0.0), mirrored.nan_to_num(0.0))
    person = torch.where(is_person, fit, -1.0).argmax(dim=-1)
    rows = torch.arange(len(labels))
    similar, mirrored, points = (each[rows, person] for each in (similar, mirrored, counted.sum(dim=-1)))
    other_ear = _other_ear(labels, found[rows, person], options.least_score)
    people = _count_people(found, sure, is_person, person, labels, area)
    precision = average_precision(similar)
    # Someone else in another pose fits both ways badly, and one of them a little better: that is no mirror image.
    exchanged_fits = average_precision(mirrored) >= options.least_ap
    turned = exchanged_fits & (mirrored > similar + options.mirror_margin)
    turned |= exchanged_fits & other_ear & options.ear_test
    reasons = np.full(len(labels), "", dtype=object)
    for reason, applies in (  # from the last that counts to the first
        (MISALIGNED, precision < options.least_ap),
        (MIRROR, turned),
        (TOO_FEW, points < options.least_points),
        (TWO_PERSONS, people > options.most_people),
        (NO_PERSON, people == 0),
    ):
        reasons[applies.numpy()] = reason
    person = torch.where(people > 0, person, -1)
    columns = (each.tolist() for each in (person, precision, similar, mirrored, points, people))
    return [Verdict(reason, *values) for reason, *values in zip(reasons.tolist(), *columns, strict=True)]


def _count_people(
    found: Float[Tensor, "N P J 3"],
    sure: Bool[Tensor, "N P J"],
    is_person: Bool[Tensor, "N P"],
    person: Tensor,
    labels: Float[Tensor, "N J 3"],
    area: Float[Tensor, "N P"],
) -> Tensor:
    """How many different people of some size each image shows."""
    rows = torch.arange(len(found))
    best = found[rows, person][:, None]
    shared = sure & sure[rows, person][:, None]
    same = oks(found[..., :2], best[..., :2], area, shared).nan_to_num(0.0) > _SAME_PERSON
    same[rows, person] = False
    labelled = _height(labels, torch.ones_like(labels[..., 2], dtype=torch.bool))
    others = is_person & ~same & (_height(found, sure) >= _SECOND_SIZE * labelled[:, None])
    others[rows, person] = is_person[rows, person]
    return others.sum(dim=-1)


def _height(points: Float[Tensor, "*batch J 3"], counted: Bool[Tensor, "*batch J"]) -> Float[Tensor, "*batch"]:
    """The longer side of the box around the points that count; 0 without any."""
    low = torch.where(counted[..., None], points[..., :2], torch.inf).amin(dim=-2)
    high = torch.where(counted[..., None], points[..., :2], -torch.inf).amax(dim=-2)
    return (high - low).amax(dim=-1).clamp_min(0.0)


def _other_ear(labels: Float[Tensor, "N J 3"], found: Float[Tensor, "N J 3"], least: float) -> Bool[Tensor, " N"]:
    """Whether one ear of the label can be seen and the detector sees the other one only."""
    left, right = _EARS
    labelled_left, labelled_right = labels[:, left, 2] > 0, labels[:, right, 2] > 0
    sees_left, sees_right = found[:, left, 2] >= least, found[:, right, 2] >= least
    return (labelled_left & ~labelled_right & sees_right & ~sees_left) | (
        labelled_right & ~labelled_left & sees_left & ~sees_right
    )
