"""Rotations as six numbers (Zhou et al., "On the continuity of rotation representations", CVPR 2019), and nearest ones.

The layout is that of HMR, SPIN and their descendants. Every other format is used from `roma` directly.
"""

from functools import cache

import roma
import torch
from jaxtyping import Float
from torch import Tensor

_LEAST_COSINE = 1e-6  # of half the angle between two rotations


def interleaved_6d_to_rotmat(values: Float[Tensor, "*batch 6"]) -> Float[Tensor, "*batch 3 3"]:
    """The rotation whose first two columns are those of the values, reshaped to (3, 2) and orthonormalised in order."""
    return roma.special_gramschmidt(values.unflatten(-1, (3, 2)))


def rotmat_to_interleaved_6d(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 6"]:
    """First two columns of the matrix, row by row; inverse of `interleaved_6d_to_rotmat`."""
    return rotation[..., :2].flatten(-2)


def nearest_rotation(matrices: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3 3"]:
    """The rotation nearest to each matrix (orthogonal Procrustes problem), in inference mode and with gradients."""
    _keep_constants(matrices.device)
    return roma.special_procrustes(matrices)  # pyright: ignore[reportReturnType]


@cache
def _keep_constants(device: torch.device) -> None:
    # RoMa keeps a constant of its first call. Made in inference mode, autograd would refuse it for ever after.
    with torch.inference_mode(False):
        roma.special_procrustes(torch.eye(3, device=device))


def halfway(first: Float[Tensor, "*batch 3 3"], second: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3 3"]:
    """The rotation in the middle between two, which is the nearest one to the mean of their matrices.

    In closed form, without a decomposition: with D = first^T second, S and A its symmetric and antisymmetric parts and
    c = cos(angle / 2), the half of D is I + A / (2 c) + (S - I) / (2 (1 + c)). Half a turn apart (c = 0) the middle is
    not defined, and the answer is no rotation.
    """
    turn = first.mT @ second
    trace = turn[..., 0, 0] + turn[..., 1, 1] + turn[..., 2, 2]
    half = ((1.0 + trace).clamp_min(0.0).sqrt() / 2.0).clamp_min(_LEAST_COSINE)[..., None, None]
    eye = torch.eye(3, dtype=first.dtype, device=first.device)
    middle = eye + (turn - turn.mT) / (4.0 * half) + ((turn + turn.mT) / 2.0 - eye) / (2.0 * (1.0 + half))
    return first @ middle
