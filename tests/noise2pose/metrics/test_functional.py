import numpy as np
import pytest
import roma
import torch
from beartype import beartype
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import jaxtyped

from noise2pose.metrics import functional as F

best_rotation = jaxtyped(typechecker=beartype)(F.best_rotation)
SEEDS = st.integers(0, 10**6)
DTYPES = [torch.float32, torch.float64]


def poses(seed: int, *lead: int, joints: int = 17, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*lead, joints, 3, generator=generator, dtype=torch.float64).mul(0.3).to(dtype)


def naive_procrustes(pred: np.ndarray, target: np.ndarray) -> np.ndarray:
    """One pose, Kabsch with Umeyama's scale."""
    x, y = pred - pred.mean(0), target - target.mean(0)
    u, s, vt = np.linalg.svd(x.T @ y)
    if np.linalg.det(u @ vt) < 0:
        u[:, -1] *= -1
        s[-1] *= -1
    return x @ (u @ vt) * s.sum() / (x**2).sum() + target.mean(0)


def naive_errors(pred: np.ndarray, target: np.ndarray, valid: np.ndarray) -> dict[str, np.floating]:
    """Each metric of one pose, with the joints that do not count cut out."""
    p, t = pred[valid > 0], target[valid > 0]

    def distances(p: np.ndarray) -> np.ndarray:
        return np.sqrt(((p - t) ** 2).sum(-1))

    return {
        "mpjpe": distances(p).mean(),
        "pa_mpjpe": distances(naive_procrustes(p, t)).mean(),
        "n_mpjpe": distances((p * t).sum() / (p * p).sum() * p).mean(),
        "pve_sc": distances((p - p.mean(0)) * np.sqrt(t.var(0).sum() / p.var(0).sum()) + t.mean(0)).mean(),
        "pck": np.mean(distances(p) < 0.150),
        "auc": np.mean([np.mean(distances(p) < k * 0.005) for k in range(31)]),
    }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["mpjpe", "pa_mpjpe", "n_mpjpe", "pve_sc", "pck", "auc"])
def test_against_a_naive_loop(name: str, dtype: torch.dtype) -> None:
    target = poses(0, 2, 5, dtype=dtype)
    pred = target + 0.3 * poses(1, 2, 5, dtype=dtype)
    valid = (torch.rand(2, 5, 17, generator=torch.Generator().manual_seed(2)) < 0.7).to(dtype)
    for mask in (torch.ones_like(valid), valid):
        naive = [
            naive_errors(*pose)[name]
            for pose in zip(*(x.double().flatten(0, 1).numpy() for x in (pred, target, mask)), strict=True)
        ]
        found = getattr(F, name)(pred, target, valid=mask)
        assert found.dtype == dtype and found.shape == (2, 5)
        torch.testing.assert_close(found.double().flatten(), torch.tensor(naive).double(), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(getattr(F, name)(pred, target), getattr(F, name)(pred, target, valid=valid * 0 + 1))


@pytest.mark.parametrize("dtype", DTYPES)
def test_velocity_error_against_a_naive_loop(dtype: torch.dtype) -> None:
    pred, target = poses(3, 2, 6, dtype=dtype), poses(4, 2, 6, dtype=dtype)
    valid = torch.ones(2, 6, 17)
    valid[0, 2, 5] = 0
    found = F.mpjve(pred, target, valid)
    assert found.shape == (2, 5)
    for clip in range(2):
        for step in range(5):
            moved = (pred[clip, step + 1] - pred[clip, step]) - (target[clip, step + 1] - target[clip, step])
            counts = (valid[clip, step] * valid[clip, step + 1]) > 0
            torch.testing.assert_close(found[clip, step], moved[counts].norm(dim=-1).mean())


@settings(max_examples=20)
@given(SEEDS, st.floats(0.1, 5.0))
def test_alignment_ignores_similarity_transforms(seed: int, scale: float) -> None:
    target, pred = poses(seed, 3), poses(seed + 1, 3)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        rotation, shift = roma.random_rotmat(3, dtype=pred.dtype), torch.randn(3, 1, 3, dtype=pred.dtype)
    moved = scale * pred @ rotation.mT + shift
    torch.testing.assert_close(F.procrustes_align(moved, target), F.procrustes_align(pred, target))
    torch.testing.assert_close(F.pa_mpjpe(scale * target @ rotation.mT + shift, target), torch.zeros(3).double())


def test_the_error_of_a_shape_ignores_place_and_size_but_not_a_turn() -> None:
    target, pred = poses(0, 3), poses(1, 3)
    torch.testing.assert_close(F.pve_sc(2.5 * pred + 1.0, target), F.pve_sc(pred, target))
    turned = target @ roma.rotvec_to_rotmat(torch.tensor([0.0, 0.5, 0.0])).double().mT
    assert (F.pve_sc(0.5 * target - 3.0, target) < 1e-9).all() and (F.pve_sc(turned, target) > 0.01).all()


@settings(max_examples=20)
@given(SEEDS)
def test_alignment_brings_closer_than_anything_weaker(seed: int) -> None:
    target, pred = poses(seed, 4), poses(seed + 1, 4)

    def squares(x: torch.Tensor) -> torch.Tensor:
        return F.joint_error(x, target).square().sum(-1)

    aligned = squares(F.procrustes_align(pred, target))
    centred = pred - pred.mean(-2, keepdim=True) + target.mean(-2, keepdim=True)
    assert (aligned <= squares(pred) + 1e-9).all()
    assert (aligned <= squares(centred) + 1e-9).all()
    for nudge in (0.99, 1.01):  # the scale is the best one
        mean = target.mean(-2, keepdim=True)
        assert (aligned <= squares(nudge * (F.procrustes_align(pred, target) - mean) + mean) + 1e-9).all()


def test_alignment_lowers_the_error_of_a_plausible_prediction() -> None:
    target = poses(0, 200)
    pred = target + 0.1 * poses(1, 200)
    assert F.pa_mpjpe(pred, target).mean() < F.mpjpe(pred, target).mean()


@settings(max_examples=20)
@given(SEEDS, st.floats(0.05, 20.0))
def test_normalised_error_ignores_scale(seed: int, scale: float) -> None:
    target, pred = poses(seed, 3), poses(seed + 1, 3)
    torch.testing.assert_close(F.n_mpjpe(scale * pred, target), F.n_mpjpe(pred, target))


@pytest.mark.parametrize("name", ["mpjpe", "pa_mpjpe", "n_mpjpe", "pck", "auc", "mpjve"])
@pytest.mark.parametrize("garbage", [0.0, 1e3, float("nan"), float("inf")])
def test_joints_that_do_not_count_have_no_influence(name: str, garbage: float) -> None:
    target, pred = poses(5, 4), poses(6, 4)
    valid = torch.ones(4, 17)
    valid[:, [0, 7]] = 0
    expected = getattr(F, name)(pred, target, valid=valid)
    spoilt_pred, spoilt_target = pred.clone(), target.clone()
    spoilt_pred[:, 0], spoilt_target[:, 7] = garbage, -garbage
    torch.testing.assert_close(getattr(F, name)(spoilt_pred, spoilt_target, valid=valid.bool()), expected)
    if name == "mpjve":
        return
    kept = [joint for joint in range(17) if joint not in (0, 7)]
    torch.testing.assert_close(expected, getattr(F, name)(pred[:, kept], target[:, kept]))
    valid[2] = 0
    assert getattr(F, name)(spoilt_pred, spoilt_target, valid=valid).isnan().tolist() == [False, False, True, False]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_reflection_is_refused(dtype: torch.dtype) -> None:
    target = poses(7, 2, dtype=dtype)
    mirrored = target * torch.tensor([-1.0, 1.0, 1.0], dtype=dtype)
    assert (F.pa_mpjpe(mirrored, target) > 0.05).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_degenerate_poses_have_the_error_they_have(dtype: torch.dtype) -> None:
    target = poses(8, 2, dtype=dtype)
    point = torch.full_like(target, 1.1)
    to_centre = F.mpjpe(target.mean(-2, keepdim=True).expand_as(target), target)
    torch.testing.assert_close(F.pa_mpjpe(point, target), to_centre)
    torch.testing.assert_close(F.pa_mpjpe(torch.zeros_like(point), target), to_centre)
    torch.testing.assert_close(F.pa_mpjpe(target, point), torch.zeros_like(to_centre), atol=2e-6, rtol=0)
    torch.testing.assert_close(F.pa_mpjpe(point, point), torch.zeros_like(to_centre), atol=2e-6, rtol=0)
    torch.testing.assert_close(F.n_mpjpe(torch.zeros_like(point), target), target.norm(dim=-1).mean(-1))
    line = target * torch.tensor([1.0, 0.0, 0.0], dtype=dtype)
    torch.testing.assert_close(F.pa_mpjpe(line.flip(-1), line), torch.zeros_like(to_centre), atol=2e-6, rtol=0)


def test_a_pose_that_is_not_finite_spoils_itself_only() -> None:
    target, pred = poses(9, 3), poses(10, 3)
    pred[1, 4, 2] = torch.nan
    assert F.pa_mpjpe(pred, target).isnan().tolist() == [False, True, False]


def test_leading_dimensions_broadcast() -> None:
    hypotheses, target, valid = poses(11, 4, 2, 3), poses(12, 2, 3), torch.ones(2, 3, 17)
    valid[..., 3] = 0
    for function in (F.mpjpe, F.pa_mpjpe, F.n_mpjpe):
        found = function(hypotheses, target, valid)
        torch.testing.assert_close(found[2, 1], function(hypotheses[2, 1], target[1], valid[1]))
    assert F.mpjpe(poses(0), poses(1)).shape == ()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("at", range(5, 151, 5))
def test_an_error_of_exactly_the_threshold_is_not_below_it(at: int, dtype: torch.dtype) -> None:
    target = torch.full((1, 3), 0.7, dtype=dtype)
    pred = target + torch.tensor([[at / 1000.0, 0.0, 0.0]], dtype=dtype)
    below = pred - torch.tensor([[1e-5, 0.0, 0.0]], dtype=dtype)
    assert F.pck(pred, target, threshold=at / 1000.0) == 0.0 and F.pck(below, target, threshold=at / 1000.0) == 1.0
    assert F.auc(pred, target) == pytest.approx((30 - at // 5) / 31)
    assert F.auc(below, target) == pytest.approx((31 - at // 5) / 31)


def with_singular_values(*values, count=300, dtype=torch.float64):
    """Matrices of these singular values; the sign of the last is that of the determinant."""
    torch.manual_seed(0)
    u, _ = torch.linalg.qr(torch.randn(count, 3, 3, dtype=torch.float64))
    v, _ = torch.linalg.qr(torch.randn(count, 3, 3, dtype=torch.float64))
    u[:, :, 2] *= torch.linalg.det(u @ v.mT)[:, None]
    return ((u * torch.tensor(values, dtype=torch.float64)) @ v.mT).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "values",
    [
        (1, 0.5, 0.2),
        (1, 0.5, -0.2),
        (1, 1, 1),
        (1, 0.5, 0),
        (1, 0.05, 0.01),
        (1, 0.02, -0.0199),
        (1, 0.0051, 0),
        (1, 0.0049, 0),
        (1, 0.1, 0.1),
        (1e-6, 5e-7, 2e-7),
        (1e6, 1e5, -1e3),
    ],
)
def test_equals_the_decomposition(values, dtype):
    covariance = with_singular_values(*values, dtype=dtype)
    rotation, trace = best_rotation(covariance)
    expected, expected_trace = F._decomposed(covariance.double())
    # a change of the matrix by one rounding turns the rotation by so much
    slack = 100 * torch.finfo(dtype).eps * values[0] / (values[1] + values[2])
    assert (rotation.double() - expected).abs().max() < max(slack, 1e-10)
    assert torch.allclose(trace.double(), expected_trace, rtol=20 * torch.finfo(dtype).eps)
    assert (torch.linalg.det(rotation.double()) - 1).abs().max() < max(10 * slack, 1e-9)
    assert rotation.dtype == trace.dtype == dtype


def test_random_matrices_of_any_leading_shape():
    torch.manual_seed(0)
    covariance = torch.randn(40, 250, 3, 3, dtype=torch.float64)
    rotation, trace = best_rotation(covariance)
    expected, expected_trace = F._decomposed(covariance)
    assert (rotation - expected).abs().amax(dim=(-2, -1)).quantile(0.99) < 1e-12
    assert torch.allclose(trace, expected_trace, rtol=1e-10)
    few = best_rotation(covariance[0, :3])
    assert few[0].shape == (3, 3, 3) and torch.allclose(few[0], rotation[0, :3])


@pytest.mark.parametrize("values", [(1, 0, 0), (0, 0, 0), (1, 0.3, -0.3), (1, 1, -1)])
def test_what_leaves_the_rotation_open_gets_one(values):
    rotation, trace = best_rotation(with_singular_values(*values))
    assert torch.allclose(rotation @ rotation.mT, torch.eye(3, dtype=torch.float64).expand_as(rotation), atol=1e-9)
    assert torch.allclose(torch.linalg.det(rotation), torch.ones(300, dtype=torch.float64))
    assert torch.allclose(trace, torch.full_like(trace, float(sum(values))), atol=1e-9)


def test_a_matrix_that_is_not_finite_spoils_itself_only():
    covariance = with_singular_values(1, 0.5, 0.2)
    expected, _ = best_rotation(covariance)
    covariance[7] = torch.nan
    covariance[8, 1, 2] = torch.inf
    rotation, _ = best_rotation(covariance)
    kept = [number for number in range(300) if number not in (7, 8)]
    assert torch.equal(rotation[kept], expected[kept])


def test_gradients_equal_those_of_the_decomposition():
    weights = torch.randn(300, 3, 3, dtype=torch.float64)
    gradients = []
    for function in (best_rotation, F._decomposed):
        covariance = with_singular_values(1, 0.5, -0.2).requires_grad_()
        rotation, trace = function(covariance)
        ((rotation * weights).sum() + trace.sum()).backward()
        gradients.append(covariance.grad)
    assert torch.allclose(*gradients, atol=1e-8)
