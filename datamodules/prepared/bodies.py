"""Ground truth of data sets that publish body parameters: joints and vertices of the body of each person's gender.

Shape letters: N people, V vertices.
"""

from collections.abc import Callable, Collection
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from datamodules.prepared.data import PreparedData
from datamodules.prepared.folder import GENDERS
from noise2pose.batch import PoseBatch, Smpl
from noise2pose.bodies import BodyModel
from noise2pose.errors import InputError

SKELETON = "h36m_17"
_CHUNK = 4096  # people at a time: the blend shapes of each are a thousand numbers


class GroundTruthBodies:
    """SMPL of each gender that a data set needs.

    Args:
        folder: with smpl_neutral.npz, smpl_male.npz and smpl_female.npz of `scripts/prepare.py body`.
        genders: that are needed, as `prepared.folder.GENDERS` numbers them.
        dataset: for messages.

    Raises:
        InputError: if a file is missing, broken, no SMPL body, or without the joints of Human3.6M.
    """

    def __init__(self, folder: Path, genders: Collection[int], dataset: str) -> None:
        names = {gender: f"smpl_{GENDERS[gender]}.npz" for gender in sorted(genders)}
        missing = [name for name in names.values() if not (folder / name).is_file()]
        if missing:
            raise InputError(
                f"data.bodies: {folder} has no {' and no '.join(missing)}, which the ground truth of {dataset} is made "
                f"with; make each with {_command(folder / missing[0])}"
            )
        bodies = {gender: BodyModel.load(folder / name) for gender, name in names.items()}
        for gender, body in bodies.items():
            path = folder / names[gender]
            if len(body.parents) != 24:
                raise InputError(f"data.bodies: {path} has {len(body.parents)} joints, expected SMPL's 24")
            if SKELETON not in body.regressors:
                raise InputError(
                    f"data.bodies: {path} has no regressor {SKELETON}; make it again with {_command(path)}"
                )
        self._bodies = {torch.device("cpu"): bodies}

    def joints(
        self, smpl: Smpl, gender: Int[Tensor, " N"], translation: Float[Tensor, "N 3"], regressor: str = SKELETON
    ) -> Float[Tensor, "N J 3"]:
        """Joints in the camera frame, metres; of `smpl_24`, the kinematic ones."""
        joints = [
            self._each(part, lambda body, **given: body.joints(**given, regressor=regressor))
            for part in _chunks(smpl, gender)
        ]
        return torch.cat(joints) + translation[:, None]

    def vertices(
        self, smpl: Smpl, gender: Int[Tensor, " N"], translation: Float[Tensor, "N 3"]
    ) -> Float[Tensor, "N V 3"]:
        """The mesh in the camera frame, metres, on the device of the parameters."""
        return self._each((smpl, gender), lambda body, **given: body(**given).vertices) + translation[:, None]

    def rest_basis(self, gender: Int[Tensor, " N"]) -> Float[Tensor, "N V 3 11"]:
        """The mesh of each person's body in the rest pose: template, and displacement per shape coefficient, metres."""
        bodies = self._on(gender.device)
        present = sorted(bodies)
        basis = torch.stack(
            [torch.cat((bodies[each].template[..., None], bodies[each].shape_directions), dim=-1) for each in present]
        )
        return basis[torch.searchsorted(torch.tensor(present, device=gender.device), gender)]

    def rest_root(self, betas: Float[Tensor, "N 10"], gender: Int[Tensor, " N"]) -> Float[Tensor, "N 3"]:
        """Root joint of each body in the rest pose, metres."""
        return self._each(({"betas": betas}, gender), lambda body, betas: body.rest_joints(betas)[:, 0])

    def camera_translation(
        self,
        betas: Float[Tensor, "N 10"],
        gender: Int[Tensor, " N"],
        world: Float[Tensor, "N 3"],
        extrinsics: Float[Tensor, "N 3 4"],
    ) -> Float[Tensor, "N 3"]:
        """Translation of a body whose root was turned into the camera frame.

        SMPL turns about its root joint J0, which lies beside the origin. A body with the translation T in the world has
        that joint at T + J0, and so at R (T + J0) + t in the camera frame, where the turned body has it at J0.

        Args:
            betas: shape coefficients.
            gender: of each person.
            world: T, metres.
            extrinsics: R and t.
        """
        root = self.rest_root(betas, gender)
        return (extrinsics[..., :3] @ (world + root)[..., None])[..., 0] + extrinsics[..., 3] - root

    def _each(self, people: tuple[Any, Tensor], function: Callable[..., Tensor]) -> Tensor:
        """Calls a function for the people of each gender, with the body and their parameters."""
        smpl, gender = people
        bodies = self._on(gender.device)
        present = gender.unique().tolist()
        if len(present) == 1:
            return function(bodies[present[0]], **smpl)
        result: Tensor | None = None
        for number in present:
            index = (gender == number).nonzero()[:, 0]
            part = function(bodies[number], **{key: value[index] for key, value in smpl.items()})
            result = part.new_empty(len(gender), *part.shape[1:]) if result is None else result
            result[index] = part
        assert result is not None, "there is at least one person"
        return result

    def _on(self, device: torch.device) -> dict[int, BodyModel]:
        """The bodies on a device, copied once: joints are made where the rows are, meshes where the method is."""
        if device not in self._bodies:
            first = next(iter(self._bodies.values()))
            self._bodies[device] = {gender: deepcopy(body).to(device) for gender, body in first.items()}
        return self._bodies[device]


class BodyData(PreparedData):
    """A data set whose ground truth is made with bodies: `keypoints_3d`, `vertices` of evaluation, `smpl_joints`.

    Args:
        bodies: folder with smpl_neutral.npz, smpl_male.npz and smpl_female.npz of `scripts/prepare.py body`, as far as
            the data set has people of these genders.
        options: of `PreparedData`.
    """

    def __init__(self, bodies: str = "data/bodies", **options: Any) -> None:
        super().__init__(**options)
        self.bodies_folder = Path(bodies)
        self._ground_truth: GroundTruthBodies | None = None

    def prepare_data(self) -> None:
        super().prepare_data()
        self._bodies()

    def complete(self, batch: PoseBatch, rows: np.ndarray) -> PoseBatch:
        """Adds the ground truth that the folder does not hold, in the camera frame."""
        folder, bodies = self.folder(), self._bodies()

        def column(name: str) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(folder.column(name)[rows]))

        gender, smpl = column("gender").long(), batch["smpl"]
        translation = batch.get("camera_translation", torch.zeros(len(rows), 3))
        if "extrinsics" in folder:
            extrinsics = column("extrinsics")
            from_world = bodies.camera_translation(smpl["betas"], gender, column("translation_world"), extrinsics)
            is_world = extrinsics.flatten(1).any(dim=1)  # the other rows have their translation in the camera frame
            translation = torch.where(is_world[:, None], from_world, translation)
        valid = batch["has_smpl"] & (column("valid") if "valid" in folder else True)
        joints = bodies.joints(smpl, gender, translation)
        batch["keypoints_3d"] = torch.cat((joints, valid[:, None, None].expand(-1, joints.shape[1], 1).float()), dim=-1)
        batch["camera_translation"] = translation
        kinematic = bodies.joints(smpl, gender, translation, "smpl_24")
        if "smpl_joints" in folder:  # as published, where they are whole
            published = column("smpl_joints")
            whole = published[..., 3].amin(dim=1)[:, None, None] > 0
            kinematic = torch.where(whole, published[..., :3], kinematic)
        batch["smpl_joints"] = kinematic
        batch["gender"] = gender  # for the mesh
        return batch

    def rest_root(self, batch: PoseBatch) -> Tensor | None:
        return self._bodies().rest_root(batch["smpl"]["betas"], batch["gender"])

    def finish(self, batch: PoseBatch, training: bool) -> PoseBatch:
        """Adds meshes to batches of evaluation; those of a whole split would take too much memory."""
        batch = super().finish(batch, training)
        if not training and batch["keypoints_2d"].ndim == 3:
            batch["vertices"] = self._bodies().vertices(batch["smpl"], batch["gender"], batch["camera_translation"])
        return batch

    def _bodies(self) -> GroundTruthBodies:
        if self._ground_truth is None:
            genders = np.unique(self.folder().column("gender")).tolist()
            self._ground_truth = GroundTruthBodies(self.bodies_folder, genders, self.dataset)
        return self._ground_truth


def _chunks(smpl: Smpl, gender: Tensor) -> list[tuple[dict[str, Tensor], Tensor]]:
    parts = {key: value.split(_CHUNK) for key, value in smpl.items()}  # pyright: ignore[reportAttributeAccessIssue]
    return [({key: part[i] for key, part in parts.items()}, chosen) for i, chosen in enumerate(gender.split(_CHUNK))]


def _command(path: Path) -> str:
    model = f"SMPL_{path.stem.split('_')[-1].upper()}.pkl"
    return f"`noise2pose prepare body --source {model} --output {path} --regressor {SKELETON}=J_regressor_h36m.npy`"
