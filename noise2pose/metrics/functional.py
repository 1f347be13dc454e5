"""Errors of poses as pure functions: one number for each pose, in the units of the input; the caller takes means.

Every function takes `pred` and `target` (..., J, C) with arbitrary leading dimensions, which broadcast against each
other, and an optional mask `valid` (..., J): a joint whose mask is 0 counts neither in an alignment nor in a mean,
whatever it holds. A pose without a valid joint has no error and gets NaN. The caller centres poses on a root, except
for `pa_mpjpe`, which removes any translation itself.

Shape letters: F frames, J joints, C coordinates (3 in space, 2 in an image).
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

# Metres. Rounding must not decide whether an error of exactly the threshold is below it; this is what single precision
# leaves of coordinates up to 8 m.
_ROUNDING = 5e-7
_AUC_STEP, _AUC_STEPS = 0.005, 30
_FEW = 256  # matrices; up to this number LAPACK's decomposition is faster
_STEPS = 16  # of Newton's method
_DISTINCT = 5e-3  # of (s1 + s2)(s2 + s3)(s3 + s1) at unit norm; below it the rotation is poorly determined


def joint_error(pred: Float[Tensor, "*#batch J C"], target: Float[Tensor, "*#batch J C"]) -> Float[Tensor, "*#batch J"]:
    """Euclidean distance of each joint, in the units of the input."""
    return torch.linalg.vector_norm(pred - target, dim=-1)


def mpjpe(
    pred: Float[Tensor, "*#batch J C"],
    target: Float[Tensor, "*#batch J C"],
    valid: Shaped[Tensor, "*#batch J"] | None = None,
) -> Float[Tensor, "*#batch"]:
    """Mean per-joint position error, "protocol 1" of Human3.6M when both poses are relative to their root."""
    return _mean_over_joints(joint_error(pred, target), valid)


def pa_mpjpe(
    pred: Float[Tensor, "*#batch J 3"],
    target: Float[Tensor, "*#batch J 3"],
    valid: Shaped[Tensor, "*#batch J"] | None = None,
) -> Float[Tensor, "*#batch"]:
    """MPJPE after the best similarity transform of each pose, "protocol 2" or P-MPJPE; see `procrustes_align`."""
    return mpjpe(procrustes_align(pred, target, valid), target, valid)


def n_mpjpe(
    pred: Float[Tensor, "*#batch J 3"],
    target: Float[Tensor, "*#batch J 3"],
    valid: Shaped[Tensor, "*#batch J"] | None = None,
) -> Float[Tensor, "*#batch"]:
    """MPJPE after scaling each pose by <target, pred> / <pred, pred> (Rhodin et al., CVPR 2018, as VideoPose3D has it).

    Both poses are relative to the root. A prediction of zero size has the error of the zero pose, whatever the scale.
    """
    x, y = _counted(pred, valid), _counted(target, valid)
    scale = _ratio((x * y).sum(dim=(-2, -1)), x.square().sum(dim=(-2, -1)))
    return mpjpe(scale[..., None, None] * pred, target, valid)


def mpjve(
    pred: Float[Tensor, "*#batch F J 3"],
    target: Float[Tensor, "*#batch F J 3"],
    valid: Shaped[Tensor, "*#batch F J"] | None = None,
) -> Float[Tensor, "*#batch F-1"]:
    """Mean per-joint velocity error of each step from one frame to the next, per frame (Pavllo et al., CVPR 2019).

    The mean over the last dimension is the error of a sequence. Differences never cross from one sequence to another. A
    step counts a joint that is valid in both frames.
    """
    if valid is not None:
        valid = (valid[..., 1:, :] > 0) & (valid[..., :-1, :] > 0)
    return mpjpe(pred.diff(dim=-3), target.diff(dim=-3), valid)


def pck(
    pred: Float[Tensor, "*#batch J C"],
    target: Float[Tensor, "*#batch J C"],
    valid: Shaped[Tensor, "*#batch J"] | None = None,
    threshold: float = 0.150,
) -> Float[Tensor, "*#batch"]:
    """Share of correct keypoints, in [0, 1]: an error of the threshold itself is not correct (MPI-INF-3DHP).

    Poses and threshold are in metres, or both in any other unit.
    """
    error = joint_error(pred, target)
    return _mean_over_joints((error < threshold - _ROUNDING).to(error.dtype), valid)


def auc(
    pred: Float[Tensor, "*#batch J 3"],
    target: Float[Tensor, "*#batch J 3"],
    valid: Shaped[Tensor, "*#batch J"] | None = None,
) -> Float[Tensor, "*#batch"]:
    """Mean of `pck` over the 31 thresholds 0, 5, ..., 150 mm (MPI-INF-3DHP).

    Nothing is below the threshold 0, so a perfect pose has 30/31. Poses are in metres.
    """
    missed = torch.floor((joint_error(pred, target) + _ROUNDING) / _AUC_STEP)
    return _mean_over_joints((_AUC_STEPS - missed).clamp(min=0) / (_AUC_STEPS + 1), valid)


def pve_sc(
    pred: Float[Tensor, "*#batch J C"],
    target: Float[Tensor, "*#batch J C"],
    valid: Shaped[Tensor, "*#batch J"] | None = None,
) -> Float[Tensor, "*#batch"]:
    """Mean distance of points after the mean and the root mean square radius of the target were given to them.

    Of meshes in the rest pose this is PVE-T-SC (Sengupta et al., BMVC 2020, as SSP-3D's `metrics.py` has it): the size
    of a person cannot be told from one image.
    """
    (x, x_mean), (y, y_mean) = _centred(pred, valid), _centred(target, valid)
    scale = _ratio(y.square().sum(dim=(-2, -1)).sqrt(), x.square().sum(dim=(-2, -1)).sqrt())
    return mpjpe(scale[..., None, None] * (pred - x_mean), target - y_mean, valid)


def procrustes_align(
    pred: Float[Tensor, "*#batch J 3"],
    target: Float[Tensor, "*#batch J 3"],
    valid: Shaped[Tensor, "*#batch J"] | None = None,
) -> Float[Tensor, "*#batch J 3"]:
    """The prediction after the translation, rotation and scale that bring it closest to the target in least squares.

    Reflections are excluded (Umeyama, PAMI 1991). A prediction of zero size is moved to the target's centre. Joints
    that are not valid do not determine the alignment; they are moved with the others.
    """
    x, x_mean = _centred(pred, valid)
    y, y_mean = _centred(target, valid)
    rotation, trace = best_rotation(y.mT @ x)
    # After centring, points that coincide differ by rounding only, which must not be scaled up.
    floor = _counted(pred, valid).square().sum(dim=(-2, -1)) * (10 * torch.finfo(pred.dtype).eps) ** 2
    scale = _ratio(trace, x.square().sum(dim=(-2, -1)), floor)
    return scale[..., None, None] * (pred - x_mean) @ rotation.mT + y_mean


def best_rotation(
    covariance: Float[Tensor, "*batch 3 3"],
) -> tuple[Float[Tensor, "*batch 3 3"], Float[Tensor, "*batch"]]:
    """The rotation R that maximises trace(R^T covariance), and that trace.

    Evaluations align hundreds of thousands of poses, and decomposing every matrix with LAPACK is most of the cost. With
    signed singular values s1 >= s2 >= |s3|, where s3 has the sign of the determinant, everything needed follows from
    l = s1 + s2 + s3 alone, the largest root of a polynomial (Horn, "Closed-form solution of absolute orientation using
    unit quaternions", 1987; Theobald, "Rapid calculation of RMSDs", 2005).

    Args:
        covariance: (..., 3, 3), sum over points of target times source transposed, both centred.

    Returns:
        R (..., 3, 3), never a reflection, and s1 + s2 + s3 of shape (...,).
    """
    flat = covariance.reshape(-1, 3, 3)
    if len(flat) < _FEW:
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


def _mean_over_joints(values: Tensor, valid: Tensor | None) -> Tensor:
    if valid is None:
        return values.mean(dim=-1)
    counted = valid > 0
    return torch.where(counted, values, 0.0).sum(dim=-1) / counted.sum(dim=-1)


def _counted(points: Tensor, valid: Tensor | None) -> Tensor:
    """The points, with zeros where they do not count."""
    return points if valid is None else torch.where(valid[..., None] > 0, points, 0.0)


def _centred(points: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """The points relative to their mean, with zeros where they do not count, and the mean (..., 1, 3)."""
    if valid is None:
        mean = points.mean(dim=-2, keepdim=True)
    else:
        count = (valid > 0).sum(dim=-1)[..., None, None]
        mean = _counted(points, valid).sum(dim=-2, keepdim=True) / count.clamp(min=1)
    return _counted(points - mean, valid), mean


def _ratio(numerator: Tensor, denominator: Tensor, floor: Tensor | float = 0.0) -> Tensor:
    """The ratio, or 0 where the denominator is not above the floor; NaN stays NaN."""
    return torch.where(denominator <= floor, 0.0, numerator / denominator)


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
