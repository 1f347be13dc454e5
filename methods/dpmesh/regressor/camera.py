"""What the three numbers of DPMesh's camera mean.

The third is the depth of the person: its sigmoid, times `RANGE`, is how many metres of the person's plane the box
shows. The first two are the body's translation to the right and down, in metres, from the ray through the middle of the
box. A focal length and a box then place the body in the camera of the whole image.

Shape letters: B batch.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from methods.mesh_batches import PinholeCamera, translation_in_image

RANGE = 2.5  # metres that the box shows at most (release: `camera_3d_size`)
_NARROWEST = 0.02  # of the sigmoid: five centimetres across the box


def full_translation(
    camera: Float[Tensor, "B 3"], box: Float[Tensor, "B 3"], image_camera: PinholeCamera
) -> Float[Tensor, "B 3"]:
    """Translation of the body in the camera of the whole image, metres.

    Args:
        camera: of the regressor.
        box: centre x, centre y and side, pixels.
        image_camera: of the whole image.
    """
    metres = RANGE * camera[:, 2:].sigmoid().clamp_min(_NARROWEST)
    return translation_in_image(torch.cat((2.0 / metres, camera[:, :2]), dim=-1), box, image_camera)
