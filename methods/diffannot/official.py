"""Where published weights are renamed: PaperL/Human-3D-Diffusion, the MLP that denoises body states.

No weights of it were published; checkpoints are what its training script writes (`modelNNNNNN.pt`, and the moving
average as a file of its own, `ema_RATE_NNNNNN.pt`). Every size is read off the tensors.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from methods.diffannot.denoiser import ReleasedDenoiser
from noise2pose.errors import InputError

_WRAPPINGS = ("state_dict", "model", "model_state_dict")
_AVERAGES = ("ema", "ema_state_dict")
_LAYERS = ("module.0", "module.2", "module.4", "time_embed.0", "time_embed.2")


def load_denoiser(state_dict: Mapping[str, Any], output_relu: bool = True) -> ReleasedDenoiser:
    """The released denoiser.

    Args:
        state_dict: official keys (`module.0.weight`, ..., `time_embed.2.bias`), with or without the prefix `module.` of
            distributed training, to tensors or arrays of any floating type; or a dictionary that holds them, see
            `extract_state_dict`.
        output_relu: end with a ReLU, as released, which no tensor tells.

    Returns:
        Network in evaluation mode: `forward(x: (B, D), t: (B,)) -> (B, E)`, the noise in x.

    Raises:
        InputError: if a key is missing, superfluous or of the wrong shape; all are named.
    """
    weights = extract_state_dict(state_dict)
    expected = {f"{layer}.{end}" for layer in _LAYERS for end in ("weight", "bias")}
    problems = [f"{key} is missing" for key in sorted(expected - set(weights))]
    problems += [f"{key} is not known" for key in sorted(set(weights) - expected)]
    matrices = [f"{layer}.weight" for layer in _LAYERS]
    problems += [
        f"{key} has shape {tuple(weights[key].shape)}, expected a matrix"
        for key in matrices
        if key in weights and weights[key].ndim != 2
    ]
    _complain(problems)
    (width, size), output_size = weights["module.0.weight"].shape, len(weights["module.4.weight"])
    network = ReleasedDenoiser(size, width, output_size, output_relu, time_width=len(weights["time_embed.0.weight"]))
    _complain(
        [
            f"{key} has shape {tuple(weights[key].shape)}, expected {tuple(value.shape)}"
            for key, value in network.state_dict().items()
            if weights[key].shape != value.shape
        ]
    )
    network.load_state_dict({key: value.float() for key, value in weights.items()})
    return network.eval()


def extract_state_dict(checkpoint: Any, ema: bool = False) -> dict[str, Tensor]:
    """The state dict inside an official checkpoint file, without prefixes.

    Args:
        checkpoint: what `torch.load` returned: the weights themselves, which is what the release writes, or a
            dictionary holding them under `state_dict`, `model` or `model_state_dict`.
        ema: take the moving average of the weights (key `ema` or `ema_state_dict`) instead of the raw ones.

    Raises:
        InputError: if no weights, or no moving average when asked for, can be found.
    """
    if not isinstance(checkpoint, Mapping):
        raise InputError("the checkpoint holds no state dict of tensors")
    if not _is_state_dict(checkpoint):
        keys = _AVERAGES if ema else _WRAPPINGS
        found = next((key for key in keys if key in checkpoint), None)
        if found is None:
            present = sorted(map(str, checkpoint))
            raise InputError(f"none of the keys {', '.join(keys)} is in the checkpoint; it has {present}")
        checkpoint = checkpoint[found]
    elif ema:
        raise InputError("the checkpoint holds bare weights; the release keeps the moving average in a file of its own")
    if not isinstance(checkpoint, Mapping) or not _is_state_dict(checkpoint):
        raise InputError("the checkpoint holds no state dict of tensors")
    return _without_prefix({str(key): torch.as_tensor(value) for key, value in checkpoint.items()})


def _is_state_dict(value: Mapping[Any, Any]) -> bool:
    return bool(value) and all(isinstance(entry, (Tensor, np.ndarray)) for entry in value.values())


def _without_prefix(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Removes the `module.` of distributed training; the network's own first layers are called `module` as well.

    The prefix is on every key or on none, so it is there exactly if the time embedding has it too.
    """
    while any(key.startswith(("module.time_embed.", "module.module.")) for key in weights):
        if not all(key.startswith("module.") for key in weights):
            raise InputError(
                "some keys have the prefix `module.` of distributed training and some have not: "
                + ", ".join(sorted(key for key in weights if not key.startswith("module."))[:4])
            )
        weights = {key.removeprefix("module."): value for key, value in weights.items()}
    return weights


def _complain(problems: list[str]) -> None:
    if problems:
        raise InputError(f"the state dict does not fit the released denoiser: {'; '.join(problems)}")
