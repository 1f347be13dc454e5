"""Which joints of a keypoint file are evidence: detectors and annotators mark what they did not find in many ways.

Shape letters: T poses, J joints.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from noise2pose import skeletons
from noise2pose.errors import InputError

MIN_VISIBLE = 3  # joints; fewer say nothing about a pose
MIN_POSES = 3  # fewer say nothing about what does not change
_CONFIDENCE_OF_VISIBILITY = np.array([0.0, 0.5, 1.0])
MIN_CONFIDENCE = 0.1  # joints below it are guesses: detectors give them to what they do not see
_OUTSIDE = 0.1  # diagonals of the box of the joints that are in the image
_AWAY = 0.5  # diagonals of the box of the other joints; the ends of stretched limbs reach 0.4
_FAR_AWAY = 12.0  # median distances of a person's joints from their middle; no pose reaches 5
_DETAILS = ("face_", "left_hand_", "right_hand_")
_TRUNK = ("shoulder", "hip")
_MAX_SCORE = 10.0  # some heat-map and SimCC detectors have scores above 1
_ORDERS = (("coco_17", "h36m_17", "mpi_inf_3dhp_17"), ("mpii_16", "h36m_16"))  # which are mistaken for each other
_DOUBTFUL = 1.2  # times the length of the bones in the best order; the right order has 0.8 or less
# Bone lengths in sizes of the person that a pose may have. Standing people have 0.15 to 0.2, or 0.11 where feet have
# joints too; joints in another order 0.28 and more, of 25 joints 0.22 and more.
_PLAUSIBLE, _PLAUSIBLE_OF_MANY = 0.25, 0.19
_MANY = 20  # joints
_HIGH = 0.75  # confidence that a detector has in some joint of every file
_LARGE = 400  # pixels along each side of an image; nobody films people who stay in 100 of them
_MOST_SEEN = 0.8  # of the joints; part of a person, such as the arms, has long bones for its size


def confidence(title: str, third: Float[np.ndarray, "T J 1"], labelled: bool) -> Float[np.ndarray, "T J 1"]:
    """Confidences between 0 and 1 from the third numbers of joints.

    These are COCO's visibilities (0 not labelled, 1 hidden, 2 visible) where there are no other numbers, and
    percentages where one is above 10. Some detectors mark a joint that they did not find by -1. The numbers of a file
    have one scale, so they must be given together.

    Raises:
        InputError: if a number is above 100, or one of ten is negative, as depths are.
    """
    third = np.nan_to_num(third, nan=0.0)
    if np.isin(third, (0, 1, 2)).all() and (labelled or (third == 2).any()):
        return _CONFIDENCE_OF_VISIBILITY[third.astype(int)]
    highest, negative = third.max(initial=0.0), (third < 0.0) & (third != -1.0)
    if highest > 100.0 or negative.mean() > 0.1:
        raise InputError(
            f"{title}: the third numbers of the joints lie between {third.min():g} and {highest:g}, which are no "
            "confidences: leave them out if they are depths"
        )
    return (third / 100.0 if highest > _MAX_SCORE else third).clip(0.0, 1.0)


def check_finite(title: str, entries: Sequence[str], points: Float[Tensor, "T J 3"], skeleton: str) -> None:
    """Raises an InputError that names the first joint whose numbers are infinite or lie far from any image."""
    wrong = (points.abs() > 1e9).any(dim=-1).nonzero()
    if len(wrong):
        pose, joint = wrong[0].tolist()
        raise InputError(
            f"{title}: {entries[pose]}: {skeletons.get(skeleton).joints[joint]} is {points[pose, joint].tolist()}, "
            "expected pixels"
        )


def without_missing(points: Float[Tensor, "T J 3"]) -> tuple[Float[Tensor, "T J 3"], int]:
    """Sets joints without a position to zeros, and counts those that had a confidence.

    A joint at (0, 0) or (-1, -1), whatever its confidence, was not found, unless joints lie on all sides of it; nor was
    one without finite coordinates.
    """
    pixels = points[..., :2]
    unknown = pixels.isnan().any(dim=-1)
    marked = unknown | (pixels == 0.0).all(dim=-1) | (pixels == -1.0).all(dim=-1)
    others = torch.where(marked[..., None], torch.nan, pixels)
    lowest = others.nan_to_num(torch.inf).amin(dim=-2, keepdim=True)
    highest = others.nan_to_num(-torch.inf).amax(dim=-2, keepdim=True)
    surrounded = ((pixels > lowest) & (pixels < highest)).all(dim=-1)
    missing = unknown | (marked & ~surrounded)
    count = int((missing & (points[..., 2] > 0)).sum())
    return torch.where(missing[..., None] | (points[..., 2:] <= 0), 0.0, points), count


def without_doubtful(points: Float[Tensor, "T J 3"]) -> tuple[Float[Tensor, "T J 3"], int]:
    """Sets joints of a confidence below `MIN_CONFIDENCE` to zeros, and counts them."""
    doubtful = (points[..., 2] > 0) & (points[..., 2] < MIN_CONFIDENCE)
    return torch.where(doubtful[..., None], 0.0, points), int(doubtful.sum())


def without_marks(
    points: Float[Tensor, "T J 3"], image_sizes: Float[Tensor, "T 2"] | None
) -> tuple[Float[Tensor, "T J 3"], int]:
    """Sets joints at a point that stands for a missing one, such as (-10, -10), to zeros, and counts them.

    Such a point is shared exactly: by several joints of a pose, or by one joint in most of its poses; or one of its
    coordinates is 0 or -1. It is also far from the box of the other joints, or not within the image, because joints
    that touch, stand still or are rounded to pixels share points too.
    """
    seen, pixels = points[..., 2] > 0, points[..., :2]
    known = torch.where(seen[..., None], pixels, torch.nan)  # is equal to nothing where a joint is not seen
    joints = range(points.shape[1])
    together = torch.stack([(known == known[:, joint, None]).all(-1).sum(-1) > 1 for joint in joints], dim=-1)
    usual = (known == known.nanmedian(dim=0, keepdim=True).values).all(dim=-1)  # a value of most is their median
    number = seen.sum(dim=0)
    still = usual & (2 * usual.sum(dim=0) > number) & (number >= MIN_POSES)
    shared = together | still
    marked = shared | (known == 0.0).any(dim=-1) | (known == -1.0).any(dim=-1)
    lowest, highest = _box(known, ~marked)
    outside = torch.maximum(lowest - pixels, pixels - highest).clamp_min(0.0).norm(dim=-1)
    away = outside > _AWAY * (highest - lowest).norm(dim=-1)
    if image_sizes is not None:
        away |= shared & ((pixels <= 0) | (pixels >= image_sizes[:, None].to(pixels))).any(dim=-1)
    others, most = (seen & ~marked).sum(dim=-1, keepdim=True), seen.sum(dim=-1, keepdim=True) / 2.0
    mark = marked & away & (others >= MIN_VISIBLE) & (others >= most)  # many share points where people are tiny
    return torch.where(mark[..., None], 0.0, points), int(mark.sum())


def without_filled(points: Float[Tensor, "T J 3"]) -> tuple[Float[Tensor, "T J 3"], int]:
    """Sets joints that were filled in with a copy of another to zeros, and counts them.

    Converters fill joints that they do not have so, for example Halpe's hip with the nose. Three joints of a pose that
    are at exactly the same point are the first of them and its copies, unless they are rounded to whole pixels.
    """
    seen, pixels = points[..., 2] > 0, points[..., :2]
    known = torch.where(seen[..., None] & (pixels != pixels.round()).any(dim=-1, keepdim=True), pixels, torch.nan)
    copies = torch.zeros_like(seen)
    for joint in range(points.shape[1]):
        same = (known == known[:, joint, None]).all(dim=-1)
        copies[:, joint] = (same.sum(dim=-1) > 2) & same[:, :joint].any(dim=-1)
    return torch.where(copies[..., None], 0.0, points), int(copies.sum())


def without_far(
    points: Float[Tensor, "T J 3"], skeleton: str, image_sizes: Float[Tensor, "T 2"] | None
) -> tuple[Float[Tensor, "T J 3"], int]:
    """Sets joints outside the image, or far from all others of their person, to zeros, and counts them.

    Outside are those beyond a tenth of the person's box, where most joints of the person are within the image:
    otherwise the size is that of another image, see `check_pixels` and the annotations.
    """
    seen, pixels = points[..., 2] > 0, points[..., :2]
    # Where face and hands have more points than the body, these say nothing about its size.
    body = torch.tensor([not joint.startswith(_DETAILS) for joint in skeletons.get(skeleton).joints])
    known = torch.where((seen & body)[..., None], pixels, torch.nan)
    middle = known.nanmedian(dim=-2, keepdim=True).values
    typical = (known - middle).norm(dim=-1).nanmedian(dim=-1, keepdim=True).values
    far = seen & ((pixels - middle).norm(dim=-1) > _FAR_AWAY * typical) & (typical > 0)
    if image_sizes is not None:
        size = image_sizes[:, None].to(pixels)
        inside = ((pixels >= 0) & (pixels <= size)).all(dim=-1)
        lowest, highest = _box(known, inside)
        margin = _OUTSIDE * (highest - lowest).norm(dim=-1, keepdim=True)
        outside = ((pixels < -margin) | (pixels > size + margin)).any(dim=-1)
        far |= seen & outside & (2 * (seen & inside).sum(dim=-1, keepdim=True) > seen.sum(dim=-1, keepdim=True))
    return torch.where(far[..., None], 0.0, points), int(far.sum())


def _box(known: Float[Tensor, "T J 2"], chosen: Bool[Tensor, "T J"]) -> tuple[Float[Tensor, "T 1 2"], ...]:
    """The lowest and highest coordinates of some joints, NaN where a joint is not seen; infinite if there are none."""
    chosen = chosen[..., None] & ~known.isnan()
    lowest = torch.where(chosen, known, torch.inf).amin(dim=-2, keepdim=True)
    return lowest, torch.where(chosen, known, -torch.inf).amax(dim=-2, keepdim=True)


def usable(points: Float[Tensor, "T J 3"]) -> Bool[Tensor, " T"]:
    """Which poses have at least three joints that are seen, not all of them at one place."""
    seen, pixels = points[..., 2] > 0, points[..., :2]
    lowest = torch.where(seen[..., None], pixels, torch.inf).amin(dim=-2)
    highest = torch.where(seen[..., None], pixels, -torch.inf).amax(dim=-2)
    return (seen.sum(dim=-1) >= MIN_VISIBLE) & (highest > lowest).any(dim=-1)


def check_pixels(title: str, points: Float[Tensor, "T J 3"]) -> None:
    """Refuses coordinates that are shares of the image: they have another scale along each side of it.

    Raises:
        InputError: if every person is smaller than two pixels.
    """
    pixels = points[..., :2][points[..., 2] > 0]
    if pixels.abs().max() <= 2.0:
        raise InputError(
            f"{title}: coordinates lie between {pixels.min():.3g} and {pixels.max():.3g}, expected pixels: undo "
            "the normalisation; shares of the image are multiplied by its width and its height"
        )


def check_shares(title: str, points: Float[Tensor, "T J 3"]) -> None:
    """Refuses pixels where shares of the image are expected.

    Raises:
        InputError: if most joints that are seen lie beyond one and a half images.
    """
    shares = points[..., :2][points[..., 2] > 0]
    if len(shares) and (shares.abs() > 1.5).any(dim=-1).double().mean() > 0.5:
        raise InputError(
            f"{title}: coordinates lie between {shares.min():.3g} and {shares.max():.3g}, which are pixels; YOLO's are "
            "shares of the image: divide them by its width and its height"
        )


def doubtful_order(points: Float[Tensor, "T J 3"], skeleton: str) -> str | None:
    """Says that 16 or 17 joints are in the order of another skeleton, whose bones they make much shorter; None if not.

    Args:
        points: pixels and confidence.
        skeleton: that they are taken for.
    """
    orders = next((orders for orders in _ORDERS if skeleton in orders), None)
    if orders is None:
        return None
    lengths = {name: _bone_length(points, name) for name in orders}
    best = min(lengths, key=lambda name: lengths[name])
    if lengths[skeleton] <= _DOUBTFUL * lengths[best] or not lengths[best] < _PLAUSIBLE * _median_size(points):
        return None
    return f"the joints are not in the order of {skeleton}: they look like {best}"


def doubtful_bones(points: Float[Tensor, "T J 3"], skeleton: str) -> str | None:
    """Says that bones are too long for the people, as they are in another order of joints; None if not.

    Args:
        points: pixels and confidence.
        skeleton: of the joints.
    """
    whole = points[(points[..., 2] > 0).double().mean(dim=-1) >= _MOST_SEEN]
    longest = _PLAUSIBLE if points.shape[1] < _MANY else _PLAUSIBLE_OF_MANY
    if not len(whole) or _bone_length(whole, skeleton) <= longest * _median_size(whole):
        return None
    return f"the bones are too long for people: if these are not the joints of {skeleton}, name their skeleton"


def doubtful_confidence(points: Float[Tensor, "T J 3"]) -> str | None:
    """Says that no confidence is high, as where third numbers are depths; None if one is, or if all are equal."""
    known = points[..., 2][points[..., 2] > 0]
    if not len(known) or known.max() >= _HIGH or known.max() == known.min():
        return None
    return f"confidences are {known.max():.2f} at most: leave the third numbers out if they are depths"


def doubtful_axes(points: Float[Tensor, "T J 3"], skeleton: str) -> str | None:
    """Says that most people stand on their heads, or lie, as they do where an axis is turned; None if not.

    Args:
        points: pixels and confidence.
        skeleton: of the joints.
    """
    ends = [[skeletons.get(skeleton).index(f"{side}_{joint}") for side in ("left", "right")] for joint in _TRUNK]
    upper, lower = points[:, ends[0]], points[:, ends[1]]
    seen = (upper[..., 2] > 0).all(dim=-1) & (lower[..., 2] > 0).all(dim=-1)
    x, y = (lower - upper).mean(dim=1)[seen, :2].T
    if len(y) and (y < -x.abs()).double().mean() > 0.8:
        return "most people are upside down: y must point down"
    if len(y) and (x.abs() > 2.0 * y.abs()).double().mean() > 0.8:
        return "most people lie: if they do not, x and y are exchanged"
    return None


def doubtful_size(points: Float[Tensor, "T J 3"], image_sizes: Float[Tensor, "T 2"] | None) -> str | None:
    """Says that coordinates seem to be percentages, or the size that of other images; None if not.

    Args:
        points: pixels and confidence.
        image_sizes: width and height in pixels, NaN or None where they are unknown.
    """
    if image_sizes is None:
        return None
    seen, size = points[..., 2] > 0, image_sizes[:, None].to(points)
    pixels, images = points[..., :2][seen], size.expand_as(points[..., :2])[seen]
    width, height = (f"{side:g}" for side in image_sizes[0].tolist())
    if len(pixels) and ((pixels >= 0) & (pixels <= 100)).all() and (images >= _LARGE).all():
        return (
            f"every joint is within the first 100 pixels of images of {width} x {height}: percentages are multiplied "
            "by width / 100 and height / 100"
        )
    if ((pixels < 0) | (pixels > images)).any(dim=-1).double().mean() > 0.5:
        return f"most joints are outside images of {width} x {height}, which may be another size"
    return None


def _median_size(points: Float[Tensor, "T J 3"]) -> float:
    """Median over the poses of the diagonal of the box around the seen joints."""
    seen, pixels = points[..., 2:] > 0, points[..., :2]
    lowest = torch.where(seen, pixels, torch.inf).amin(dim=-2)
    highest = torch.where(seen, pixels, -torch.inf).amax(dim=-2)
    return float((highest - lowest).norm(dim=-1).median())


def _bone_length(points: Float[Tensor, "T J 3"], skeleton: str) -> float:
    """Median over the poses of the mean length of the bones whose ends are seen; infinite if there are none."""
    parents, children = torch.tensor(skeletons.get(skeleton).edges).T
    seen = (points[:, parents, 2] > 0) & (points[:, children, 2] > 0)
    length = (points[:, parents, :2] - points[:, children, :2]).norm(dim=-1)
    mean = torch.where(seen, length, 0.0).sum(dim=-1) / seen.sum(dim=-1)
    return float(mean.nanmedian()) if seen.any() else float("inf")
