"""Calibration against naive loops, on data whose calibration is known, in one process and in two."""

import math

import pytest
import torch

from noise2pose.errors import InputError
from noise2pose.metrics.calibration import Calibration, energy_score, in_interval, sparsification_curve
from noise2pose.metrics.hypotheses import spread
from tests import forks

JOINTS = (0, 2, 4)
DTYPES = [torch.float32, torch.float64]
T_4_OF_90, T_4_OF_50 = 2.1318468, 0.7406971


def draws(number: int, *lead: int, joints: int = 6, scale: float = 1.0, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Hypotheses and a truth drawn from one Gaussian per joint, metres; `scale` narrows or widens the hypotheses."""
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(*lead, joints, 3, generator=generator, dtype=torch.float64)
    deviation = 0.02 + 0.1 * torch.rand(*lead, joints, 1, generator=generator, dtype=torch.float64)
    noise = torch.randn(number + 1, *lead, joints, 3, generator=generator, dtype=torch.float64)
    return mean + scale * deviation * noise[1:], mean + deviation * noise[0]


def masks(*shape: int, seed: int = 1) -> torch.Tensor:
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < 0.7).float()


def measured(*data: torch.Tensor, **choices) -> Calibration:
    metric = Calibration(**choices)
    metric.update(*data)
    return metric


def naive(hypotheses: torch.Tensor, target: torch.Tensor, valid: torch.Tensor, root: int) -> dict[str, float]:
    """Crps (mm) and coverages (per cent) of 5 hypotheses, one number at a time."""
    scores, inside_50, inside_90 = [], [], []
    for b in range(len(target)):
        for j in JOINTS:
            if j == root or valid[b, j] == 0 or valid[b, root] == 0:
                continue
            x = [(h[b, j] - h[b, root]).tolist() for h in hypotheses]
            y = (target[b, j] - target[b, root]).tolist()
            to_truth = sum(math.dist(p, y) for p in x) / 5
            between = sum(math.dist(p, q) for p in x for q in x)
            scores.append(1000 * (to_truth - between / (2 * 5 * 4)))
            for axis in range(3):
                values = [p[axis] for p in x]
                mean = sum(values) / 5
                deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / 4) * math.sqrt(1 + 1 / 5)
                inside_50.append(abs(y[axis] - mean) <= T_4_OF_50 * deviation)
                inside_90.append(abs(y[axis] - mean) <= T_4_OF_90 * deviation)
    return {
        "crps": sum(scores) / len(scores),
        "coverage_50": 100 * sum(inside_50) / len(inside_50),
        "coverage_90": 100 * sum(inside_90) / len(inside_90),
    }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("root", [0, 1])
def test_against_a_naive_loop(root: int, dtype: torch.dtype) -> None:
    hypotheses, target = (x.to(dtype) for x in draws(5, 12))
    valid = masks(12, 6)
    found = measured(hypotheses, target, valid, joints=JOINTS, root=root).compute()
    for name, value in naive(hypotheses.double(), target.double(), valid, root).items():
        assert found[name].dtype == torch.float64 and found[name].shape == ()
        assert found[name].item() == pytest.approx(value, rel=1e-9), name


@pytest.mark.parametrize("number", [2, 5, 20])
def test_exchangeable_draws_are_covered_as_often_as_they_should(number: int) -> None:
    hypotheses, target = draws(number, 4000, joints=2)
    found = measured(hypotheses, target).compute()
    # 24000 independent coordinates: three standard errors are below 1 per cent.
    assert found["coverage_50"].item() == pytest.approx(50, abs=1)
    assert found["coverage_90"].item() == pytest.approx(90, abs=1)


def test_wrong_spread_shows() -> None:
    right = measured(*draws(20, 1000)).compute()
    narrow, wide = (measured(*draws(20, 1000, scale=scale)).compute() for scale in (0.4, 2.5))
    for name in ("coverage_50", "coverage_90"):
        assert narrow[name] < right[name] - 15
        assert wide[name] > right[name] + 8
    assert right["crps"] < narrow["crps"] and right["crps"] < wide["crps"]


def test_a_sharp_ensemble_scores_its_error() -> None:
    one, target = draws(1, 30)
    metric = measured(one.expand(7, -1, -1, -1), target, root=0)
    error = ((one[0] - one[0, :, :1]) - (target - target[:, :1])).norm(dim=-1)[:, 1:]
    values = metric.compute()
    assert values["crps"].item() == pytest.approx(1000 * error.mean().item(), rel=1e-9)
    assert values["coverage_50"].isnan() and values["coverage_90"].isnan()  # no coordinate has a spread
    per_joint = metric.crps_per_joint()
    assert per_joint.shape == (6,) and per_joint[0].isnan()
    torch.testing.assert_close(per_joint[1:], 1000 * error.mean(dim=0))


def test_in_one_dimension_the_score_is_the_crps() -> None:
    hypotheses, target = draws(6, 20)
    line = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    x, y = (hypotheses * line), (target * line)
    grid = torch.linspace(-6, 6, 60001, dtype=torch.float64)
    for b in range(3):
        share = (x[:, b, 0, 0, None] <= grid).double().mean(dim=0)
        integral = (share - (y[b, 0, 0] <= grid).double()).square().sum() * (grid[1] - grid[0])
        # The integral is of the six draws as they are; the fair score takes the pairs of a draw with itself out.
        between = (x[:, None, b, 0] - x[None, :, b, 0]).norm(dim=-1).sum()
        fair = integral + between / (2 * 6 * 6) - between / (2 * 6 * 5)
        assert energy_score(x, y)[b, 0].item() == pytest.approx(fair.item(), abs=2e-3)


def test_the_score_does_not_depend_on_the_number_of_hypotheses() -> None:
    few, many = (measured(*draws(number, 4000, joints=2)).compute()["crps"].item() for number in (2, 20))
    assert few == pytest.approx(many, rel=0.02)


def test_functions_take_any_leading_dimensions() -> None:
    hypotheses, target = draws(4, 2, 3)
    for function in (energy_score, lambda x, y: in_interval(x, y, 0.5), lambda x, _: spread(x)):
        found = function(hypotheses, target)
        assert found.shape[:3] == (2, 3, 6)
        assert torch.equal(found[1, 2], function(hypotheses[:, 1, 2], target[1, 2]))


def test_sparsification_of_known_uncertainty() -> None:
    error = torch.rand(4000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    perfect = sparsification_curve(3 * error, error)
    assert perfect["removed"].tolist() == list(range(0, 100, 5))
    torch.testing.assert_close(perfect["error"], perfect["oracle_error"])
    torch.testing.assert_close(
        perfect["error"][[0, 10]], torch.stack((error.mean(), error.sort().values[:2000].mean()))
    )
    random = sparsification_curve(torch.rand(4000, generator=torch.Generator().manual_seed(1)), error)
    torch.testing.assert_close(random["error"], torch.full((20,), 0.5).double(), atol=0.06, rtol=0)
    inverted = sparsification_curve(-error, error)
    assert (inverted["error"].diff() > 0).all() and (inverted["oracle_error"].diff() < 0).all()
    constant = sparsification_curve(torch.ones(4000), error.sort().values)  # the order of equals has no influence
    torch.testing.assert_close(constant["error"], error.mean().expand(20))


def test_ause_is_the_area_between_the_curves() -> None:
    metric = measured(*draws(5, 300), root=0)
    curve, ause = metric.sparsification(), metric.compute()["ause"]
    assert ause.item() == pytest.approx((curve["error"] - curve["oracle_error"]).mean().item()) and ause > 0
    errors = torch.cat([x for x in metric.error]).double()
    assert len(errors) == 300 * 5 and curve["error"][0].item() == pytest.approx(1000 * errors.mean().item())
    assert curve["error"][-1] < 0.7 * curve["error"][0]  # the spread of these draws says something
    perfect = Calibration()
    target = torch.zeros(50, 6, 3)
    offset = torch.rand(50, 6, 3, generator=torch.Generator().manual_seed(0))
    perfect.update(torch.stack((0.5 * offset, 1.5 * offset)), target)  # spread is proportional to the error
    assert perfect.compute()["ause"].item() == pytest.approx(0.0, abs=1e-3)


def test_batches_agree_with_the_whole() -> None:
    hypotheses, target = draws(4, 9, 5)  # clips of 5 frames
    valid = masks(9, 5, 6)
    whole = measured(hypotheses, target, valid, joints=JOINTS, root=2)
    parts = Calibration(joints=JOINTS, root=2)
    for start, stop in ((4, 9), (0, 1), (1, 4)):
        parts.update(hypotheses[:, start:stop], target[start:stop], valid[start:stop])
    flat = measured(hypotheses.flatten(1, 2), target.flatten(0, 1), valid.flatten(0, 1), joints=JOINTS, root=2)
    single = Calibration(joints=JOINTS, root=2)
    for pose in range(45):  # no leading dimension at all
        index = divmod(pose, 5)
        single.update(hypotheses[:, *index], target[index], valid[index])
    for other in (parts, flat, single):
        torch.testing.assert_close(other.compute(), whole.compute())
        torch.testing.assert_close(other.crps_per_joint(), whole.crps_per_joint(), equal_nan=True)
        torch.testing.assert_close(other.sparsification(), whole.sparsification())


def test_what_does_not_count_has_no_influence() -> None:
    hypotheses, target = draws(4, 8)
    valid = masks(8, 6)
    valid[0, 2] = 0  # a pose without its root does not count
    expected = measured(hypotheses, target, valid, joints=JOINTS, root=2)
    hypotheses[:, valid == 0], target[valid == 0] = torch.nan, torch.inf
    hypotheses[..., 5, :] = torch.nan  # not among the joints
    spoilt = measured(hypotheses, target, valid.bool(), joints=JOINTS, root=2)
    spoilt.update(hypotheses, target, torch.zeros_like(valid))
    assert spoilt.compute() == expected.compute()
    assert not any(value.isnan() for value in expected.compute().values())
    only_these = Calibration(joints=JOINTS, root=2)
    for b in range(8):
        if valid[b, 2]:
            only_these.update(hypotheses[:, b], target[b], valid[b])
    torch.testing.assert_close(only_these.compute(), expected.compute())


def test_without_data_there_is_no_number() -> None:
    metric = measured(*draws(3, 4), root=0)
    metric.reset()
    with pytest.warns(UserWarning, match="was called before"):
        assert all(value.isnan() for value in metric.compute().values())
    hypotheses, target = draws(3, 2)
    metric.update(hypotheses, target, torch.zeros(2, 6))
    assert all(value.isnan() for value in metric.compute().values())


def test_what_is_refused() -> None:
    hypotheses, target = draws(3, 2)
    spoilt = hypotheses.clone()
    spoilt[1, 0, 3, 2] = torch.nan
    with pytest.raises(InputError, match="at least 2 hypotheses, found 1"):
        Calibration().update(hypotheses[:1], target)
    with pytest.raises(InputError, match=r"hypotheses \(3, 2, 6, 3\) are not N of the target's \(2, 5, 3\)"):
        Calibration().update(hypotheses, target[:, :5])
    with pytest.raises(InputError, match="mask .* differ in shape"):
        Calibration().update(hypotheses, target, torch.ones(2, 5))
    with pytest.raises(InputError, match="the prediction holds NaN or infinity in 1 of 36 joints"):
        Calibration().update(spoilt, target)
    with pytest.raises(InputError, match="the target holds NaN or infinity"):
        Calibration().update(hypotheses, spoilt[1])


def _share(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    hypotheses, target = draws(4, 12)
    mine = slice(0, 7) if rank == 0 else slice(7, 12)
    metric = measured(hypotheses[:, mine], target[mine], root=0)
    values = {**metric.compute(), **metric.sparsification(), "per_joint": metric.crps_per_joint()}
    torch.save(values, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_with_unequal_shares_agree_with_one(tmp_path) -> None:
    forks.call_in_two(_share, str(tmp_path))
    alone = measured(*draws(4, 12), root=0)
    expected = {**alone.compute(), **alone.sparsification(), "per_joint": alone.crps_per_joint()}
    for rank in (0, 1):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt"), expected, equal_nan=True)
