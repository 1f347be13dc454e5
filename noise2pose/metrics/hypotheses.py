"""One answer from N hypotheses.

`best_of` needs the ground truth: its choice is never deployable, and is logged under `.../oracle/` only, beside
the null control.

Shape letters: N hypotheses, B batch, J joints.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from noise2pose import cameras, keyed_random
from noise2pose.metrics.functional import mpjpe

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
    points = hypotheses + translation[..., None, :]
    # A hypothesis behind the camera has no projection; it gets one far from the detection.
    points = points.clone()
    points[..., 2] = points[..., 2].clamp_min(0.1)
    distance = (cameras.project(points, focal, principal_point) - pixels).square().sum(dim=-1)
    weights = (-0.5 * distance / blur.square()).softmax(dim=0)
    return (weights[..., None] * hypotheses).sum(dim=0)


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
