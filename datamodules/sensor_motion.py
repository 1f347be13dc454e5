"""Real errors of a sensor as 2-D input: skeletons of a Kinect v2, with the Vicon's pose of the same moment as truth.

Shape letters: N rows, F frames of a clip, J joints, B samples.
"""

from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from datamodules.base import Split, check_keypoints
from datamodules.cmu_mocap import clips_of
from datamodules.motion.cameras import SKELETON, VirtualCameraMotion
from datamodules.motion.frames import Clip
from datamodules.prepared.folder import PreparedFolder
from datamodules.sources.human36m.cameras import H36M_INTRINSICS
from noise2pose import skeletons
from noise2pose.batch import PoseBatch
from noise2pose.errors import InputError
from noise2pose.metrics.protocols import Protocol

DATASET = "uiprmd_kinect"


class SensorMotion(VirtualCameraMotion):
    """Pairs of UI-PRMD for evaluation, single frames at 30 Hz; nothing is trained on it.

    The 2-D input is the Kinect's skeleton in 3-D, projected into the four virtual cameras of the other motion, so its
    errors are those of a depth sensor that tracks a body: correlated in time and between joints, and large where limbs
    hide each other. Three-dimensional truth is the Vicon's pose. Each clip's skeletons were put on each other by one
    rotation and translation (`scripts/prepare.py uiprmd --kinect`).

    The two define joints differently. With `same_joints` the mean offset of each joint of each person, in the frame of
    the trunk, is subtracted from the Kinect's joints. It is measured on the same pairs, so it needs the truth, but it
    is constant: what remains is noise.

    Args:
        root: folder written by `scripts/prepare.py uiprmd --kinect`.
        people: `held_out` tests on the test people of the folder; `all` tests on everybody, for methods that were not
            trained on UI-PRMD.
        same_joints: whether the constant offsets between the joints of both sensors are removed.
        eval_stride: every how many frames one is taken.
        noise_seed, eval_batch_size, mixed_keypoints_2d: see `VirtualCameraMotion`.
    """

    dataset = DATASET

    def __init__(
        self,
        root: str = "data/uiprmd_kinect",
        people: Literal["held_out", "all"] = "held_out",
        same_joints: bool = True,
        eval_stride: int = 10,
        noise_seed: int = 0,
        eval_batch_size: int = 1024,
        mixed_keypoints_2d: bool = False,
    ) -> None:
        super().__init__(
            keypoints_2d="gt",
            eval_stride=eval_stride,
            noise_seed=noise_seed,
            eval_batch_size=eval_batch_size,
            mixed_keypoints_2d=mixed_keypoints_2d,
        )
        if people not in ("held_out", "all"):
            raise InputError(f"data.people is {people}, expected held_out or all")
        self.root = Path(root)
        self.people: Literal["held_out", "all"] = people
        self.same_joints = same_joints

    def prepare_data(self) -> None:
        PreparedFolder(self.root, DATASET)  # fail before any process starts, not in each of them

    def split_in_words(self, split: Split) -> str:
        subjects = sorted({sequence["subject"] for sequence in self._sequences(split)})
        return f"{', '.join(subjects)}" if len(subjects) < 6 else f"{len(subjects)} people"

    def protocols(self, split: Split) -> list[Protocol]:
        joints = "its joints moved to the Vicon's by constant offsets" if self.same_joints else "its own joints"
        words = f"every {self.strides[split]} frames of 30 Hz, 4 cameras, 2-D: Kinect's skeleton projected, {joints}"
        return [
            Protocol(
                name=DATASET,
                dataset=DATASET,
                split=f"{split}: {self.split_in_words(split)}, {words}",
                skeleton=SKELETON,
                keypoints_2d="detected",
                ground_truth="Vicon's joints, estimated from markers on the skin",
            )
        ]

    def clips(self, split: Split) -> list[Clip]:
        """Repetitions, with the Vicon's 17 joints and after them the Kinect's."""
        folder = PreparedFolder(self.root, DATASET)
        sequences = self._sequences(split)
        truth, sensor = (clips_of(folder, column, sequences) for column in ("joints_world", "joints_sensor"))
        offsets: dict[str, Tensor] = {}
        if self.same_joints:
            for person in {clip[1] for clip in truth}:
                joints = [torch.cat([clip[3] for clip in clips if clip[1] == person]) for clips in (sensor, truth)]
                offsets[person] = joint_offsets(*joints)
        clips = []
        for (name, subject, action, exact), (*_, measured) in zip(truth, sensor, strict=True):
            if subject in offsets:
                measured = measured - (trunk_frames(measured) @ offsets[subject].T).mT
            clips.append(Clip(name, subject, action, torch.cat((exact, measured), dim=1)))
        return clips

    def load(self, split: Split) -> PoseBatch:
        """All frames of a split from all cameras.

        Raises:
            InputError: if the split is empty, or is that of the training.
        """
        if split == "train":
            raise InputError(
                f"{DATASET} is for evaluation only: train on another set, and test with `--data` of this one"
            )
        clips = self.clips(split)
        if not clips:
            raise InputError(f"{self.root}: has no people for {split}; take everybody with data.people all")
        views = [view for clip in clips for view in self._views(clip, self.strides[split])]
        number = torch.cat([torch.full((len(view.joints),), view.camera) for view in views])
        truth = torch.cat([view.joints[:, : len(_NAMES)] for view in views])
        measured = torch.cat([view.pixels[:, len(_NAMES) :] for view in views])
        samples: PoseBatch = {
            "keypoints_2d": torch.cat((measured, torch.ones_like(measured[..., :1])), dim=-1),
            "keypoints_3d": torch.cat((truth, torch.ones_like(truth[..., :1])), dim=-1),
            "camera": {
                "focal": torch.tensor([camera.focal for camera in H36M_INTRINSICS])[number],
                "principal_point": torch.tensor([camera.principal_point for camera in H36M_INTRINSICS])[number],
                "image_size": torch.tensor([camera.size for camera in H36M_INTRINSICS])[number],
            },
            "sample_id": [name for view in views for name in view.names()],
            "subject": [view.clip.subject for view in views for _ in view.joints],
            "action": [view.clip.action for view in views for _ in view.joints],
        }
        check_keypoints(samples, f"{DATASET} {split}", num_joints=len(_NAMES))
        return samples

    def _sequences(self, split: Split) -> list[dict[str, Any]]:
        found = PreparedFolder(self.root, DATASET).sequences
        return found if self.people == "all" else [sequence for sequence in found if sequence["split"] == split]


_NAMES = skeletons.get(SKELETON).joints


def trunk_frames(joints: Float[Tensor, "N J 3"]) -> Float[Tensor, "N 3 3"]:
    """Rotations from the frame of the trunk (forwards, left, up) into the world, of Human3.6M-17 joints."""
    pelvis, thorax, left, right = (joints[:, _NAMES.index(n)] for n in ("pelvis", "thorax", "left_hip", "right_hip"))
    up = normalize(thorax - pelvis, dim=-1)
    forwards = normalize(torch.linalg.cross(left - right, up), dim=-1)
    return torch.stack((forwards, torch.linalg.cross(up, forwards), up), dim=-1)


def joint_offsets(measured: Float[Tensor, "N J 3"], truth: Float[Tensor, "N J 3"]) -> Float[Tensor, "J 3"]:
    """By how much joints of a sensor are off on average, in the frame of its trunk, metres."""
    return ((measured - truth) @ trunk_frames(measured)).mean(dim=0)
