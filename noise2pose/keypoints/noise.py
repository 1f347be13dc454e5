"""2-D keypoints as a detector would report them, from true ones.

The errors are those of Ronchi and Perona (ICCV 2017) in the numbers of PoseFix (Moon et al., CVPR 2019), which DPMesh
trains with. Every joint is *good*, or has *jitter*, is a *miss*, an *inversion* (found at its left/right partner) or a
*swap* (found on another person). How far is far depends on the joint and on the person's size: the object keypoint
similarity of COCO, exp(-d^2 / (2 area (2 sigma)^2)), is above 0.85 for good, 0.5 to 0.85 for jitter and 0.1 to 0.5 for
a miss.

Differences from the published code:

* a partner's place is its true one; there it is the place to which the partner's own error has moved it;
* whether an error is possible is decided by up to 64 random tries, there by 125 to 2000;
* a joint that is not valid becomes zeros;
* confidences (see `_confidence`), and `error_rate` and `good_radius`, whose value 1 means the published numbers.

Mean (median) error of an upright person alone, 500 pixels tall in a box of 200 by 500, Human3.6M's joints: 27.6 (18.0)
pixels as published, for crowd images; 11.2 (5.1) with (error_rate, good_radius) = (0.4, 0.35), our choice for images
of one person in a studio. The latter is not fitted to any detector.

Shape letters: N people, J joints, P other people, C places where a joint may be found, M joints of all people.
"""

import math
from functools import cache
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, Int64, Shaped
from torch import Tensor

from noise2pose import keyed_random, skeletons
from noise2pose.errors import InputError

GOOD, JITTER, MISS, INVERSION, SWAP = range(5)

# Per kind of joint: COCO's sigma; the chance of jitter with at most 10 and with more valid joints; of a miss with at
# most 5, at most 10 and more; of an inversion; of a swap in a crowd and otherwise.
_KINDS = {
    "nose": (0.026, 0.15, 0.10, 0.15, 0.10, 0.02, 0.01, 0.02, 0.01),
    "eye": (0.025, 0.20, 0.15, 0.15, 0.10, 0.02, 0.01, 0.02, 0.01),
    "ear": (0.035, 0.20, 0.15, 0.15, 0.10, 0.02, 0.01, 0.02, 0.01),
    "shoulder": (0.079, 0.20, 0.15, 0.20, 0.13, 0.05, 0.03, 0.15, 0.06),
    "elbow": (0.072, 0.20, 0.15, 0.25, 0.15, 0.10, 0.03, 0.15, 0.06),
    "wrist": (0.062, 0.20, 0.15, 0.25, 0.15, 0.10, 0.03, 0.15, 0.06),
    "hip": (0.107, 0.25, 0.20, 0.25, 0.15, 0.10, 0.06, 0.10, 0.03),
    "knee": (0.087, 0.15, 0.10, 0.25, 0.15, 0.10, 0.06, 0.10, 0.03),
    "ankle": (0.089, 0.15, 0.10, 0.20, 0.13, 0.05, 0.06, 0.10, 0.03),
}
# COCO has no statistics of these. Points inside the torso are taken to be as uncertain as hips and shoulders, those of
# the head as certain as the face.
_LIKE = {
    "pelvis": "hip",
    "spine": "hip",
    "thorax": "shoulder",
    "neck": "shoulder",
    "chin": "nose",
    "head": "nose",
    "head_top": "ear",
}
_MAX_RATE = 1.5  # above it the published chances of the errors no longer leave room for good detections

# Of each error: how often each place is tried, and which places are avoided. The places are the joint itself, its
# partner, and the same two of other people.
_OWN, _ALL = (1.0, 0.0, 0.0, 0.0), (True, True, True, True)
_SOURCES = (_OWN, _OWN, (1.0, 0.25, 0.25, 0.25), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 1.0))
_AVOIDED = (_ALL, _ALL, _ALL, _ALL, (True, True, False, False))

_TRIES = (1, 3, 12, 48)  # the first is enough for most joints; the later ones are for the few that are left
_STREAM = 100  # of keyed_random: this and the next 30
_PLACES_PER_CHUNK = 1 << 16  # fits the caches of one core; larger tensors gain nothing from more cores


class Detections(NamedTuple):
    """Simulated detections.

    Attributes:
        keypoints: (N, J, 3) pixels and confidence, 0 for joints that are not valid.
        errors: (N, J) GOOD, JITTER, MISS, INVERSION or SWAP.
    """

    keypoints: Float[Tensor, "N J 3"]
    errors: Int64[Tensor, "N J"]


def detect(
    keypoints: Float[Tensor, "N J 2"],
    valid: Shaped[Tensor, "N J"],
    area: Float[Tensor, " N"],
    keys: Int[Tensor, " N"],
    *,
    skeleton: str = "coco_17",
    neighbours: Float[Tensor, "N P J 3"] | None = None,
    num_overlap: Shaped[Tensor, " N"] | None = None,
    error_rate: float = 1.0,
    good_radius: float = 1.0,
    seed: int = 0,
) -> Detections:
    """Draws what a detector reports for each joint of each person.

    The result of a person depends on its key, the seed and its own arguments, not on the batch.

    Args:
        keypoints: (N, J, 2) true joints, pixels.
        valid: (N, J), 0 for joints that cannot be detected.
        area: (N,) area of each person's box, square pixels.
        keys: (N,) of `keyed_random`.
        skeleton: name in `noise2pose.skeletons`; all its joints need a kind in this module.
        neighbours: (N, P, J, 3) other people, pixels and validity, with whom joints may be swapped.
        num_overlap: (N,) number of people that overlap each person, which decides whether it is a crowd (published:
            people whose boxes have an IoU of at least 0.1); by default the neighbours that have a valid joint.
        error_rate: factor on the chance of each error, 0 to 1.5.
        good_radius: factor on the distance of good detections, 0 to 1.
        seed: which repetition of the experiment this is.

    Raises:
        InputError: if numbers are not finite, an area is not positive, or a setting is out of range or unknown.
    """
    numbers, partners = (part.to(keypoints.device) for part in _table(skeleton))
    _check(keypoints, area, neighbours, error_rate, good_radius, len(partners))
    if neighbours is None:
        neighbours = keypoints.new_zeros(len(keypoints), 0, keypoints.shape[1], 3)
    if num_overlap is None:
        num_overlap = (neighbours[..., 2] > 0).any(dim=-1).sum(dim=-1)
    size = max(1, _PLACES_PER_CHUNK // (2 * keypoints.shape[1] * (1 + neighbours.shape[1])))
    chunks = []
    for part in zip(*(x.split(size) for x in (keypoints, valid > 0, area, keys, neighbours, num_overlap)), strict=True):
        points, there, box, key, near, overlap = part
        places = _places(points, there, near, partners)
        chance = error_rate * _error_chances(numbers[1:].to(points.dtype), there.sum(dim=-1), overlap)
        scale = 2.0 * numbers[0].to(points.dtype) * box.to(points.dtype)[:, None].sqrt()
        chunks.append(_draw(places, there, scale, chance, key, good_radius, seed))
    return Detections(*(torch.cat(parts) for parts in zip(*chunks, strict=True)))


class _Places(NamedTuple):
    """Where a joint may be found."""

    points: Tensor  # (N, J, C, 2)
    present: Tensor  # (N, J, C)
    column: Tensor  # (C,) of _SOURCES and _AVOIDED


def _places(keypoints: Tensor, valid: Tensor, neighbours: Tensor, partners: Tensor) -> _Places:
    has_partner = partners != torch.arange(len(partners), device=partners.device)
    others, there = neighbours[..., :2].transpose(1, 2), (neighbours[..., 2] > 0).transpose(1, 2)
    paired = has_partner[:, None]
    points = (keypoints[:, :, None], keypoints[:, partners, None], others, others[:, partners])
    present = (valid[:, :, None], valid[:, partners, None] & paired, there, there[:, partners] & paired)
    column = torch.arange(4, device=partners.device).repeat_interleave(
        torch.tensor([part.shape[2] for part in points], device=partners.device)
    )
    return _Places(torch.cat(points, dim=2), torch.cat(present, dim=2), column)


def _error_chances(numbers: Tensor, num_valid: Tensor, num_overlap: Tensor) -> Tensor:
    """(N, J, 4) published chances of jitter, miss, inversion and swap, from rows 1 to 8 of the table."""
    count = num_valid[:, None]
    jitter_few, jitter, miss_fewest, miss_few, miss, inversion, swap_crowd, swap = numbers
    crowd = ((num_valid <= 10) & (num_overlap > 0)) | ((num_valid <= 15) & (num_overlap >= 3))
    jitter = torch.where(count <= 10, jitter_few, jitter)
    miss = torch.where(count <= 5, miss_fewest, torch.where(count <= 10, miss_few, miss))
    swap = torch.where(crowd[:, None], swap_crowd, swap)
    return torch.stack((jitter, miss, inversion.expand_as(miss), swap), dim=-1)


def _draw(
    places: _Places, valid: Tensor, scale: Tensor, chance: Tensor, keys: Tensor, good_radius: float, seed: int
) -> Detections:
    """Draws the errors of one chunk of people; `scale` is the (N, J) distance of similarity exp(-1/2)."""
    points, present, scale = places.points.flatten(0, 1), places.present.flatten(0, 1), scale.flatten()
    keys = (keys[:, None] * valid.shape[1] + torch.arange(valid.shape[1], device=keys.device)).flatten()
    # As published, the chance of a good detection leaves room also for errors that are not possible here.
    prior = torch.cat((1.0 - chance.sum(dim=-1, keepdim=True), chance), dim=-1).flatten(0, 1)
    prior[:, INVERSION] *= present[:, places.column == 1].any(dim=-1)
    prior[:, SWAP] *= present[:, places.column >= 2].any(dim=-1)
    good, half, far = (math.sqrt(-2.0 * math.log(similarity)) for similarity in (0.85, 0.5, 0.1))
    bounds = scale.new_tensor(((0.0, good * good_radius), (good, half), (half, far), (0.0, half), (0.0, half)))
    sources = scale.new_tensor(_SOURCES)[:, places.column]
    avoided = torch.tensor(_AVOIDED, device=scale.device)[:, places.column]

    # A joint for which nothing is possible stays at its true place, which is the limit of good detections.
    found, distance, errors = points[:, 0].clone(), torch.zeros_like(scale), torch.full_like(keys, GOOD)
    rest = valid.flatten().nonzero()[:, 0]
    for attempt in range(len(_SOURCES)):
        rest = rest[prior[rest].sum(dim=-1) > 0]
        if len(rest) == 0:
            break
        uniform = keyed_random.uniform(keys[rest], (1,), stream=_STREAM + attempt, seed=seed).to(scale.dtype)
        error = _categorical(prior[rest], uniform)[:, 0]
        for number, tries in enumerate(_TRIES):
            stream = _STREAM + (attempt + 1) * len(_SOURCES) + number
            uniform = keyed_random.uniform(keys[rest], (tries, 3), stream=stream, seed=seed).to(scale.dtype)
            source = _categorical(sources[error] * present[rest], uniform[..., 0])
            bound = bounds[error] * scale[rest, None]
            radius = bound[:, :1] + (bound[:, 1:] - bound[:, :1]) * uniform[..., 1]
            candidate = _around(points[rest], source, radius, uniform[..., 2])
            enough = torch.where(error == MISS, bound[:, 0], torch.inf)
            allowed = _is_clear(candidate, points[rest], avoided[error] & present[rest], source, enough)
            done, first = allowed.any(dim=-1), allowed.to(torch.uint8).argmax(dim=-1, keepdim=True)
            found[rest[done]] = candidate.gather(1, first[..., None].expand(-1, -1, 2))[done, 0]
            distance[rest[done]] = radius.gather(1, first)[done, 0]
            errors[rest[done]] = error[done]
            rest, error = rest[~done], error[~done]
        # Drawing again among the other errors renormalises the chances of the possible ones.
        prior[rest, error] = 0.0
    confidence = _confidence(torch.exp(-0.5 * (distance / scale).square()), keys, seed)
    keypoints = torch.cat((found, confidence[:, None]), dim=-1).unflatten(0, valid.shape)
    return Detections(torch.where(valid[..., None], keypoints, 0.0), errors.unflatten(0, valid.shape))


def _around(points: Tensor, source: Tensor, radius: Tensor, turn: Tensor) -> Tensor:
    """Candidates (M, T, 2) at a distance from their sources, in a direction given in turns."""
    angle = 2.0 * math.pi * turn
    offset = radius[..., None] * torch.stack((angle.cos(), angle.sin()), dim=-1)
    return points.gather(1, source[..., None].expand(-1, -1, 2)) + offset


def _is_clear(candidate: Tensor, points: Tensor, avoided: Tensor, source: Tensor, enough: Tensor) -> Tensor:
    """(M, T) whether no place to avoid is nearer to a candidate than its source is, and than `enough`."""
    away = torch.linalg.vector_norm(candidate[:, :, None] - points[:, None], dim=-1)
    least = torch.minimum(away.gather(2, source[..., None]), enough[:, None, None])
    return ((away >= least) | ~avoided[:, None]).all(dim=-1)


def _confidence(similarity: Tensor, keys: Tensor, seed: int) -> Tensor:
    """Our assumption, not a published one: similarity to the place found, with unit normal noise on its logit.

    Small errors get high confidences and misses low ones, with overlap; inversions and swaps get high confidences at a
    wrong place.
    """
    noise = keyed_random.normal(keys, (1,), stream=_STREAM + 30, seed=seed)[:, 0].to(similarity.dtype)
    similarity = similarity.clamp(0.05, 0.95)
    # Not torch.sigmoid, whose rounding on the CPU depends on the position of a number in the tensor.
    return similarity / (similarity + (1.0 - similarity) * torch.exp(-noise))


def _categorical(weights: Tensor, uniform: Tensor) -> Tensor:
    """Column of `weights` (M, K) that each of the uniform numbers (M, T) falls on: (M, T)."""
    cumulative = weights.cumsum(dim=-1)
    # A little less than the total, so that rounding never reaches beyond the last column with a weight.
    threshold = uniform * cumulative[:, -1:] * (1.0 - 1e-6)
    return (cumulative[:, None] <= threshold[..., None]).sum(dim=-1)


def coco_sigmas(skeleton: str) -> Float[Tensor, " J"]:
    """How far annotators of COCO differ in each joint, in square roots of the person's area; float64.

    Joints that COCO lacks have the number of the joint that they are most like.

    Args:
        skeleton: name in `noise2pose.skeletons`.

    Raises:
        InputError: if a joint is like none of COCO's.
    """
    return _table(skeleton)[0][0].clone()


@cache
def _table(skeleton: str) -> tuple[Tensor, Tensor]:
    """(9, J) numbers of each joint from `_KINDS`, and (J,) the index of its partner, or its own if it has none."""
    known = skeletons.get(skeleton)
    kinds = [joint.removeprefix("left_").removeprefix("right_") for joint in known.joints]
    kinds = [_LIKE.get(kind, kind) for kind in kinds]
    if missing := [joint for joint, kind in zip(known.joints, kinds, strict=True) if kind not in _KINDS]:
        raise InputError(f"skeleton {skeleton}: no detection errors are known for {', '.join(missing)}")
    numbers = torch.tensor([_KINDS[kind] for kind in kinds], dtype=torch.float64)
    return numbers.T, torch.tensor(known.flip_order)


def _check(
    keypoints: Tensor, area: Tensor, neighbours: Tensor | None, error_rate: float, good_radius: float, joints: int
) -> None:
    if keypoints.shape[1] != joints:
        raise InputError(f"keypoints have {keypoints.shape[1]} joints, the skeleton has {joints}")
    for name, points in (("keypoints", keypoints), ("area", area), ("neighbours", neighbours)):
        if points is not None and not points.isfinite().all():
            raise InputError(f"{name}: {int((~points.isfinite()).sum())} numbers are NaN or infinite")
    if not (area > 0).all():
        raise InputError(f"area: {int((area <= 0).sum())} of {len(area)} boxes have no area")
    if not 0.0 <= error_rate <= _MAX_RATE:
        raise InputError(f"error_rate is {error_rate}, expected 0 to {_MAX_RATE}")
    if not 0.0 <= good_radius <= 1.0:
        raise InputError(f"good_radius is {good_radius}, expected 0 to 1")
