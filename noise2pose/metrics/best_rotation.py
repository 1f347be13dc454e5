"""The rotation that brings points closest to others, for many poses at once.

Evaluations align hundreds of thousands of poses, and decomposing every 3 x 3 matrix with LAPACK is most of the cost.
With signed singular values s1 >= s2 >= |s3|, where s3 has the sign of the determinant, everything needed follows from
l = s1 + s2 + s3 alone, which is the largest root of a polynomial (Horn, "Closed-form solution of absolute orientation
using unit quaternions", 1987; Theobald, "Rapid calculation of RMSDs", 2005).
"""

import torch
from jaxtyping import Float
from torch import Tensor

_WORTH_IT = 256  # poses; fewer are faster with LAPACK
_STEPS = 16
_DISTINCT = 5e-3  # of (s1 + s2)(s2 + s3)(s3 + s1) at unit norm; below it the rotation is poorly determined


def best_rotation(
    covariance: Float[Tensor, "*batch 3 3"],
) -> tuple[Float[Tensor, "*batch 3 3"], Float[Tensor, "*batch"]]:
    """The rotation R that maximises trace(R^T covariance), and that trace.

    Args:
        covariance: (..., 3, 3), sum over points of target times source transposed, both centred.

    Returns:
        R (..., 3, 3), never a reflection, and s1 + s2 + s3 of shape (...,).
    """
    flat = covariance.reshape(-1, 3, 3)
    if len(flat) < _WORTH_IT:
        return _decomposed(covariance)
    matrix = flat.double()
    norm = torch.linalg.matrix_norm(matrix)
    matrix = matrix / norm[:, None, None]
    cofactors = torch.stack(
        [torch.linalg.cross(matrix[:, row - 2], matrix[:, row - 1], dim=-1) for row in range(3)], dim=1
    )
    determinant = (matrix[:, 0] * cofactors[:, 0]).sum(dim=-1)
    largest = _largest_root(-8.0 * determinant, 1.0 - 4.0 * cofactors.square().sum(dim=(-2, -1)))
    pairs = (largest.square() - 1.0) / 2.0  # s1 s2 + s2 s3 + s3 s1
    # (s1 + s2)(s2 + s3)(s3 + s1) = (l^2 - pairs) s1 + l s2 s3 - s1^3, and so for each singular value
    distinct = largest * pairs - determinant
    poor = ~(distinct > _DISTINCT)
    rotation = (largest.square() - pairs)[:, None, None] * matrix + largest[:, None, None] * cofactors
    rotation = (rotation - matrix @ (matrix.mT @ matrix)) / torch.where(poor, 1.0, distinct)[:, None, None]
    rotation, trace = rotation.to(covariance.dtype), (largest * norm).to(covariance.dtype)
    if poor.any():  # points on a line, mirror images, zeros, NaN
        where = poor.nonzero()[:, 0]
        poor_rotation, poor_trace = _decomposed(flat[where])
        rotation, trace = rotation.index_copy(0, where, poor_rotation), trace.index_copy(0, where, poor_trace)
    return rotation.reshape(covariance.shape), trace.reshape(covariance.shape[:-2])


def _largest_root(linear: Tensor, constant: Tensor) -> Tensor:
    """The largest root of l^4 - 2 l^2 + linear l + constant, by Newton's method from sqrt(3), which is above it."""
    root = torch.full_like(linear, 3.0**0.5)
    for _ in range(_STEPS):
        square = root.square()
        value = ((square - 2.0) * root + linear) * root + constant
        root = root - value / ((4.0 * square - 4.0) * root + linear)
    return root


def _decomposed(covariance: Float[Tensor, "*batch 3 3"]) -> tuple[Float[Tensor, "*batch 3 3"], Float[Tensor, "*batch"]]:
    # A pose that is not finite gets the error NaN; it must not make the decomposition of the whole batch fail.
    u, s, vh = torch.linalg.svd(covariance.nan_to_num(0.0, 0.0, 0.0))
    signs = torch.ones_like(s)
    signs[..., 2] = torch.where(torch.linalg.det(u @ vh) < 0, -1.0, 1.0)
    return (u * signs[..., None, :]) @ vh, (s * signs).sum(dim=-1)
