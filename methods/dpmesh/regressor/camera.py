"""What the three numbers of DPMesh's camera mean.

The third says how deep the person stands: after a sigmoid, in units of `RANGE`, it is how many metres of the person's
plane the box shows. The first two are the body's translation across and down, in metres, from the ray through the
middle of the box. A focal length and a box then put the body in the camera of the whole picture.

Shape letters: B batch, J joints.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from noise2pose import cameras
from noise2pose.batch import PoseBatch
from noise2pose.errors import InputError

RANGE = 2.5  # metres that the box shows at most (release: `camera_3d_size`)
_NARROWEST = 0.02  # of the sigmoid: five centimetres across the box
_NEAREST = 0.1  # metres in front of the camera


def full_translation(
    camera: Float[Tensor, "B 3"],
    box: Float[Tensor, "B 3"],
    focal: Float[Tensor, "B 2"],
    principal_point: Float[Tensor, "B 2"],
) -> Float[Tensor, "B 3"]:
    """Translation of the body in the camera of the whole picture, metres.

    Args:
        camera: of the regressor.
        box: centre x, centre y and side, pixels.
        focal: of each picture, see `intrinsics`.
        principal_point: pixels.
    """
    metres = RANGE * camera[:, 2:].sigmoid().clamp_min(_NARROWEST)
    weak = torch.cat((2.0 / metres, camera[:, :2]), dim=-1)  # a scale of 1 shows two metres
    # The formula takes the principal point to be the middle of the picture: this is the size of such a picture.
    return cameras.crop_to_full_translation(weak, box, 2.0 * principal_point, focal[:, 0])


def intrinsics(batch: PoseBatch) -> tuple[Float[Tensor, "B 2"], Float[Tensor, "B 2"]]:
    """Focal length and principal point of each picture, pixels.

    Where they are unknown, the focal length is the diagonal of the picture (CLIFF) and the principal point its middle.

    Raises:
        InputError: if the size of the picture is not known either.
    """
    camera = batch.get("camera", {})
    if "focal" in camera and "principal_point" in camera:
        return camera["focal"], camera["principal_point"]
    if "image_size" in camera:
        size = camera["image_size"]
    elif "principal_point" in camera:
        size = 2.0 * camera["principal_point"]
    else:
        raise InputError("camera of the batch has neither focal nor image_size: DPMesh needs one to place a person")
    diagonal = torch.linalg.vector_norm(size, dim=-1, keepdim=True).expand(-1, 2)
    return camera.get("focal", diagonal), camera.get("principal_point", size / 2.0)


def project_to_picture(
    joints: Float[Tensor, "B J 3"],
    translation: Float[Tensor, "B 3"],
    focal: Float[Tensor, "B 2"],
    principal_point: Float[Tensor, "B 2"],
) -> Float[Tensor, "B J 2"]:
    """Pixels of joints in the whole picture; what lies behind the camera is put just in front of it."""
    points = joints + translation[:, None]
    points = torch.cat((points[..., :2], points[..., 2:].clamp_min(_NEAREST)), dim=-1)
    return cameras.project(points, focal, principal_point)
