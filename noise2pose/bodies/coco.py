"""The 17 keypoints of COCO on a body: those of the face are vertices, those of the limbs kinematic joints."""

from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from noise2pose import skeletons
from noise2pose.bodies.model import COCO_FACE, BodyModel
from noise2pose.errors import InputError

SKELETON = "coco_17"
NUM_FACE = 5  # nose, eyes and ears come first in COCO's order


def coco_joints(
    body: BodyModel,
    global_orient: Float[Tensor, "*batch 3 3"],
    body_pose: Float[Tensor, "*batch joints 3 3"],
    betas: Float[Tensor, "*batch S"],
    translation: Float[Tensor, "*batch 3"] | None = None,
) -> Float[Tensor, "*batch 17 3"]:
    """COCO's keypoints of a posed body, metres, in the frame of `BodyModel.forward`.

    Args:
        body: SMPL, SMPL-H, SMPL-X or the free body, which share their first 22 joints.
        global_orient, body_pose, betas, translation: as in `BodyModel.forward`.

    Raises:
        InputError: if the body names no vertices of nose, eyes and ears.
    """
    face = face_points(body, global_orient, body_pose, betas, translation)
    joints = body.joints(global_orient, body_pose, betas, translation, regressor=body.regressors[0])
    return torch.cat((face, joints[..., kinematic_limbs(), :]), dim=-2)


def face_points(
    body: BodyModel,
    global_orient: Float[Tensor, "*batch 3 3"],
    body_pose: Float[Tensor, "*batch joints 3 3"],
    betas: Float[Tensor, "*batch S"],
    translation: Float[Tensor, "*batch 3"] | None = None,
) -> Float[Tensor, "*batch 5 3"]:
    """Nose, left eye, right eye, left ear and right ear of `coco_joints`.

    Raises:
        InputError: as `coco_joints`.
    """
    if COCO_FACE not in body.regressors:
        raise InputError(
            "this body has no nose, eyes and ears: expected vertex_ids nose, leye, reye, lear and rear in its file, "
            "which `noise2pose prepare body` writes"
        )
    return body.joints(global_orient, body_pose, betas, translation, regressor=COCO_FACE)


@cache
def kinematic_limbs() -> list[int]:
    """Kinematic joints that are COCO's shoulders, elbows, wrists, hips, knees and ankles, in COCO's order."""
    kinematic = skeletons.get("smpl_24")
    return [kinematic.index(joint) for joint in skeletons.get(SKELETON).joints[NUM_FACE:]]
