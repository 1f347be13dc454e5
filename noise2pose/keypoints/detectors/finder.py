"""Everybody in an image: the detectors put together, one pose for each person, and who is left out and why.

Shape letters: H, W image; P people.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from noise2pose.errors import InputError
from noise2pose.files import sha256
from noise2pose.keypoints.detectors.blazepose import MIN_CONFIDENCE, MIN_SCORE, BlazeJoints, BlazePeople, is_blazepose
from noise2pose.keypoints.detectors.contract import JointDetector, People, PeopleDetector, Poses
from noise2pose.keypoints.detectors.models import ModelJoints, ModelPeople
from noise2pose.keypoints.detectors.suppression import pose_similarity, suppress
from noise2pose.skeletons import convert_partly

SKELETON = "coco_17"
MIN_JOINTS = 4  # of a person who is kept
MIN_SIDE = 24.0  # pixels, of the longer side of a person's box
_SOMEBODY = "somebody"
_SAME_POSE = 0.5  # object keypoint similarity


class Found(NamedTuple):
    """The people of an image.

    Attributes:
        joints: (P, 17, 3) COCO's joints, pixels and confidence; 0, 0 and 0 where a joint is not seen.
        boxes: (P, 4) x0, y0, x1, y1 of the people detector.
        scores: (P,) of the people detector.
        left_out: where somebody else was seen, and why they are left out.
    """

    joints: Float[Tensor, "P 17 3"]
    boxes: Float[Tensor, "P 4"]
    scores: Float[Tensor, " P"]
    left_out: list[str]


@dataclass(frozen=True)
class DetectorFiles:
    """Which models find people and joints.

    Attributes:
        people: BlazePose's detector, or any model that finds people; None if the pose model finds them itself.
        joints: BlazePose's landmarks, or any pose model.
    """

    people: Path | None
    joints: Path

    @property
    def title(self) -> str:
        """The names of the models, or of the two that are the default."""
        names = [file.name for file in (self.people, self.joints) if file is not None]
        published = all(name.startswith(("pose_detection", "pose_landmark")) for name in names)
        return "blazepose" if published else " and ".join(names)

    @property
    def hashes(self) -> list[str]:
        """SHA-256 of everything that an answer depends on: the models, and the YAML files beside them.

        Raises:
            InputError: if a model is missing.
        """
        files = [file for file in (self.people, self.joints) if file is not None]
        if missing := [file for file in files if not file.is_file()]:
            raise InputError(f"{missing[0]} does not exist")
        beside = [file.with_suffix(".yaml") for file in files]
        return [sha256(file) for file in (*files, *(file for file in beside if file.is_file()))]


class PeopleFinder:
    """Finds everybody in images.

    Args:
        files: the models.
        tiled: whether people are also sought in overlapping tiles, as groups need; a video of one person does not.

    Raises:
        InputError: if a file is not such a model, or its runtime is not installed.
    """

    def __init__(self, files: DetectorFiles, tiled: bool = True) -> None:
        blaze = is_blazepose(files.joints)
        self._joints: JointDetector = BlazeJoints(files.joints) if blaze else ModelJoints(files.joints)
        self._people: PeopleDetector | None = None
        alone = isinstance(self._joints, ModelJoints) and self._joints.finds_people
        if alone and files.people is not None and not is_blazepose(files.people):
            raise InputError(f"{files.joints} finds the people itself: leave out --person_detector")
        if not alone:
            if files.people is None:
                raise InputError(
                    f"{files.joints} finds no people itself: give --person_detector FILE, or fetch one once with "
                    "`noise2pose prepare detector`"
                )
            kind = BlazePeople if is_blazepose(files.people) else ModelPeople
            self._people = kind(files.people, tiled)

    def __call__(self, image: UInt8[np.ndarray, "H W 3"]) -> Found:
        """Everybody in an image, the most certain first."""
        people, poses, left_out = self._search(image)
        joints = convert_partly(poses.joints, self._joints.skeleton, SKELETON)
        joints = joints * _seen(joints, image.shape[1], image.shape[0])[..., None]
        count = (joints[..., 2] > 0).sum(dim=1)
        unsure, few = poses.seen < MIN_SCORE, count < MIN_JOINTS
        for row in (unsure | few).nonzero()[:, 0].tolist():
            reason = "seen by the people detector only"
            if not unsure[row]:
                reason = f"with fewer than {MIN_JOINTS} joints"
            left_out.append(f"{_where(people.boxes[row])}: {reason}")
        rows = (~(unsure | few)).nonzero()[:, 0]
        rank = (people.scores * poses.seen)[rows] * joints[rows, :, 2].sum(dim=1)
        kept = rows[suppress(pose_similarity(joints[rows], joints[rows]) > _SAME_POSE, rank)]
        again = sorted(set(rows.tolist()) - set(kept.tolist()))
        left_out += [f"{_where(people.boxes[row])}: with the joints of somebody else" for row in again]
        kept = kept.sort().values
        return Found(joints[kept], people.boxes[kept], people.scores[kept], left_out)

    def _search(self, image: np.ndarray) -> tuple[People, Poses, list[str]]:
        """The people, their joints in the order of the joint detector, and who is too small."""
        if self._people is None:
            assert isinstance(self._joints, ModelJoints), "a file that finds nobody needs a people detector"
            return *self._joints.search(image), []
        people = self._people(image)
        sides = (people.boxes[:, 2:] - people.boxes[:, :2]).amax(dim=1)
        small = [f"{_where(box)}: under {MIN_SIDE:.0f} pixels" for box in people.boxes[sides < MIN_SIDE]]
        people = people.chosen(sides >= MIN_SIDE)
        return people, self._joints(image, people), small


def left_out_for(reasons: Sequence[str]) -> str:
    """How many were left out for each reason, in words; empty if nobody was.

    Args:
        reasons: of `Found.left_out` of any number of images; other ones, such as of an image, are passed over.
    """
    people = [reason.rpartition(": ")[2] for reason in reasons if reason.startswith(_SOMEBODY)]
    return ", ".join(f"{people.count(reason)} {reason}" for reason in dict.fromkeys(people))


def _seen(joints: Float[Tensor, "P 17 3"], width: int, height: int) -> Tensor:
    """Which joints are certain enough and inside the image."""
    inside = ((joints[..., :2] >= 0) & (joints[..., :2] < torch.tensor([width, height]))).all(dim=-1)
    return inside & (joints[..., 2] >= MIN_CONFIDENCE)


def _where(box: Float[Tensor, "4"]) -> str:
    x0, y0, x1, y1 = (round(number) for number in box.tolist())
    return f"{_SOMEBODY} at {x0}, {y0} ({x1 - x0} x {y1 - y0} pixels)"
