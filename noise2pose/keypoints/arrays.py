"""2-D keypoints of some poses as one record, and what is checked before an array becomes one.

Shape letters: T poses, P people, J joints.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from noise2pose import skeletons
from noise2pose.errors import InputError
from noise2pose.keypoints import cleaning
from noise2pose.keypoints.images import person_names
from noise2pose.keypoints.joint_names import skeleton_of

MAX_FPS = 1000.0  # of the fastest cameras that film people


@dataclass(frozen=True)
class Keypoints:
    """The poses of one source, in the order of their images.

    Attributes:
        points: (T, J, 3) float32, pixels and confidence between 0 and 1. A joint without confidence is no evidence.
        skeleton: name in `noise2pose.skeletons`.
        names: T different names, for example `000000000785`, and `000000000785#2` for a second person in that image.
        image_sizes: (T, 2) width and height in pixels; None where they are unknown.
        source: the file that the keypoints were read from; None for an array.
        images: T images as the source names them, folders and ending included; the names where it names none.
        image_ids: T numbers of the images, which tell two images of one name apart; empty where there are none.
        people: T identities that a tracker gave; None where it gave none.
        frames: T positions in a video; None where the source says none.
        fps: frames of the video in a second; None where the source does not say.
        times: T times in seconds from the first frame of the video; empty where frames and fps are all that is known.
        filled: T marks of poses that nobody saw, put between two that were; empty where there are none.
        longest_gap: seconds without a person, at most, within one clip; None for the usual (see `tracks`).
        relative: whether coordinates are shares of the width and height of the image instead of pixels.
        form: what the source was read as, for example `OpenPose`.
        notes: what was left out or assumed, each in a few words.
    """

    points: Float[Tensor, "T J 3"]
    skeleton: str
    names: list[str]
    image_sizes: Float[Tensor, "T 2"] | None
    source: Path | None = None
    images: list[str] = field(default_factory=list)
    image_ids: list[str] = field(default_factory=list)
    people: list[str | None] = field(default_factory=list)
    frames: list[int | None] = field(default_factory=list)
    fps: float | None = None
    times: list[float] = field(default_factory=list)
    filled: list[bool] = field(default_factory=list)
    longest_gap: float | None = None
    relative: bool = False
    form: str = "array"
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        number = len(self.names)
        for key, default in (("images", self.names), ("people", [None] * number), ("frames", [None] * number)):
            if len(getattr(self, key)) != number:
                object.__setattr__(self, key, list(default))

    def rows(self, chosen: Sequence[int]) -> dict[str, Any]:
        """The fields that have one value for each pose, of some poses, for `dataclasses.replace`."""
        index = torch.tensor(list(chosen), dtype=torch.int64)
        listed = {key: [getattr(self, key)[row] for row in chosen] for key in ("names", "images", "people", "frames")}
        for key in ("image_ids", "times", "filled"):
            known = getattr(self, key)
            listed[key] = [known[row] for row in chosen] if known else []
        sizes = None if self.image_sizes is None else self.image_sizes[index]
        return {**listed, "points": self.points[index], "image_sizes": sizes}

    def about(self) -> str:
        """What was read, in words."""
        people, images = len({person for person in self.people if person is not None}), len(set(self.images))
        tracked = f" of {counted(people, 'tracked person', 'tracked people')}" if people else ""
        shown = f" in {counted(images, 'image')}" if images < len(self.names) else ""
        notes = "".join(f"; {note}" for note in self.notes)
        return f"{counted(len(self.names), 'pose')}{tracked}{shown}, read as {self.form} ({self.skeleton}){notes}"


def counted(number: int, thing: str, things: str | None = None) -> str:
    """A number of things in words."""
    return f"{number} {thing if number == 1 else things or f'{thing}s'}"


def from_array(
    title: str,
    values: Any,
    skeleton: str | None = None,
    image_size: Any = None,
    names: Any = None,
    stem: str = "pose",
    people: Any = None,
    frames: Any = None,
) -> Keypoints:
    """Keypoints from an array.

    Args:
        title: what messages call the array, for example the path of its file.
        values: (T, J, 2 or 3) pixels and confidence or COCO's visibility; (T, P, J, 2 or 3) for P tracked people; or
            (J, 2 or 3) for one pose.
        skeleton: of the joints; None to tell by their number (17 is taken for COCO's, 26 for Halpe's).
        image_size: (2,) or (T, 2) width and height in pixels.
        names: T names of the images; None for `pose_00000` and so on, which are consecutive frames.
        stem: of those names.
        people: T identities; empty or -1 where one is unknown.
        frames: T whole numbers, positions in a video; negative or NaN where one is unknown.

    Raises:
        InputError: if a shape or the number of joints is wrong, a number is infinite, or there is no pose.
    """
    points = regular(title, values)
    points = points[None] if points.ndim == 2 else points
    if points.ndim not in (3, 4) or points.shape[-1] not in (2, 3):
        raise InputError(
            f"{title}: keypoints have shape {points.shape}, expected (poses, joints, 2 or 3), "
            "(frames, people, joints, 2 or 3) or (joints, 2 or 3)"
        )
    if not points.size:
        raise InputError(f"{title}: holds no poses")
    number, columns = len(points), points.shape[1] if points.ndim == 4 else 1
    for key, listed in (("people", people), ("frames", frames)):
        if listed is not None and (columns > 1 or np.shape(listed) != (number,)):
            raise InputError(f"{title}: {key} has shape {np.shape(listed)}, expected ({number},), one for each pose")
    stated = np.asarray([f"{stem}_{frame:05d}" for frame in range(number)] if names is None else names)
    if stated.shape != (number,):
        raise InputError(f"{title}: names has shape {stated.shape}, expected ({number},)")
    images = [str(image) for image in np.repeat(stated, columns)]
    sizes = None if image_size is None else image_sizes(title, image_size, number).repeat_interleave(columns, dim=0)
    points = points.reshape(-1, *points.shape[-2:])
    name, notes = skeleton_of(title, "keypoints", points.shape[1], skeleton)
    if people is not None:
        identities: list[str | None] = [None if str(person) in ("", "-1", "None") else str(person) for person in people]
    else:
        identities = [str(column + 1) if columns > 1 else None for column in range(columns)] * number
    if frames is not None:
        positions: list[int | None] = [_position(title, frame) for frame in frames]
    else:
        positions = [None if names is not None else frame for frame in range(number) for _ in range(columns)]
    return clean(
        Keypoints(
            torch.from_numpy(with_confidence(title, points, labelled=False)),
            name,
            person_names(images),
            sizes,
            images=images,
            people=identities,
            frames=positions,
            notes=notes,
        ),
        title,
        stated=skeleton is not None,
    )


def clean(found: Keypoints, title: str, stated: bool) -> Keypoints:
    """The poses that can be used, without joints that are no evidence.

    Args:
        found: as the source has them; coordinates may be NaN.
        title: what messages call the source.
        stated: whether somebody said which joints these are, so that their order is only doubted, not refused.

    Raises:
        InputError: if a number is infinite, no pose is left, coordinates are no pixels, or the joints are not in the
            order of the skeleton.
    """
    cleaning.check_finite(title, found.names, found.points, found.skeleton)
    if found.relative:
        cleaning.check_shares(title, found.points)
    found = with_evidence(found, title)
    points, notes = found.points.double(), list(found.notes)
    if not found.relative:
        cleaning.check_pixels(title, points)
    doubt = cleaning.doubtful_order(points, found.skeleton)
    if doubt is not None and not stated:
        order = doubt.split()[-1]
        raise InputError(
            f"{title}: {doubt}: say --skeleton {order} if they are in this order: "
            f"{', '.join(skeletons.get(order).joints[:4])} and so on"
        )
    if doubt is not None:
        notes.append(doubt)
    if (doubt := cleaning.doubtful_confidence(points)) is not None:
        notes.append(doubt)
    doubts = (cleaning.doubtful_bones, cleaning.doubtful_axes)
    notes += [said for check in doubts if (said := check(points, found.skeleton)) is not None]
    return replace(found, notes=tuple(notes))


def with_evidence(found: Keypoints, title: str) -> Keypoints:
    """The poses of which enough is seen, without joints that are no evidence; the notes say what was left out.

    Raises:
        InputError: if no pose is left.
    """
    notes = list(found.notes)
    sizes = torch.ones(len(found.names), 2) if found.relative else found.image_sizes
    points, missing = cleaning.without_missing(found.points.double())
    if missing:
        notes.append(f"{counted(missing, 'joint')} at (0, 0), (-1, -1) or without a position taken as not seen")
    points, doubtful = cleaning.without_doubtful(points)
    if doubtful:
        notes.append(
            f"{counted(doubtful, 'joint')} of a confidence below {cleaning.MIN_CONFIDENCE:g} taken as not seen"
        )
    before, (points, marked) = points, cleaning.without_marks(points, sizes)
    if marked:
        x, y, _ = before[(before[..., 2] > 0) & (points[..., 2] == 0)][0].tolist()
        notes.append(
            f"{counted(marked, 'joint')} far from the rest, at a mark such as ({x:g}, {y:g}), taken as not seen"
        )
    points, filled = cleaning.without_filled(points)
    if filled:
        notes.append(f"{counted(filled, 'joint')} at exactly the point of another taken as not seen")
    points, far = cleaning.without_far(points, found.skeleton, sizes)
    if far:
        notes.append(f"{counted(far, 'joint')} outside the image or far from the person taken as not seen")
    usable = cleaning.usable(points)
    left_out = int((~usable).sum())
    if left_out == len(points):
        reason = "no pose has three joints that are seen at different places"
        if (points[..., 2] == 0).all() and (found.points[..., :2] != 0).any():
            reason += (
                f"; every confidence is below {cleaning.MIN_CONFIDENCE:g}: leave the third number out if it is not a "
                "confidence"
            )
        raise InputError(f"{title}: {reason}")
    if left_out:
        first = found.names[int((~usable).nonzero()[0])]
        notes.append(
            f"{left_out} of {counted(len(points), 'pose')} skipped, {first} the first: fewer than 3 joints seen"
        )
    if (doubt := cleaning.doubtful_size(points, None if found.relative else sizes)) is not None:
        notes.append(doubt)
    whole = replace(found, points=points.float(), notes=tuple(notes))
    return whole if not left_out else replace(whole, **whole.rows(usable.nonzero().flatten().tolist()))


def regular(title: str, values: Any, key: str = "keypoints") -> np.ndarray:
    """The numbers of a list or array, float64; null becomes NaN.

    Raises:
        InputError: if rows differ in length, or a value is not a number.
    """
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{title}: {key} is not a regular array of numbers ({error})") from error


def _position(title: str, frame: Any) -> int | None:
    """The position of a pose in its video, if it is known."""
    try:
        number = float(frame)
    except (TypeError, ValueError):
        number = 0.5
    if number >= 0.0 and number != int(number):
        raise InputError(f"{title}: frames has {frame}, expected whole numbers, and fps for their rate")
    return int(number) if number >= 0.0 else None


def frame_rate(title: str, stated: Any) -> float:
    """The frame rate that a file states, in frames a second.

    Raises:
        InputError: if it is not one positive number.
    """
    try:
        rate = float(stated)
    except (TypeError, ValueError):
        rate = math.nan
    if not 0.0 < rate <= MAX_FPS:
        raise InputError(f"{title}: fps is {stated}, expected a number of frames a second above 0, {MAX_FPS:g} at most")
    return rate


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


def with_confidence(title: str, points: np.ndarray, labelled: bool) -> Float[np.ndarray, "T J 3"]:
    """Adds a confidence of 1 where there is none, and turns COCO's visibility and percentages into a confidence.

    Args:
        title: what messages call the points.
        points: (T, J, 2 or 3).
        labelled: whether an annotator made the points, so that 0 and 1 alone are visibilities too.

    Raises:
        InputError: if confidences are above 100.
    """
    if points.shape[-1] == 2:
        points = np.concatenate((points, np.ones_like(points[..., :1])), axis=-1)
    return np.concatenate((points[..., :2], cleaning.confidence(title, points[..., 2:], labelled)), axis=-1)
