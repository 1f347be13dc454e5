import numpy as np
import pytest
import roma
import torch

from noise2pose.motion.feet import BLEND, bend_leg, correction, rests_of, shift_of, slide

TIMES = np.arange(60) / 30.0


def wandering(generator):
    """Ankles that drift by centimetres while they rest, the left in two rests, the right throughout."""
    ankles = np.cumsum(generator.normal(0.0, 0.004, (60, 2, 3)), axis=0) + [[[0.1, 1.0, 4.0], [-0.1, 1.0, 4.0]]]
    resting = np.ones((60, 2), dtype=bool)
    resting[25:37, 0] = False
    ankles[25:, 0, 0] += np.clip((np.arange(35)) / 12.0, 0.0, 1.0) * 0.5  # a step to the side
    return ankles, resting


def test_rests_are_unbroken_stretches_of_two_frames_or_more():
    resting = np.array([1, 1, 0, 1, 0, 1, 1, 1], dtype=bool)
    assert rests_of(resting) == [slice(0, 2), slice(5, 8)]
    assert rests_of(~np.ones(4, dtype=bool)) == []


def test_resting_ankles_stay_at_one_place_and_nothing_jumps():
    ankles, resting = wandering(np.random.default_rng(0))
    wanted = correction(ankles, resting, TIMES)
    moved = ankles + wanted.offset
    before, seconds = slide(ankles, resting, TIMES)
    assert slide(moved, resting, TIMES)[0] < 1e-9 < before and seconds == pytest.approx(59 / 30 + 24 / 30 + 22 / 30)
    assert np.allclose(moved[:25, 0], np.median(ankles[:25, 0], axis=0))
    assert (wanted.weight[resting] == 1.0).all() and wanted.weight.max() <= 1.0 + 1e-9
    steps = np.abs(np.diff(wanted.offset, axis=0)).max()
    assert steps < 0.02, "the correction never changes by more than the drift and its fading"
    mirrored = correction(ankles[:, ::-1], resting[:, ::-1], TIMES)
    assert np.allclose(mirrored.offset[:, ::-1], wanted.offset), "left and right are alike"
    backwards = correction(ankles[::-1], resting[::-1], TIMES[-1] - TIMES[::-1])
    assert np.allclose(backwards.offset[::-1], wanted.offset)


def test_a_correction_fades_beside_a_rest_and_ends():
    ankles = np.zeros((60, 2, 3))
    ankles[20:30, 0, 0] = np.linspace(0.0, 0.1, 10)
    resting = np.zeros((60, 2), dtype=bool)
    resting[20:30, 0] = True
    wanted = correction(ankles, resting, TIMES)
    far = np.abs(TIMES - np.clip(TIMES, TIMES[20], TIMES[29])) >= BLEND
    assert (wanted.offset[far] == 0.0).all() and (wanted.weight[far] == 0.0).all()
    assert (wanted.offset[:, 1] == 0.0).all(), "the other foot is free"
    assert wanted.offset[19, 0, 0] == pytest.approx(0.05, abs=0.004) and 0.0 < wanted.offset[14, 0, 0] < 0.045
    assert np.allclose(shift_of(wanted), wanted.offset[:, 0]), "the body goes with its only resting foot"


def test_a_body_that_slides_as_a_whole_is_moved_back_as_a_whole():
    drift = np.random.default_rng(1).normal(0.0, 0.05, (60, 1, 3))
    wanted = correction(np.array([[[0.1, 1.0, 4.0], [-0.1, 1.0, 4.0]]]) + drift, np.ones((60, 2), dtype=bool), TIMES)
    shift = shift_of(wanted)
    assert np.allclose(shift, np.median(drift[:, 0], axis=0) - drift[:, 0])
    assert np.allclose(wanted.offset, shift[:, None])


@pytest.mark.parametrize("bent", [0.6, 1e-4])
def test_a_leg_reaches_its_target_with_its_lengths_and_the_knee_in_front(bent):
    generator = torch.Generator().manual_seed(0)
    hip = torch.randn(200, 3, generator=generator, dtype=torch.float64)
    forward = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).expand(200, 3)
    turn = roma.rotvec_to_rotmat(torch.tensor([-bent, 0.0, 0.0], dtype=torch.float64))
    knee = hip + turn @ torch.tensor([0.0, -0.4, 0.0], dtype=torch.float64)
    ankle = knee + turn.mT @ torch.tensor([0.0, -0.42, 0.0], dtype=torch.float64)
    target = (
        ankle + torch.tensor([0.0, 0.05, 0.0]) + 0.03 * torch.randn(200, 3, generator=generator, dtype=torch.float64)
    )
    turn_thigh, turn_shank = bend_leg(hip, knee, ankle, target, forward)
    new_knee = hip + (turn_thigh @ (knee - hip)[..., None])[..., 0]
    new_ankle = new_knee + (turn_shank @ (ankle - knee)[..., None])[..., 0]
    reachable = (target - hip).norm(dim=-1) < 0.999 * 0.82
    assert reachable.sum() > 150
    assert (new_ankle - target).norm(dim=-1)[reachable].max() < 1e-6
    middle = hip + (new_ankle - hip) * 0.4 / 0.82
    assert ((new_knee - middle)[:, 2] > 0).all(), "knees bend forwards"


def test_a_target_that_is_too_far_is_pointed_at_and_one_that_is_met_changes_nothing():
    hip = torch.zeros(1, 3, dtype=torch.float64)
    knee, ankle = torch.tensor([[0.0, -0.4, 0.1]]).double(), torch.tensor([[0.0, -0.8, 0.0]]).double()
    forward = torch.tensor([[0.0, 0.0, 1.0]]).double()
    far = bend_leg(hip, knee, ankle, torch.tensor([[0.0, -2.0, 0.0]]).double(), forward)
    reached = (far[0] @ knee[..., None] + far[1] @ (ankle - knee)[..., None])[0, :, 0]
    assert reached[1] == pytest.approx(-0.999 * 2 * knee.norm().item(), rel=1e-6) and reached[[0, 2]].norm() < 1e-6
    for turn in bend_leg(hip, knee, ankle, ankle, forward):
        assert torch.allclose(turn[0], torch.eye(3, dtype=torch.float64), atol=1e-6)
