"""What methods that lift 2-D joints to 3-D share: how the input is normalised, clips as a batch of frames.

Shape letters: B batch, F frames (clips only), J joints.
"""

from typing import Literal

import roma
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from noise2pose import cameras, keyed_random, skeletons
from noise2pose.batch import PoseBatch, Prediction
from noise2pose.errors import InputError
from noise2pose.images.mirroring import mirror_batch

Normalisation = Literal["screen", "limbs"]
PointLoss = Literal["squared", "distance"]

_LEAST_DEPTH = 0.05  # of a ray, where an unseen joint is put behind the turned camera
_SMOOTH = 1e-3  # metres, below which a distance counts as a square: it has no slope at zero
_LIMBS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")


def input_channels(normalisation: Normalisation) -> int:
    """Numbers per joint that `input_joints` gives."""
    return 2 if normalisation == "screen" else 3


def input_joints(
    batch: PoseBatch, skeleton: skeletons.Skeleton, num_frames: int = 1, normalisation: Normalisation = "screen"
) -> Float[Tensor, "B *F J C"]:
    """What a lifter sees of a batch: screen coordinates, or the limbs within their box.

    Screen coordinates (C = 2, as published) depend on where in the image the person stands, how large they are, and on
    what a detector calls the spine, the chin and the top of the head. The limbs (C = 3) do not: x, y and the confidence
    of each seen shoulder, elbow, wrist, hip, knee and ankle, such that the box of those seen (in a clip: in any frame)
    has its centre at the origin and a longer side of 2; zeros for every other joint, so that it does not matter where
    an unseen joint was put.

    Raises:
        InputError: as `screen_joints`.
    """
    screen = screen_joints(batch, skeleton, num_frames)
    if normalisation == "screen":
        return screen
    seen = (batch["keypoints_2d"][..., 2] > 0) & limbs_of(skeleton).to(screen.device)
    centre, side = _box(screen, seen)
    shape = (-1, *[1] * (screen.ndim - 2))
    within = (screen - centre.view(*shape, 2)) * (2.0 / side.clamp_min(1e-6)).view(*shape, 1)
    confidence = batch["keypoints_2d"][..., 2:].clamp_max(1.0)
    return torch.where(seen[..., None], torch.cat((within, confidence), dim=-1), 0.0)


def towards_person(
    batch: PoseBatch, skeleton: skeletons.Skeleton, normalisation: Normalisation
) -> tuple[PoseBatch, Float[Tensor, "B 3 3"] | None]:
    """What a camera at the same place sees that looks at the person, for a method which is not told where they stand.

    Who sees a person's limbs in their box alone cannot know under which angle to the optical axis they stand, and would
    be wrong about the pose by that angle. So the camera is turned, by the least rotation, until it looks at the centre
    of the box; in a clip the box holds the limbs of all frames. Perspective crop layers (Yu et al., CVPR 2021) do the
    same.

    Args:
        batch: frames or clips.
        skeleton: of the joints.
        normalisation: of the method; with `screen` the batch is unchanged.

    Returns:
        The batch with keypoints, box and 3-D joints of the turned camera, and its rotation from the camera's frame, or
        None if it is unchanged. Heat-maps stay as they are, and their box moves and grows with the keypoints.
    """
    if normalisation == "screen":
        return batch, None
    keypoints, camera = batch["keypoints_2d"], batch["camera"]
    seen = (keypoints[..., 2] > 0) & limbs_of(skeleton).to(keypoints.device)
    anybody = seen.flatten(1).any(dim=1)
    centre, side = _box(keypoints[..., :2], seen)
    centre = torch.where(anybody[:, None], centre, camera["principal_point"])
    aim = F.pad((centre - camera["principal_point"]) / camera["focal"], (0, 1), value=1.0)
    normal = torch.linalg.cross(aim, aim.new_tensor((0.0, 0.0, 1.0)).expand_as(aim))
    angle = torch.atan2(normal.norm(dim=-1), aim[:, 2])
    rotation = roma.rotvec_to_rotmat(F.normalize(normal, dim=-1) * angle[:, None])

    shape = (-1, *[1] * (keypoints.ndim - 2))
    focal, middle = camera["focal"].view(*shape, 2), camera["principal_point"].view(*shape, 2)
    turn = rotation if keypoints.ndim == 3 else rotation[:, None]
    rays = F.pad((keypoints[..., :2] - middle) / focal, (0, 1), value=1.0) @ turn.mT
    pixels = rays[..., :2] / rays[..., 2:].clamp_min(_LEAST_DEPTH) * focal + middle
    turned: PoseBatch = {**batch, "keypoints_2d": torch.cat((pixels, keypoints[..., 2:]), dim=-1)}
    if "keypoints_3d" in batch:
        joints = batch["keypoints_3d"]
        turned["keypoints_3d"] = torch.cat((joints[..., :3] @ turn.mT, joints[..., 3:]), dim=-1)
    if "box" in batch:
        moved, grown = _box(pixels, seen)
        scale = torch.where(anybody & (side > 0), grown / side, 1.0)[:, None]
        offset = torch.where(anybody[:, None], moved - scale * centre, 0.0)
        turned["box"] = torch.cat((scale * batch["box"][:, :2] + offset, scale * batch["box"][:, 2:]), dim=-1)
    return turned, rotation


def turned_back(prediction: Prediction, rotation: Float[Tensor, "B 3 3"] | None) -> Prediction:
    """A prediction for the batch of `towards_person` in the frame of the camera itself."""
    if rotation is None:
        return prediction
    turned: Prediction = {**prediction}
    for key in ("joints_3d", "hypotheses"):
        if key in prediction:
            poses = prediction[key]
            turned[key] = poses @ (rotation if poses.ndim - (key == "hypotheses") == 3 else rotation[:, None])
    return turned


def _box(points: Float[Tensor, "B *F J 2"], counted: Bool[Tensor, "B *F J"]) -> tuple[Tensor, Tensor]:
    """Centre (B, 2) and longer side (B,) of the box of those points that count; not finite if none does."""
    points, counted = points.flatten(1, -2), counted.flatten(1)[..., None]
    low = torch.where(counted, points, torch.inf).amin(dim=1)
    high = torch.where(counted, points, -torch.inf).amax(dim=1)
    return (low + high) / 2.0, (high - low).amax(dim=-1)


def limbs_of(skeleton: skeletons.Skeleton) -> Bool[Tensor, " J"]:
    """Whether each joint is a shoulder, elbow, wrist, hip, knee or ankle, which every data set and detector has."""
    return torch.tensor([joint.endswith(_LIMBS) for joint in skeleton.joints])


def screen_joints(batch: PoseBatch, skeleton: skeletons.Skeleton, num_frames: int = 1) -> Float[Tensor, "B *F J 2"]:
    """2-D joints of a batch in screen coordinates: x in [-1, 1] across the image, y in the same unit.

    Raises:
        InputError: if the batch has another number of joints than the skeleton, or clips instead of frames.
    """
    keypoints = batch["keypoints_2d"]
    expected = (num_frames, skeleton.num_joints) if num_frames > 1 else (skeleton.num_joints,)
    if keypoints.shape[1:-1] != expected:
        wanted = f"clips of {num_frames} frames" if num_frames > 1 else "single frames"
        raise InputError(
            f"keypoints_2d has shape {tuple(keypoints.shape)}; this method takes {wanted} of {skeleton.num_joints} "
            f"joints in the order of {skeleton.name}: (batch, {', '.join(map(str, expected))}, 3); set "
            "model.num_frames and data.num_frames to the same number"
        )
    size = batch["camera"]["image_size"]
    return cameras.to_screen(keypoints[..., :2], size.view(-1, *[1] * (keypoints.ndim - 2), 2))


def joint_errors(offset: Float[Tensor, "*batch J 3"], loss: PointLoss) -> Float[Tensor, "*batch J"]:
    """How much a loss counts each joint: its `squared` distance, or its `distance` itself.

    Where one view may be of several poses, the first asks for their mean, whose limbs are too short, the second for
    something like their median.

    Args:
        offset: from the truth, metres.
        loss: which.
    """
    squared = offset.square().sum(dim=-1)
    return squared if loss == "squared" else (squared + _SMOOTH**2).sqrt()


def centred(pose: Float[Tensor, "*batch J 3"], root: int) -> Float[Tensor, "*batch J 3"]:
    """The pose relative to its root joint. Out of place: in place, the root would alias the subtrahend."""
    return pose - pose[..., root : root + 1, :]


def maybe_mirrored(batch: PoseBatch, skeleton: skeletons.Skeleton) -> PoseBatch:
    """The batch or, with probability 1/2, its mirror image."""
    return mirror_batch(batch, skeleton) if torch.rand(()) < 0.5 else batch


def as_frames(batch: PoseBatch, num_frames: int) -> PoseBatch:
    """Keypoints, heat-maps and cameras of B F frames, clip after clip; a batch of single frames is unchanged."""
    if num_frames == 1:
        return batch
    frames: PoseBatch = {
        "keypoints_2d": batch["keypoints_2d"].flatten(0, 1),
        "camera": {key: value.repeat_interleave(num_frames, dim=0) for key, value in batch["camera"].items()},  # pyright: ignore
    }
    for key in ("keypoints_3d", "heatmaps", "box"):
        if key in batch:
            frames[key] = batch[key].flatten(0, 1)
    return frames


def frame_keys(batch: PoseBatch, num_frames: int, device: torch.device) -> Int[Tensor, " BF"]:
    """Keys of `noise2pose.keyed_random` for each frame of the batch.

    The frames of a clip share theirs: random numbers of their own would make poses jump from frame to frame.
    """
    return keyed_random.keys_of(batch["sample_id"], device=device).repeat_interleave(num_frames)
