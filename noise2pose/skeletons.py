"""Named skeletons, and conversions between them that refuse what they cannot derive.

Equal joint names mean equal points. Where data sets place similar joints differently, the names differ, and a rule in
`_RULES` says which joints replace which. Every conversion is linear in the points.

Shape letters: J joints, C coordinates.
"""

from collections.abc import Mapping
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from noise2pose.errors import InputError
from noise2pose.skeleton_tables import SKELETONS, Skeleton

__all__ = ["SKELETONS", "Skeleton", "conversion_matrix", "convert", "convert_partly", "get", "place_hidden"]


def get(name: str) -> Skeleton:
    """The skeleton of that name.

    Raises:
        InputError: if there is none; the known names are listed.
    """
    if name not in SKELETONS:
        raise InputError(f"unknown skeleton {name}; known are {', '.join(SKELETONS)}")
    return SKELETONS[name]


def convert(
    points: Float[Tensor, "*batch J C"], source: str, target: str, has_confidence: bool = False
) -> Float[Tensor, "*batch K C"]:
    """The joints of one skeleton from those of another.

    Joints of the same name are copied; others are derived by the rules of this module, or refused.

    Args:
        points: (..., J, C) in the order of `source`.
        source: name of the skeleton that the points are of.
        target: name of the skeleton that is wanted.
        has_confidence: the last of the C columns is a confidence; a derived joint gets the smallest of its sources'.

    Returns:
        (..., K, C) in the order of `target`.

    Raises:
        InputError: if a skeleton is unknown, the number of joints is wrong, or joints cannot be derived; all are named.
    """
    expected = get(source).num_joints
    if points.ndim < 2 or points.shape[-2] != expected:
        raise InputError(f"points of shape {tuple(points.shape)} are not {source}: expected {expected} joints")
    matrix = conversion_matrix(source, target).to(points)
    if not has_confidence:
        return matrix @ points
    confidence = torch.where(matrix != 0, points[..., None, :, -1], torch.inf).amin(dim=-1)
    return torch.cat((matrix @ points[..., :-1], confidence[..., None]), dim=-1)


def convert_partly(points: Float[Tensor, "*batch J C"], source: str, target: str) -> Float[Tensor, "*batch K C"]:
    """As `convert` with `has_confidence`, but joints that cannot be derived or have no confidence become zeros.

    Args:
        points: (..., J, C) in the order of `source`; the last column is a confidence or validity.
        source: name of the skeleton that the points are of.
        target: name of the skeleton that is wanted.

    Raises:
        InputError: if a skeleton is unknown, or the number of joints is wrong.
    """
    expected, wanted = get(source), get(target)
    if points.ndim < 2 or points.shape[-2] != expected.num_joints:
        raise InputError(
            f"points of shape {tuple(points.shape)} are not {source}: expected {expected.num_joints} joints"
        )
    matrix = _partial_matrix(expected.joints, wanted.joints).to(points)
    confidence = torch.where(matrix != 0, points[..., None, :, -1], torch.inf).amin(dim=-1)
    confidence = torch.where((matrix != 0).any(dim=-1), confidence, 0.0)[..., None]
    return torch.where(confidence > 0, torch.cat((matrix @ points[..., :-1], confidence), dim=-1), 0.0)


def to_input(points: Float[Tensor, "*batch J 3"], source: str, target: str) -> Float[Tensor, "*batch K 3"]:
    """Every joint of a method's input from the keypoints of a detector, those that are not seen at a likely place.

    Args:
        points: (..., J, 3) pixels and confidence, in the order of `source`; three joints of each pose are visible.
        source: name of the skeleton that the points are of.
        target: name of the skeleton that the method takes.

    Returns:
        (..., K, 3); the confidence is 0 where a joint is hidden or cannot be derived. Such a joint is where
        `place_hidden` puts it, before the conversion if the source has it, else after. A hidden joint between seen
        ones, such as the pelvis, is derived from these, as if the source had none.

    Raises:
        InputError: if a skeleton is unknown, or the limbs of `target` cannot be derived.
    """
    check_input(source, target)
    placed = place_hidden(_with_middles(points, source), source)
    matrix = _partial_matrix(get(source).joints, get(target).joints).to(points)
    used = matrix != 0
    confidence = torch.where(used, placed[..., None, :, 2], torch.inf).amin(dim=-1)
    confidence = torch.where(used.any(dim=-1), confidence, 0.0)
    converted = torch.cat((matrix @ placed[..., :2], confidence[..., None]), dim=-1)
    if used.any(dim=-1).all():
        return converted
    derived = torch.where(used.any(dim=-1)[:, None], torch.ones_like(converted), 0.0)
    known = torch.cat((converted[..., :2], derived[..., 2:]), dim=-1)  # hidden joints have a place already
    return torch.cat((place_hidden(known, target)[..., :2], converted[..., 2:]), dim=-1)


def _with_middles(points: Float[Tensor, "*batch J 3"], skeleton: str) -> Float[Tensor, "*batch J 3"]:
    """Derives hidden joints that lie between two seen ones, with the smaller of their confidences."""
    joints = get(skeleton).joints
    points = points.clone()
    for middle in _MIDDLES:
        pair = next((tuple(rule) for rule in _RULES[middle] if len(rule) == 2 and set(rule) <= set(joints)), None)
        if middle not in joints or pair is None:
            continue
        ends = points[..., [joints.index(joint) for joint in pair], :]
        derived = torch.cat((ends[..., :2].mean(dim=-2), ends[..., 2].amin(dim=-1, keepdim=True)), dim=-1)
        place = joints.index(middle)
        hidden = (points[..., place, 2:] <= 0) & (derived[..., 2:] > 0)
        points[..., place, :] = torch.where(hidden, derived, points[..., place, :])
    return points


def check_input(source: str, target: str) -> None:
    """Raises an InputError that names the limbs, or the pelvis, of `target` that `source` cannot give."""
    given, limbs = get(source).joints, ("shoulder", "elbow", "wrist", "hip", "knee", "ankle", "pelvis")
    wanted = [joint for joint in get(target).joints if joint.endswith(limbs)]
    if missing := [joint for joint in wanted if _derive(joint, given, frozenset()) is None]:
        raise InputError(f"{target} cannot be derived from {source}: nothing gives {', '.join(missing)}")


@cache
def conversion_matrix(source: str, target: str) -> Float[Tensor, "K J"]:
    """The matrix that `convert` multiplies with; float64, to be copied before any change.

    Raises:
        InputError: as `convert`.
    """
    given, wanted = get(source).joints, get(target).joints
    missing = [joint for joint in wanted if _derive(joint, given, frozenset()) is None]
    if missing:
        raise InputError(f"{target} cannot be derived from {source}: nothing gives {', '.join(missing)}")
    return _partial_matrix(given, wanted)


@cache
def _partial_matrix(given: tuple[str, ...], wanted: tuple[str, ...]) -> Float[Tensor, "K J"]:
    """Weights of the given joints in each wanted one; a row of zeros for a joint that cannot be derived."""
    matrix = torch.zeros(len(wanted), len(given), dtype=torch.float64)
    for position, joint in enumerate(wanted):
        for source, weight in (_derive(joint, given, frozenset()) or {}).items():
            matrix[position, given.index(source)] = weight
    return matrix


def place_hidden(keypoints: Float[Tensor, "*batch J 3"], skeleton: str) -> Float[Tensor, "*batch J 3"]:
    """Places joints without confidence, which files often put at (0, 0), on the person.

    A hidden joint goes to the mean of the visible joints that are nearest along the skeleton's bones; its confidence
    stays 0. Visible joints stay where they are.

    Args:
        keypoints: (..., J, 3) pixels and confidence, finite; at least one joint of each pose is visible.
        skeleton: name of the skeleton that the keypoints are of.

    Raises:
        InputError: if the skeleton is unknown.
    """
    seen = keypoints[..., 2] > 0
    bones = _bones_between(get(skeleton).parents).to(keypoints)
    bones = torch.where(seen[..., None, :], bones, torch.inf)  # a visible joint is its own nearest
    nearest = ((bones == bones.amin(dim=-1, keepdim=True)) & seen[..., None, :]).to(keypoints)
    places = nearest @ keypoints[..., :2] / nearest.sum(dim=-1, keepdim=True).clamp_min(1.0)
    return torch.cat((torch.where(seen[..., None], keypoints[..., :2], places), keypoints[..., 2:]), dim=-1)


@cache
def _bones_between(parents: tuple[int, ...]) -> Float[Tensor, "J J"]:
    """Number of bones between every two joints; infinite where no bones join them."""
    bones = torch.full((len(parents), len(parents)), torch.inf)
    bones.fill_diagonal_(0.0)
    for joint, parent in enumerate(parents):
        if parent >= 0:
            bones[joint, parent] = bones[parent, joint] = 1.0
    for middle in range(len(parents)):  # Floyd and Warshall
        bones = torch.minimum(bones, bones[:, middle, None] + bones[middle])
    return bones


# What replaces a joint that a skeleton lacks: the first rule whose joints are there. Weights add up to one.
_RULES: dict[str, tuple[Mapping[str, float], ...]] = {
    "pelvis": ({"left_hip": 0.5, "right_hip": 0.5},),
    # Midpoint of the shoulders, where Human3.6M has its thorax and detectors have their neck.
    "thorax": ({"neck": 1.0}, {"left_shoulder": 0.5, "right_shoulder": 0.5}),
    "neck": ({"thorax": 1.0}, {"left_shoulder": 0.5, "right_shoulder": 0.5}),
    # Human3.6M's and MPI-INF-3DHP's joint halfway up the torso; SMPL's middle vertebra is within a few centimetres.
    "spine": ({"spine2": 1.0}, {"pelvis": 0.5, "thorax": 0.5}),
    # Human3.6M's "Neck/Nose" lies at the chin; MPI-INF-3DHP's head is the accepted stand-in both ways (EvoSkeleton).
    # MPII's upper neck and JHMDB's face lie where the head begins and in its middle.
    "chin": ({"head": 1.0}, {"nose": 1.0}, {"upper_neck": 1.0}, {"face": 1.0}),
    "head": ({"chin": 1.0},),
    # The ears are two thirds of the way from the shoulders to the crown.
    "head_top": (
        {"left_ear": 0.75, "right_ear": 0.75, "left_shoulder": -0.25, "right_shoulder": -0.25},
        {"nose": 1.5, "left_shoulder": -0.25, "right_shoulder": -0.25},
    ),
}

_MIDDLES = ("pelvis", "thorax", "neck")  # each halfway between the two joints of one of its rules


def _derive(joint: str, given: tuple[str, ...], visited: frozenset[str]) -> dict[str, float] | None:
    """Weights of the given joints that make up a joint, or None."""
    if joint in given:
        return {joint: 1.0}
    for rule in _RULES.get(joint, ()):
        if joint in visited:
            return None
        parts = {part: _derive(part, given, visited | {joint}) for part in rule}
        if all(part is not None for part in parts.values()):
            row: dict[str, float] = {}
            for part, weights in parts.items():
                for name, weight in (weights or {}).items():
                    row[name] = row.get(name, 0.0) + rule[part] * weight
            return row
    return None
