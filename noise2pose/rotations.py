"""Rotations as six numbers (Zhou et al., "On the continuity of rotation representations", CVPR 2019).

The layout is that of HMR, SPIN and their descendants. Every other format is used from `roma` directly.
"""

import roma
from jaxtyping import Float
from torch import Tensor


def interleaved_6d_to_rotmat(values: Float[Tensor, "*batch 6"]) -> Float[Tensor, "*batch 3 3"]:
    """The rotation whose first two columns are those of the values, reshaped to (3, 2) and orthonormalised in order."""
    return roma.special_gramschmidt(values.unflatten(-1, (3, 2)))


def rotmat_to_interleaved_6d(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 6"]:
    """First two columns of the matrix, row by row; inverse of `interleaved_6d_to_rotmat`."""
    return rotation[..., :2].flatten(-2)
