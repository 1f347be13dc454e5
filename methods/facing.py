"""Bodies regressed from the limbs in their box, for people of any size anywhere in an image.

As `methods.lifting` does for joints: a camera at the same place is turned to the person, the method sees their limbs in
the box around these, and its answer is turned back. Box and camera belong together: where the method puts a body into
the box it projects on the keypoints in the turned camera, and turned back on those of the image.

Shape letters: B batch, J joints.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from methods import lifting
from methods.mesh_batches import camera_of
from noise2pose.batch import Camera, PoseBatch, Prediction
from noise2pose.images.crops import box_of_keypoints
from noise2pose.skeletons import Skeleton

Normalisation = Literal["box", "limbs"]

_LEFT_OUT = ("vertices", "smpl_joints", "camera_translation")  # of the ground truth, which training does not use
_SMALLEST_BOX = 1.0  # pixels


def towards_person(
    batch: PoseBatch, skeleton: Skeleton, normalisation: Normalisation
) -> tuple[PoseBatch, Float[Tensor, "B 3 3"] | None]:
    """What a camera that looks at the person sees: their limbs, and the box around these.

    Args:
        batch: single frames.
        skeleton: of the joints.
        normalisation: of the method; with `box` the batch is unchanged.

    Returns:
        The batch of the turned camera, in which other joints than limbs have no confidence, and the rotation from the
        camera's frame, or None.
    """
    if normalisation == "box":
        return batch, None
    focal, principal_point = camera_of(batch)
    camera: Camera = {**batch["camera"], "focal": focal, "principal_point": principal_point}
    turned, rotation = lifting.towards_person({**batch, "camera": camera}, skeleton, "limbs")
    assert rotation is not None
    keypoints = limbs(turned["keypoints_2d"], skeleton)
    box = box_of_keypoints(keypoints, scale=1.0)
    nobody = box[:, 2:] < _SMALLEST_BOX
    elsewhere = torch.cat((principal_point, torch.full_like(box[:, 2:], _SMALLEST_BOX)), dim=-1)
    facing: PoseBatch = {**turned, "keypoints_2d": keypoints, "box": torch.where(nobody, elsewhere, box)}
    for key in _LEFT_OUT:
        facing.pop(key, None)
    if "smpl" in batch:
        facing["smpl"] = {**batch["smpl"], "global_orient": rotation @ batch["smpl"]["global_orient"]}
    return facing, rotation


def turned_back(
    prediction: Prediction, rotation: Float[Tensor, "B 3 3"] | None, rest_root: Float[Tensor, "B 3"]
) -> Prediction:
    """The prediction for a batch of `towards_person` in the frame of the camera itself.

    Args:
        prediction: a body.
        rotation: of `towards_person`.
        rest_root: root joint of each body in the rest pose, about which `smpl` rotates it, metres.
    """
    if rotation is None:
        return prediction
    turned = lifting.turned_back(prediction, rotation)
    if "vertices" in prediction:
        turned["vertices"] = prediction["vertices"] @ rotation
    smpl, root = prediction["smpl"], prediction["camera_translation"] + rest_root
    turned["smpl"] = {**smpl, "global_orient": rotation.mT @ smpl["global_orient"]}
    turned["camera_translation"] = (rotation.mT @ root[..., None])[..., 0] - rest_root
    return turned


def limbs(keypoints: Float[Tensor, "B J 3"], skeleton: Skeleton) -> Float[Tensor, "B J 3"]:
    """The keypoints without confidence where they are no shoulder, elbow, wrist, hip, knee or ankle."""
    counted = lifting.limbs_of(skeleton).to(keypoints)
    return torch.cat((keypoints[..., :2], keypoints[..., 2:].clamp_max(1.0) * counted[:, None]), dim=-1)
