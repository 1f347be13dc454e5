import pytest
import torch
from beartype import beartype
from jaxtyping import jaxtyped

from noise2pose.metrics import best_rotation as module

best_rotation = jaxtyped(typechecker=beartype)(module.best_rotation)


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
    expected, expected_trace = module._decomposed(covariance.double())
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
    expected, expected_trace = module._decomposed(covariance)
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
    for function in (best_rotation, module._decomposed):
        covariance = with_singular_values(1, 0.5, -0.2).requires_grad_()
        rotation, trace = function(covariance)
        ((rotation * weights).sum() + trace.sum()).backward()
        gradients.append(covariance.grad)
    assert torch.allclose(*gradients, atol=1e-8)
