"""Every Metric against its function, in one process and in two, and what a protocol says about a number."""

import json

import pytest
import torch

from noise2pose.errors import InputError
from noise2pose.metrics import functional
from noise2pose.metrics.pose_errors import AUC, MPJPE, MPJPE2D, MPJVE, NMPJPE, PAMPJPE, PCK, GroupMean, MPJPE2DOfBox
from noise2pose.metrics.protocols import Protocol
from tests import forks

CASES = [
    (MPJPE, functional.mpjpe, 1000.0),
    (PAMPJPE, functional.pa_mpjpe, 1000.0),
    (NMPJPE, functional.n_mpjpe, 1000.0),
    (MPJVE, functional.mpjve, 1000.0),
    (PCK, functional.pck, 100.0),
    (AUC, functional.auc, 100.0),
]
JOINTS = (0, 1, 2, 5, 8, 13)
ACTIONS = ["walk", "sit", "walk", "walk", "jump \u00fc", "sit", "walk", "sit", "walk", "walk", "sit", "walk"]


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
    groups = MPJPE(joints=JOINTS, root=0, by_group=True)
    for start, stop in ((0, 4), (4, 7)) if rank == 0 else ((7, 12),):
        groups.update(*(part[start:stop] for part in data), ACTIONS[start:stop])
    values += [groups.compute().item(), {name: tuple(group) for name, group in groups.per_group().items()}]
    torch.save(values, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_with_unequal_shares_agree_with_one(tmp_path):
    forks.call_in_two(_share, str(tmp_path))
    data = clips(12)
    for rank in (0, 1):
        *values, mean, groups = torch.load(tmp_path / f"{rank}.pt")
        assert mean == pytest.approx(by_hand(*data)[1], rel=1e-6)
        assert {name: poses for name, (_, poses) in groups.items()} == {"jump \u00fc": 4, "sit": 16, "walk": 28}
        for value, (metric, _, _) in zip(values, CASES, strict=True):
            alone = metric(joints=JOINTS, root=0)
            alone.update(*data)
            assert value == pytest.approx(alone.compute().item(), rel=1e-9), metric.__name__


def by_hand(pred, target, valid):
    """MPJPE of every action, and their unweighted mean, one pose at a time."""
    errors: dict[str, list[float]] = {}
    for clip, action in enumerate(ACTIONS):
        for frame in range(4):
            joints = [joint for joint in JOINTS if valid[clip, frame, joint]]
            offset = [
                (pred[clip, frame, joint] - pred[clip, frame, 0])
                - (target[clip, frame, joint] - target[clip, frame, 0])
                for joint in joints
            ]
            errors.setdefault(action, []).append(1000.0 * sum(x.norm().item() for x in offset) / len(joints))
    means = {action: sum(values) / len(values) for action, values in errors.items()}
    return means, sum(means.values()) / len(means)


def test_every_group_weighs_the_same():
    data = clips(12)
    metric = MPJPE(joints=JOINTS, root=0, by_group=True)
    for start, stop in ((0, 5), (5, 6), (6, 12)):
        metric.update(*(part[start:stop] for part in data), ACTIONS[start:stop])
    means, mean = by_hand(*data)
    found = metric.per_group()
    assert list(found) == sorted(means) and metric.compute().item() == pytest.approx(mean, rel=1e-6)
    for name, group in found.items():
        assert group == GroupMean(pytest.approx(means[name], rel=1e-6), 4 * ACTIONS.count(name))
    assert metric.compute() != pytest.approx(MPJPE(joints=JOINTS, root=0)(*data).item(), rel=1e-3)
    metric.reset()
    assert metric.per_group() == {}


def test_groups_are_kept_beside_a_mean_over_poses_too():
    data = clips(12)
    plain, metric = MPJPE(root=0), MPJPE(root=0)
    plain.update(*data)
    metric.update(*data, ACTIONS)
    assert metric.compute() == plain.compute() and len(metric.per_group()) == 3 and plain.per_group() == {}


def test_a_group_without_a_pose_that_counts_is_none():
    pred, target, valid = clips(2)
    valid[1] = 0.0
    metric = MPJPE(by_group=True)
    metric.update(pred, target, valid, ["a", "b"])
    assert list(metric.per_group()) == ["a"] and metric.compute().item() == metric.per_group()["a"].value
    nothing = MPJPE(by_group=True)
    nothing.update(pred, target, torch.zeros_like(valid), ["a", "b"])
    assert nothing.compute().isnan()


def test_missing_groups_are_refused():
    pred, target, valid = clips(2)
    with pytest.raises(InputError, match="^MPJPE: a mean over groups needs the group of each pose"):
        MPJPE(by_group=True).update(pred, target, valid)
    with pytest.raises(InputError, match="^MPJPE: 1 names of groups for 2 samples"):
        MPJPE().update(pred, target, valid, ["a"])


def test_pixels_and_shares_of_the_box():
    target = torch.tensor([[[10.0, 10.0], [50.0, 90.0], [0.0, 0.0]], [[20.0, 20.0], [0.0, 0.0], [0.0, 0.0]]])
    pred = target + torch.tensor([3.0, 4.0])
    valid = torch.tensor([[1.0, 0.3, 0.0], [1.0, 0.0, 0.0]])
    pred[1, 0] = target[1, 0] + torch.tensor([15.0, 0.0])  # each person weighs the same: (5 + 15) / 2
    metric = MPJPE2D()
    metric.update(pred, target, valid)
    assert metric.compute() == pytest.approx(10.0)
    share = MPJPE2DOfBox(joints=(0, 2))
    share.update(pred / 200.0, target / 200.0, valid)
    assert share.compute() == pytest.approx(5.0)


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
    assert Protocol.from_dict(json.loads(json.dumps(protocol.as_dict()))) == protocol
    with pytest.raises(InputError, match="not a protocol: .*unexpected keyword argument 'joint'"):
        Protocol.from_dict({"joint": 1})


def test_a_mean_over_groups_needs_groups():
    with pytest.raises(InputError, match="^protocol p: a mean over actions needs groups `action`"):
        Protocol(name="p", dataset="d", split="test", skeleton="h36m_17", average="actions", groups="sequence")
