"""The motion of one person in one video, as every writer of this room takes it.

All lengths are metres. A motion is in the frame of its camera (x right, y down, z forward) and knows how that camera is
levelled. Files are right-handed too: `to_y_up` and `to_z_up` are rotations, so nothing is mirrored.

Shape letters: F frames, J joints, K joints of the kinematic tree, N hypotheses, S shape coefficients, G frames of a
grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import roma
import torch
from jaxtyping import Bool, Float, Int

from noise2pose.rendering.levelling import ASSUMED

if TYPE_CHECKING:
    from noise2pose.bodies import BodyModel
    from noise2pose.skeletons import Skeleton

ASSUMED_FPS = 30.0  # of a file that has to state a frame rate, where none is known (single poses)
_APART = np.array([0.9, 0.0, 0.9])  # metres, levelled, between people without a place, who are apart from all sides
_ON_GRID = 0.02  # frames that a frame may be beside its regular time
_LONGEST_STEP = 1.5  # frames between two in which a person was found, so that the motion between them is measured
_Y_UP = np.diag([1.0, -1.0, -1.0])  # half a turn about x: x right, y up, z towards the viewer
_Z_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])  # x right, y forward, z up


class PosedBody(NamedTuple):
    """A parametric body in motion, with one shape.

    Attributes:
        model: whose parameters these are.
        rotations: (F, K, 3, 3) of each joint against its parent; the root's against the camera.
        betas: (S,) shape coefficients.
        translation: (F, 3) metres, added to the posed body.
    """

    model: "BodyModel"
    rotations: Float[np.ndarray, "F K 3 3"]
    betas: Float[np.ndarray, " S"]
    translation: Float[np.ndarray, "F 3"]


class Camera(NamedTuple):
    """Pinhole of each frame, in pixels of the video.

    Attributes:
        focal: (F, 2).
        principal_point: (F, 2).
    """

    focal: Float[np.ndarray, "F 2"]
    principal_point: Float[np.ndarray, "F 2"]


@dataclass(frozen=True)
class Motion:
    """One person.

    Attributes:
        name: identity of the person, different from the others of a file.
        joints: (F, J, 3) metres in the camera frame.
        skeleton: of the joints.
        frames: (F,) their positions in the video, ascending.
        fps: frames of the video in a second; None where time is unknown (photographs).
        seconds: (F,) from the beginning of the video, where frames come at no regular times; None for `frames / fps`.
        video: the video, or photograph, that it is seen in; those of one name share a scene.
        origin: where (0, 0, 0) is, in words.
        body: the body whose joints they are; None for a method that answers with joints alone.
        camera: of each frame; None where it is unknown.
        uncertainty: (F, J) metres, one standard deviation; None where it is unknown.
        hypotheses: (F, N, J, 3) metres, whose mean is the answer; None where there are none.
        keypoints_2d: (F, J, 3) pixels and confidence; None where there are none.
        image_size: width and height of the video in pixels; None where it is unknown.
        level: (3, 3) rotation from the camera frame to one with y straight down.
        level_about: where that vertical comes from, in words.
        measured: (F,) False for frames in which the person was not found and the motion is interpolated; None for all.
    """

    name: str
    joints: Float[np.ndarray, "F J 3"]
    skeleton: "Skeleton"
    frames: Int[np.ndarray, " F"]
    fps: float | None = None
    seconds: Float[np.ndarray, " F"] | None = None
    video: str = ""
    origin: str = "the camera"
    body: PosedBody | None = None
    camera: Camera | None = None
    uncertainty: Float[np.ndarray, "F J"] | None = None
    hypotheses: Float[np.ndarray, "F N J 3"] | None = None
    keypoints_2d: Float[np.ndarray, "F J 3"] | None = None
    image_size: tuple[int, int] | None = None
    level: Float[np.ndarray, "3 3"] = field(default_factory=lambda: np.eye(3))
    level_about: str = ASSUMED
    measured: Bool[np.ndarray, " F"] | None = None

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def step(self) -> int:
        """Distance of two frames: 2 where every second frame of the video is used."""
        if len(self) == 1 or self.seconds is not None:
            return 1
        return int(np.gcd.reduce(np.diff(self.frames)))

    @property
    def rate(self) -> float:
        """Frames in a second that files state."""
        return (self.fps or ASSUMED_FPS) / self.step

    @property
    def times(self) -> Float[np.ndarray, " F"]:
        """Seconds from the beginning of the video."""
        return self.frames / (self.fps or ASSUMED_FPS) if self.seconds is None else self.seconds

    @property
    def to_y_up(self) -> Float[np.ndarray, "3 3"]:
        """Rotation from the camera frame to x right, y up, z towards the viewer, as glTF, BVH and OpenSim have it."""
        return _Y_UP @ self.level

    @property
    def to_z_up(self) -> Float[np.ndarray, "3 3"]:
        """Rotation from the camera frame to x right, y forward, z up, as AMASS and Blender have it."""
        return _Z_UP @ self.level

    def consecutive(self) -> "Motion":
        """The same at regular times without gaps, for formats that state one frame rate.

        What lies between two frames is interpolated, joints on straight lines and rotations on great circles. Where the
        person was not found for longer than a frame and a half, this is marked in `measured`. Where all frames have a
        larger distance than one, nothing is missing: the rate is lower then.
        """
        measured = np.ones(len(self), dtype=bool) if self.measured is None else self.measured
        places = self.times * (self.fps or ASSUMED_FPS)
        places = np.where(np.abs(places - places.round()) < _ON_GRID, places.round(), places)
        grid = np.arange(int(places[0].round()), int(places[-1].round()) + 1, self.step)
        if np.array_equal(grid, places):
            return replace(self, frames=grid, seconds=None, measured=measured)
        later = np.searchsorted(places, grid).clip(0, len(self) - 1)
        earlier = np.where(places[later] > grid, later - 1, later).clip(0)
        apart = places[later] - places[earlier]
        weight = ((grid - places[earlier]) / np.where(apart > 0, apart, 1.0)).clip(0.0, 1.0)

        def between(values: np.ndarray) -> np.ndarray:
            share = weight.reshape(-1, *(1,) * (values.ndim - 1))
            return ((1.0 - share) * values[earlier] + share * values[later]).astype(values.dtype)

        known = {key: getattr(self, key) for key in ("joints", "uncertainty", "hypotheses", "keypoints_2d")}
        changed: dict[str, Any] = {key: between(value) for key, value in known.items() if value is not None}
        seen = measured[earlier] & measured[later] & (apart <= _LONGEST_STEP * self.step)
        if "keypoints_2d" in changed:
            changed["keypoints_2d"][~seen, :, 2] = 0.0
        if self.camera is not None:
            changed["camera"] = Camera(*map(between, self.camera))
        if self.body is not None:
            turned = _slerp(self.body.rotations, earlier, later, weight)
            changed["body"] = self.body._replace(rotations=turned, translation=between(self.body.translation))
        return replace(self, frames=grid, seconds=None, measured=seen, **changed)

    def rows(self, chosen: Any) -> "Motion":
        """Some frames, as NumPy indexes."""
        per_frame = {"joints", "frames", "seconds", "uncertainty", "hypotheses", "keypoints_2d", "measured"}
        values = {each.name: getattr(self, each.name) for each in fields(self) if each.name in per_frame}
        changed: dict[str, Any] = {key: value[chosen] for key, value in values.items() if value is not None}
        if self.camera is not None:
            changed["camera"] = Camera(*(values[chosen] for values in self.camera))
        if self.body is not None:
            rotations, translation = self.body.rotations[chosen], self.body.translation[chosen]
            changed["body"] = self.body._replace(rotations=rotations, translation=translation)
        return replace(self, **changed)


def side_by_side(motions: Sequence[Motion]) -> list[Motion]:
    """People without a place in a diagonal row, in the order in which the image shows them; bodies stay as they are.

    Args:
        motions: people of one video. Those with joints alone all have their pelvis at the origin.
    """
    placeless = [number for number, motion in enumerate(motions) if motion.body is None]
    if len(placeless) < 2:
        return list(motions)
    placeless.sort(key=lambda number: _across(motions[number]))
    moved = list(motions)
    for place, number in enumerate(placeless):
        motion = motions[number]
        shift = (place - (len(placeless) - 1) / 2.0) * motion.level.T @ _APART
        ghosts = None if motion.hypotheses is None else (motion.hypotheses + shift).astype(motion.hypotheses.dtype)
        joints = (motion.joints + shift).astype(motion.joints.dtype)
        moved[number] = replace(motion, joints=joints, hypotheses=ghosts)
    return moved


def _across(motion: Motion) -> float:
    """Mean x of the 2-D joints that were seen; 0 where there are none."""
    if motion.keypoints_2d is None or not (motion.keypoints_2d[..., 2] > 0).any():
        return 0.0
    return float(motion.keypoints_2d[motion.keypoints_2d[..., 2] > 0, 0].mean())


def one_shape(
    model: "BodyModel",
    rotations: Float[np.ndarray, "F K 3 3"],
    betas: Float[np.ndarray, "F S"],
    translation: Float[np.ndarray, "F 3"],
) -> PosedBody:
    """A body with the median of the shapes of its frames, whose root stays where it was in each frame.

    Args:
        model: whose parameters these are.
        rotations: of each joint against its parent.
        betas: shape coefficients of each frame.
        translation: metres, added to the posed body.
    """
    shape = np.median(betas, axis=0).astype(betas.dtype)
    roots = [model.rest_joints(torch.from_numpy(values).to(model.template))[..., 0, :] for values in (betas, shape)]
    return PosedBody(model, rotations, shape, translation + (roots[0] - roots[1]).cpu().numpy())


def _slerp(
    rotations: Float[np.ndarray, "F K 3 3"],
    earlier: Int[np.ndarray, " G"],
    later: Int[np.ndarray, " G"],
    weight: Float[np.ndarray, " G"],
) -> Float[np.ndarray, "G K 3 3"]:
    """Between two frames each, along the shortest rotation."""
    start, end = (torch.from_numpy(rotations[rows]).double() for rows in (earlier, later))
    turn = roma.rotmat_to_rotvec(start.mT @ end) * torch.from_numpy(weight)[:, None, None]
    return (start @ roma.rotvec_to_rotmat(turn)).numpy().astype(rotations.dtype)
