"""When an annotation is worth a look before it is used, and why."""

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from noise2pose import keyed_random, skeletons
from noise2pose.batch import PoseBatch, Prediction
from noise2pose.bodies import BodyModel
from noise2pose.images.crops import box_of_keypoints
from noise2pose.images.mirroring import mirror_batch, mirror_pose
from noise2pose.skeletons import Skeleton

SKELETON = "h36m_17"
MAX_REPROJECTION = 0.1  # of the joints on average, in sides of the box; above that an annotation is suspect
MAX_JOINT_REPROJECTION = 0.2  # of a single joint
MIN_VISIBLE = 6  # joints; below that it is suspect as well
# Confidence that a knee or ankle needs at the border of the image and beyond it, where a detector puts legs that nobody
# sees; it falls to MIN_CONFIDENCE at a fifth of the width or height from the border.
MIN_AT_BORDER = 0.9
_BORDER = 0.2
MIN_CONFIDENCE = 0.3  # of the legs; the 2-D detector takes joints below it as not seen
# Of the longest bone to the third longest, in the image and in lengths of usual bones. Perspective and detection errors
# make it above 2 for less than one of 100 people who are not seen from far above, joints of two people for 7 of 10.
MAX_STRETCH = 2.0
MAX_DISAGREEMENT = 0.1  # metres between two answers for one person; of mirrored clean keypoints 2 of 100 are above that
# Metres that slight changes of the input move a body at most; those of people who walk are moved by 0.04. Of 14 of 63
# poses whose bodies such changes move by 0.06 on average, three changes and what else is suspect tell 95 %.
MAX_OF_NOISE = 0.075
_CHANGES = 3
_KEYPOINT_NOISE = 0.01  # sides of the box, as detectors differ between recompressions of one photograph
_IMAGE_NOISE = 0.02  # of white
_STREAM = 320  # of keyed_random: this and the next
_LEGS = [f"{side}_{joint}" for side in ("left", "right") for joint in ("knee", "ankle")]
# Metres of the bones that are compared. The torso is one, because data sets place joints on the spine differently.
_BONES = {
    ("pelvis", "thorax"): 0.42,
    **{(f"{side}_hip", f"{side}_knee"): 0.40 for side in ("left", "right")},
    **{(f"{side}_knee", f"{side}_ankle"): 0.43 for side in ("left", "right")},
    **{(f"{side}_shoulder", f"{side}_elbow"): 0.28 for side in ("left", "right")},
    **{(f"{side}_elbow", f"{side}_wrist"): 0.21 for side in ("left", "right")},
}


def disagreement(first: Float[Tensor, "*batch J 3"], second: Float[Tensor, "*batch J 3"]) -> Float[Tensor, "*batch"]:
    """How far two answers for the same people are apart: mean distance of the joints after moving the roots together.

    Args:
        first, second: joints in metres, the root first.
    """
    return ((first - first[..., :1, :]) - (second - second[..., :1, :])).norm(dim=-1).mean(dim=-1)


@torch.no_grad()
def disagreement_with_mirror(
    answer: Callable[[PoseBatch], Prediction], batch: PoseBatch, prediction: Prediction, body: BodyModel
) -> Float[Tensor, " B"]:
    """`disagreement` with the answer for the mirrored batch, mirrored back, metres.

    Args:
        answer: method that made the prediction.
        batch: of single frames, with `keypoints_2d` and `camera`.
        prediction: for it, with `smpl` and `camera_translation`.
        body: whose parameters these are.
    """
    skeleton = skeletons.get(SKELETON)
    first, mirrored = (
        body.joints(**found["smpl"], translation=found["camera_translation"], regressor=SKELETON)
        for found in (prediction, answer(mirror_batch(batch, skeleton)))
    )
    return disagreement(first, mirror_pose(mirrored, skeleton))


@torch.no_grad()
def disagreement_with_noise(
    answer: Callable[[PoseBatch], Prediction], batch: PoseBatch, prediction: Prediction, body: BodyModel
) -> Float[Tensor, " B"]:
    """The largest `disagreement` with answers for slightly other keypoints and pixels of the same crop, metres.

    Args:
        answer, batch, prediction, body: as in `disagreement_with_mirror`; the noise is a function of the `sample_id`.
    """

    def joints(found: Prediction) -> Tensor:
        return body.joints(**found["smpl"], translation=found["camera_translation"], regressor=SKELETON)

    keypoints, first = batch["keypoints_2d"], joints(prediction)
    keys = keyed_random.keys_of(batch["sample_id"], keypoints.device)
    size = _KEYPOINT_NOISE * box_of_keypoints(keypoints)[:, None, 2:] * (keypoints[..., 2:] > 0)
    answers = []
    for seed in range(_CHANGES):
        noise = keyed_random.normal(keys, (keypoints.shape[-2], 2), stream=_STREAM, seed=seed)
        changed: PoseBatch = {
            **batch,
            "keypoints_2d": torch.cat((keypoints[..., :2] + size * noise, keypoints[..., 2:]), dim=-1),
        }
        if "image" in batch:
            pixels = keyed_random.normal(keys, batch["image"].shape[1:], stream=_STREAM + 1, seed=seed)
            changed["image"] = (batch["image"] + _IMAGE_NOISE * pixels).clamp(0.0, 1.0)
        answers.append(disagreement(first, joints(answer(changed))))
    return torch.stack(answers).amax(dim=0)


def suspicions(person: Mapping[str, np.ndarray], mirrored: float = 0.0, noisy: float = 0.0) -> list[str]:
    """Why an annotation is worth a look, in words; nothing if it is not.

    Args:
        person: the arrays of `layout.ARRAYS` for one person, all but these words.
        mirrored: `disagreement_with_mirror` of the person, metres.
        noisy: `disagreement_with_noise` of the person, metres.
    """
    reasons = []
    skeleton = skeletons.get(SKELETON)
    seen = person["observed"]
    visible = int(seen.sum())
    error, side = float(person["reprojection_after"]), float(person["box"][2])
    values = np.concatenate([person[key].ravel() for key in ("poses", "trans", "betas", "joints_3d")])
    if not np.isfinite(values).all() or (visible and not math.isfinite(error)):
        reasons.append("not every number is finite")
    if error > MAX_REPROJECTION * side > 0.0:
        reasons.append(f"the joints are {error:.0f} pixels from their keypoints on average, in a box of {side:.0f}")
    else:
        reasons += _far_joint(person, skeleton)
    if visible < MIN_VISIBLE:
        reasons.append(f"{visible} joints are visible, fewer than {MIN_VISIBLE}")
    inside = int(_in_image(person).sum())
    if visible and person["image_size"].all() and 2 * inside < visible:
        found = f"{inside} of {visible} keypoints are" if inside else "no keypoint is"
        reasons.append(f"{found} in the image, whose size may be another one")
    legs = float(person["keypoints_2d"][[skeleton.index(joint) for joint in _LEGS], 2].max())
    if visible and legs <= 0.0:
        reasons.append("the legs were not seen and are made up")
    elif visible and legs < MIN_CONFIDENCE:
        reasons.append(f"the legs were hardly seen, with a confidence of {legs:.2f} at most")
    else:
        reasons += _legs_at_border(person, skeleton)
    reasons += _two_people(person, skeleton)
    if mirrored > MAX_DISAGREEMENT:
        reasons.append(f"mirrored, the same person gets a body that is {1000.0 * mirrored:.0f} mm away on average")
    if noisy > MAX_OF_NOISE:
        reasons.append(f"slightly other keypoints give a body that is {1000.0 * noisy:.0f} mm away on average")
    if (person["joints_3d"][:, 2] <= 0.0).any():
        reasons.append("the body is behind the camera")
    return reasons


def _in_image(person: Mapping[str, np.ndarray]) -> np.ndarray:
    """Which keypoints are seen, and in the image."""
    pixels = person["keypoints_2d"][:, :2]
    return person["observed"] & ((pixels >= 0) & (pixels <= person["image_size"])).all(axis=-1)


def _legs_at_border(person: Mapping[str, np.ndarray], skeleton: Skeleton) -> list[str]:
    """Whether no knee or ankle is certain enough for its place: in a portrait a detector makes them up."""
    legs = [skeleton.index(joint) for joint in _LEGS]
    points, size = person["keypoints_2d"][legs], person["image_size"]
    seen = points[:, 2] > 0
    if not size.all() or not seen.any():
        return []
    inwards = np.minimum(points[:, :2] / size, 1.0 - points[:, :2] / size).min(axis=-1).clip(0.0, _BORDER)
    needed = MIN_AT_BORDER - (MIN_AT_BORDER - MIN_CONFIDENCE) * inwards / _BORDER
    if (points[:, 2] >= needed).any():
        return []
    where = "near the border of the image or beyond it"
    return [f"the legs are {where}, with a confidence of {points[:, 2].max():.2f} at most: a detector may invent them"]


def _far_joint(person: Mapping[str, np.ndarray], skeleton: Skeleton) -> list[str]:
    """Whether a joint is far from its keypoint; the less it is trusted the farther it may be."""
    joints, side = person["joints_3d"], float(person["box"][2])
    with np.errstate(divide="ignore", invalid="ignore"):
        pixels = joints[:, :2] / joints[:, 2:] * person["camera_focal"] + person["camera_principal_point"]
    distance = np.linalg.norm(pixels - person["keypoints_2d"][:, :2], axis=-1)
    weighted = np.where(person["observed"], distance * np.minimum(person["keypoints_2d"][:, 2], 1.0), 0.0)
    joint = int(np.nan_to_num(weighted).argmax())
    if not weighted[joint] > MAX_JOINT_REPROJECTION * side > 0.0:
        return []
    name = skeleton.joints[joint].replace("_", " ")
    return [f"the {name} is {distance[joint]:.0f} pixels from its keypoint, in a box of {side:.0f}"]


def _two_people(person: Mapping[str, np.ndarray], skeleton: Skeleton) -> list[str]:
    """Whether a bone is far too long in the image for the others, as the one between joints of two people is."""
    upper, lower = ([skeleton.index(bone[end]) for bone in _BONES] for end in (0, 1))
    seen = person["observed"][lower] & person["observed"][upper]
    pixels = np.linalg.norm(person["keypoints_2d"][lower, :2] - person["keypoints_2d"][upper, :2], axis=-1)
    stretch = np.where(seen, pixels / list(_BONES.values()), 0.0)
    order = np.argsort(stretch)
    longest, third = order[-1], order[-3]
    if seen.sum() < 5 or not stretch[longest] > MAX_STRETCH * stretch[third]:
        return []
    ends = " and ".join(skeleton.joints[of[longest]].replace("_", " ") for of in (upper, lower))
    return [f"the keypoints of {ends} are too far apart for one person"]
