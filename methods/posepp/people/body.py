"""The body parameters of a sample, by the names that SMPL-X's files use, and the body that they pose.

Shape letters: V vertices, K joints of the kinematic tree.
"""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import roma
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from noise2pose.bodies import BodyModel
from noise2pose.bodies.coco import kinematic_limbs
from noise2pose.bodies.files import FREE_BODY
from noise2pose.bodies.model import FACE_VERTICES
from noise2pose.errors import InputError
from noise2pose.files import sha256

# Parts of a pose in the order of the joints, and how many joints each has, by the size of the kinematic tree.
_HANDS = (("left_hand_pose", 15), ("right_hand_pose", 15))
PARTS = {
    24: (("global_orient", 1), ("body_pose", 23)),
    52: (("global_orient", 1), ("body_pose", 21), *_HANDS),
    55: (("global_orient", 1), ("body_pose", 21), ("jaw_pose", 1), ("leye_pose", 1), ("reye_pose", 1), *_HANDS),
}
_BODY_ROTATIONS = 22  # root and joints that all of them share
COCO = "coco_17"
FACE = "face_51"  # regressor of the landmarks of SMPL-X's face
# Fingers in OpenPose's order, and where the three joints of each begin among the fifteen of a hand.
_FINGERS = (("thumb", 12), ("index", 0), ("middle", 3), ("ring", 9), ("pinky", 6))
_WRISTS = (20, 21)


class Body:
    """A body model with what the stages need to know of it.

    Args:
        model: `free`, or a body file of `noise2pose prepare body`.

    Raises:
        InputError: if the file cannot be read, is of another family than SMPL's, or does not name the points of the
            face.
    """

    def __init__(self, model: str) -> None:
        self.path = FREE_BODY if model == "free" else Path(model)
        self.model = BodyModel.load(model, torch.float64)  # so that no thread count shows in what is stored
        self.joints = len(self.model.parents)
        if self.joints not in PARTS:
            raise InputError(f"{self.path}: has {self.joints} joints, expected those of SMPL, SMPL-H or SMPL-X")
        if missing := [name for name in FACE_VERTICES if name not in self.model.vertex_ids]:
            raise InputError(f"{self.path}: names no vertex {', '.join(missing)}, which the drawn keypoints need")
        self.face = [self.model.vertex_ids[name] for name in FACE_VERTICES]
        self.faces: np.ndarray = self.model.faces.numpy()

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What a data set says of the body that its labels belong to."""
        return {
            "model": self.model.model_type,
            "gender": self.model.gender,
            "joints": self.joints,
            "vertices": len(self.model.template),
            "sha256": sha256(self.path),
        }

    @cached_property
    def part(self) -> np.ndarray:
        """(V,) the joint that each vertex follows most."""
        return self.model.skinning_weights.argmax(dim=1).numpy()

    def pose(self, parameters: Mapping[str, np.ndarray]) -> tuple[Float[np.ndarray, "V 3"], Float[np.ndarray, "K 3"]]:
        """Vertices and joints of the kinematic tree in the camera frame, metres.

        Args:
            parameters: arrays of a sample; without `transl` the body stands where its model file has it.
        """
        posed = self._run(parameters, self.model)
        return posed.vertices.numpy(), posed.joints.numpy()

    def _run(self, parameters: Mapping[str, np.ndarray], function: Any, **options: Any) -> Any:
        """Calls a function of the model with the parameters of a sample."""
        rotvecs = torch.from_numpy(join_pose(parameters).astype(np.float64))
        rotations = roma.rotvec_to_rotmat(rotvecs)
        shape = np.concatenate([parameters[name] for name in ("betas", "expression") if name in parameters])
        translation = torch.from_numpy(np.asarray(parameters.get("transl", np.zeros(3)), dtype=np.float64))
        betas = torch.from_numpy(shape.astype(np.float64))
        with torch.no_grad():
            found = function(rotations[0], rotations[1:], betas, translation, **options)
        return found.numpy() if isinstance(found, Tensor) else found

    def hands(
        self, vertices: Float[np.ndarray, "V 3"], joints: Float[np.ndarray, "K 3"]
    ) -> Float[np.ndarray, "2 21 3"] | None:
        """OpenPose's 21 points of the left and of the right hand; None of a body without fingers that turn.

        The first is the wrist, then four of each finger from the thumb on, the last of them its tip on the skin.
        """
        if self.joints == 24:
            return None
        hands = []
        for side, (letter, wrist) in enumerate(zip("lr", _WRISTS, strict=True)):
            start, points = self.joints - 30 + 15 * side, [joints[wrist]]
            for finger, first in _FINGERS:
                points += [*joints[start + first : start + first + 3], vertices[self.model.vertex_ids[letter + finger]]]
            hands.append(points)
        return np.array(hands)

    def landmarks(self, parameters: Mapping[str, np.ndarray]) -> Float[np.ndarray, "51 3"] | None:
        """Landmarks of eyebrows, nose, eyes and mouth in the camera frame; None of a body without.

        Args:
            parameters: as in `pose`.
        """
        return self._run(parameters, self.model.joints, regressor=FACE) if FACE in self.model.regressors else None

    def root(self, betas: np.ndarray) -> Float[np.ndarray, "3"]:
        """The pelvis of the model without translation, about which `global_orient` turns."""
        shape: Tensor = torch.from_numpy(np.asarray(betas, dtype=np.float64))
        return self.model.rest_joints(shape)[0].numpy()

    def coco(self, vertices: Float[np.ndarray, "V 3"], joints: Float[np.ndarray, "K 3"]) -> Float[np.ndarray, "17 3"]:
        """COCO's points: nose, eyes and ears on the skin, the others joints of the kinematic tree."""
        return np.concatenate((vertices[self.face], joints[kinematic_limbs()]))


def coco_owners() -> tuple[int, ...]:
    """The joint of the kinematic tree that each point of COCO is; -1 for those of the face, which are on the skin."""
    return (*[-1] * len(FACE_VERTICES), *kinematic_limbs())


def split_pose(rotvecs: Float32[np.ndarray, "K 3"]) -> dict[str, Float32[np.ndarray, " N"]]:
    """The parts of a pose by name, each flat as SMPL-X's files have it."""
    parts, start = {}, 0
    for name, count in PARTS[len(rotvecs)]:
        parts[name] = rotvecs[start : start + count].reshape(-1)
        start += count
    return parts


def join_pose(parameters: Mapping[str, np.ndarray]) -> Float[np.ndarray, "K 3"]:
    """The axis-angle rotations of all joints, from their parts."""
    joints = next(
        joints
        for joints, parts in sorted(PARTS.items(), reverse=True)
        if all(name in parameters and parameters[name].size == 3 * count for name, count in parts)
    )
    return np.concatenate([parameters[name].reshape(-1, 3) for name, _ in PARTS[joints]])


def fit_joints(rotvecs: Float32[np.ndarray, "P K 3"], joints: int) -> Float32[np.ndarray, "P L 3"]:
    """Poses of one family for a body of another: what the body has not is dropped, what the poses have not rests."""
    given, fitted = rotvecs.shape[1], np.zeros((len(rotvecs), joints, 3), dtype=np.float32)
    if given == joints:
        return rotvecs
    fitted[:, :_BODY_ROTATIONS] = rotvecs[:, :_BODY_ROTATIONS]
    if min(given, joints) > 24:  # both have hands, which come last
        fitted[:, -30:] = rotvecs[:, -30:]
    return fitted
