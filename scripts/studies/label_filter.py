"""How well wrong labels are found and mended: precision and recall of each reason of Pose++'s filter.

Labels of rendered people are made wrong on purpose, as a generator that does not follow its conditions makes them:

* `mirror`: left and right exchanged, as of a person who faces the other way;
* `misaligned`: another person's pose in the same place, or an arm or a leg somewhere else;
* `two_persons` and `no_person`: somebody else stands beside the person, or nobody is found;
* `head`: the head of the label looks elsewhere, which the filter need not find and the head stage should mend.

Detections are the true keypoints with a detector's usual errors, or those of a trained estimator in the images.
Everything is drawn from the seed, so a table can be made again.

  python -m scripts.studies.label_filter --people 2000
  python -m scripts.studies.label_filter --checkpoint runs/keypoint_estimator_synthetic/checkpoints/best.ckpt
"""

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import roma
import torch
from torch import Tensor

from datamodules.rendered_people import RenderedPeople
from methods.base import PoseMethod
from methods.checkpoints import load_method
from methods.posepp.labels.filtering import MIRROR, MISALIGNED, NO_PERSON, REASONS, TWO_PERSONS, Verdict, judge
from methods.posepp.labels.head import HEAD, turn_heads
from methods.posepp.labels.refinement import believable
from methods.posepp.labels.settings import Filter, HeadPose
from noise2pose import keyed_random, skeletons
from noise2pose.batch import PoseBatch
from noise2pose.bodies import BodyModel
from noise2pose.bodies.coco import NUM_FACE, face_points
from noise2pose.errors import InputError
from noise2pose.images.crops import bounds_of_keypoints
from noise2pose.keypoints.noise import detect
from noise2pose.metrics.similarity import area_of

RATES = {MIRROR: 0.15, MISALIGNED: 0.15, TWO_PERSONS: 0.05, NO_PERSON: 0.05}
HEAD_RATE, HEAD_DEGREES = 0.3, (25.0, 60.0)
SHIFT = 0.02  # of correct labels, box sides: a generator does not place every joint exactly
YAWS = ((0, 30), (30, 60), (60, 75), (75, 105), (105, 150), (150, 180))
_COCO = skeletons.get("coco_17")
_FLIP = list(_COCO.flip_order)
_CHAINS = tuple(
    tuple(_COCO.index(f"{side}_{joint}") for joint in chain)
    for side in ("left", "right")
    for chain in (("elbow", "wrist"), ("knee", "ankle"))
)
_STREAM = 900  # of keyed_random: this and the next ten


class Corrupted(NamedTuple):
    """People with labels that are partly wrong.

    Attributes:
        truth: (N, 17, 3) keypoints of the image, pixels, and whether they can be seen.
        labels: (N, 17, 3) what the label says.
        wrong: reason for which each should be left out; empty for a correct label.
        yaw: (N,) degrees between the direction that a person faces and that to the camera, 0 to 180.
        area: (N,) square pixels.
    """

    truth: Tensor
    labels: Tensor
    wrong: list[str]
    yaw: Tensor
    area: Tensor


def seen_of(people: PoseBatch) -> Tensor:
    """(N, 17) points inside the image that no part of the person hides, as far as the direction of the head tells.

    Without a mesh: a point of the face is hidden where it lies on the far side of the head. Limbs count as seen.
    """
    joints = people["keypoints_3d"][..., :3]
    exact = people.get("keypoints_2d_gt", people["keypoints_2d"])
    middle = joints[:, 3:5].mean(dim=1, keepdim=True)
    outwards = joints[:, :NUM_FACE] - middle
    towards = -torch.nn.functional.normalize(middle, dim=-1)
    facing = (torch.nn.functional.normalize(outwards, dim=-1) * towards).sum(dim=-1) > -0.2
    seen = exact[..., 2] > 0
    seen[:, :NUM_FACE] &= facing
    return seen


def corrupt(people: PoseBatch, seed: int) -> Corrupted:
    """Makes labels wrong at the rates of this module."""
    exact = people.get("keypoints_2d_gt", people["keypoints_2d"])
    keys = keyed_random.keys_of(people["sample_id"])
    count, side = len(keys), people["box"][:, 2]
    seen = seen_of(people)
    truth = torch.cat((exact[..., :2], seen[..., None].float()), dim=-1)
    labels = truth.clone()
    labels[..., :2] += SHIFT / 2.0 * side[:, None, None] * keyed_random.normal(keys, (17, 2), stream=_STREAM, seed=seed)
    uniform = keyed_random.uniform(keys, (6,), stream=_STREAM + 1, seed=seed)
    edges = torch.tensor([*RATES.values()]).cumsum(0)
    kinds = torch.bucketize(uniform[:, 0].contiguous(), edges)
    names = [*RATES, ""]
    wrong = [names[kind] for kind in kinds.tolist()]
    mirrored = torch.tensor([name == MIRROR for name in wrong])
    labels[mirrored] = labels[mirrored][:, _FLIP]
    limb = torch.tensor([name == MISALIGNED for name in wrong]) & (uniform[:, 1] < 0.5)
    other = torch.tensor([name == MISALIGNED for name in wrong]) & ~limb
    for chain in range(len(_CHAINS)):  # two of the four limbs are somewhere else
        moved = limb & (((uniform[:, 2] * 4).long() == chain) | ((uniform[:, 3] * 4).long() == chain))
        angle = 2.0 * math.pi * uniform[:, 4]
        offset = 0.3 * side[:, None] * torch.stack((angle.cos(), angle.sin()), dim=-1)
        for joint in _CHAINS[chain]:
            labels[moved, joint, :2] += offset[moved]
    place = (exact[..., :2] - people["box"][:, None, :2]) / side[:, None, None]
    labels[other, :, :2] = place.roll(1, dims=0)[other] * side[other, None, None] + people["box"][other, None, :2]
    orient = people["smpl"]["global_orient"][:, :, 2]
    yaw = torch.rad2deg(torch.atan2(orient[:, 0].abs(), -orient[:, 2]))
    assert count == len(wrong)
    return Corrupted(truth, labels, wrong, yaw, area_of(bounds_of_keypoints(exact)))


def detections_of(people: PoseBatch, given: Corrupted, method: PoseMethod | None, seed: int) -> list[Tensor]:
    """What a detector finds in each image: (P, 17, 3) each."""
    keys = keyed_random.keys_of(people["sample_id"])
    if method is None:
        options = {"error_rate": 0.4, "good_radius": 0.35, "seed": seed}
        found = detect(given.truth[..., :2], given.truth[..., 2], given.area, keys, **options).keypoints
    else:
        found = answered(method, people, people["keypoints_2d"])
    beside = found + torch.tensor([1.0, 0.0, 0.0]) * people["box"][:, 2, None, None]
    return [
        found[row : row + 1]
        if reason not in (NO_PERSON, TWO_PERSONS)
        else (torch.stack((found[row], beside[row])) if reason == TWO_PERSONS else found[:0])
        for row, reason in enumerate(given.wrong)
    ]


@torch.inference_mode()
def answered(method: PoseMethod, people: PoseBatch, keypoints: Tensor) -> Tensor:
    """(N, 17, 3) a method's keypoints, 64 people at a time."""
    parts = []
    for rows in torch.arange(len(keypoints)).split(64):
        image = people["image"][rows].float() / 255.0
        parts.append(
            method({"image": image, "box": people["box"][rows], "keypoints_2d": keypoints[rows]})["keypoints_2d"]
        )
    return torch.cat(parts).clone()


def rates(given: Corrupted, verdicts: Sequence[Verdict]) -> list[tuple[str, ...]]:
    """A row for each reason and each range of yaw: how many are wrong so, recall, precision, keep rate of the right."""
    rows = []
    for low, high in ((0, 180), *YAWS):
        within = ((given.yaw >= low) & (given.yaw < high + (high == 180))).tolist()
        chosen = [(w, v.reason) for w, v, inside in zip(given.wrong, verdicts, within, strict=True) if inside]
        right = [reason for wrong, reason in chosen if not wrong]
        cells = [f"{low}-{high}", str(len(chosen)), percent(sum(not reason for reason in right), len(right))]
        for name in (MIRROR, MISALIGNED, TWO_PERSONS, NO_PERSON):
            of_kind = [reason for wrong, reason in chosen if wrong == name]
            called = [wrong for wrong, reason in chosen if reason == name]
            cells.append(percent(sum(reason == name for reason in of_kind), len(of_kind)))
            cells.append(percent(sum(bool(reason) for reason in of_kind), len(of_kind)))
            cells.append(percent(sum(wrong == name for wrong in called), len(called)))
        kept = [wrong for wrong, reason in chosen if not reason]
        cells.append(percent(sum(not wrong for wrong in kept), len(kept)))
        rows.append(tuple(cells))
    return rows


def percent(number: int, of: int) -> str:
    """A share in per cent, or a dash of nothing."""
    return f"{100.0 * number / of:.0f}" if of else "-"


def heads(people: PoseBatch, given: Corrupted, found: list[Tensor], kept: Tensor, seed: int) -> dict[str, float]:
    """The error of the face in the labels before and after heads are turned, millimetres."""
    body = BodyModel.load("free")
    smpl, camera = people["smpl"], people["camera"]
    true = torch.cat((smpl["global_orient"][:, None], smpl["body_pose"]), dim=1)[kept]
    keys = keyed_random.keys_of([people["sample_id"][row] for row in kept.tolist()])
    uniform = keyed_random.uniform(keys, (3,), stream=_STREAM + 3, seed=seed)
    low, high = HEAD_DEGREES
    angle = torch.deg2rad(low + (high - low) * uniform[:, 1]) * torch.where(uniform[:, 2] < 0.5, -1.0, 1.0)
    turned = uniform[:, 0] < HEAD_RATE
    axis = torch.stack((torch.zeros_like(angle), angle * turned, torch.zeros_like(angle)), dim=-1)
    label = true.clone()
    label[:, HEAD] = label[:, HEAD] @ roma.rotvec_to_rotmat(axis)
    matrix = torch.eye(3).repeat(len(kept), 1, 1)
    matrix[:, [0, 1], [0, 1]], matrix[:, :2, 2] = camera["focal"][kept], camera["principal_point"][kept]
    face = torch.stack([found[row][0, :NUM_FACE] for row in kept.tolist()])
    betas, translation = smpl["betas"][kept], people["camera_translation"][kept]
    started = time.process_time()
    answer = turn_heads(body, label, betas, translation, matrix, face, HeadPose())
    seconds = time.process_time() - started

    def error(rotations: Tensor, rows: Tensor) -> float:
        places = [face_points(body, r[:, 0], r[:, 1:], betas, translation) for r in (rotations, true)]
        return 1000.0 * float((places[0] - places[1]).norm(dim=-1).mean(dim=-1)[rows].mean())

    compared = turned & ~answer.skipped
    return {
        "turned heads": int(turned.sum()),
        "of them with four points and a residual": int(compared.sum()),
        "of these accepted, %": 100.0 * float(answer.accepted[compared].float().mean()),
        "face error of turned heads before, mm": error(label, turned),
        "after, mm": error(answer.rotations, turned),
        "of those that were compared before, mm": error(label, compared),
        "of those that were compared after, mm": error(answer.rotations, compared),
        "right heads that were turned, %": 100.0 * float(answer.accepted[~turned].float().mean()),
        "face error of right heads after, mm": error(answer.rotations, ~turned),
        "heads a second of one core": len(kept) / max(seconds, 1e-6),
    }


def main(args: Sequence[str] | None = None) -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=2000, help="rendered people")
    parser.add_argument("--checkpoint", type=Path, help="of a keypoint estimator; without it detections are simulated")
    parser.add_argument("--refiner", type=Path, help="of methods.posepp.Refiner, whose error is measured too")
    parser.add_argument("--cache", default="data/rendered", help="folder of rendered images")
    parser.add_argument("--num_people", type=int, help="of the data set whose test split is taken")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(args)
    images = arguments.checkpoint is not None or arguments.refiner is not None
    number = arguments.num_people or 20 * arguments.people  # a test split is a twentieth of its data set
    if number < 40:
        raise InputError(f"--people is {arguments.people}, expected at least 2")
    data = RenderedPeople(
        motion="synthetic", num_people=number, picture_size=128, skeleton="coco_17", images=images,
        cache=arguments.cache, num_workers=0, occlusion=0.3,
    )  # fmt: skip
    people = data.load("test")
    method = None if arguments.checkpoint is None else load_method(arguments.checkpoint)
    given = corrupt(people, arguments.seed)
    found = detections_of(people, given, method, arguments.seed)
    print(f"{len(given.wrong)} people, seed {arguments.seed}, detector: {method.title if method else 'simulated'}\n")
    head = ["yaw", "people", "kept of right"]
    for name in (MIRROR, MISALIGNED, TWO_PERSONS, NO_PERSON):
        head += [f"{name} recall", "left out", "precision"]
    for options, title in ((Filter(), "with ear test"), (Filter(ear_test=False), "without")):
        started = time.process_time()
        verdicts = judge(given.labels, given.area, found, options)
        speed = len(verdicts) / max(time.process_time() - started, 1e-6)
        print(f"{title}, {speed:.0f} images a second of one core")
        table([*head, "right of kept"], rates(given, verdicts))
    verdicts = judge(given.labels, given.area, found, Filter())
    counts = {reason or "kept": sum(v.reason == reason for v in verdicts) for reason in ("", *REASONS)}
    print(", ".join(f"{reason} {number}" for reason, number in counts.items()), "\n")
    kept = torch.tensor([row for row, v in enumerate(verdicts) if v.kept and not given.wrong[row]])
    if not len(kept):
        print("- no right label was kept: heads and refinement are not measured")
        return
    for what, value in heads(people, given, found, kept, arguments.seed).items():
        print(f"- {what}: {value:.1f}")
    if arguments.refiner is not None:
        _refined(people, given, load_method(arguments.refiner), kept)


def _refined(people: PoseBatch, given: Corrupted, method: PoseMethod, kept: Tensor) -> None:
    """The error of the labels of kept people before and after refinement, per cent of the box's side."""
    labels = given.labels[kept]
    start = torch.cat((given.labels[..., :2], torch.ones_like(given.labels[..., 2:])), dim=-1)
    started = time.process_time()
    found = answered(method, people, start)[kept]
    speed = len(start) / max(time.process_time() - started, 1e-6)
    refined = believable(labels, found[..., :2], given.area[kept], labels[..., 2])
    seen, side = given.truth[kept][..., 2] > 0, people["box"][kept, 2, None]
    errors = [
        100.0 * float(((each[..., :2] - given.truth[kept][..., :2]).norm(dim=-1) / side)[seen].mean())
        for each in (labels, refined.keypoints)
    ]
    print(f"- label error before refinement, % of the box: {errors[0]:.2f}; after: {errors[1]:.2f}")
    print(f"- joints that kept their place, %: {100.0 * float(refined.kept_initial[seen].float().mean()):.1f}")
    print(f"- refined a second of one core: {speed:.1f}")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table in Markdown."""
    for row in (head, ["---", *["---:"] * (len(head) - 1)], *rows):
        print(f"| {' | '.join(row)} |")
    print()


if __name__ == "__main__":
    main()
