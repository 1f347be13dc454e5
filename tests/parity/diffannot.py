"""What the DiffAnnot fixtures have in common: their denoiser, their procedural noise and their stand-in for a body."""

from pathlib import Path

import torch

from methods.diffannot.official import load_denoiser
from noise2pose.metrics import functional
from tests.parity.procedural import procedural_state_dict, procedural_tensor, read_fixture

JOINTS_14 = [6, 5, 4, 1, 2, 3, 16, 15, 14, 11, 12, 13, 8, 10]  # of the stand-in's 17


def fixture(name):
    """Tensors, official weights and metadata."""
    tensors, meta = read_fixture(Path(__file__).parent / f"diffannot_{name}.safetensors")
    weights = procedural_state_dict(meta.get("state_dict", {}), salt=meta["salt"])
    return {key: torch.as_tensor(value) for key, value in tensors.items()}, weights, meta


def denoiser():
    """The denoiser that every fixture with a `config.in` was recorded with."""
    _, weights, _ = fixture("mlp_226")
    return load_denoiser(weights)


def noise(key, shape=(4, 226), salt=0):
    return torch.as_tensor(procedural_tensor(f"noise/{key}", shape, salt))


def joints_14(state, salt=0):
    """(R, 226) to (R, 14, 3) millimetres, of the linear stand-in for a body."""
    basis = 0.1 * torch.as_tensor(procedural_tensor("stub_body.A", (226, 51), salt))
    offset = 0.6 * torch.as_tensor(procedural_tensor("stub_body.c", (51,), salt))
    joints = (state.float() @ basis + offset).unflatten(-1, (17, 3))
    return 1000 * (joints - joints[:, :1])[:, JOINTS_14]


def pa_mpjpe_mm(state, target):
    """(R, 226) states against (R, 14, 3) millimetres."""
    return functional.pa_mpjpe(joints_14(state).double(), target.double())
