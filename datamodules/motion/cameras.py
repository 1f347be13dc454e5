"""Motion of one person seen by virtual cameras: four like those of Human3.6M, or cameras drawn for each sample.

Shape letters: F frames (of a clip or a window), J joints, B samples or windows of a batch.
"""

import math
import zlib
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from datamodules.base import PoseDataModule, Split, Stream, Take, check_keypoints, check_range, select
from datamodules.motion.bodies import MovingBodies
from datamodules.motion.detections import detect_sampled, simulate_detections
from datamodules.motion.frames import Clip, MotionFrames
from datamodules.motion.heatmaps import with_heatmaps
from datamodules.motion.recombined import partners, recombined
from datamodules.motion.sampled_cameras import EVALUATION, IMAGE_SIDE, CameraRanges, draw, see
from datamodules.motion.windows import Windows
from datamodules.sources.human36m.cameras import H36M_INTRINSICS
from noise2pose import cameras
from noise2pose.batch import PoseBatch
from noise2pose.errors import InputError
from noise2pose.metrics.protocols import MESH_JOINTS, Protocol

SKELETON = "h36m_17"
_AZIMUTHS = (70.0, -70.0, 110.0, -110.0)  # degrees, where Human3.6M's four cameras stand around the person
_UP = torch.tensor([0.0, 0.0, 1.0])
_HALF_FIELD = 0.435  # half image over focal length of Human3.6M's cameras
_MARGIN = 0.9  # share of the half image that the motion may fill
_OF_BODIES: dict[str, Any] = {"joints": MESH_JOINTS, "ground_truth": "random bodies in the poses of the motion"}
_FRAMES_AT_ONCE = 2048  # whose sampled cameras are drawn together


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
        cameras: `fixed` for four cameras that stand where Human3.6M's do, or `sampled`: for training every sample is
            seen by a camera that is drawn afresh in every epoch, from the ranges below; for validation and test by four
            that the sample's name and `noise_seed` decide, the same whatever the ranges.
        lowest_elevation, highest_elevation: sampled only: of the camera, degrees above the horizon.
        roll: sampled only: of the camera to either side, degrees.
        off_axis: sampled only: angle between the optical axis and the person, degrees at most in x and in y; a lifter
            that is not told where in the image the person is cannot know it.
        nearest, farthest: sampled only: distance of the camera, metres.
        tilt: sampled only: of the world under the person, degrees at most.
        any_rotation: sampled only: share of the samples that are turned any way instead.
        body_scale, limb_scale: sampled only: by how much a person, and each bone, is larger or smaller at most.
        missing: sampled only: chance that a simulated detector misses a joint, whose confidence is then 0.
        truncated: sampled only: share of the samples that the border of the image cuts, with simulated detections.
        exact: sampled only: share of the training samples whose joints have no detection errors and confidence 1, so
            that a method learns how much more it can trust them.
        recombined: sampled only: share of the training samples that get the upper body or some limbs of another one.
        heatmaps: single frames only: whether batches have heat-maps with the peaks of a detector that is not sure (see
            `keypoints.heatmaps.detection_heatmaps`), from which DiffPose draws.
        body: sampled cameras and single frames only: `free`, or the npz of a body (`scripts/prepare.py body`), which
            then moves as the clips do: samples are bodies of random shapes, with parameters, boxes and joints of their
            own. `body_scale` and `limb_scale` are not used.
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
        cameras: Literal["fixed", "sampled"] = "fixed",
        lowest_elevation: float = -15.0,
        highest_elevation: float = 45.0,
        roll: float = 10.0,
        off_axis: float = 5.0,
        nearest: float = 1.5,
        farthest: float = 12.0,
        tilt: float = 15.0,
        any_rotation: float = 0.05,
        body_scale: float = 0.15,
        limb_scale: float = 0.1,
        missing: float = 0.03,
        truncated: float = 0.05,
        exact: float = 0.0,
        recombined: float = 0.0,
        heatmaps: bool = False,
        body: str | None = None,
        batch_size: int = 256,
        eval_batch_size: int = 1024,
        mixed_keypoints_2d: bool = False,
    ) -> None:
        super().__init__(batch_size, eval_batch_size, mixed_keypoints_2d)
        check_range(1, num_frames=num_frames, train_stride=train_stride, eval_stride=eval_stride)
        if heatmaps and num_frames > 1:
            raise InputError("data.heatmaps is for single frames: set data.num_frames to 1, or data.heatmaps to false")
        if body is not None and (num_frames > 1 or cameras == "fixed"):
            raise InputError("data.body is for single frames: set data.num_frames to 1 and data.cameras to sampled")
        self.heatmaps = heatmaps
        self.bodies = None if body is None else MovingBodies(body)
        self.column = "joints_world" if body is None else "poses"
        self.keypoints_2d: Literal["gt", "synthetic"] = keypoints_2d
        self.strides = {"train": train_stride, "val": eval_stride, "test": eval_stride}
        self.noise_seed = noise_seed
        self.num_frames = num_frames
        self.cameras: Literal["fixed", "sampled"] = cameras
        self.ranges = CameraRanges(
            (lowest_elevation, highest_elevation), roll, off_axis, (nearest, farthest), tilt, any_rotation,
            body_scale, limb_scale, missing=missing, truncated=truncated, exact=exact, recombined=recombined,
        )  # fmt: skip
        self.ranges.check()
        self._training_frames: MotionFrames | None = None

    @abstractmethod
    def clips(self, split: Split) -> list[Clip]:
        """The motions of a split."""

    @abstractmethod
    def split_in_words(self, split: Split) -> str:
        """Which subjects and clips a split holds, for the protocol."""

    def protocols(self, split: Split) -> list[Protocol]:
        single = self.num_frames == 1
        frames = f"every {self.strides[split]} frames" if single else f"all frames, in clips of {self.num_frames},"
        fixed = self.cameras == "fixed"
        return [
            Protocol(
                name=f"{self.dataset}_{'frames' if single else 'clips'}{'' if fixed else '_any_view'}",
                dataset=self.dataset,
                split=f"{split}: {self.split_in_words(split)}, {frames} of 50 Hz, "
                + ("4 cameras" if fixed else f"4 cameras drawn for each {'frame' if single else 'clip'}"),
                skeleton=SKELETON,
                keypoints_2d=self.keypoints_2d,
                **({} if self.bodies is None else _OF_BODIES),
            )
        ]

    def load(self, split: Split) -> PoseBatch:
        if self.cameras == "sampled":  # as in epoch 0
            take, number = self.take(split, torch.device("cpu"))
            return next(self._see(split, iter([take(torch.arange(number))]), 0))
        clips = self._some_clips(split)
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
        windows = Windows([len(view.joints) for view in views], self.num_frames, self._stride(split))
        return windows.take(torch.arange(len(windows)), partial(select, samples))

    def take(self, split: Split, device: torch.device) -> tuple[Take, int]:
        if self.cameras == "fixed":
            return super().take(split, device)
        training = split == "train"
        views = 1 if training else len(_AZIMUTHS)
        frames = MotionFrames(self._some_clips(split), self.num_frames, self._stride(split), views, device)
        points: PoseBatch = {"keypoints_2d": frames.joints, "keypoints_3d": frames.joints}
        check_keypoints(points, f"{self.dataset} {split}", num_joints=17 if self.bodies is None else 24)
        if training:
            self._training_frames = frames
        return partial(frames.take, named=not training), len(frames)

    def streams(self, split: Split) -> Stream | None:
        return None if self.cameras == "fixed" else partial(self._see, split)

    def finish(self, batch: PoseBatch, training: bool) -> PoseBatch:
        return with_heatmaps(batch) if self.heatmaps else batch

    def _see(self, split: Split, batches: Iterator[PoseBatch], epoch: int) -> Iterator[PoseBatch]:
        """Draws the cameras of batches of `MotionFrames`, on their device; of several at once, which is faster."""
        while first := next(batches, None):
            frames = first["keypoints_3d"].shape[:2].numel()  # pyright: ignore[reportTypedDictNotRequiredAccess]
            together: list[Any] = [first, *islice(batches, _FRAMES_AT_ONCE // max(frames, 1))]
            keys, joints = (torch.cat([batch[key] for batch in together]) for key in ("key", "keypoints_3d"))
            seen = self._seen(split, keys, joints, epoch)
            places = torch.arange(len(keys)).split([len(batch["keypoints_3d"]) for batch in together])
            for batch, place in zip(together, places, strict=True):
                names = {key: batch[key] for key in ("sample_id", "subject", "action") if key in batch}
                complete: Any = {**select(seen, place), **names}
                yield complete

    def _seen(self, split: Split, keys: Tensor, joints: Float[Tensor, "B F J 4"], epoch: int) -> PoseBatch:
        """Samples and their cameras."""
        ranges = self.ranges if split == "train" else EVALUATION
        seed = self.noise_seed * 1_000_003 + (1 + epoch if split == "train" else 0)
        world, counted = joints.split((3, 1), dim=-1)
        others, more = None, {}
        if ranges.recombined > 0.0 and self._training_frames is not None:
            others, _, _ = self._training_frames.window(partners(keys, len(self._training_frames), seed))
        if self.bodies is not None:
            seen, more = self.bodies.see(world, others, keys, ranges, seed)
            counted = torch.ones_like(seen.joints[..., :1])
        else:
            if others is not None:
                world = recombined(world, others, keys, share=ranges.recombined, skeleton=SKELETON, seed=seed)
            seen = see(world, draw(keys, ranges, SKELETON, seed), SKELETON)
        if self.keypoints_2d == "gt":
            keypoints = torch.cat((seen.pixels, torch.ones_like(seen.pixels[..., :1])), dim=-1)
        else:
            keypoints = detect_sampled(seen, keys, ranges, SKELETON, seed)
        sample = {
            "keypoints_2d": keypoints,
            "keypoints_3d": torch.cat((seen.joints, counted), dim=-1),
        }
        complete: Any = {
            **(sample if self.num_frames > 1 else {key: value[:, 0] for key, value in sample.items()}),
            "camera": {
                "focal": seen.focal[:, None].repeat(1, 2),
                "principal_point": seen.principal_point,
                "image_size": torch.full_like(seen.principal_point, IMAGE_SIDE),
            },
            **more,
        }
        return complete

    def count(self, lengths: list[int], split: Split) -> int:
        """How many samples clips of these lengths give."""
        if self.cameras == "sampled":
            views = 1 if split == "train" else len(_AZIMUTHS)
            return views * len(Windows(lengths, self.num_frames, self._stride(split)))
        if self.num_frames == 1:
            return len(_AZIMUTHS) * sum(-(-length // self.strides[split]) for length in lengths)
        return len(_AZIMUTHS) * len(Windows(lengths, self.num_frames, self._stride(split)))

    def _stride(self, split: Split) -> int:
        """Frames between the starts of two samples."""
        return self.strides[split] if split == "train" or self.num_frames == 1 else self.num_frames

    def _some_clips(self, split: Split) -> list[Clip]:
        clips = self.clips(split)
        if not clips:
            raise InputError(f"{self.dataset}: no clips for {split} ({self.split_in_words(split)})")
        return clips

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
        return simulate_detections(pixels, seen, sides.prod(dim=-1), keys, SKELETON, self.noise_seed)


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
