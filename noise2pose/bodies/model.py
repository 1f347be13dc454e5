"""Body models: rotations and shape coefficients to a mesh, or straight to the joints of a skeleton.

The `smplx` package, which the tests compare the mesh with, does not pose the body here because it always makes the
whole mesh: where joints alone are needed, as in most training steps, that takes more than 20 times as long.

Shape letters: V vertices, K joints of the kinematic tree, J joints of a regressed skeleton, S shape coefficients,
P pose features.
"""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from noise2pose.bodies import files as body_files
from noise2pose.errors import InputError

_KINEMATIC_JOINTS = {24: "smpl_24", 52: "smplh_52", 55: "smplx_55"}
COCO_FACE = "coco_face"  # regressor of the first five joints of COCO, of every body that names their vertices
FACE_VERTICES = ("nose", "leye", "reye", "lear", "rear")  # as the package smplx calls them, in COCO's order
_BODY_JOINTS = 21  # of SMPL, SMPL-H and SMPL-X alike, besides the root; what follows differs


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
        shape_directions: (V, 3, S) displacement per unit of each shape coefficient, and after them of each coefficient
            of the facial expression.
        skinning_weights: (V, K), rows sum to one.
        joint_regressor: (K, V) from vertices to the joints of the kinematic tree.
        parents: the parent of each joint; -1 for the root, which comes first, and parents before their children.
        faces: (T, 3) vertex numbers.
        pose_directions: (V, 3, 9 * (K - 1)) displacement per pose feature, or None for a body without.
        joint_names: K names.
        vertex_ids: named vertices.
        regressors: (J, V) matrices of further skeletons, by the names that `joints` takes; rows sum to one.
        model_type: "free", "smpl", "smplh", "smplx" or "other".
        gender: "neutral", "male" or "female".
        num_expressions: how many of the coefficients are of the expression. Wherever the model takes betas, these may
            follow them; betas alone are a face at rest.
        dtype: of the buffers.
    """

    template: Tensor
    shape_directions: Tensor
    pose_directions: Tensor
    skinning_weights: Tensor
    faces: Tensor
    joint_regressor: Tensor
    _parents: Tensor
    _ancestors: Tensor
    _level_order: Tensor
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
        model_type: str = "other",
        gender: str = "neutral",
        num_expressions: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.num_expressions = num_expressions
        self.parents = parents
        self.joint_names = joint_names
        self.vertex_ids = dict(vertex_ids or {})
        self.model_type = model_type
        self.gender = gender
        self.regressors: tuple[str, ...] = (_KINEMATIC_JOINTS.get(len(parents), f"tree_{len(parents)}"),)
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
        self._keep("joint_regressor", joint_regressor.to(dtype))
        self._keep("_parents", torch.tensor(parents[1:]))
        self._keep_levels(parents)
        self._keep("_ancestors", ancestors)  # (K, K): which offsets add up to each joint's position
        self._keep("_rest_joints", rest_joints.to(dtype))  # (1 + S, K, 3)
        for name, matrix in (regressors or {}).items():
            self._add_regressor(name, matrix)
        if set(FACE_VERTICES) <= set(self.vertex_ids):
            face = torch.zeros(len(FACE_VERTICES), len(template))
            face[range(len(face)), [self.vertex_ids[name] for name in FACE_VERTICES]] = 1.0
            self._add_regressor(COCO_FACE, face)

    @classmethod
    def load(cls, name_or_path: str | PathLike[str], dtype: torch.dtype = torch.float32) -> "BodyModel":
        """The body that a `body` option names: "free", or a file made by `noise2pose prepare body`.

        The free body ships with the project and is free to use (`assets/NOTICE`). Its pose directions are zero; its
        betas have unit variance over adults of 18 to 70: the first is height, two to three are volume.

        Raises:
            InputError: if the file cannot be read, a key is missing, has another shape or impossible values, or the
                file is a publisher's pickle, which has to be converted first.
        """
        if str(name_or_path) == "free":
            return cls(**{**vars(body_files.read(body_files.FREE_BODY)), "model_type": "free"}, dtype=dtype)
        path = Path(name_or_path)
        if path.suffix == ".pkl":
            raise InputError(
                f"{path}: expected an npz file; convert it with "
                f"`noise2pose prepare body --source {path} --output {path.with_suffix('.npz')}`"
            )
        return cls(**vars(body_files.read(path)), dtype=dtype)

    def _add_regressor(self, name: str, matrix: Tensor) -> None:
        """Makes a linear function (J, V) of the mesh available to `joints`, by folding it into the blend bases."""
        matrix = matrix.double().to(self.template.device)
        support = matrix.any(dim=0)
        weights = matrix[:, support, None] * self.skinning_weights[support].double()
        basis = torch.cat((self.template[..., None], self.shape_directions, self.pose_directions), dim=-1)
        folded = torch.einsum("jvk,vcm->mjkc", weights, basis[support].double())
        self._keep(f"_{name}_basis", folded.flatten(1).to(self.template.dtype))  # (1 + S + P, J * K * 3)
        self._keep(f"_{name}_mass", weights.sum(dim=1).to(self.template.dtype))  # (J, K)
        self.regressors += (name,)

    def complete(self, body_pose: Float[Tensor, "*batch given 3 3"]) -> Float[Tensor, "*batch joints 3 3"]:
        """Rotations of every joint but the root, from those of a body without hands and face.

        SMPL, SMPL-H and SMPL-X share their first 21 joints after the root. SMPL's other two, the hands, are dropped for
        SMPL-H and SMPL-X; all their other joints (hands, and of SMPL-X jaw and eyes) stay in the rest pose.

        Args:
            body_pose: of 21 joints, or of SMPL's 23, or of all K - 1, which stay as they are.

        Raises:
            InputError: if `body_pose` has another number of joints.
        """
        given, joints = body_pose.shape[-3], len(self.parents) - 1
        if given == joints:
            return body_pose
        if given not in (_BODY_JOINTS, _BODY_JOINTS + 2) or joints < _BODY_JOINTS + 2:
            raise InputError(
                f"found rotations of {given} joints, expected {_BODY_JOINTS}, {_BODY_JOINTS + 2} or {joints}"
            )
        rest = torch.eye(3, dtype=body_pose.dtype, device=body_pose.device)
        rest = rest.expand(*body_pose.shape[:-3], joints - _BODY_JOINTS, 3, 3)
        return torch.cat((body_pose[..., :_BODY_JOINTS, :, :], rest), dim=-3)

    def rest_joints(self, betas: Float[Tensor, "*batch S"]) -> Float[Tensor, "*batch K 3"]:
        """Joints of the kinematic tree in the rest pose, metres."""
        return self._rest_joints[0] + torch.tensordot(betas, self._rest_joints[1 : 1 + betas.shape[-1]], dims=1)

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
        directions = self.shape_directions[..., : betas.shape[-1]]
        vertices = self.template + torch.einsum("...s,vcs->...vc", betas, directions)
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
            regressor: one of `self.regressors`; the first, "smpl_24" or its like, are the kinematic joints, and
                "coco_face" are nose, eyes and ears.

        Raises:
            InputError: if the body has no such regressor.
        """
        rotations, positions, rest = self._pose(global_orient, body_pose, betas)
        if regressor == self.regressors[0]:
            joints = positions
        elif regressor in self.regressors:
            basis, mass = self.get_buffer(f"_{regressor}_basis"), self.get_buffer(f"_{regressor}_mass")
            folded = basis[0] + betas @ basis[1 : 1 + betas.shape[-1]]
            if self.pose_directions.shape[-1]:
                folded = folded + _pose_features(body_pose) @ basis[1 + self.shape_directions.shape[-1] :]
            folded = folded.unflatten(-1, (*mass.shape, 3))
            offsets = positions - (rotations @ rest[..., None])[..., 0]
            joints = torch.einsum("...kab,...jkb->...ja", rotations, folded) + mass @ offsets
        else:
            how = f"; add it with `noise2pose prepare body ... --regressor {regressor}=MATRIX.npy`"
            how = how if regressor in body_files.REGRESSOR_KEYS else ""
            have = ", ".join(self.regressors)
            raise InputError(f"this body has no regressor `{regressor}`, expected one of {have}{how}")
        return joints if translation is None else joints + translation[..., None, :]

    def _pose(self, global_orient: Tensor, body_pose: Tensor, betas: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """World rotations (..., K, 3, 3) and positions (..., K, 3) of the joints, and their rest positions."""
        found, expected = body_pose.shape[-3], len(self.parents) - 1
        if found != expected:
            raise InputError(f"found rotations of {found} joints, expected {expected}; see `BodyModel.complete`")
        rest = self.rest_joints(betas)
        levels = [global_orient[..., None, :, :]]
        for level in range(1, self._num_levels):
            children, parents = self.get_buffer(f"_level_{level}")
            levels.append(levels[-1].index_select(-3, parents) @ body_pose.index_select(-3, children))
        rotations = torch.cat(levels, dim=-3).index_select(-3, self._level_order)
        bones = rest[..., 1:, :] - rest[..., self._parents, :]
        bones = (rotations[..., self._parents, :, :] @ bones[..., None])[..., 0]
        root = rest[..., :1, :].expand(*bones.shape[:-2], 1, 3)
        return rotations, self._ancestors @ torch.cat((root, bones), dim=-2), rest

    def _keep_levels(self, parents: tuple[int, ...]) -> None:
        """Sorts the joints by their number of ancestors: each level needs only the one before it."""
        depths = [0]
        for parent in parents[1:]:
            depths.append(depths[parent] + 1)
        levels = [[joint for joint, depth in enumerate(depths) if depth == level] for level in range(max(depths) + 1)]
        for level in range(1, len(levels)):
            within = [levels[level - 1].index(parents[joint]) for joint in levels[level]]
            self._keep(f"_level_{level}", torch.tensor([[joint - 1 for joint in levels[level]], within]))
        self._num_levels = len(levels)
        self._keep("_level_order", torch.tensor([joint for level in levels for joint in level]).argsort())

    def _keep(self, name: str, tensor: Tensor) -> None:
        self.register_buffer(name, tensor.contiguous(), persistent=False)


def _pose_features(body_pose: Tensor) -> Tensor:
    """(..., 9 * (K - 1)): the rotations minus those of the rest pose, row by row."""
    return (body_pose - torch.eye(3, dtype=body_pose.dtype, device=body_pose.device)).flatten(-3)
