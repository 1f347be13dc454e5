"""Rotation formats of the field. What `roma` has is used from there; here are its names and the two 6-D layouts.

Quaternions are (x, y, z, w) in `roma`; files that store (w, x, y, z) are reordered with `wxyz_to_xyzw`.
"""

import roma
import torch
from jaxtyping import Float
from torch import Tensor

rotvec_to_rotmat = roma.rotvec_to_rotmat
rotmat_to_rotvec = roma.rotmat_to_rotvec
unitquat_to_rotmat = roma.unitquat_to_rotmat
rotmat_to_unitquat = roma.rotmat_to_unitquat
project_to_so3 = roma.special_procrustes
geodesic_distance = roma.rotmat_geodesic_distance


def wxyz_to_xyzw(quaternion: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 4"]:
    """Reorders a quaternion with the real part first to one with the real part last."""
    return quaternion.roll(-1, dims=-1)


def xyzw_to_wxyz(quaternion: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 4"]:
    """Inverse of `wxyz_to_xyzw`."""
    return quaternion.roll(1, dims=-1)


def interleaved_6d_to_rotmat(values: Float[Tensor, "*batch 6"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation from the layout of HMR, SPIN and their descendants: reshaped to (3, 2), the columns are two axes.

    The axes are orthonormalised in order (Zhou et al., "On the continuity of rotation representations", CVPR 2019).
    """
    axes = values.unflatten(-1, (3, 2))
    return roma.special_gramschmidt(axes)


def rotmat_to_interleaved_6d(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 6"]:
    """First two columns of the matrix, row by row; inverse of `interleaved_6d_to_rotmat`."""
    return rotation[..., :2].flatten(-2)


def stacked_6d_to_rotmat(values: Float[Tensor, "*batch 6"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation from the layout of PyTorch3D: two three-vectors one after the other, which become the first two ROWS."""
    axes = values.unflatten(-1, (2, 3)).transpose(-1, -2)
    return roma.special_gramschmidt(axes).transpose(-1, -2)


def rotmat_to_stacked_6d(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 6"]:
    """First two rows of the matrix; inverse of `stacked_6d_to_rotmat`."""
    return rotation[..., :2, :].flatten(-2)


def compose_euler(
    convention: str, angles: Float[Tensor, "*batch N"], degrees: bool = False
) -> Float[Tensor, "*batch 3 3"]:
    """Rotation matrix of intrinsic (upper-case) or extrinsic (lower-case) Euler angles; see `roma.euler_to_rotmat`."""
    return roma.euler_to_rotmat(convention, angles, degrees=degrees, dtype=angles.dtype, device=angles.device)


def slerp(
    start: Float[Tensor, "*batch 3 3"], end: Float[Tensor, "*batch 3 3"], fraction: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch 3 3"]:
    """Spherical interpolation with a fraction of its own for each pair, along the shorter arc."""
    relative = rotmat_to_rotvec(start.transpose(-1, -2) @ end)
    return start @ rotvec_to_rotmat(torch.as_tensor(fraction)[..., None] * relative)
