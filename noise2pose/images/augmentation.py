"""Augmentation of images of people together with all labels, exact in the perspective camera.

The whole image is rotated about its principal point and then mirrored, as if the camera were rolled or the world
mirrored. So 3-D, SMPL, camera and 2-D stay consistent, and projected joints are still the 2-D joints. Size and place of
the box change only what is cropped.

Labels are varied here; the loader of images crops by `image_matrix` and the varied box, in one interpolation, and then
calls `occlude`. Errors of detectors (`noise2pose.keypoints.noise`) come last: they are drawn for the varied joints, of
which those behind the occluder have confidence 0.

Shape letters: S side of the crops, T side of the noise.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import roma
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from noise2pose import keyed_random
from noise2pose.batch import Camera, PoseBatch, Smpl, Variation
from noise2pose.bodies import BodyModel
from noise2pose.errors import InputError
from noise2pose.images.crops import compose, move_points
from noise2pose.images.mirroring import mirror_batch
from noise2pose.skeletons import Skeleton

_STREAM = 300  # of keyed_random: this and the next two
_LIMITS = {"scale": 0.9, "rotation": 180.0, "occluder_area": 0.5}  # of the others 1
_TEXTURE = 2  # side of the noise that occluders are cut from, in sides of the crop


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a training sample; by default nothing.

    Attributes:
        scale: standard deviation of the box's relative size, and the most it changes.
        rotation: standard deviation of the roll in degrees; it is at most twice that.
        rotation_probability: share of the samples that are rotated.
        flip: share of the samples that are mirrored.
        gain: each colour is multiplied by a number that is uniform in 1 - gain .. 1 + gain.
        shift: the box moves by at most this share of its side, in x and in y.
        occluder_probability: share of the samples in which a rectangle of noise hides a part.
        occluder_area: largest share of the box that it hides; its shape is between 1 : 2 and 2 : 1.
    """

    scale: float = 0.0
    rotation: float = 0.0
    rotation_probability: float = 1.0
    flip: float = 0.0
    gain: float = 0.0
    shift: float = 0.0
    occluder_probability: float = 0.0
    occluder_area: float = 0.3

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            most = _LIMITS.get(name, 1.0)
            if not 0.0 <= value <= most:
                raise InputError(f"augment.{name} is {value}, expected 0 to {most:g}")


def draw(keys: Int64[Tensor, " B"], settings: Augmentation, *, seed: int = 0, epoch: int = 0) -> Variation:
    """Draws how each sample varies: the same in the same epoch, whatever batch or process it is in.

    Args:
        keys: of `keyed_random`, one for each sample.
        settings: what may happen.
        seed: of the run.
        epoch: of the run.
    """
    seed = seed * 1_000_003 + epoch
    uniform = keyed_random.uniform(keys, (11,), stream=_STREAM, seed=seed)
    normal = keyed_random.normal(keys, (2,), stream=_STREAM + 1, seed=seed)
    turned = uniform[:, 0] < settings.rotation_probability
    angle = settings.rotation * torch.pi / 180.0 * normal[:, 0].clamp(-2.0, 2.0)
    area = settings.occluder_area * uniform[:, 7] * (uniform[:, 6] < settings.occluder_probability)
    aspect = 0.5 + 1.5 * uniform[:, 8]  # height over width
    sides = torch.stack(((area / aspect).sqrt(), (area * aspect).sqrt()), dim=-1)
    corner = uniform[:, 9:11] * (1.0 - sides)
    return Variation(
        angle=torch.where(turned, angle, 0.0),
        flip=uniform[:, 1] < settings.flip,
        scale=1.0 + settings.scale * normal[:, 1].clamp(-1.0, 1.0),
        shift=settings.shift * (2.0 * uniform[:, 2:4] - 1.0),
        gain=1.0 + settings.gain * (2.0 * keyed_random.uniform(keys, (3,), stream=_STREAM + 2, seed=seed) - 1.0),
        occluder=torch.cat((corner, corner + sides), dim=-1) * (area > 0)[:, None],
        texture=uniform[:, 4:6],
    )


def image_matrix(camera: Camera, variation: Variation) -> Float[Tensor, "B 2 3"]:
    """From pixels of the stored image to those of the varied one."""
    turn = _turn_matrix(camera, variation.angle)
    width, zero = camera["image_size"][:, 0], torch.zeros_like(variation.angle)
    one, flip = torch.ones_like(zero), variation.flip
    x = torch.stack((torch.where(flip, -one, one), zero, torch.where(flip, width, zero)), dim=-1)
    return compose(torch.stack((x, torch.stack((zero, one, zero), dim=-1)), dim=-2), turn)


def vary(
    batch: PoseBatch,
    variation: Variation,
    skeleton: Skeleton,
    *,
    rest_root: Float[Tensor, "B 3"] | None = None,
    body: BodyModel | None = None,
) -> PoseBatch:
    """The labels of the varied images.

    Args:
        batch: has `camera` and `keypoints_2d`; needs `box` if the box or occluders vary.
        variation: of `draw`.
        skeleton: of the joints.
        rest_root: root joint of each sample's body in the rest pose, about which `smpl` rotates it, metres; for people
            whose bodies differ.
        body: of all samples, instead of `rest_root`. `vertices` are varied only with it and left out otherwise: no
            order of vertices mirrors a mesh, so it is posed again.

    Raises:
        ValueError: if there is an `image`, which lacks what lies outside the crop, or a `camera_translation` without
            `rest_root` or `body`.
    """
    if "image" in batch:
        raise ValueError("a cropped image cannot be varied with its labels; crop it from the whole image")
    if rest_root is None and body is not None and "smpl" in batch:
        rest_root = body.rest_joints(batch["smpl"]["betas"])[..., 0, :]
    if "camera_translation" in batch and rest_root is None:
        raise ValueError("camera_translation can be varied only with `rest_root` or `body`")
    turned = _turn(batch, variation.angle, rest_root)
    if body is None:
        turned.pop("vertices", None)
    varied: Any = _where(variation.flip, mirror_batch(turned, skeleton, rest_root, body), turned)
    if "box" in varied:
        varied["box"] = vary_box(varied["box"], variation)
        varied["keypoints_2d"] = _hide(varied["keypoints_2d"], varied["box"], variation)
    return varied


def vary_box(box: Float[Tensor, "B 3"], variation: Variation) -> Float[Tensor, "B 3"]:
    """A box of the varied image after its change of size and place."""
    side = box[:, 2:] * variation.scale.to(box)[:, None]
    return torch.cat((box[:, :2] + variation.shift.to(box) * side, side), dim=-1)


def occlude(image: Float[Tensor, "B 3 S S"], variation: Variation) -> Float[Tensor, "B 3 S S"]:
    """Puts the occluders into crops of varied boxes; changes `image` itself."""
    size = image.shape[-1]
    rectangles = (variation.occluder * size).round().long().tolist()
    places = (variation.texture * (_TEXTURE - 1) * size).long().tolist()
    for crop, (left, top, right, bottom), (x, y) in zip(image, rectangles, places, strict=True):
        if right > left:
            noise = _noise(size)[:, y + top : y + bottom, x + left : x + right]
            crop[:, top:bottom, left:right] = noise.to(crop)
    return image


@cache
def _noise(size: int) -> Float[Tensor, "3 T T"]:
    """Noise of which every occluder shows a part: drawing noise for each would take as long as reading the image."""
    return keyed_random.uniform(torch.zeros(1, dtype=torch.int64), (3, _TEXTURE * size, _TEXTURE * size))[0]


def _turn_matrix(camera: Camera, angle: Float[Tensor, " B"]) -> Float[Tensor, "B 2 3"]:
    """K R_z K^-1, which turns pixels about the principal point as R_z turns space about the camera's axis."""
    focal, centre = camera["focal"], camera["principal_point"]
    cos, sin = angle.to(focal).cos(), angle.to(focal).sin()
    x = torch.stack((cos, -sin * focal[:, 0] / focal[:, 1]), dim=-1)
    y = torch.stack((sin * focal[:, 1] / focal[:, 0], cos), dim=-1)
    linear = torch.stack((x, y), dim=-2)
    return torch.cat((linear, (centre[..., None] - linear @ centre[..., None])), dim=-1)


def _turn(batch: PoseBatch, angle: Float[Tensor, " B"], rest_root: Float[Tensor, "B 3"] | None) -> PoseBatch:
    """The batch after rotating the images clockwise about their principal points."""
    axis = torch.stack((torch.zeros_like(angle), torch.zeros_like(angle), angle), dim=-1)
    in_space, in_image = roma.rotvec_to_rotmat(axis), _turn_matrix(batch["camera"], angle)
    turned: Any = dict(batch)
    turned["keypoints_2d"] = _over_frames(batch["keypoints_2d"], in_image, move_points)
    for key in ("keypoints_3d", "smpl_joints", "vertices"):
        if key in batch:
            turned[key] = _over_frames(batch[key], in_space, _rotate_points)
    if "box" in batch:
        turned["box"] = torch.cat((move_points(batch["box"][:, None, :2], in_image)[:, 0], batch["box"][:, 2:]), -1)
    if "smpl" in batch:
        smpl: Smpl = {**batch["smpl"], "global_orient": in_space @ batch["smpl"]["global_orient"]}
        turned["smpl"] = smpl
    if "camera_translation" in batch and rest_root is not None:
        root = rest_root + batch["camera_translation"]
        turned["camera_translation"] = (in_space @ root[..., None])[..., 0] - rest_root
    return turned


def _rotate_points(points: Tensor, matrix: Tensor) -> Tensor:
    return torch.cat((points[..., :3] @ matrix.transpose(-1, -2), points[..., 3:]), dim=-1)


def _over_frames(points: Tensor, matrix: Tensor, move: Any) -> Tensor:
    """Moves the points of every frame of a sample alike."""
    return move(points.flatten(1, -2), matrix).view(points.shape)


def _hide(keypoints: Tensor, box: Tensor, variation: Variation) -> Tensor:
    """Joints behind the occluder get confidence 0."""
    shape = (-1, *[1] * (keypoints.ndim - 2), 2)
    places = (keypoints[..., :2] - box[:, :2].view(shape)) / box[:, 2].view(shape[:-1])[..., None] + 0.5
    low, high = variation.occluder[:, :2].view(shape), variation.occluder[:, 2:].view(shape)
    hidden = ((places >= low) & (places < high)).all(dim=-1, keepdim=True)
    return torch.cat((keypoints[..., :2], torch.where(hidden, 0.0, keypoints[..., 2:])), dim=-1)


def _where(condition: Tensor, yes: Any, no: Any) -> Any:
    """Each sample from one of two batches; lists, and keys that only `no` has, are taken from `no`."""
    if isinstance(no, dict):
        return {key: _where(condition, yes[key], value) if key in yes else value for key, value in no.items()}
    if not isinstance(no, Tensor):
        return no
    return torch.where(condition.view(-1, *[1] * (no.ndim - 1)), yes, no)
