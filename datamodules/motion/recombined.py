"""New poses from recorded ones: one person's legs below another's trunk, or with another's arms.

A few dozen people do a few dozen things; a lifter also meets squatting people who point at the sky. Parts of two poses
put together give poses that are plausible limb by limb (Li et al., CVPR 2020, "Cascaded deep monocular 3D human pose
estimation with evolutionary training data").

Shape letters: B samples, F frames of a sample, J joints.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from noise2pose import keyed_random, skeletons

_STREAM = 210  # of keyed_random: this and the next
_UPPER_BODY = 0.5  # share of the new poses that have the other's trunk, head and arms; the rest have limbs of the other
_LIMB = 0.5  # chance of each limb of the rest to be the other's

_SMPL_UPPER = ("spine1", "spine2", "spine3", "neck", "skull_base", "collar", "shoulder", "elbow", "wrist", "hand")
_SMPL_LIMBS = (("shoulder", "elbow", "wrist", "hand"), ("hip", "knee", "ankle", "foot"))
_ABOVE_PELVIS = ("spine", "thorax", "neck", "chin", "head", "head_top", "shoulder", "elbow", "wrist")


def partners(keys: Int[Tensor, " B"], number: int, seed: int) -> Int[Tensor, " B"]:
    """Which of `number` samples gives each sample the other parts."""
    drawn = keyed_random.uniform(keys, (), stream=_STREAM, seed=seed).double()
    return (drawn * number).long()


def recombined(
    joints: Float[Tensor, "B F J 3"],
    others: Float[Tensor, "B F J 3"],
    keys: Int[Tensor, " B"],
    *,
    share: float,
    skeleton: str,
    seed: int,
) -> Float[Tensor, "B F J 3"]:
    """Some of the poses with parts of others.

    The other's upper body is turned such that hips and spine are directed alike, its arms such that shoulders and
    thorax are, its legs such that the hips are; parts keep their bone lengths.

    Args:
        joints: metres, z up.
        others: from which the parts are taken.
        keys: of the samples.
        share: of the samples that are changed.
        skeleton: joint order, with a pelvis, spine and thorax; a name in `noise2pose.skeletons`.
        seed: which repetition this is.
    """
    known = skeletons.get(skeleton)
    at = {joint: number for number, joint in enumerate(known.joints)}
    upper, chosen_limbs = _parts(keys, share, seed)
    result = joints.clone()

    def take(parts: list[int], placed: Tensor, chosen: Tensor) -> None:
        result[:, :, parts] = torch.where(chosen[:, None, None, None], placed[:, :, parts], result[:, :, parts])

    def turned(about: str, rotation: Tensor) -> Tensor:
        """The other's joints, turned about one joint and put where that joint is here."""
        joint = at[about]
        centred = others - others[:, :, joint : joint + 1]
        return centred @ rotation.mT + result[:, :, joint : joint + 1]

    trunk = [at[joint] for joint in known.joints if joint.endswith(_ABOVE_PELVIS)]
    hips = (at["left_hip"], at["right_hip"], at["pelvis"], at["spine"])
    by_hips = _axes(joints, *hips) @ _axes(others, *hips).mT
    take(trunk, turned("pelvis", by_hips), upper)
    shoulders = (at["left_shoulder"], at["right_shoulder"], at["spine"], at["thorax"])
    by_shoulders = _axes(result, *shoulders) @ _axes(others, *shoulders).mT
    limbs = [(f"{side}_{start}", parts, rotation) for start, parts, rotation in (
        ("shoulder", ("elbow", "wrist"), by_shoulders), ("hip", ("knee", "ankle"), by_hips)
    ) for side in ("left", "right")]  # fmt: skip
    for (start, parts, rotation), chosen in zip(limbs, chosen_limbs.unbind(dim=-1), strict=True):
        side = start.split("_")[0]
        take([at[f"{side}_{part}"] for part in parts], turned(start, rotation), chosen)
    return result


def recombined_rotations(
    rotations: Float[Tensor, "B 24 3 3"],
    others: Float[Tensor, "B 24 3 3"],
    keys: Int[Tensor, " B"],
    *,
    share: float,
    seed: int,
) -> Float[Tensor, "B 24 3 3"]:
    """`recombined` for the rotations of SMPL's joints, which are relative to their parents and need no turning.

    Args:
        rotations: of the poses.
        others: from which the parts are taken.
        keys: of the samples.
        share: of the samples that are changed.
        seed: which repetition this is.
    """
    joints = skeletons.get("smpl_24").joints
    upper, chosen = _parts(keys, share, seed)
    taken = upper[:, None] & torch.tensor([joint.endswith(_SMPL_UPPER) for joint in joints], device=keys.device)
    limbs = [[f"{side}_{part}" for part in parts] for parts in _SMPL_LIMBS for side in ("left", "right")]
    for number, limb in enumerate(limbs):
        taken = taken | chosen[:, number, None] & torch.tensor([joint in limb for joint in joints], device=keys.device)
    return torch.where(taken[..., None, None], others, rotations)


def _parts(keys: Int[Tensor, " B"], share: float, seed: int) -> tuple[Bool[Tensor, " B"], Bool[Tensor, "B 4"]]:
    """Which samples have another's upper body, and which another's left arm, right arm, left leg or right leg."""
    drawn = keyed_random.uniform(keys, (6,), stream=_STREAM + 1, seed=seed)
    changed = drawn[:, 0] < share
    upper = changed & (drawn[:, 1] < _UPPER_BODY)
    return upper, (changed & ~upper)[:, None] & (drawn[:, 2:] < _LIMB)


def _axes(joints: Float[Tensor, "B F J 3"], left: int, right: int, low: int, high: int) -> Float[Tensor, "B F 3 3"]:
    """Axes of a part of the trunk as columns: from right to left, upwards, and to the front."""
    across = F.normalize(joints[:, :, left] - joints[:, :, right], dim=-1)
    front = F.normalize(torch.linalg.cross(across, joints[:, :, high] - joints[:, :, low]), dim=-1)
    return torch.stack((across, torch.linalg.cross(front, across), front), dim=-1)
