"""Choices that need the ground truth: never deployable, logged under `.../oracle/` only, beside their null control."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from noise2pose import keyed_random
from noise2pose.metrics.functional import mpjpe

_STREAM = 21  # of keyed_random


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
