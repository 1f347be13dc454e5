"""One answer from N hypotheses.

`best_of` and `best_joints_of` need the ground truth: their choice is never deployable, and is logged under
`.../oracle/` only, beside the null control.

Shape letters: N hypotheses, B batch, J joints.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from noise2pose import cameras, keyed_random
from noise2pose.metrics.functional import joint_error, mpjpe

_STREAM = 21  # of keyed_random


def average_by_reprojection(
    hypotheses: Float[Tensor, "N B J 3"],
    keypoints: Float[Tensor, "B J 3"],
    focal: Float[Tensor, "B 2"],
    principal_point: Float[Tensor, "B 2"],
    blur: Float[Tensor, "B J"],
) -> Float[Tensor, "B J 3"]:
    """Mean of each joint, weighted by how well the hypotheses project onto the detection.

    Each hypothesis is first put where it fits the detection best as a whole (`cameras.fit_translation`); a joint's
    weight is then the density of its detection under a Gaussian of width `blur` around its projection.

    Args:
        hypotheses: root-relative, metres.
        keypoints: pixels and confidence.
        focal: pixels.
        principal_point: pixels.
        blur: standard deviation of each detection, pixels.
    """
    pixels, confidence = keypoints[..., :2], keypoints[..., 2].clamp_min(0.0)
    translation = cameras.fit_translation(hypotheses, pixels, confidence, focal, principal_point)
    distance = _pixels_off(hypotheses + translation[..., None, :], pixels, focal, principal_point)
    weights = (-0.5 * (distance / blur).square()).softmax(dim=0)
    return (weights[..., None] * hypotheses).sum(dim=0)


def closest_by_reprojection(
    hypotheses: Float[Tensor, "N B J 3"],
    pixels: Float[Tensor, "B J 2"],
    translation: Float[Tensor, "B 3"],
    focal: Float[Tensor, "B 2"],
    principal_point: Float[Tensor, "B 2"],
) -> Float[Tensor, "B J 3"]:
    """Each joint of the hypothesis in which it projects closest to its detection (JPMA, Shan et al., ICCV 2023).

    Args:
        hypotheses: root-relative, metres.
        pixels: detections.
        translation: of the origin of all hypotheses, metres; deployable only if it was not taken from the ground truth.
        focal: pixels.
        principal_point: pixels.
    """
    distance = _pixels_off(hypotheses + translation[:, None], pixels, focal, principal_point)
    return _joints_of(hypotheses, distance.argmin(dim=0))


def spread(hypotheses: Float[Tensor, "N *batch J 3"]) -> Float[Tensor, "*batch J"]:
    """Standard deviation of each joint's position, metres: root of the summed variance of x, y and z."""
    return hypotheses.var(dim=0).sum(dim=-1).sqrt()


def best_of(
    hypotheses: Float[Tensor, "N *batch J 3"],
    target: Float[Tensor, "*batch J 3"],
    valid: Float[Tensor, "*batch J"] | None = None,
    root: int = 0,
) -> Float[Tensor, "*batch J 3"]:
    """The hypothesis with the smallest root-relative error of each pose.

    Args:
        hypotheses: N poses per sample, metres.
        target: ground truth, metres.
        valid: which joints count.
        root: joint that both are centred on.
    """
    centred = hypotheses - hypotheses[..., root : root + 1, :]
    errors = mpjpe(centred, (target - target[..., root : root + 1, :]).expand_as(centred), valid)
    index = errors.nan_to_num(torch.inf).argmin(dim=0)[None, ..., None, None]
    return hypotheses.gather(0, index.expand(1, *hypotheses.shape[1:]))[0]


def best_joints_of(
    hypotheses: Float[Tensor, "N *batch J 3"],
    target: Float[Tensor, "*batch J 3"],
    valid: Float[Tensor, "*batch J"] | None = None,
    root: int = 0,
) -> Float[Tensor, "*batch J 3"]:
    """Each joint of the hypothesis in which its root-relative error is smallest; arguments as of `best_of`.

    The joints of one pose come from several hypotheses, so nothing holds it together. Joints that are not valid come
    from the first.
    """
    centred = hypotheses - hypotheses[..., root : root + 1, :]
    errors = joint_error(centred, (target - target[..., root : root + 1, :]).expand_as(centred))
    if valid is not None:
        errors = errors * (valid > 0)
    return _joints_of(centred, errors.nan_to_num(torch.inf).argmin(dim=0))


def null_hypotheses(
    hypotheses: Float[Tensor, "N B *frames J 3"], keys: Int[Tensor, " B"], seed: int = 0
) -> Float[Tensor, "N B *frames J 3"]:
    """The null control: as many poses, white noise with the hypotheses' own spread around their mean.

    What "best of N" gains with these is the gain of choosing with the ground truth alone.

    Args:
        hypotheses: N poses per sample, metres.
        keys: (B,) sample keys of `noise2pose.keyed_random`.
        seed: which repetition this is.
    """
    mean = hypotheses.mean(dim=0)
    deviation = hypotheses - mean
    dims = (0, *range(2, deviation.ndim))
    # N draws around their own mean have N - 1 degrees of freedom.
    spread = (deviation.square().mean(dim=dims) * len(hypotheses) / (len(hypotheses) - 1)).sqrt()
    shape = (len(hypotheses), *hypotheses.shape[2:])
    noise = keyed_random.normal(keys, shape, stream=_STREAM, seed=seed).to(mean.dtype).transpose(0, 1)
    return mean + noise * spread.reshape(-1, *[1] * (mean.ndim - 1))


def _pixels_off(
    points: Float[Tensor, "N B J 3"],
    pixels: Float[Tensor, "B J 2"],
    focal: Float[Tensor, "B 2"],
    principal_point: Float[Tensor, "B 2"],
) -> Float[Tensor, "N B J"]:
    """Distance of each projected joint (camera frame, metres) from its detection, pixels."""
    # A point behind the camera has no projection; it gets one far from the detection.
    in_front = torch.cat((points[..., :2], points[..., 2:].clamp_min(0.1)), dim=-1)
    return (cameras.project(in_front, focal, principal_point) - pixels).norm(dim=-1)


def _joints_of(
    hypotheses: Float[Tensor, "N *batch J 3"], index: Int[Tensor, "*batch J"]
) -> Float[Tensor, "*batch J 3"]:
    """The joints of the hypotheses with these numbers."""
    return hypotheses.gather(0, index[None, ..., None].expand(1, *hypotheses.shape[1:]))[0]
