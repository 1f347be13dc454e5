"""Lifts keypoints of any length and of any picture with a method that takes batches of its own kind.

Shape letters: T poses, F frames of a window, W windows, J joints, N hypotheses.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from methods.base import PoseMethod
from noise2pose import cameras
from noise2pose.batch import PoseBatch, Prediction
from noise2pose.errors import InputError

_BATCH_FRAMES = 512


class LiftedPoses(NamedTuple):
    """Poses relative to their root, in the camera frame of their virtual image (see `cameras.virtual_image`)."""

    joints_3d: Float[Tensor, "T J 3"]  # metres
    uncertainty: Float[Tensor, "T J"] | None  # metres, one standard deviation, where the method gives it
    hypotheses: Float[Tensor, "T N J 3"] | None  # metres, where the method gives them


@torch.no_grad()
def lift(method: PoseMethod, keypoints: Float[Tensor, "T J 3"], names: Sequence[str]) -> LiftedPoses:
    """Answers each pose once.

    A video method, whose attribute `num_frames` is above 1, takes the poses as consecutive frames of one person. They
    are cut into windows of that length; the last window ends with the last frame, and its frames that the window before
    has answered are left out. A shorter clip is filled up with its last frame. Each window has one virtual image.

    Args:
        method: in evaluation mode.
        keypoints: pixels and confidence in the joint order of the method, every joint at a place.
        names: of the T poses; the random numbers of a pose depend on its name (of the first frame of its window).

    Returns:
        Tensors on the CPU.

    Raises:
        InputError: if all joints of a pose lie at one point.
    """
    length = method.num_frames
    frames, kept = window_frames(len(keypoints), length, length)
    points = keypoints[frames]  # (W, F, J, 3)
    corner, side = cameras.virtual_image(points[..., :2].flatten(1, 2))
    if not (side > 0).all():
        first = int((side <= 0).nonzero()[0])
        raise InputError(f"{names[int(frames[first, 0])]}: all joints lie at one point")
    pixels = points[..., :2] - corner[:, None, None]
    points = torch.cat((pixels, points[..., 2:]), dim=-1)
    size = side[:, None].expand(-1, 2)
    answers = []
    step = max(1, _BATCH_FRAMES // length)
    for start in range(0, len(frames), step):
        rows = slice(start, start + step)
        batch: PoseBatch = {
            "keypoints_2d": (points[rows] if length > 1 else points[rows, 0]).to(method.device),
            "camera": {
                "focal": (cameras.VIRTUAL_FOCAL * size[rows]).to(method.device),
                "principal_point": (size[rows] / 2.0).to(method.device),
                "image_size": size[rows].to(method.device),
            },
            "sample_id": [names[int(frame)] for frame in frames[rows, 0]],
        }
        answers.append(_by_frame(method(batch), kept[rows]))
    joints, uncertainty, hypotheses = zip(*answers, strict=True)
    return LiftedPoses(torch.cat(joints), _joined(uncertainty), _joined(hypotheses))


def _by_frame(prediction: Prediction, kept: Bool[Tensor, "W F"]) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """What a method answered for the frames of a batch of windows, one after the other."""
    joints = prediction["joints_3d"]
    shape, chosen = kept.shape, kept.flatten()
    joints = joints.reshape(-1, *joints.shape[-2:]).cpu()[chosen]
    uncertainty, hypotheses = prediction.get("uncertainty"), prediction.get("hypotheses")
    if uncertainty is not None:
        uncertainty = uncertainty.reshape(shape.numel(), -1).cpu()[chosen]
    if hypotheses is not None:
        hypotheses = hypotheses.reshape(len(hypotheses), shape.numel(), *joints.shape[-2:]).cpu()[:, chosen]
        hypotheses = hypotheses.transpose(0, 1).contiguous()
    return joints, uncertainty, hypotheses


def _joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    known = [part for part in parts if part is not None]
    return torch.cat(known) if known else None


def window_frames(length: int, num_frames: int, stride: int) -> tuple[Int[Tensor, "W F"], Bool[Tensor, "W F"]]:
    """Which frames of a sequence each window holds, and which of them are counted there.

    Windows start every `stride` frames and the last one ends with the sequence. A frame that several windows hold is
    counted in the first of them only, so that no frame counts twice. A sequence shorter than a window is filled up with
    its last frame, which is not counted again.

    Args:
        length: T.
        num_frames: F.
        stride: between the starts of two windows.

    Returns:
        Frame numbers (W, F), and whether they count (W, F).
    """
    last = max(length - num_frames, 0)
    starts = list(range(0, last, stride)) + [last]
    frames = torch.tensor(starts)[:, None] + torch.arange(num_frames)
    seen = torch.tensor([0] + [start + num_frames for start in starts[:-1]])
    return frames.clamp_max(length - 1), (frames >= seen[:, None]) & (frames < length)
