"""Motion of one person seen by four virtual cameras with the intrinsics of Human3.6M.

Shape letters: F frames (of a clip or a window), J joints, T frames of a sequence, B samples or windows of a batch.
"""

import math
import zlib
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from datamodules.base import PoseDataModule, Split, check_keypoints, select
from datamodules.sources.human36m.cameras import H36M_INTRINSICS
from noise2pose import cameras
from noise2pose.batch import PoseBatch
from noise2pose.errors import InputError
from noise2pose.keypoints import noise
from noise2pose.metrics.protocols import Protocol

SKELETON = "h36m_17"
_AZIMUTHS = (70.0, -70.0, 110.0, -110.0)  # degrees, where Human3.6M's four cameras stand around the person
_UP = torch.tensor([0.0, 0.0, 1.0])
_HALF_FIELD = 0.435  # half image over focal length of Human3.6M's cameras
_MARGIN = 0.9  # share of the half image that the motion may fill
# Milder than the published errors of crowd images (1, 1): a median of 5 instead of 16 pixels for a tall person.
_ERROR_RATE, _GOOD_RADIUS = 0.4, 0.35


@dataclass(frozen=True)
class Clip:
    """One motion of one person.

    Attributes:
        name: unique in the data set.
        subject: who moves.
        action: what they do.
        joints: (F, 17, 3) Human3.6M-17 joints in the world, metres, z up.
    """

    name: str
    subject: str
    action: str
    joints: Float[Tensor, "F J 3"]


class VirtualCameraMotion(PoseDataModule):
    """Base of data modules that have motion and no images.

    Args:
        keypoints_2d: `gt` for exact projections, `synthetic` for simulated detection errors, fixed by `noise_seed`.
        train_stride: every how many frames one is taken for training.
        eval_stride: every how many frames one is taken for validation and test.
        noise_seed: of the cameras and of the detection errors; methods compared with each other must share it.
        num_frames: 1 for single frames. Otherwise a sample is a window of so many consecutive frames: for training one
            starts every `train_stride` frames; for validation and test they cover every frame once (`eval_stride` is
            not used).
        batch_size, eval_batch_size, mixed_keypoints_2d: see `PoseDataModule`; in samples.
    """

    dataset: str = ""

    def __init__(
        self,
        keypoints_2d: Literal["gt", "synthetic"] = "synthetic",
        train_stride: int = 5,
        eval_stride: int = 10,
        noise_seed: int = 0,
        num_frames: int = 1,
        batch_size: int = 256,
        eval_batch_size: int = 1024,
        mixed_keypoints_2d: bool = False,
    ) -> None:
        super().__init__(batch_size, eval_batch_size, mixed_keypoints_2d)
        if num_frames < 1:
            raise InputError(f"data.num_frames is {num_frames}, expected 1 for single frames, or the length of a clip")
        self.keypoints_2d: Literal["gt", "synthetic"] = keypoints_2d
        self.strides = {"train": train_stride, "val": eval_stride, "test": eval_stride}
        self.noise_seed = noise_seed
        self.num_frames = num_frames

    @abstractmethod
    def clips(self, split: Split) -> list[Clip]:
        """The motions of a split."""

    @abstractmethod
    def split_in_words(self, split: Split) -> str:
        """Which subjects and clips a split holds, for the protocol."""

    def protocols(self, split: Split) -> list[Protocol]:
        single = self.num_frames == 1
        frames = f"every {self.strides[split]} frames" if single else f"all frames, in clips of {self.num_frames},"
        return [
            Protocol(
                name=f"{self.dataset}_{'frames' if single else 'clips'}",
                dataset=self.dataset,
                split=f"{split}: {self.split_in_words(split)}, {frames} of 50 Hz, 4 cameras",
                skeleton=SKELETON,
                keypoints_2d=self.keypoints_2d,
            )
        ]

    def load(self, split: Split) -> PoseBatch:
        clips = self.clips(split)
        if not clips:
            raise InputError(f"{self.dataset}: no clips for {split} ({self.split_in_words(split)})")
        stride = self.strides[split] if self.num_frames == 1 else 1
        views = [view for clip in clips for view in self._views(clip, stride)]
        joints = torch.cat([view.joints for view in views])
        pixels = torch.cat([view.pixels for view in views])
        # Named before any noise, so that a wrong file is not blamed on the noise.
        check_keypoints({"keypoints_2d": pixels, "keypoints_3d": joints}, f"{self.dataset} {split}", num_joints=17)
        number = torch.cat([torch.full((len(view.joints),), view.camera) for view in views])
        samples: PoseBatch = {
            "keypoints_2d": self._detect(pixels, torch.cat([view.keys for view in views])),
            "keypoints_3d": torch.cat((joints, torch.ones_like(joints[..., :1])), dim=-1),
            "camera": {
                "focal": torch.tensor([camera.focal for camera in H36M_INTRINSICS])[number],
                "principal_point": torch.tensor([camera.principal_point for camera in H36M_INTRINSICS])[number],
                "image_size": torch.tensor([camera.size for camera in H36M_INTRINSICS])[number],
            },
        }
        if split != "train":  # names are for tables and for the random numbers of predictions; training needs neither
            samples["sample_id"] = [name for view in views for name in view.names()]
            samples["subject"] = [view.clip.subject for view in views for _ in view.joints]
            samples["action"] = [view.clip.action for view in views for _ in view.joints]
        if self.num_frames == 1:
            return samples
        stride = self.strides["train"] if split == "train" else self.num_frames
        windows = Windows([len(view.joints) for view in views], self.num_frames, stride)
        return windows.take(torch.arange(len(windows)), partial(select, samples))

    def _views(self, clip: Clip, stride: int) -> list["_View"]:
        """Every `stride`-th frame of a clip, from each camera."""
        frames = torch.arange(0, len(clip.joints), stride)
        key = zlib.crc32(clip.name.encode("utf-8"))
        generator = torch.Generator().manual_seed(key + (self.noise_seed << 32))
        views = []
        for camera, azimuth in enumerate(_AZIMUTHS):
            rotation, translation = _place(clip.joints, azimuth, generator)
            joints = cameras.world_to_camera(clip.joints[frames], rotation, translation)
            intrinsics = H36M_INTRINSICS[camera]
            screen = cameras.project_distorted(joints, intrinsics.normalised())
            pixels = cameras.from_screen(screen, torch.tensor(intrinsics.size))
            views.append(_View(clip, camera, frames, joints, pixels, (key << 24) + (frames << 2) + camera))
        return views

    def _detect(self, pixels: Float[Tensor, "B J 2"], keys: Tensor) -> Float[Tensor, "B J 3"]:
        """The 2-D input: exact with confidence 1, or with simulated detection errors."""
        if self.keypoints_2d == "gt":
            return torch.cat((pixels, torch.ones_like(pixels[..., :1])), dim=-1)
        sides = pixels.amax(dim=1) - pixels.amin(dim=1)
        seen = torch.ones_like(pixels[..., 0], dtype=torch.bool)
        return simulate_detections(pixels, seen, sides.prod(dim=-1), keys, self.noise_seed)


def simulate_detections(
    pixels: Float[Tensor, "B J 2"], seen: Bool[Tensor, "B J"], area: Float[Tensor, " B"], keys: Tensor, seed: int
) -> Float[Tensor, "B J 3"]:
    """Exact joints in pixels with the simulated errors that all data modules share; see `noise.detect`."""
    rates: Any = {"error_rate": _ERROR_RATE, "good_radius": _GOOD_RADIUS}
    return noise.detect(pixels, seen, area, keys, skeleton=SKELETON, seed=seed, **rates).keypoints


@dataclass(frozen=True)
class _View:
    """One clip from one camera."""

    clip: Clip
    camera: int
    frames: Tensor  # (F,) frame numbers
    joints: Tensor  # (F, J, 3) camera frame, metres
    pixels: Tensor  # (F, J, 2)
    keys: Tensor  # (F,) of keyed_random

    def names(self) -> list[str]:
        return [f"{self.clip.name}/camera{self.camera}/{frame:05d}" for frame in self.frames.tolist()]


class Windows:
    """Which frames each window holds, worked out when they are asked for: overlapping windows take no memory.

    Args:
        lengths: T of each sequence; sequences follow each other.
        num_frames: F.
        stride: between the starts of two windows. If it is smaller than F, all frames of a window are counted, as
            training wants it; otherwise each frame is counted in one window only, as evaluation does.
    """

    def __init__(self, lengths: Sequence[int], num_frames: int, stride: int) -> None:
        self.num_frames = num_frames
        self.counts_all = stride < num_frames
        starts, ends, seen, first = [], [], [], 0
        for length in lengths:
            last = max(length - num_frames, 0)
            of_sequence = torch.cat((torch.arange(0, last, stride), torch.tensor([last])))
            starts.append(of_sequence + first)
            ends.append(torch.full_like(of_sequence, first + length))
            seen.append(torch.cat((torch.zeros(1, dtype=torch.long), of_sequence[:-1] + num_frames)) + first)
            first += length
        self.starts, self.ends, self.seen = (
            torch.cat(parts) if parts else torch.zeros(0, dtype=torch.long) for parts in (starts, ends, seen)
        )

    def __len__(self) -> int:
        return len(self.starts)

    def drop_empty(self, counted: Bool[Tensor, " T"]) -> None:
        """Leaves out windows without a frame that counts.

        Args:
            counted: of all frames of all sequences.
        """
        before = torch.cat((torch.zeros(1, dtype=torch.long), counted.long().cumsum(0)))  # counted frames before each
        first = self.starts if self.counts_all else torch.maximum(self.starts, self.seen)
        last = torch.minimum(self.starts + self.num_frames, self.ends)
        full = before[last] > before[first]
        self.starts, self.ends, self.seen = self.starts[full], self.ends[full], self.seen[full]

    def frames(self, index: Int[Tensor, " B"]) -> tuple[Int[Tensor, "B F"], Bool[Tensor, "B F"]]:
        """Frame numbers of some windows, and whether they count; a short sequence is filled up with its last frame."""
        frames = self.starts[index, None] + torch.arange(self.num_frames)
        counted = frames < self.ends[index, None]
        if not self.counts_all:
            counted &= frames >= self.seen[index, None]
        return torch.minimum(frames, self.ends[index, None] - 1), counted

    def take(self, index: Int[Tensor, " B"], take_frames: Callable[[Tensor], PoseBatch]) -> PoseBatch:
        """Some windows as a batch of clips, named after their first frames.

        Args:
            index: which windows.
            take_frames: gives single frames.
        """
        numbers, counted = self.frames(index)
        frames = take_frames(numbers.flatten())
        first = torch.arange(len(index)) * self.num_frames
        clips: Any = {key: select(value, first) for key, value in frames.items() if not key.startswith("keypoints")}
        for key in ("keypoints_2d", "keypoints_3d"):
            clips[key] = frames[key].unflatten(0, (len(index), self.num_frames)).clone()
        clips["keypoints_3d"][..., 3] *= counted[..., None].to(clips["keypoints_3d"])
        return clips


def _place(joints: Float[Tensor, "F J 3"], azimuth: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A camera that looks at the middle of the motion from far enough to see all of it.

    Returns:
        Rotation (3, 3) and translation (3,) of `cameras.look_at`.
    """
    jitter = torch.rand(3, generator=generator) * 2.0 - 1.0
    angle = math.radians(azimuth) + 0.3 * float(jitter[0])
    points = joints.reshape(-1, 3)
    target = (points.amin(dim=0) + points.amax(dim=0)) / 2.0
    radius = float((points - target).norm(dim=-1).amax())
    # Human3.6M's field of view is 47 degrees; its cameras stand about five metres off, at head height.
    distance = max(4.5 + 0.5 * float(jitter[1]), radius / (_MARGIN * _HALF_FIELD))
    offset = torch.tensor([math.cos(angle), math.sin(angle), 0.0]) * distance
    height = torch.tensor([0.0, 0.0, 0.6 + 0.2 * float(jitter[2])])
    return cameras.look_at(target + offset + height, target, _UP)
