"""Cameras drawn for each sample: people of varied proportions, seen from any side, near or far, anywhere in an image.

Every number is a pure function of the sample's key and a seed (`noise2pose.keyed_random`), so it does not depend on the
batch. All frames of a clip share the camera and the person's proportions.

Shape letters: B samples, F frames of a sample, J joints.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import roma
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from noise2pose import cameras, keyed_random, skeletons
from noise2pose.errors import InputError

IMAGE_SIDE = 1000.0  # pixels
_FILLED = (0.3, 0.9)  # side of the person's box in the image, in sides of the image
_CUT = (0.1, 0.5)  # share of the person's box that truncation leaves out
_CUT_BELOW = 0.5  # chance that truncation cuts the legs; the other sides of the image share the rest
_FEWEST = 6  # joints that truncation leaves, of the pose of a clip that has the fewest
_GAP = 0.6  # metres at least between the camera and the sphere around the motion
_STREAM = 200  # of keyed_random; `detections` has the next two


@dataclass(frozen=True)
class CameraRanges:
    """What is drawn for each sample, uniformly unless said otherwise.

    Attributes:
        elevation: lowest and highest of the camera as seen from the person, degrees above the horizon.
        roll: of the camera to either side, degrees.
        off_axis: angle between the optical axis and the person, degrees at most in x and in y. The pose is in the frame
            of the camera, and turned by this angle to what one that looks straight at the person sees.
        distance: nearest and farthest, metres, uniform in its logarithm; farther for a motion that needs the room.
        tilt: of the world under the person, degrees at most, towards any side.
        any_rotation: share of the samples that are turned any way instead, so that some lie or stand on their heads.
        body_scale: of the whole person, at most so much larger or smaller than 1.
        limb_scale: the same of each bone, left and right alike.
        mirrored: whether every other person is mirrored.
        missing: chance that the detector misses a joint.
        truncated: share of the samples that the border of the image cuts.
        exact: share of the samples without detection errors.
        recombined: share of the samples with parts of another one.
    """

    elevation: tuple[float, float] = (-15.0, 45.0)
    roll: float = 10.0
    off_axis: float = 5.0
    distance: tuple[float, float] = (1.5, 12.0)
    tilt: float = 15.0
    any_rotation: float = 0.05
    body_scale: float = 0.15
    limb_scale: float = 0.1
    mirrored: bool = True
    missing: float = 0.03
    truncated: float = 0.05
    exact: float = 0.0
    recombined: float = 0.0

    def check(self) -> None:
        """Raises an InputError that names the option of the data module which is out of its range."""
        low, high = self.elevation
        if not -89.0 <= low <= high <= 89.0:
            raise InputError(
                f"data.lowest_elevation and data.highest_elevation are {low:g} and {high:g}, expected degrees from -89 "
                "to 89 in this order"
            )
        if not 0.0 < self.distance[0] <= self.distance[1]:
            raise InputError(
                f"data.nearest and data.farthest are {self.distance[0]:g} and {self.distance[1]:g}, expected metres "
                "above 0 in this order"
            )
        limits = {"roll": 180.0, "off_axis": 60.0, "tilt": 180.0, "body_scale": 0.9, "limb_scale": 0.9}
        for name in ("any_rotation", "missing", "truncated", "exact", "recombined"):
            limits[name] = 1.0
        for name, limit in limits.items():
            if not 0.0 <= getattr(self, name) <= limit:
                raise InputError(f"data.{name} is {getattr(self, name):g}, expected 0 to {limit:g}")


# The same for every method: whole people as they were recorded, on level ground, by cameras that look at them.
EVALUATION = CameraRanges(
    off_axis=0.0, tilt=0.0, any_rotation=0.0, body_scale=0.0, limb_scale=0.0, mirrored=False, missing=0.0, truncated=0.0
)


class Views(NamedTuple):
    """What was drawn for each sample.

    Attributes:
        rotation: world to camera.
        distance: of the middle of the motion along the optical axis, metres, before it is made large enough.
        axis: tangents of the angles to the optical axis under which that middle is seen.
        filled: longer side of the person's box, in sides of the image.
        place: centre of the box within the room that is left, -1 to 1 in x and y.
        limbs: factor of the bone that ends at each joint, with that of the body.
        mirrored: whether left and right are exchanged.
        cut: share of the box that the border of the image cuts; 0 where it cuts nothing.
        side: the border that cuts: 0 bottom, 1 top, 2 left, 3 right.
    """

    rotation: Float[Tensor, "B 3 3"]
    distance: Float[Tensor, " B"]
    axis: Float[Tensor, "B 2"]
    filled: Float[Tensor, " B"]
    place: Float[Tensor, "B 2"]
    limbs: Float[Tensor, "B J"]
    mirrored: Bool[Tensor, " B"]
    cut: Float[Tensor, " B"]
    side: Int[Tensor, " B"]


class Seen(NamedTuple):
    """People as their cameras see them.

    Attributes:
        joints: camera frame, metres.
        pixels: exact projections.
        inside: whether the image shows the joint.
        focal: pixels, the same in x and y.
        principal_point: pixels; outside of the image for one that is a part of a larger one.
    """

    joints: Float[Tensor, "B F J 3"]
    pixels: Float[Tensor, "B F J 2"]
    inside: Bool[Tensor, "B F J"]
    focal: Float[Tensor, " B"]
    principal_point: Float[Tensor, "B 2"]


def draw(keys: Int[Tensor, " B"], ranges: CameraRanges, skeleton: str, seed: int) -> Views:
    """Draws a camera and the proportions of the person for each sample.

    Args:
        keys: of the samples.
        ranges: of what is drawn.
        skeleton: joint order, a name in `noise2pose.skeletons`.
        seed: which repetition this is.
    """
    groups = _bone_groups(skeleton).to(keys.device)
    number = int(groups.max()) + 1
    uniform = keyed_random.uniform(keys, (20 + number,), stream=_STREAM, seed=seed)
    parts, bones = uniform[:, :20].unbind(dim=-1), uniform[:, 20:]
    either = [2.0 * part - 1.0 for part in parts]  # -1 to 1
    nearest, farthest = ranges.distance
    body = 1.0 + ranges.body_scale * either[7]
    limbs = 1.0 + ranges.limb_scale * (2.0 * bones - 1.0)
    cut = torch.where(parts[17] < ranges.truncated, _between(_CUT, parts[18]), 0.0)
    below = parts[19] < _CUT_BELOW
    other = 1 + (3.0 * (parts[19] - _CUT_BELOW) / (1.0 - _CUT_BELOW)).long().clamp(0, 2)
    return Views(
        rotation=_rotation(parts, either, ranges),
        distance=nearest * (farthest / nearest) ** parts[3],
        axis=torch.deg2rad(ranges.off_axis * torch.stack((either[4], either[5]), dim=-1)).tan(),
        filled=_between(_FILLED, parts[6]),
        place=torch.stack((either[8], either[9]), dim=-1),
        limbs=body[:, None] * limbs[:, groups],
        mirrored=(parts[10] < 0.5) & ranges.mirrored,
        cut=cut,
        side=torch.where(below, 0, other),
    )


def see(world: Float[Tensor, "B F J 3"], views: Views, skeleton: str) -> Seen:
    """Puts people before the cameras that were drawn for them.

    The image is a square of `IMAGE_SIDE` pixels around the person, as if cut out of the camera's own image: the person
    is where `place` says and as large as `filled` says, and the focal length follows from the distance.

    Args:
        world: joints, metres, z up.
        views: what was drawn.
        skeleton: joint order.
    """
    joints = _resize(world, views.limbs, skeleton)
    mirror = views.mirrored[:, None, None, None]
    flipped = joints[..., list(skeletons.get(skeleton).flip_order), :] * joints.new_tensor((-1.0, 1.0, 1.0))
    joints = torch.where(mirror, flipped, joints)
    middle = (joints.amin(dim=(1, 2)) + joints.amax(dim=(1, 2))) / 2.0
    joints = joints - middle[:, None, None]
    radius = joints.square().sum(dim=-1).amax(dim=(1, 2)).sqrt()
    depth = torch.maximum(views.distance, radius + _GAP)
    centre = depth[:, None] * torch.cat((views.axis, torch.ones_like(views.axis[:, :1])), dim=-1)
    joints = _turn(joints, views.rotation) + centre[:, None, None]

    plane = joints[..., :2] / joints[..., 2:]
    low, high = plane.amin(dim=(1, 2)), plane.amax(dim=(1, 2))
    focal = IMAGE_SIDE * views.filled / (high - low).amax(dim=-1).clamp_min(1e-6)
    side = focal[:, None] * (high - low)
    box = IMAGE_SIDE / 2.0 + views.place * (IMAGE_SIDE - side) / 2.0
    point = box - focal[:, None] * (low + high) / 2.0
    pixels = plane * focal[:, None, None, None] + point[:, None, None]
    shift = _cutting_shift(box, side, views.cut, views.side)
    moved = pixels + shift[:, None, None]
    inside = ((moved >= 0.0) & (moved <= IMAGE_SIDE)).all(dim=-1)
    # A person of whom too little would be left is shown whole.
    enough = (inside.sum(dim=-1) >= _FEWEST).all(dim=-1) & (views.cut > 0.0)
    pixels = torch.where(enough[:, None, None, None], moved, pixels)
    return Seen(
        joints=joints,
        pixels=pixels,
        inside=inside | ~enough[:, None, None],
        focal=focal,
        principal_point=point + shift * enough[:, None],
    )


def _rotation(parts: tuple[Tensor, ...], either: list[Tensor], ranges: CameraRanges) -> Float[Tensor, "B 3 3"]:
    """Camera, its roll, and what turns the world before it."""
    yaw = 2.0 * math.pi * parts[0]
    elevation = torch.deg2rad(_between(ranges.elevation, parts[1]))
    flat = torch.stack((yaw.cos(), yaw.sin(), torch.zeros_like(yaw)), dim=-1)
    up = flat.new_tensor((0.0, 0.0, 1.0))
    position = elevation.cos()[:, None] * flat + elevation.sin()[:, None] * up
    look, _ = cameras.look_at(position, torch.zeros_like(position), up)
    roll = roma.rotvec_to_rotmat(math.radians(ranges.roll) * either[2][:, None] * up)
    towards = 2.0 * math.pi * parts[11]
    axis = torch.stack((towards.cos(), towards.sin(), torch.zeros_like(towards)), dim=-1)
    tilt = roma.rotvec_to_rotmat(math.radians(ranges.tilt) * parts[12][:, None] * axis)
    # Uniform over all rotations (Shoemake, Graphics Gems III, 1992); x, y, z, w.
    inner, outer = (1.0 - parts[13]).sqrt(), parts[13].sqrt()
    first, second = 2.0 * math.pi * parts[14], 2.0 * math.pi * parts[15]
    quaternion = torch.stack(
        (inner * first.sin(), inner * first.cos(), outer * second.sin(), outer * second.cos()), dim=-1
    )
    world = torch.where((parts[16] < ranges.any_rotation)[:, None, None], roma.unitquat_to_rotmat(quaternion), tilt)
    return roll @ look @ world


def _resize(joints: Float[Tensor, "B F J 3"], factors: Float[Tensor, "B J"], skeleton: str) -> Float[Tensor, "B F J 3"]:
    """The same directions of all bones with other lengths; the root stays where it is."""
    resized = joints.clone()
    for children, parents in _levels(skeleton):
        bones = joints[..., children, :] - joints[..., parents, :]
        resized[..., children, :] = resized[..., parents, :] + factors[:, None, children, None] * bones
    return resized


def _turn(joints: Float[Tensor, "B F J 3"], rotation: Float[Tensor, "B 3 3"]) -> Float[Tensor, "B F J 3"]:
    """R X of each joint. Not a matrix product, whose precision may be lowered, and whose rounding depends on B."""
    columns = rotation[:, None, None].unbind(dim=-1)
    x, y, z = (part[..., None] * column for part, column in zip(joints.unbind(dim=-1), columns, strict=True))
    return x + y + z


def _cutting_shift(box: Tensor, side: Tensor, cut: Tensor, border: Tensor) -> Float[Tensor, "B 2"]:
    """How far the image moves so that a border cuts a share of the box (B, 2) centre and (B, 2) sides; else zero."""
    low, high, cut = box - side / 2.0, box + side / 2.0, cut[:, None]
    after = IMAGE_SIDE - high + cut * side  # so that the box is cut at the bottom, or at the right
    before = -low - cut * side
    vertical = torch.where(border == 0, after[:, 1], before[:, 1])
    horizontal = torch.where(border == 3, after[:, 0], before[:, 0])
    upright = border < 2
    return torch.stack((torch.where(upright, 0.0, horizontal), torch.where(upright, vertical, 0.0)), dim=-1)


def _between(bounds: tuple[float, float], uniform: Tensor) -> Tensor:
    return bounds[0] + (bounds[1] - bounds[0]) * uniform


@cache
def _bone_groups(skeleton: str) -> Int[Tensor, " J"]:
    """Number of the bone that ends at each joint; left and right have the same."""
    kinds = [joint.removeprefix("left_").removeprefix("right_") for joint in skeletons.get(skeleton).joints]
    order = list(dict.fromkeys(kinds))
    return torch.tensor([order.index(kind) for kind in kinds])


@cache
def _levels(skeleton: str) -> list[tuple[list[int], list[int]]]:
    """The joints that are one, two, ... bones away from the root, and their parents."""
    known = skeletons.get(skeleton)
    levels, above = [], [known.root]
    while children := [joint for joint, parent in enumerate(known.parents) if parent in above]:
        levels.append((children, [known.parents[joint] for joint in children]))
        above = children
    return levels
