import math

import pytest
import torch

from methods.posepp.labels.filtering import MIRROR, MISALIGNED, NO_PERSON, REASONS, TOO_FEW, TWO_PERSONS, judge
from methods.posepp.labels.settings import Filter
from noise2pose import skeletons
from noise2pose.bodies import BodyModel
from noise2pose.bodies.coco import coco_joints
from noise2pose.keypoints.noise import coco_sigmas

COCO = skeletons.get("coco_17")
FLIP = list(COCO.flip_order)
AREA = 2.5e4


def standing(yaw=0.0, number=1):
    """Labels of a person who holds the left arm up, turned by some degrees; every point counts as visible."""
    body, turn = BodyModel.load("free"), math.radians(yaw)
    import roma

    pose = torch.eye(3).repeat(23, 1, 1)
    pose[15] = roma.rotvec_to_rotmat(torch.tensor([0.0, 0.0, 0.8]))  # left shoulder
    pose[3] = roma.rotvec_to_rotmat(torch.tensor([-0.7, 0.0, 0.0]))  # left knee's parent, the hip: a step
    orient = torch.diag(torch.tensor([1.0, -1.0, -1.0])) @ roma.rotvec_to_rotmat(torch.tensor([0.0, turn, 0.0]))
    points = coco_joints(body, orient, pose, torch.zeros(10))
    pixels = 200.0 * points[:, :2] + 250.0
    return torch.cat((pixels, torch.ones(17, 1)), dim=-1).repeat(number, 1, 1)


def verdict(labels, *people, **options):
    people = torch.stack(people) if people else torch.zeros(0, 17, 3)
    return judge(labels, torch.tensor([AREA]), [people], Filter(**options))[0]


def jittered(labels, pixels=2.0, seed=0):
    noise = pixels * torch.randn(17, 2, generator=torch.Generator().manual_seed(seed))
    return torch.cat((labels[0, :, :2] + noise, torch.full((17, 1), 0.9)), dim=-1)


def naive(label, found, options):
    """Similarities of one person in loops, and how many joints they are of."""
    sums, counts = {"as": 0.0, "exchanged": 0.0}, {"as": 0, "exchanged": 0}
    sigma = coco_sigmas("coco_17").tolist()
    for joint in range(1, 17):  # the nose has no other side
        for kind, target in (("as", label[joint]), ("exchanged", label[FLIP[joint]])):
            if found[joint, 2] >= options.least_score and target[2] > 0:
                square = float((found[joint, :2] - target[:2]).square().sum())
                sums[kind] += math.exp(-square / (2.0 * AREA * (2.0 * sigma[joint]) ** 2))
                counts[kind] += 1
    return [sums[kind] / counts[kind] for kind in sums], counts["as"]


def test_similarities_are_those_of_the_naive_loop():
    generator = torch.Generator().manual_seed(1)
    labels = standing(number=8)
    labels[..., 2] = (torch.rand(8, 17, generator=generator) > 0.3).float()
    found = [jittered(labels, 15.0, seed)[None] for seed in range(8)]
    for people in found:
        people[..., 2] = torch.rand(1, 17, generator=generator)
    verdicts = judge(labels, torch.full((8,), AREA), found, Filter())
    for label, people, answer in zip(labels, found, verdicts, strict=True):
        (similar, exchanged), points = naive(label, people[0], Filter())
        assert answer.oks == pytest.approx(similar, rel=1e-4) and answer.points == points
        assert answer.oks_mirrored == pytest.approx(exchanged, rel=1e-4)
        passed = sum(similar >= 0.5 + 0.05 * step for step in range(10)) / 10
        assert answer.ap == pytest.approx(passed)
    # One by one they are the same: nothing of a sample depends on its neighbours.
    for row in range(8):
        assert judge(labels[row : row + 1], torch.tensor([AREA]), found[row : row + 1], Filter())[0] == verdicts[row]


def test_the_labelled_person_is_kept_and_everything_else_has_its_reason():
    labels = standing()
    good = jittered(labels)
    assert verdict(labels, good).kept and verdict(labels, good).ap > 0.9
    assert verdict(labels).reason == NO_PERSON and verdict(labels).person == -1
    beside = good + torch.tensor([300.0, 0.0, 0.0])
    assert verdict(labels, good, beside).reason == TWO_PERSONS
    assert verdict(labels, good, beside, most_people=2).kept
    assert verdict(labels, good[FLIP]).reason == MIRROR
    assert verdict(labels, good + torch.tensor([60.0, 0.0, 0.0])).reason == MISALIGNED
    hidden = labels.clone()
    hidden[:, 5:, 2] = 0.0
    assert verdict(hidden, good, face=False).reason == TOO_FEW
    assert all(reason in REASONS for reason in (NO_PERSON, TWO_PERSONS, MIRROR, MISALIGNED, TOO_FEW))


def test_somebody_small_in_the_background_and_a_person_found_twice_do_not_count():
    labels = standing()
    good = jittered(labels)
    small = torch.cat((0.2 * good[:, :2], good[:, 2:]), dim=-1)
    assert verdict(labels, small, good).kept and verdict(labels, small, good).person == 1
    assert verdict(labels, jittered(labels, 3.0, 5), good).kept
    unsure = good * torch.tensor([1.0, 1.0, 0.2])  # nowhere as confident as a joint must be
    assert verdict(labels, unsure).reason == NO_PERSON


def test_left_and_right_exchanged_is_caught_until_the_person_is_seen_from_the_side():
    """The face that can be seen tells it at a right angle too: of its ears one is visible."""
    for yaw in (0, 30, 60):
        assert verdict(standing(yaw), jittered(standing(yaw), 1.0)[FLIP], ear_test=False).reason == MIRROR, yaw
    side = standing(90)
    hidden = COCO.index("left_ear") if side[0, 3, 0] < side[0, 0, 0] else COCO.index("right_ear")
    ears = [COCO.index("left_ear"), COCO.index("right_ear")]
    side[0, [hidden, hidden - 2], 2] = 0.0  # the ear and the eye of the far side
    seen = jittered(side, 1.0)
    seen[[hidden, hidden - 2], 2] = 0.05
    assert verdict(side, seen).kept
    assert verdict(side, seen[FLIP], face=False, ear_test=True).reason == MIRROR
    assert sum(int(seen[FLIP][ear, 2] > 0.3) for ear in ears) == 1


def test_a_wrong_order_of_joints_or_a_wrong_size_is_seen():
    labels = standing()
    good = jittered(labels)
    generator = torch.Generator().manual_seed(0)
    assert not verdict(labels, good[torch.randperm(17, generator=generator)]).kept
    assert not verdict(labels, torch.cat((1.3 * good[:, :2], good[:, 2:]), dim=-1)).kept
    assert not verdict(labels, good * torch.tensor([-1.0, 1.0, 1.0]) + torch.tensor([500.0, 0.0, 0.0])).kept


def test_no_images_have_no_verdicts():
    assert judge(torch.zeros(0, 17, 3), torch.zeros(0), [], Filter()) == []
