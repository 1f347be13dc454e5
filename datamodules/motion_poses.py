"""Poses of motion, each on a body of its own, for codebooks and priors of poses: nothing is rendered or detected."""

from pathlib import Path
from typing import Literal

import roma
import torch
from torch import Tensor

from datamodules.base import PoseDataModule, Split, check_keypoints, check_range
from datamodules.cmu_mocap import DATASET, read_clips
from datamodules.motion import activities
from datamodules.motion_capture import clips_of_people
from datamodules.prepared.folder import PreparedFolder, read_manifest
from datamodules.rendered.people import SKELETON, UPRIGHT, Poses, draw_betas, photograph
from noise2pose import keyed_random
from noise2pose.batch import PoseBatch
from noise2pose.bodies import BodyModel
from noise2pose.errors import InputError
from noise2pose.metrics.protocols import Protocol

_FRAMES = 100  # of a synthetic clip, at 50 Hz
_STREAM = 240  # of keyed_random

_FOLDERS = {"cmu": "cmu_mocap", "motion": "uiprmd"}  # of `data`, where the name is not the source's

Rotvecs = tuple[str, str, str, Tensor]  # name, subject, action and (F, 24, 3) axis-angle of a clip, y up


class MotionPoses(PoseDataModule):
    """Poses of one source; `datamodules.mixture.Mixture` puts several into every batch.

    A sample is a pose of a clip on a body of random shape in front of a random camera, not cut by the image but for a
    hand or a foot, with exact 2-D joints, so that methods that take joints can be trained on the same poses. Splits
    share no clip: synthetic clips have seeds of their own, those of CMU are `CMUMocap`'s, those of AMASS are VPoser's
    (`scripts/prepare.py amass --help`), and those of other motion have other people, as `MotionCapture` splits them.

    Args:
        source: `synthetic`, which needs no file; `cmu`, `amass`, or `motion` for any prepared motion that has body
            rotations.
        root: folder written by `scripts/prepare.py`; by default `data/cmu_mocap`, `data/amass` and `data/uiprmd`.
        train_stride: every how many frames of a clip one is taken for training: synthetic and CMU have 50 a second,
            AMASS as many as it was prepared with.
        eval_stride: the same for validation and test.
        clips_per_activity: for `synthetic`: training clips of each activity; validation has a tenth and test a fifth.
        noise_seed: of bodies and cameras.
        body: `free`, or the npz of another body (`scripts/prepare.py body`).
        batch_size, eval_batch_size, mixed_keypoints_2d: see `PoseDataModule`.
    """

    def __init__(
        self,
        source: Literal["synthetic", "cmu", "amass", "motion"] = "synthetic",
        root: str | None = None,
        train_stride: int = 1,
        eval_stride: int = 5,
        clips_per_activity: int = 40,
        noise_seed: int = 0,
        body: str = "free",
        batch_size: int = 256,
        eval_batch_size: int = 1024,
        mixed_keypoints_2d: bool = False,
    ) -> None:
        super().__init__(batch_size, eval_batch_size, mixed_keypoints_2d)
        check_range(1, train_stride=train_stride, eval_stride=eval_stride, clips_per_activity=clips_per_activity)
        self.source: Literal["synthetic", "cmu", "amass", "motion"] = source
        self.root = Path(root if root is not None else f"data/{_FOLDERS.get(source, source)}")
        self.strides: dict[Split, int] = {"train": train_stride, "val": eval_stride, "test": eval_stride}
        self.clips_per_activity = clips_per_activity
        self.noise_seed = noise_seed
        self.body = body

    @property
    def dataset(self) -> str:
        return f"{self.root.name if self.source == 'motion' else self.source}_poses"

    def prepare_data(self) -> None:
        if self.source != "synthetic":
            self._folder()

    def protocols(self, split: Split) -> list[Protocol]:
        number = activities.number_of_clips(split, self.clips_per_activity)
        words = {
            "synthetic": f"{number} clips of each of {len(activities.ACTIVITIES)} activities",
            "cmu": "clips of CMU as cmu_mocap splits them",
            "amass": "data sets as VPoser splits them",
            "motion": f"people of {self.root.name}",
        }
        return [
            Protocol(
                name=self.dataset,
                dataset=self.dataset,
                split=f"{split}: {words[self.source]}, every {self.strides[split]}. frame",
                skeleton=SKELETON,
                ground_truth="random bodies in the poses of the motion",
                smpl_joints=True,
            )
        ]

    def load(self, split: Split) -> PoseBatch:
        poses = self.poses(split)
        keys = keyed_random.keys_of(poses.names)
        people = photograph(poses, BodyModel.load(self.body), keys, self.noise_seed, truncation=0.0)
        check_keypoints(people, f"{self.source} {split}", num_joints=17)
        return people

    def poses(self, split: Split) -> Poses:
        """The poses of a split, in a world with y up.

        Raises:
            InputError: if there are none.
        """
        if self.source == "cmu":
            clips = read_clips(self.root, split, "poses")
        else:
            clips = self._synthetic(split) if self.source == "synthetic" else self._recorded(split)
        stride = self.strides[split]
        if not clips:
            raise InputError(f"data.root: {self.root} has no poses for {split}")
        matrices = torch.cat([roma.rotvec_to_rotmat(rotvecs[::stride].float()) for *_, rotvecs in clips])
        if self.source != "synthetic":
            matrices[:, 0] = UPRIGHT @ matrices[:, 0]
        numbers = [range(0, len(rotvecs), stride) for *_, rotvecs in clips]
        names = [f"{name}_{at:05d}" for (name, *_), of in zip(clips, numbers, strict=True) for at in of]
        return Poses(
            matrices,
            draw_betas(names, _STREAM, self.noise_seed),
            names,
            [subject for (_, subject, _, _), of in zip(clips, numbers, strict=True) for _ in of],
            [action for (_, _, action, _), of in zip(clips, numbers, strict=True) for _ in of],
        )

    def _synthetic(self, split: Split) -> list[Rotvecs]:
        return [
            (f"{kind}_{split}_{number:04d}", f"{split}_{number:04d}", kind, torch.from_numpy(motion.rotations))
            for kind, number, motion in activities.clips(split, self.clips_per_activity, _FRAMES)
        ]

    def _recorded(self, split: Split) -> list[Rotvecs]:
        return clips_of_people(self._folder(), split, "poses")

    def _folder(self) -> PreparedFolder:
        known = {"cmu": DATASET, "amass": "amass"}.get(self.source)
        return PreparedFolder(self.root, known or read_manifest(self.root)["dataset"])
