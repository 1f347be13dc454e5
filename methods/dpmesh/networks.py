"""DPMesh's network: a backbone that answers with one feature map, and a regressor that reads it.

Shape letters: B batch, S side of the picture, F channels of the feature map.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import Parameter

from methods.dpmesh.baselines import ResNetFeatures, TransformerFeatures
from methods.dpmesh.conditions import Conditions, resized
from methods.dpmesh.context import Context
from methods.dpmesh.features import DiffusionFeatures, PictureFeatures
from methods.dpmesh.losses import WEIGHTS, UncertaintyWeights
from methods.dpmesh.pose_heads import PoseHead
from methods.dpmesh.regressor import RELEASE, Estimate, Regressor
from methods.dpmesh.sizes import SIZES, BackboneName, Sides, Size, sides_of


class MeshNetwork(nn.Module):
    """From a picture and the conditions to a body and a camera.

    Args:
        features: the backbone.
        regressor: takes its feature map.
        sides: S, what pictures are resized to, and of what comes after.
        balance: learned weights of the losses, if they are learned.
    """

    def __init__(
        self, features: PictureFeatures, regressor: Regressor, sides: Sides, balance: UncertaintyWeights | None
    ) -> None:
        super().__init__()
        self.features = features
        self.regressor = regressor
        self.sides = sides
        self.balance = balance

    def forward(self, image: Float[Tensor, "B 3 s s"], conditions: Conditions) -> tuple[Estimate, list[Tensor]]:
        """The estimate, and the levels of the backbone that a student is taught."""
        found = self.features(resized(image, self.sides.image), conditions)
        # Rotations, cameras and places need more digits than bfloat16 has.
        with torch.autocast(image.device.type, enabled=False):
            return self.regressor(found.fused.float()), found.levels

    def levels(self, image: Float[Tensor, "B 3 s s"], conditions: Conditions) -> list[Tensor]:
        """The levels alone."""
        return self.features(resized(image, self.sides.image), conditions).levels

    def attention(self, image: Float[Tensor, "B 3 s s"], conditions: Conditions) -> dict[int, Float[Tensor, "B J _ _"]]:
        """Where the backbone looks for each joint, by the sides of its levels."""
        return self.features.attention(resized(image, self.sides.image), conditions)

    def parameter_groups(self, weight_decay: float) -> list[tuple[float, list[Parameter]]]:
        """What is trained, with the weight decay of each group."""
        scales = [] if self.balance is None else list(self.balance.parameters())
        trained = [p for part in (self.features, self.regressor) for p in part.parameters() if p.requires_grad]
        return [(weight_decay, trained), *([(0.0, scales)] if scales else [])]


def make_network(
    backbone: BackboneName,
    size: Size,
    pose_head: PoseHead,
    num_joints: int,
    uncertainty: bool,
    heatmaps: bool,
    context: Context,
    diffusion: Mapping[str, Any],
    release: bool = False,
    sides: Sides | None = None,
) -> MeshNetwork:
    """A network with weights yet to be trained or loaded.

    Args:
        backbone: which one.
        size: of everything.
        pose_head: of the regressor.
        num_joints: of the conditions.
        uncertainty: learn the weights of the losses.
        heatmaps: whether the backbone is shown the heat-maps.
        context: of the diffusion backbone.
        diffusion: further settings of it, see `Backbone`.
        release: make the regressor as it was published.
        sides: of the picture and of what comes after, if not those of the size.
    """
    sizes, sides = SIZES[size], sides or sides_of(size)
    if backbone == "diffusion":
        features = DiffusionFeatures(num_joints, sizes.features, heatmaps, context, {"size": size, **diffusion})
    elif backbone == "resnet50":
        features = ResNetFeatures(num_joints, sizes.features, sides.cells)
    else:
        features = TransformerFeatures(num_joints, sizes.features, sides.image, *sizes.transformer, cells=sides.cells)
    regressor = Regressor(
        sizes.features,
        pose_head,
        sizes.width,
        rows=sides.cells,
        num_encoder_layers=sizes.num_encoder_layers,
        num_decoder_layers=sizes.num_decoder_layers,
        feedforward=sizes.feedforward,
        volume_feedforward=sizes.volume_feedforward,
        dropout=sizes.dropout,
        **(RELEASE if release else {}),
    )
    balance = UncertaintyWeights((*WEIGHTS, "tokens")) if uncertainty else None
    return MeshNetwork(features, regressor, sides, balance)


def make_teacher(student: MeshNetwork) -> MeshNetwork:
    """A network like the student's, with the same weights; what training leaves as it is, they have in common.

    Stable Diffusion's weights are frozen, and are most of the memory.
    """
    shared: dict[int, Any] = {id(p): p for p in student.parameters() if not p.requires_grad}
    teacher = copy.deepcopy(student, shared)
    for ours, copied in zip(student.modules(), teacher.modules(), strict=True):
        if ours._compiled_call_impl is not None:  # which a copy has not
            copied.compile()
    return teacher
