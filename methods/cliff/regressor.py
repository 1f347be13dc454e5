"""What CLIFF adds to HMR's regressor: where the box is, given in two units, and a choice of networks and bodies.

Shape letters: B batch, S side of the crops in pixels.
"""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from methods.mesh_batches import PinholeCamera
from methods.mesh_regression import NUM_BETAS, NUM_ROTATIONS, Estimate, Regressor, box_in_view
from methods.networks.backbones import Backbone, EfficientNetLite0, ResNet50
from methods.networks.hrnet import ClassificationHRNet, PoseHRNet

BackboneName = Literal["resnet50", "hrnet_w48", "hrnet_w48_pose", "efficientnet_lite0"]
BoxNorm = Literal["cliff", "bedlam"]
Crop = Literal["square", "portrait"]
Head = Literal["smpl", "smplx"]

BACKBONES: dict[str, type[Backbone]] = {
    "resnet50": ResNet50,
    "hrnet_w48": ClassificationHRNet,
    "hrnet_w48_pose": PoseHRNet,
    "efficientnet_lite0": EfficientNetLite0,
}
_PORTRAIT = (256, 192)  # height and width of CLIFF's crops, pixels
_OFFSET, _USUAL_SIDE, _SIDE_SPREAD = 2.8, 0.24, 0.06  # of CLIFF's units: all in focal lengths


class HeadSize(NamedTuple):
    """What a regressor estimates.

    Attributes:
        num_rotations: the root's and those of the body.
        num_betas: shape coefficients.
    """

    num_rotations: int
    num_betas: int


HEADS: dict[str, HeadSize] = {"smpl": HeadSize(NUM_ROTATIONS, NUM_BETAS), "smplx": HeadSize(22, 11)}


def box_information(box: Float[Tensor, "B 3"], camera: PinholeCamera, norm: BoxNorm) -> Float[Tensor, "B 3"]:
    """What the regressor is told about the box: its place, from the principal point, and its side.

    Args:
        box: centre x, centre y and side, pixels.
        camera: of the whole image.
        norm: `bedlam` for focal lengths. `cliff` for the same, brought to about [-1, 1]: 2.8 times the place, and
            (side - 0.24) / 0.06. Weights that were trained with one are wrong with the other, and nothing shows it.
    """
    place = box_in_view(box, camera)
    if norm == "bedlam":
        return place
    return torch.cat((_OFFSET * place[:, :2], (place[:, 2:] - _USUAL_SIDE) / _SIDE_SPREAD), dim=-1)


def cropped(image: Float[Tensor, "B 3 S S"], crop: Crop) -> Float[Tensor, "B 3 height width"]:
    """The crop as the network takes it.

    Args:
        image: of the whole box.
        crop: `square` for all of it; `portrait` for its middle three quarters at 256 x 192 pixels, as CLIFF was
            trained, whose boxes have a side of at least four thirds of the person's width.
    """
    if crop == "square":
        return image
    side = image.shape[-1]
    cut = side // 8
    return F.interpolate(image[..., cut : side - cut], size=_PORTRAIT, mode="bilinear", align_corners=False)


def regressor_for(
    backbone: Backbone, head: HeadSize, hidden: int = 1024, num_iterations: int = 3, dropout: float = 0.5
) -> Regressor:
    """A regressor on the features of the backbone and the box information."""
    return Regressor(backbone.width + 3, hidden, num_iterations, dropout, *head)


def of_smpl(estimate: Estimate) -> Estimate:
    """The estimate as SMPL's 24 rotations and 10 shape coefficients, which the batches and answers have.

    Of SMPL-X, the hands are not estimated and stay in the rest pose; the eleventh shape coefficient is left out,
    because body files have ten.
    """
    missing = NUM_ROTATIONS - estimate.rotations.shape[1]
    rest = torch.eye(3, dtype=estimate.rotations.dtype, device=estimate.rotations.device)
    rotations = torch.cat((estimate.rotations, rest.expand(len(estimate.rotations), missing, 3, 3)), dim=1)
    return Estimate(rotations, estimate.betas[:, :NUM_BETAS], estimate.camera)
