"""Where published weights are renamed: HMR and SPIN as mmhuman3d stores them, and SPIN's own files.

Every size is read off the tensors.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from methods.backbones import ResNet50
from methods.checkpoints import read_torch_file
from methods.hmr.regressor import Regressor
from noise2pose.errors import InputError

Layout = Literal["mmhuman3d", "spin"]

# What a whole training of mmhuman3d saves beside the network.
_LEFT_OUT = {
    "disc.": "the discriminators of the training",
    "body_model_train.": "the body of SMPL, which has a licence of its own",
    "body_model_test.": "the body of SMPL, which has a licence of its own",
    "smpl.": "the body of SMPL, which has a licence of its own",
}
_COUNTER = "num_batches_tracked"  # which no answer depends on, and some files lack


class PublishedHMR(nn.Module):
    """Picture to rotations, shape and camera; `methods.hmr.HMR` has the same two parts under the same names.

    Args:
        hidden: units of the regressor.
    """

    def __init__(self, hidden: int = 1024) -> None:
        super().__init__()
        self.backbone = ResNet50()
        self.regressor = Regressor(ResNet50.width, hidden)

    def forward(self, image: Float[Tensor, "B 3 S S"]) -> dict[str, Tensor]:
        """Answers RGB pictures in [0, 1], published for S = 224.

        Returns:
            `rotmat` (B, 24, 3, 3) with the root first, `betas` (B, 10) of SMPL, and `camera` (B, 3): (s, tx, ty) of
            the crop, whose body stands at (tx, ty, 2 f / (S s)) metres for the focal length f = 5000 pixels.
        """
        rotations, betas, camera = self.regressor(self.backbone(image))
        return {"rotmat": rotations, "betas": betas, "camera": camera}


def load_hmr(state_dict: Mapping[str, Any], layout: Layout = "mmhuman3d") -> PublishedHMR:
    """A published network.

    Args:
        state_dict: official keys to tensors or arrays (a `module.` prefix is removed), or a dictionary that holds them
            under `state_dict` or `model`. A body and discriminators are left out, with a note on the standard error.
        layout: `mmhuman3d` has the prefixes `backbone.` and `head.`; `spin` has none.

    Returns:
        Network in evaluation mode.

    Raises:
        InputError: if a key is missing, superfluous or of the wrong shape; all are named.
    """
    weights = _without_training(extract_state_dict(state_dict))
    prefixes = ("backbone.", "head.") if layout == "mmhuman3d" else ("", "")
    first = f"{prefixes[1]}fc1.weight"
    if first not in weights:
        raise InputError(f"key {first} is missing; this is not a state dict of HMR in the layout of {layout}")
    network = PublishedHMR(hidden=len(weights[first]))
    origin = {}
    for ours in network.state_dict():
        part, _, name = ours.partition(".")
        origin[ours] = (prefixes[1] if part == "regressor" else prefixes[0]) + name
    return _fill(network, origin, weights)


def layout_of(state_dict: Mapping[str, Any]) -> Layout:
    """Which layout the names of an extracted state dict are in.

    Raises:
        InputError: if they are in none.
    """
    if "head.fc1.weight" in state_dict:
        return "mmhuman3d"
    if "fc1.weight" in state_dict:
        return "spin"
    raise InputError("neither head.fc1.weight (mmhuman3d) nor fc1.weight (SPIN) is there: these are not weights of HMR")


def extract_state_dict(checkpoint: Any) -> dict[str, Tensor]:
    """The tensors inside an official checkpoint: its `state_dict` or `model`, or itself; without `module.`.

    Raises:
        InputError: if there are none.
    """
    if isinstance(checkpoint, Mapping):
        inner = next((checkpoint[key] for key in ("state_dict", "model") if key in checkpoint), checkpoint)
        if isinstance(inner, Mapping) and inner and all(_is_number(value) for value in inner.values()):
            return {str(key).removeprefix("module."): torch.as_tensor(value) for key, value in inner.items()}
        raise InputError(f"no state dict of tensors is in the checkpoint; it has {', '.join(map(str, checkpoint))}")
    raise InputError(f"the checkpoint is a {type(checkpoint).__name__} and holds no state dict of tensors")


def read_checkpoint(path: Path) -> Any:
    """What `torch.save` wrote, without running what may be hidden in it.

    Beside tensors and plain values, numbers of NumPy are read, which training logs of mmhuman3d hold.

    Raises:
        InputError: if the file is not there, broken, or holds anything else.
    """
    scalar: Any = np.float64(0.0).__reduce__()[0]
    kinds = [type(np.dtype(code)) for code in ("?", "i1", "u1", "i2", "i4", "i8", "f2", "f4", "f8")]
    # Files written with NumPy 1 call the same function by its old address.
    allowed = [(scalar, "numpy.core.multiarray.scalar"), (scalar, "numpy._core.multiarray.scalar"), np.dtype, *kinds]
    return read_torch_file(path, allowed)


def _is_number(value: Any) -> bool:
    return isinstance(value, (Tensor, np.ndarray, np.number, int, float))


def _without_training(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The network's tensors alone; says on the standard error what else there was."""
    kept = {key: value for key, value in weights.items() if not key.startswith(tuple(_LEFT_OUT))}
    reasons = {reason for prefix, reason in _LEFT_OUT.items() if any(key.startswith(prefix) for key in weights)}
    for reason in sorted(reasons):
        print(f"note: left out {reason}", file=sys.stderr)
    return kept


def _fill(network: PublishedHMR, origin: dict[str, str], weights: dict[str, Tensor]) -> PublishedHMR:
    """Loads the tensors strictly, with nothing left over, and puts the network in evaluation mode.

    Args:
        network: to fill.
        origin: official name of each of its tensors.
        weights: under their official names.
    """
    expected = network.state_dict()
    renamed: dict[str, Tensor] = {}
    known = set(origin.values())
    problems = [f"{key} is not known" for key in sorted(weights) if key not in known]
    for ours, official in origin.items():
        if official not in weights:
            if not ours.endswith(_COUNTER):
                problems.append(f"{official} is missing")
            renamed[ours] = expected[ours]
        elif weights[official].shape != expected[ours].shape:
            shape, wanted = tuple(weights[official].shape), tuple(expected[ours].shape)
            problems.append(f"{official} has shape {shape}, expected {wanted}")
        else:
            renamed[ours] = weights[official].to(expected[ours].dtype)
    if problems:
        raise InputError(f"the state dict does not fit HMR: {'; '.join(problems)}")
    network.load_state_dict(renamed)
    return network.eval()
