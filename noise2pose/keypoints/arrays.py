"""2-D keypoints of some poses as one record, and what is checked before an array becomes one.

Shape letters: T poses, J joints.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from noise2pose import skeletons
from noise2pose.errors import InputError

_SKELETON_OF = {17: "coco_17", 26: "halpe_26"}
_CONFIDENCE_OF_VISIBILITY = np.array([0.0, 0.5, 1.0])


@dataclass(frozen=True)
class Keypoints:
    """The poses of one source, in the order of their images.

    Attributes:
        points: (T, J, 3) float32, pixels and confidence; no confidence is negative.
        skeleton: name in `noise2pose.skeletons`.
        names: T different names, for example `000000000785`, and `000000000785#2` for a second person in that image.
        image_sizes: (T, 2) width and height in pixels; None where they are unknown.
        source: the file that the keypoints were read from; None for an array.
    """

    points: Float[Tensor, "T J 3"]
    skeleton: str
    names: list[str]
    image_sizes: Float[Tensor, "T 2"] | None
    source: Path | None = None

    @property
    def is_clip(self) -> bool:
        """Whether the poses may be consecutive frames: those of an array or an npz file, not those of a JSON file."""
        return self.source is None or self.source.suffix == ".npz"


def from_array(
    title: str, values: Any, skeleton: str | None = None, image_size: Any = None, names: Any = None, stem: str = "pose"
) -> Keypoints:
    """Keypoints from an array.

    Args:
        title: what messages call the array, for example the path of its file.
        values: (T, J, 2 or 3) pixels and confidence or COCO's visibility, or (J, 2 or 3) for one pose.
        skeleton: of the joints; None to tell by their number (17 is taken for COCO's, 26 for Halpe's).
        image_size: (2,) or (T, 2) width and height in pixels.
        names: T names; None for `pose_00000` and so on.
        stem: of those names.

    Raises:
        InputError: if a shape or the number of joints is wrong, a number is not finite, or there is no pose.
    """
    points = regular(title, values)
    points = points[None] if points.ndim == 2 else points
    if points.ndim != 3 or points.shape[-1] not in (2, 3):
        raise InputError(
            f"{title}: keypoints have shape {points.shape}, expected (poses, joints, 2 or 3) or (joints, 2 or 3)"
        )
    if not len(points):
        raise InputError(f"{title}: holds no poses")
    number = len(points)
    sizes = None if image_size is None else image_sizes(title, image_size, number)
    name = skeleton_of(title, "keypoints", points.shape[1], skeleton)
    check_finite(title, [f"pose {pose}" for pose in range(number)], points, name)
    named = [f"{stem}_{pose:05d}" for pose in range(number)] if names is None else pose_names(title, names, number)
    return Keypoints(with_confidence(points, labelled=False), name, named, sizes)


def regular(title: str, values: Any, key: str = "keypoints") -> np.ndarray:
    """The numbers of a list or array, float64.

    Raises:
        InputError: if rows differ in length, or a value is not a number.
    """
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{title}: {key} is not a regular array of numbers ({error})") from error


def image_sizes(title: str, values: Any, number: int) -> Float[Tensor, "T 2"]:
    """Width and height for each of some poses.

    Raises:
        InputError: if the shape is neither (2,) nor (T, 2), or a side is not positive.
    """
    sizes = np.asarray(values)
    if sizes.dtype.kind not in "iuf" or sizes.shape not in ((2,), (number, 2)) or not (sizes > 0).all():
        raise InputError(
            f"{title}: image_size has shape {sizes.shape} and type {sizes.dtype}, expected positive width and height "
            f"of shape (2,) or ({number}, 2)"
        )
    return torch.as_tensor(sizes.astype(np.float32)).expand(number, 2)


def pose_names(title: str, names: Any, number: int) -> list[str]:
    """A different name for each pose: that of its image, with a number from the second person on.

    Raises:
        InputError: if there is not one name for each pose.
    """
    given = np.asarray(names)
    if given.shape != (number,):
        raise InputError(f"{title}: names has shape {given.shape}, expected ({number},)")
    return numbered([str(name) for name in given])


def numbered(images: Sequence[str]) -> list[str]:
    """A name for each person: that of the image, with a number from the second person on."""
    people: Counter[str] = Counter()
    names = []
    for image in images:
        people[image] += 1
        names.append(image if people[image] == 1 else f"{image}#{people[image]}")
    return names


def skeleton_of(title: str, entry: str, joints: int, stated: str | None) -> str:
    """The name of a skeleton, as stated or else by its number of joints.

    Raises:
        InputError: if the skeleton is unknown or has another number of joints.
    """
    if stated is None and joints not in _SKELETON_OF:
        known = " or ".join(f"{number} ({name})" for number, name in _SKELETON_OF.items())
        raise InputError(f"{title}: {entry} has {joints} joints, expected {known}, or name the skeleton")
    try:
        expected = skeletons.get(stated or _SKELETON_OF[joints])
    except InputError as error:
        raise InputError(f"{title}: skeleton: {error}") from error
    if joints != expected.num_joints:
        raise InputError(f"{title}: {entry} has {joints} joints, but {expected.name} has {expected.num_joints}")
    return expected.name


def check_finite(title: str, entries: Sequence[str], points: np.ndarray, skeleton: str) -> None:
    """Raises an InputError that names the first joint whose numbers are not finite or lie far from any image."""
    wrong = np.argwhere(~(np.abs(points) <= 1e9).all(axis=-1))
    if len(wrong):
        pose, joint = wrong[0]
        raise InputError(
            f"{title}: {entries[pose]}: {skeletons.get(skeleton).joints[joint]} is {points[pose, joint].tolist()}, "
            "expected finite pixels"
        )


def with_confidence(points: np.ndarray, labelled: bool) -> Float[Tensor, "T J 3"]:
    """Adds a confidence of 1 where there is none, and turns COCO's visibility into a confidence.

    Args:
        points: (T, J, 2 or 3).
        labelled: whether an annotator made the points, so that 0 and 1 alone are visibilities too.
    """
    if points.shape[-1] == 2:
        points = np.concatenate((points, np.ones_like(points[..., :1])), axis=-1)
    third = points[..., 2]
    if np.isin(third, (0, 1, 2)).all() and (labelled or (third == 2).any()):
        third = _CONFIDENCE_OF_VISIBILITY[third.astype(int)]
    # Some detectors mark a joint that they did not find by -1.
    return torch.as_tensor(np.concatenate((points[..., :2], third[..., None].clip(0.0)), axis=-1), dtype=torch.float32)
