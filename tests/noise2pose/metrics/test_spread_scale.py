import pytest
import torch

from noise2pose.errors import InputError
from noise2pose.metrics.calibration import Calibration
from noise2pose.metrics.spread_scale import SpreadScale, scaled


def poses(number=400, spread=0.1, claimed=0.05):
    """Hypotheses with a deviation of `claimed` around answers whose error has one of `spread`."""
    generator = torch.Generator().manual_seed(0)
    answer = torch.randn(number, 17, 3, generator=generator)
    target = answer + spread * torch.randn(answer.shape, generator=generator)
    target[:, 0] = answer[:, 0]
    noise = torch.randn(8, number, 17, 3, generator=generator)
    noise[:, :, 0] = 0.0
    return answer + claimed * (noise - noise.mean(dim=0)), target, torch.ones(number, 17)


def fitted(*arguments):
    metric = SpreadScale(root=0)
    metric.update(*arguments)
    return metric.compute()


@pytest.mark.parametrize("claimed", [0.02, 0.05, 0.1, 0.3])
def test_the_factor_makes_up_for_what_is_claimed_too_much_or_too_little(claimed):
    hypotheses, target, valid = poses(claimed=claimed)
    factor = fitted(hypotheses, target, valid)
    assert factor.item() == pytest.approx(0.1 / (claimed * (1 + 1 / 8) ** 0.5), rel=0.03)
    metric = Calibration(root=0)
    metric.update(scaled(hypotheses, factor), target, valid)
    coverage = metric.compute()
    assert coverage["coverage_50"].item() == pytest.approx(50.0, abs=2.0)
    assert coverage["coverage_90"].item() == pytest.approx(90.0, abs=2.0)


def test_poses_without_ground_truth_do_not_count():
    hypotheses, target, valid = poses()
    target[:10] = torch.nan
    valid[:10] = 0.0
    some = slice(10, None)
    assert fitted(hypotheses, target, valid) == fitted(hypotheses[:, some], target[some], valid[some])


def test_two_processes_fit_what_one_does():
    hypotheses, target, valid = poses()
    whole = fitted(hypotheses, target, valid)
    halves = []
    for half in (slice(150), slice(150, None)):
        metric = SpreadScale(root=0)
        metric.update(hypotheses[:, half], target[half], valid[half])
        halves.append(metric)
    halves[0].merge_state(halves[1])
    assert torch.allclose(halves[0].compute(), whole, rtol=1e-6)


def test_nothing_to_fit_is_no_change_and_one_pose_has_no_spread():
    hypotheses, target, valid = poses(number=4)
    assert fitted(hypotheses, target, 0.0 * valid) == 1.0
    with pytest.raises(InputError, match="at least 2 hypotheses"):
        SpreadScale(root=0).update(hypotheses[:1], target, valid)
