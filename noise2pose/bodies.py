"""Body models: rotations and shape coefficients to a mesh, or straight to the joints of a skeleton.

Shape letters: V vertices, K joints of the kinematic tree (24), J joints of a regressed skeleton, S shape coefficients,
P pose features.
"""

import zipfile
import zlib
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from noise2pose.errors import InputError

NUM_BETAS = 10

_FREE_BODY = Path(__file__).parent / "assets" / "free_body.npz"
_KINEMATIC_JOINTS = "smpl_24"
_REGRESSOR_KEYS = {"h36m_17": "J_regressor_h36m"}


class BodyOutput(NamedTuple):
    """A posed body.

    Attributes:
        vertices: (..., V, 3) metres.
        joints: (..., K, 3) metres, the joints of the kinematic tree.
    """

    vertices: Tensor
    joints: Tensor


class BodyModel(nn.Module):
    """Linear blend skinning in SMPL's form (Loper et al., "SMPL: A Skinned Multi-Person Linear Model", 2015).

    The rest pose is a T-pose with y up, facing +z, +x on the body's left; all joint frames are then parallel to the
    world's. Everything is a buffer that is kept out of the state dict: a body is data, not weights.

    A model carries every index that belongs to its mesh. The free body has 6,890 vertices as SMPL has, which is a
    coincidence of count and not of order: never use vertex numbers, regressors or betas of one with the other.

    Args:
        template: (V, 3) vertices of the mean body, metres.
        shape_directions: (V, 3, S) displacement per unit of each shape coefficient.
        skinning_weights: (V, K), rows sum to one.
        joint_regressor: (K, V) from vertices to the joints of the kinematic tree.
        parents: the parent of each joint; -1 for the root, which comes first, and parents before their children.
        faces: (T, 3) vertex numbers.
        pose_directions: (V, 3, 9 * (K - 1)) displacement per pose feature, or None for a body without.
        joint_names: K names.
        vertex_ids: named vertices.
        regressors: (J, V) matrices of further skeletons, see `add_regressor`.
        dtype: of the buffers.
    """

    template: Tensor
    shape_directions: Tensor
    pose_directions: Tensor
    skinning_weights: Tensor
    faces: Tensor
    _parents: Tensor
    _ancestors: Tensor
    _rest_joints: Tensor

    def __init__(
        self,
        *,
        template: Tensor,
        shape_directions: Tensor,
        skinning_weights: Tensor,
        joint_regressor: Tensor,
        parents: tuple[int, ...],
        faces: Tensor,
        pose_directions: Tensor | None = None,
        joint_names: tuple[str, ...] = (),
        vertex_ids: Mapping[str, int] | None = None,
        regressors: Mapping[str, Tensor] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.parents = parents
        self.joint_names = joint_names
        self.vertex_ids = dict(vertex_ids or {})
        self.regressors: tuple[str, ...] = (_KINEMATIC_JOINTS,)
        if pose_directions is None:
            pose_directions = template.new_zeros(*template.shape, 0)
        ancestors = torch.eye(len(parents), dtype=dtype)
        for joint, parent in enumerate(parents[1:], start=1):
            ancestors[joint] += ancestors[parent]
        blend_basis = torch.cat((template[..., None], shape_directions), dim=-1).double()
        rest_joints = torch.einsum("kv,vcs->skc", joint_regressor.double(), blend_basis)
        self._keep("template", template.to(dtype))
        self._keep("shape_directions", shape_directions.to(dtype))
        self._keep("pose_directions", pose_directions.to(dtype))
        self._keep("skinning_weights", skinning_weights.to(dtype))
        self._keep("faces", faces.to(torch.int64))
        self._keep("_parents", torch.tensor(parents[1:]))
        self._keep("_ancestors", ancestors)  # (K, K): which offsets add up to each joint's position
        self._keep("_rest_joints", rest_joints.to(dtype))  # (1 + S, K, 3)
        for name, matrix in (regressors or {}).items():
            self.add_regressor(name, matrix)

    @classmethod
    def free_body(cls, dtype: torch.dtype = torch.float32) -> "BodyModel":
        """The body shipped with the project, free to use (`assets/NOTICE`); its pose directions are zero.

        Its betas have unit variance over adults of 18 to 70: the first is height, two to three are volume.
        """
        return cls.from_file(_FREE_BODY, dtype)

    @classmethod
    def load(cls, name_or_path: str) -> "BodyModel":
        """The free body for `free`, else the body of an npz file."""
        return cls.free_body() if name_or_path == "free" else cls.from_file(name_or_path)

    @classmethod
    def from_file(cls, path: str | PathLike[str], dtype: torch.dtype = torch.float32) -> "BodyModel":
        """Reads a body from an npz file with SMPL's keys.

        Args:
            path: npz with `v_template` (V, 3), `shapedirs` (V, 3, at least 10; the first 10 are used), `weights`
                (V, K), `J_regressor` (K, V), `kintree_table` (2, K) with parents in the first row, `f` (T, 3), and
                optionally `posedirs` (V, 3, 9 * (K - 1)), `J_regressor_h36m` (17, V), `joint_names` (K,), and
                `vertex_id_names` with `vertex_ids`.
            dtype: of the buffers.

        Raises:
            InputError: if the file cannot be read or a key is missing, has another shape or impossible values.
        """
        arrays = _Arrays(path)
        vertices, joints = arrays.shape("weights", (None, None))
        parents = _parents(arrays.read("kintree_table", (2, joints))[0], path)
        faces = arrays.read("f", (None, 3)).astype(np.int64)
        if faces.min() < 0 or faces.max() >= vertices:
            raise InputError(f"{path}: `f` names vertex {faces.max()}, expected numbers below {vertices}")
        shape_directions = arrays.numbers("shapedirs", (vertices, 3, None))
        if shape_directions.shape[-1] < NUM_BETAS:
            raise InputError(f"{path}: `shapedirs` has {shape_directions.shape[-1]} components, expected {NUM_BETAS}")
        names = arrays.read("joint_names", (joints,)) if "joint_names" in arrays else ()
        vertex_ids = {}
        if "vertex_ids" in arrays:
            numbers = arrays.read("vertex_ids", (None,))
            vertex_ids = dict(
                zip(arrays.read("vertex_id_names", numbers.shape).tolist(), numbers.tolist(), strict=True)
            )
        return cls(
            template=arrays.numbers("v_template", (vertices, 3)),
            shape_directions=shape_directions[..., :NUM_BETAS],
            skinning_weights=arrays.numbers("weights", (vertices, joints)),
            joint_regressor=arrays.numbers("J_regressor", (joints, vertices)),
            parents=parents,
            faces=torch.from_numpy(faces),
            pose_directions=(
                arrays.numbers("posedirs", (vertices, 3, 9 * (joints - 1))) if "posedirs" in arrays else None
            ),
            joint_names=tuple(str(name) for name in names),
            vertex_ids=vertex_ids,
            regressors={
                name: arrays.numbers(key, (int(name.split("_")[-1]), vertices))
                for name, key in _REGRESSOR_KEYS.items()
                if key in arrays
            },
            dtype=dtype,
        )

    def add_regressor(self, name: str, matrix: Float[Tensor, "J V"]) -> None:
        """Makes a linear function of the mesh available to `joints`, by folding it into the blend bases.

        Args:
            name: what `joints` will call it.
            matrix: each row is a weighting of this model's vertices; rows sum to one.
        """
        matrix = matrix.double().to(self.template.device)
        support = matrix.any(dim=0)
        weights = matrix[:, support, None] * self.skinning_weights[support].double()
        basis = torch.cat((self.template[..., None], self.shape_directions, self.pose_directions), dim=-1)
        folded = torch.einsum("jvk,vcm->mjkc", weights, basis[support].double())
        self._keep(f"_{name}_basis", folded.flatten(1).to(self.template.dtype))  # (1 + S + P, J * K * 3)
        self._keep(f"_{name}_mass", weights.sum(dim=1).to(self.template.dtype))  # (J, K)
        self.regressors += (name,)

    def rest_joints(self, betas: Float[Tensor, "*batch S"]) -> Float[Tensor, "*batch K 3"]:
        """Joints of the kinematic tree in the rest pose, metres."""
        return self._rest_joints[0] + torch.tensordot(betas, self._rest_joints[1:], dims=1)

    def forward(
        self,
        global_orient: Float[Tensor, "*batch 3 3"],
        body_pose: Float[Tensor, "*batch joints 3 3"],
        betas: Float[Tensor, "*batch S"],
        translation: Float[Tensor, "*batch 3"] | None = None,
    ) -> BodyOutput:
        """Poses the whole mesh.

        Args:
            global_orient: rotation of the root, about the root joint.
            body_pose: rotations of the other K - 1 joints relative to their parents.
            betas: shape coefficients.
            translation: metres, added to everything.

        Returns:
            Vertices and kinematic joints.
        """
        rotations, positions, rest = self._pose(global_orient, body_pose, betas)
        vertices = self.template + torch.einsum("...s,vcs->...vc", betas, self.shape_directions)
        if self.pose_directions.shape[-1]:
            vertices = vertices + torch.einsum("...p,vcp->...vc", _pose_features(body_pose), self.pose_directions)
        offsets = positions - (rotations @ rest[..., None])[..., 0]
        blended = self.skinning_weights @ torch.cat((rotations, offsets[..., None]), dim=-1).flatten(-2)
        blended = blended.unflatten(-1, (3, 4))
        vertices = (blended[..., :3] @ vertices[..., None])[..., 0] + blended[..., 3]
        if translation is not None:
            vertices, positions = vertices + translation[..., None, :], positions + translation[..., None, :]
        return BodyOutput(vertices, positions)

    def joints(
        self,
        global_orient: Float[Tensor, "*batch 3 3"],
        body_pose: Float[Tensor, "*batch joints 3 3"],
        betas: Float[Tensor, "*batch S"],
        translation: Float[Tensor, "*batch 3"] | None = None,
        *,
        regressor: str = "h36m_17",
    ) -> Float[Tensor, "*batch J 3"]:
        """Joints of a skeleton without the mesh: equal to the regressor applied to `forward(...).vertices`.

        Blending and regressing are both linear in the unposed vertices, so with regressor R, skinning weights w and the
        transforms (G_k, t_k) of the joints, J_r = sum_k G_k [sum_v R_rv w_vk v(betas, pose)] + t_k [sum_v R_rv w_vk].

        Args:
            global_orient, body_pose, betas, translation: as in `forward`.
            regressor: one of `self.regressors`; "smpl_24" are the kinematic joints.

        Raises:
            InputError: if the body has no such regressor.
        """
        rotations, positions, rest = self._pose(global_orient, body_pose, betas)
        if regressor == _KINEMATIC_JOINTS:
            joints = positions
        elif regressor in self.regressors:
            basis, mass = self.get_buffer(f"_{regressor}_basis"), self.get_buffer(f"_{regressor}_mass")
            folded = basis[0] + betas @ basis[1 : 1 + betas.shape[-1]]
            if self.pose_directions.shape[-1]:
                folded = folded + _pose_features(body_pose) @ basis[1 + betas.shape[-1] :]
            folded = folded.unflatten(-1, (*mass.shape, 3))
            offsets = positions - (rotations @ rest[..., None])[..., 0]
            joints = torch.einsum("...kab,...jkb->...ja", rotations, folded) + mass @ offsets
        else:
            raise InputError(f"this body has no regressor `{regressor}`, expected one of {', '.join(self.regressors)}")
        return joints if translation is None else joints + translation[..., None, :]

    def _pose(self, global_orient: Tensor, body_pose: Tensor, betas: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """World rotations (..., K, 3, 3) and positions (..., K, 3) of the joints, and their rest positions."""
        rest = self.rest_joints(betas)
        world = [global_orient]
        for local, parent in zip(body_pose.unbind(-3), self.parents[1:], strict=True):
            world.append(world[parent] @ local)
        rotations = torch.stack(world, dim=-3)
        bones = rest[..., 1:, :] - rest[..., self._parents, :]
        bones = (rotations[..., self._parents, :, :] @ bones[..., None])[..., 0]
        root = rest[..., :1, :].expand(*bones.shape[:-2], 1, 3)
        return rotations, self._ancestors @ torch.cat((root, bones), dim=-2), rest

    def _keep(self, name: str, tensor: Tensor) -> None:
        self.register_buffer(name, tensor.contiguous(), persistent=False)


def _pose_features(body_pose: Tensor) -> Tensor:
    """(..., 9 * (K - 1)): what the rotations differ from the rest pose, row by row."""
    return (body_pose - torch.eye(3, dtype=body_pose.dtype, device=body_pose.device)).flatten(-3)


def _parents(row: np.ndarray, path: str | PathLike[str]) -> tuple[int, ...]:
    parents = (-1, *row[1:].tolist())  # files mark the root with -1 or with 2^32 - 1
    if any(not 0 <= parent < joint for joint, parent in enumerate(parents[1:], start=1)):
        raise InputError(f"{path}: `kintree_table` has parents {parents[1:]}, expected each before its children")
    return parents


class _Arrays:
    """The arrays of an npz file, checked as they are taken out."""

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = path
        try:
            with np.load(path, allow_pickle=False) as file:
                self.arrays = {key: file[key] for key in file.files}
        except FileNotFoundError:
            raise InputError(f"{path}: no such file, expected a body model (npz)") from None
        except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
            raise InputError(f"{path}: found no readable npz file ({error}), expected a body model") from error

    def __contains__(self, key: str) -> bool:
        return key in self.arrays

    def read(self, key: str, shape: tuple[int | None, ...]) -> np.ndarray:
        """The array of a key; None in `shape` is any size."""
        if key not in self.arrays:
            raise InputError(f"{self.path}: key `{key}` is missing, found {', '.join(sorted(self.arrays))}")
        array = self.arrays[key]
        if array.ndim != len(shape) or any(
            want not in (None, have) for want, have in zip(shape, array.shape, strict=True)
        ):
            wanted = str(shape).replace("None", "any")
            raise InputError(f"{self.path}: `{key}` has shape {array.shape}, expected {wanted}")
        return array

    def numbers(self, key: str, shape: tuple[int | None, ...]) -> Tensor:
        """The array of a key as float64, checked to be finite."""
        array = self.read(key, shape)
        if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            raise InputError(f"{self.path}: `{key}` holds {array.dtype} with values that are not finite numbers")
        return torch.from_numpy(array.astype(np.float64))

    def shape(self, key: str, shape: tuple[int | None, ...]) -> tuple[int, ...]:
        return self.read(key, shape).shape
