"""Every Metric against its function, in one process and in two, and what a protocol says about a number."""

import json

import pytest
import torch
import torch.multiprocessing as mp

from noise2pose.errors import InputError
from noise2pose.metrics import AUC, MPJPE, MPJVE, NMPJPE, PAMPJPE, PCK, functional
from noise2pose.metrics.protocols import Protocol

CASES = [
    (MPJPE, functional.mpjpe, 1000.0),
    (PAMPJPE, functional.pa_mpjpe, 1000.0),
    (NMPJPE, functional.n_mpjpe, 1000.0),
    (MPJVE, functional.mpjve, 1000.0),
    (PCK, functional.pck, 100.0),
    (AUC, functional.auc, 100.0),
]
JOINTS = (0, 1, 2, 5, 8, 13)


def clips(number, seed=0):
    """Clips of 4 frames with 17 joints, some of them masked, never the root."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.randn(number, 4, 17, 3, generator=generator)
    pred = target + 0.1 * torch.randn(number, 4, 17, 3, generator=generator)
    valid = (torch.rand(number, 4, 17, generator=generator) > 0.1).float()
    valid[..., 0] = 1.0
    return pred, target, valid


def reference(function, unit, pred, target, valid):
    pred, target = pred - pred[..., :1, :], target - target[..., :1, :]
    values = function(pred[..., JOINTS, :], target[..., JOINTS, :], valid[..., JOINTS]).double()
    return unit * values[~values.isnan()].mean()


@pytest.mark.parametrize("metric, function, unit", CASES, ids=lambda case: getattr(case, "__name__", None))
def test_one_process(metric, function, unit):
    data = clips(12)
    mine = metric(joints=JOINTS, root=0)
    for start, stop in ((0, 5), (5, 6), (6, 12)):
        mine.update(*(part[start:stop] for part in data))
    assert mine.compute().item() == pytest.approx(reference(function, unit, *data).item(), rel=1e-6)
    assert mine.higher_is_better is (unit == 100.0)
    mine.reset()
    with pytest.warns(UserWarning, match="was called before"):
        assert mine.compute().isnan()


def _share(rank, folder):
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    data = clips(12)
    mine = slice(0, 7) if rank == 0 else slice(7, 12)
    values = []
    for metric, _, _ in CASES:
        shared = metric(joints=JOINTS, root=0)
        shared.update(*(part[mine] for part in data))
        values.append(shared.compute().item())
    torch.save(values, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_with_unequal_shares_agree_with_one(tmp_path):
    mp.spawn(_share, args=(str(tmp_path),), nprocs=2)
    data = clips(12)
    for rank in (0, 1):
        for value, (metric, _, _) in zip(torch.load(tmp_path / f"{rank}.pt"), CASES, strict=True):
            alone = metric(joints=JOINTS, root=0)
            alone.update(*data)
            assert value == pytest.approx(alone.compute().item(), rel=1e-9), metric.__name__


def test_the_root_is_removed_before_joints_are_chosen():
    pred, target, _ = clips(3)
    metric = MPJPE(joints=(5,), root=8)
    metric.update(pred + 3.0, target)
    expected = ((pred - pred[..., 8:9, :]) - (target - target[..., 8:9, :]))[..., 5, :].norm(dim=-1).mean()
    assert metric.compute().item() == pytest.approx(1000.0 * expected.item(), rel=1e-5)


def test_a_pose_without_its_root_does_not_count():
    pred, target, valid = clips(3)
    expected = MPJPE(root=0)
    expected.update(pred[:2], target[:2], valid[:2])
    valid[2, :, 0] = 0.0
    pred[2, :, 0], target[2, :, 0] = 1e3, torch.nan
    metric = MPJPE(root=0)
    metric.update(pred, target, valid)
    assert metric.compute() == expected.compute()
    aligned = PAMPJPE(root=0)  # needs no root
    aligned.update(pred, target, valid)
    assert aligned.count == 12


@pytest.mark.parametrize("metric, function, unit", CASES, ids=lambda case: getattr(case, "__name__", None))
def test_what_does_not_count_has_no_influence(metric, function, unit):
    pred, target, valid = clips(5)
    expected = metric(joints=JOINTS, root=0)
    expected.update(pred, target, valid)
    spoilt = metric(joints=JOINTS, root=0)
    pred[valid == 0], target[valid == 0] = torch.nan, torch.inf
    pred[..., 4, :] = torch.nan  # not among the joints
    spoilt.update(pred, target, valid.bool())
    spoilt.update(pred, target, torch.zeros_like(valid))
    assert spoilt.compute() == expected.compute()


def test_centring_leaves_the_caller_its_poses():
    pred, target, _ = clips(2)
    kept = pred.clone()
    MPJPE(root=0).update(pred, target)
    assert torch.equal(pred, kept)


@pytest.mark.parametrize("metric, function, unit", CASES, ids=lambda case: getattr(case, "__name__", None))
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_not_finite_is_refused(metric, function, unit, value):
    pred, target, _ = clips(3)
    spoilt = pred.clone()
    spoilt[1, 2, 3, 0] = value
    name = metric.__name__
    with pytest.raises(InputError, match=f"^{name}: the prediction holds NaN or infinity in 1 of 204 joints"):
        metric().update(spoilt, target)
    with pytest.raises(InputError, match=f"^{name}: the target holds NaN or infinity"):
        metric().update(pred, spoilt)
    with pytest.raises(InputError, match=f"^{name}: .* differ in shape"):
        metric().update(pred[..., :16, :], target)
    with pytest.raises(InputError, match=f"^{name}: .* mask .* differ in shape"):
        metric().update(pred, target, torch.ones(3, 4))


def test_a_protocol_is_plain_values():
    protocol = Protocol(name="p", dataset="d", split="test: all", skeleton="h36m_17", joints=(1, 2))
    assert protocol.as_dict()["joints"] == [1, 2]
    assert protocol.as_dict()["num_hypotheses"] == 1 and protocol.as_dict()["units"] == "mm"
    assert Protocol(name="p", dataset="d", split="test", skeleton="h36m_17").as_dict()["joints"] is None
    assert json.loads(json.dumps(protocol.as_dict())) == protocol.as_dict()
