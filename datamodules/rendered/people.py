"""People with known body parameters in front of cameras: what an image of them will show, before it is rendered.

Shape letters: N people, J joints.
"""

from typing import NamedTuple

import roma
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from noise2pose import cameras, keyed_random
from noise2pose.batch import Camera, PoseBatch, Smpl
from noise2pose.bodies import BodyModel
from noise2pose.images.crops import box_of_keypoints

SKELETON = "h36m_17"
IMAGE_SIDE = 1000.0  # pixels of the whole, square image
UPRIGHT = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])  # from a world with z up to one with y up
MIN_SEEN = 8  # joints of a person in the image
_FOCAL = (0.9, 1.8)  # over the image's side: 58 to 31 degrees
_SHARE = (0.35, 0.85)  # of the image's side that the person takes
_CUT = (0.15, 0.5)  # share of a truncated person that is out of the image
_ELEVATION, _ELEVATION_SPREAD, _ELEVATION_LIMITS = 8.0, 10.0, (-20.0, 45.0)  # degrees, from above is positive
_ROLL_SPREAD = 4.0  # degrees
_BETA_LIMIT = 2.0  # standard deviations
_BOX_SCALE_ERROR, _BOX_SHIFT = (0.9, 1.15), 0.05  # of detectors' boxes
_STREAM = 200  # of keyed_random: this and the next two


class Poses(NamedTuple):
    """Poses in a world with y up.

    Attributes:
        rotations: (N, 24, 3, 3) of SMPL's joints, the root's first.
        betas: (N, 10).
        names: N different names.
        subjects: N.
        actions: N.
    """

    rotations: Float[Tensor, "N 24 3 3"]
    betas: Float[Tensor, "N 10"]
    names: list[str]
    subjects: list[str]
    actions: list[str]


def draw_betas(names: list[str], stream: int, seed: int) -> Float[Tensor, "N 10"]:
    """`betas_of` N different names."""
    return betas_of(keyed_random.keys_of(names), stream, seed)


def betas_of(keys: Int[Tensor, " N"], stream: int, seed: int) -> Float[Tensor, "N 10"]:
    """Body shapes of N people, from a standard normal distribution cut at `_BETA_LIMIT`."""
    return keyed_random.normal(keys, (10,), stream=stream, seed=seed).clamp(-_BETA_LIMIT, _BETA_LIMIT)


def photograph(
    poses: Poses, body: BodyModel, keys: Int[Tensor, " N"], seed: int, truncation: float, max_turn: float = 180.0
) -> PoseBatch:
    """Puts a camera at a random place around each person.

    Args:
        poses: of N people.
        body: whose parameters they are.
        keys: of `keyed_random`.
        seed: of the cameras.
        truncation: share of the people who are moved over a border of the image; a tenth of them stay where they
            were, because too few of their joints would be seen. Of the others every joint is in the image.
        max_turn: degrees that a person's pelvis is turned away from the camera at most; 180 is any side.

    Returns:
        Everything of a `PoseBatch` but images; `keypoints_2d` are exact, with confidence 1 inside the image and 0
        outside, and `camera_translation` (N, 3) comes on top, which with `smpl` gives the body in the camera frame.
    """
    uniform = keyed_random.uniform(keys, (8,), stream=_STREAM, seed=seed)
    normal = keyed_random.normal(keys, (2,), stream=_STREAM + 1, seed=seed)
    azimuth = 360.0 * uniform[:, 0]
    if max_turn < 180.0:
        forward = poses.rotations[:, 0, :, 2]  # of the pelvis, in the world
        heading = torch.rad2deg(torch.atan2(forward[:, 0], forward[:, 2]))
        azimuth = max_turn * (2.0 * uniform[:, 0] - 1.0) - heading
    orient = _view(azimuth, normal) @ poses.rotations[:, 0]
    smpl: Smpl = {"global_orient": orient, "body_pose": poses.rotations[:, 1:], "betas": poses.betas}
    joints = body.joints(orient, poses.rotations[:, 1:], poses.betas, regressor=SKELETON)
    focal = IMAGE_SIDE * _between(uniform[:, 1], _FOCAL)
    camera: Camera = {
        "focal": focal[:, None].expand(-1, 2).contiguous(),
        "principal_point": torch.full((len(joints), 2), IMAGE_SIDE / 2.0),
        "image_size": torch.full((len(joints), 2), IMAGE_SIDE),
    }
    whole, cut = _place(joints, focal, uniform)
    wanted = uniform[:, 5] < truncation
    _, inside = _project(joints + cut[:, None], camera)
    enough = inside.sum(dim=-1) >= MIN_SEEN
    translation = torch.where((wanted & enough)[:, None], cut, whole)
    joints = joints + translation[:, None]
    pixels, inside = _project(joints, camera)
    return {
        **keypoints_of(joints, camera),
        "smpl": smpl,
        "has_smpl": torch.ones(len(joints), dtype=torch.bool),
        "camera_translation": translation,
        "camera": camera,
        "box": boxes(pixels, inside, keys, seed),
        "sample_id": poses.names,
        "subject": poses.subjects,
        "action": poses.actions,
    }


def keypoints_of(joints: Float[Tensor, "N J 3"], camera: Camera) -> PoseBatch:
    """`keypoints_3d` of joints in the camera frame, and `keypoints_2d` with confidence 1 in the image and 0 outside."""
    pixels, inside = _project(joints, camera)
    return {
        "keypoints_2d": torch.cat((pixels, inside[..., None].float()), dim=-1),
        "keypoints_3d": torch.cat((joints, torch.ones_like(joints[..., :1])), dim=-1),
    }


def boxes(
    pixels: Float[Tensor, "N J 2"],
    seen: Bool[Tensor, "N J"],
    keys: Int[Tensor, " N"],
    seed: int,
    stream: int = _STREAM + 2,
) -> Float[Tensor, "N 3"]:
    """Centre and side of a square around the joints that are seen, as inexact as a detector's box."""
    exact = box_of_keypoints(torch.cat((pixels, seen[..., None].float()), dim=-1))
    uniform = keyed_random.uniform(keys, (3,), stream=stream, seed=seed)
    side = exact[:, 2] * _between(uniform[:, 0], _BOX_SCALE_ERROR)
    shift = _BOX_SHIFT * side[:, None] * (2.0 * uniform[:, 1:] - 1.0)
    return torch.cat((exact[:, :2] + shift, side[:, None]), dim=-1)


def _view(azimuth: Float[Tensor, " N"], normal: Float[Tensor, "N 2"]) -> Float[Tensor, "N 3 3"]:
    """Rotation from the world to the camera: from a side in degrees, mostly from a little above, hardly tilted."""
    elevation = (_ELEVATION + _ELEVATION_SPREAD * normal[:, 0]).clamp(*_ELEVATION_LIMITS)
    angles = torch.stack((_ROLL_SPREAD * normal[:, 1], elevation, azimuth), dim=-1)
    flip = torch.diag(torch.tensor([1.0, -1.0, -1.0]))  # the camera's y is down and it looks at the person
    roll_pitch = roma.euler_to_rotmat("ZX", angles[:, :2], degrees=True)
    return roll_pitch @ flip @ roma.euler_to_rotmat("Y", angles[:, 2:], degrees=True)


def _place(
    joints: Float[Tensor, "N J 3"], focal: Float[Tensor, " N"], uniform: Float[Tensor, "N 8"]
) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N 3"]]:
    """Translations that show each person at a random size and place: whole, and cut by one border of the image."""
    low, high = joints.amin(dim=1), joints.amax(dim=1)
    extent = (high - low)[:, :2]
    share = _between(uniform[:, 2], _SHARE)
    metres = extent.amax(dim=-1).clamp_min(0.3)
    depth = focal * metres / (share * IMAGE_SIDE) + (high - low)[:, 2] / 2.0
    centre = (low + high) / 2.0
    offset = joints - centre[:, None]
    # Half the image in metres, at the depth of each joint: what is nearer to the camera reaches its border sooner.
    half = IMAGE_SIDE / 2.0 * (depth[:, None] + offset[..., 2]) / focal[:, None]
    least, most = (-half[..., None] - offset[..., :2]).amax(dim=1), (half[..., None] - offset[..., :2]).amin(dim=1)
    whole = least + uniform[:, 3:5] * (most - least)
    side = (4.0 * uniform[:, 7]).long()
    axis = torch.nn.functional.one_hot(side // 2, 2).bool()
    sign = 1.0 - 2.0 * (side % 2)[:, None]
    border = (IMAGE_SIDE / 2.0 * depth / focal)[:, None]
    over = sign * (border - extent / 2.0 + _between(uniform[:, 6:7], _CUT) * extent)
    places = (whole, torch.where(axis, over, whole))
    whole, cut = (torch.cat((place, depth[:, None]), dim=-1) - centre for place in places)
    return whole, cut


def _project(joints: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
    """Pixels (N, J, 2), and which of them are in the image (N, J)."""
    pixels = cameras.project(joints, camera["focal"], camera["principal_point"])
    return pixels, ((pixels >= 0.0) & (pixels <= IMAGE_SIDE)).all(dim=-1)


def _between(uniform: Tensor, limits: tuple[float, float]) -> Tensor:
    return limits[0] + (limits[1] - limits[0]) * uniform
