"""Feet that are held where they rest: how far each ankle is moved, and legs that are bent so that it is there.

A rest has one place, the median of its ankles. What an ankle lacks to it is given wholly within the rest and fades over
`BLEND` seconds before and after it, so that nothing jumps. The body is moved by what its feet have in common, which
takes most of it, since bodies that are seen by one camera slide as a whole, in depth; the rest is made up by each leg
with the angles of hip and knee in closed form (two-bone inverse kinematics), so that the lengths of the bones are kept.
The knee stays on its side of the line from hip to ankle, and the foot keeps its direction.

Shape letters: F frames.
"""

from typing import NamedTuple

import numpy as np
import roma
import torch
from jaxtyping import Bool, Float

BLEND = 0.3  # seconds in which a correction fades beside a rest
_STRETCHED = 0.999  # of the length of a leg, at most: a straight knee has no side
_FORWARD = 0.02  # of the thigh: how far a knee that is nearly straight is taken to be in front


class Correction(NamedTuple):
    """What is to be done to the ankles of a clip.

    Attributes:
        offset: (F, 2, 3) metres by which each is moved.
        weight: (F, 2) 1 within a rest, less where it fades, 0 for a foot that is free.
    """

    offset: Float[np.ndarray, "F 2 3"]
    weight: Float[np.ndarray, "F 2"]


def rests_of(resting: Bool[np.ndarray, " F"]) -> list[slice]:
    """The unbroken rests of one foot, of two frames or more."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], resting.astype(int), [0]))))
    return [slice(start, end) for start, end in edges.reshape(-1, 2).tolist() if end - start > 1]


def slide(
    ankles: Float[np.ndarray, "F 2 3"], resting: Bool[np.ndarray, "F 2"], times: Float[np.ndarray, " F"]
) -> tuple[float, float]:
    """How far resting ankles move, in metres, and for how many seconds they rest."""
    path = seconds = 0.0
    for foot in range(2):
        for rest in rests_of(resting[:, foot]):
            path += float(np.linalg.norm(np.diff(ankles[rest, foot], axis=0), axis=-1).sum())
            seconds += float(times[rest][-1] - times[rest][0])
    return path, seconds


def correction(
    ankles: Float[np.ndarray, "F 2 3"], resting: Bool[np.ndarray, "F 2"], times: Float[np.ndarray, " F"]
) -> Correction:
    """How resting ankles are moved to one place a rest, and others beside it.

    Args:
        ankles: metres, left and right.
        resting: of `noise2pose.motion.ground.resting_feet`.
        times: seconds, ascending.
    """
    offset, weight = np.zeros(ankles.shape), np.zeros(resting.shape)
    for foot in range(2):
        rests = rests_of(resting[:, foot])
        for number, rest in enumerate(rests):
            lacking = np.median(ankles[rest, foot], axis=0) - ankles[rest, foot]
            offset[rest, foot] += lacking
            weight[rest, foot] = 1.0
            before = slice(rests[number - 1].stop if number else 0, rest.start)
            after = slice(rest.stop, rests[number + 1].start if number + 1 < len(rests) else len(times))
            for beside, edge, other, value in (
                (before, rest.start, before.start - 1 if number else None, lacking[0]),
                (after, rest.stop - 1, after.stop if number + 1 < len(rests) else None, lacking[-1]),
            ):
                # Of two rests that are near, one fades into the other.
                span = BLEND if other is None else min(BLEND, abs(times[other] - times[edge]))
                fade = _fading(np.abs(times[beside] - times[edge]) / max(span, 1e-9))
                offset[beside, foot] += fade[:, None] * value
                weight[beside, foot] += fade
    return Correction(offset, weight)


def shift_of(wanted: Correction) -> Float[np.ndarray, "F 3"]:
    """What both feet have in common, by which the whole body is moved."""
    return wanted.offset.sum(axis=1) / np.maximum(wanted.weight.sum(axis=1), 1.0)[:, None]


def bend_leg(
    hip: Float[torch.Tensor, "F 3"],
    knee: Float[torch.Tensor, "F 3"],
    ankle: Float[torch.Tensor, "F 3"],
    target: Float[torch.Tensor, "F 3"],
    forward: Float[torch.Tensor, "F 3"],
) -> tuple[Float[torch.Tensor, "F 3 3"], Float[torch.Tensor, "F 3 3"]]:
    """Rotations of thigh and shank, in the frame of the points, that bring the ankle to its target or next to it.

    Args:
        hip, knee, ankle: metres.
        target: of the ankle; nearer than a stretched leg reaches where it is too far.
        forward: unit direction to which the knee bends.

    Returns:
        Rotations by which the world rotations of thigh and shank are multiplied from the left.
    """
    thigh, shank = (knee - hip).norm(dim=-1), (ankle - knee).norm(dim=-1)
    reach = target - hip
    distance = reach.norm(dim=-1).clamp_min(1e-6)
    along = reach / distance[:, None]
    distance = torch.minimum(distance, _STRETCHED * (thigh + shank))
    distance = torch.maximum(distance, (thigh - shank).abs() / _STRETCHED)
    old = torch.nn.functional.normalize(ankle - hip, dim=-1)
    pole = knee - hip + _FORWARD * thigh[:, None] * forward
    pole = pole - (pole * old).sum(dim=-1, keepdim=True) * old
    pole = (_between(old, along) @ pole[..., None])[..., 0]
    pole = torch.nn.functional.normalize(pole - (pole * along).sum(dim=-1, keepdim=True) * along, dim=-1)
    cosine = ((thigh**2 + distance**2 - shank**2) / (2.0 * thigh * distance)).clamp(-1.0, 1.0)
    sine = (1.0 - cosine**2).clamp_min(0.0).sqrt()
    new_knee = hip + thigh[:, None] * (cosine[:, None] * along + sine[:, None] * pole)
    new_ankle = hip + distance[:, None] * along
    return _between(knee - hip, new_knee - hip), _between(ankle - knee, new_ankle - new_knee)


def _between(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """The smallest rotations that turn directions into others."""
    first, second = (torch.nn.functional.normalize(vector, dim=-1) for vector in (first, second))
    axis = torch.linalg.cross(first, second)
    sine, cosine = axis.norm(dim=-1), (first * second).sum(dim=-1)
    angle = torch.atan2(sine, cosine)
    return roma.rotvec_to_rotmat(torch.nn.functional.normalize(axis, dim=-1, eps=1e-12) * angle[:, None])


def _fading(share: np.ndarray) -> np.ndarray:
    """1 at 0, 0 from 1 on, without a corner at either; what two that face each other give is 1 together."""
    share = np.clip(share, 0.0, 1.0)
    return 1.0 - share**2 * (3.0 - 2.0 * share)
