"""DPMesh's network: a backbone that computes one feature map, and a regressor that reads it.

Shape letters: B batch, J joints, s side of the given images.
"""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import Parameter

from methods.checkpoints import (
    describe_method,
    load_method,
    make_described_method,
    read_checkpoint,
    read_torch_file,
)
from methods.dpmesh.backbone.attention import Context
from methods.dpmesh.backbone.baselines import ResNetFeatures, TransformerFeatures
from methods.dpmesh.backbone.features import DiffusionFeatures, ImageFeatures
from methods.dpmesh.codebook_training import Codebook
from methods.dpmesh.conditions import Conditions, resized
from methods.dpmesh.losses import WEIGHTS, UncertaintyWeights
from methods.dpmesh.regressor.pose_heads import CodebookHead, PoseHead, Rot6dHead, VPoserDecoder, VPoserHead
from methods.dpmesh.regressor.regressor import RELEASE, Estimate, Regressor
from methods.dpmesh.settings import SIZES, BackboneName, Sides, Size, sides_of
from methods.official_weights import check, load
from noise2pose.errors import InputError

PoseHeadName = Literal["vq_soft", "vq_ce", "rot6d", "vposer"]

_NETWORK = "network."  # where a DPMesh has the student
_WITH_CODEBOOK = ("vq_soft", "vq_ce")
_VPOSER = "bodyprior_dec_"  # begins the names of the tensors of VPoser's decoder


class MeshNetwork(nn.Module):
    """From an image and the conditions to a body and a camera.

    Args:
        features: the backbone.
        regressor: takes its feature map.
        sides: that images are resized to, and of the feature maps.
        balance: learned weights of the losses; None where the weights are fixed.
    """

    def __init__(
        self, features: ImageFeatures, regressor: Regressor, sides: Sides, balance: UncertaintyWeights | None
    ) -> None:
        super().__init__()
        self.features = features
        self.regressor = regressor
        self.sides = sides
        self.balance = balance

    def forward(self, image: Float[Tensor, "B 3 s s"], conditions: Conditions) -> tuple[Estimate, list[Tensor]]:
        """The estimate, and the levels of the backbone, which student and teacher are compared by."""
        features = self.features(resized(image, self.sides.image), conditions)
        # Rotations, cameras and places need more digits than bfloat16 has.
        with torch.autocast(image.device.type, enabled=False):
            return self.regressor(features.fused.float()), features.levels

    def levels(self, image: Float[Tensor, "B 3 s s"], conditions: Conditions) -> list[Tensor]:
        """The levels of the backbone alone."""
        return self.features(resized(image, self.sides.image), conditions).levels

    def attention(self, image: Float[Tensor, "B 3 s s"], conditions: Conditions) -> dict[int, Float[Tensor, "B J _ _"]]:
        """The backbone's cross-attention to each joint, by the sides of its levels."""
        return self.features.attention(resized(image, self.sides.image), conditions)

    def parameter_groups(self, weight_decay: float) -> list[tuple[float, list[Parameter]]]:
        """The trained parameters, with the weight decay of each group."""
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
    """A network that is not trained yet.

    Args:
        backbone: which one.
        size: of all parts.
        pose_head: of the regressor.
        num_joints: J.
        uncertainty: learn the weights of the losses.
        heatmaps: give the heat-maps to the backbone.
        context: of the diffusion backbone.
        diffusion: further settings of the diffusion backbone, see `Backbone`.
        release: make the regressor as it was published.
        sides: of images and feature maps; by default those of the size.
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
    """A copy of the student's network that shares the student's frozen parameters.

    These are Stable Diffusion's weights, which take most of the memory.
    """
    shared: dict[int, Any] = {id(p): p for p in student.parameters() if not p.requires_grad}
    teacher = copy.deepcopy(student, shared)
    for ours, copied in zip(student.modules(), teacher.modules(), strict=True):
        if ours._compiled_call_impl is not None:  # which is not copied
            copied.compile()
    return teacher


def read_teacher(path_or_name: str, teacher: MeshNetwork, student: MeshNetwork) -> None:
    """Fills the teacher with the network of a trained DPMesh.

    Args:
        path_or_name: of the checkpoint or model.
        teacher: to fill.
        student: shares the frozen parameters with the teacher; they are filled already.

    Raises:
        InputError: if the checkpoint is missing or damaged, or of a network with other settings or frozen weights.
    """
    try:
        state = read_checkpoint(path_or_name)["state_dict"]
        if any(key.startswith("backbone.unet.") for key in state):
            raise InputError("it is a diffusion prior, expected a trained DPMesh")
        weights = {key.removeprefix(_NETWORK): value for key, value in state.items() if key.startswith(_NETWORK)}
        weights = check(teacher, weights, "a DPMesh of these settings")
    except InputError as error:
        raise InputError(f"model.teacher_checkpoint: {path_or_name}: {error}") from error
    ours = dict(student.named_parameters())
    shared = [name for name, parameter in teacher.named_parameters() if parameter is ours[name]]
    if other := [name for name in shared if not torch.equal(ours[name], weights[name].to(ours[name].device))]:
        raise InputError(
            f"model.teacher_checkpoint: {path_or_name} was trained from other frozen weights ({other[0]}); give the "
            "model.prior_checkpoint, model.pretrained or model.codebook_checkpoint that it was trained with"
        )
    teacher.load_state_dict(weights)


def make_pose_head(
    name: PoseHeadName,
    width: int,
    num_layers: int,
    codebook_checkpoint: str | None,
    codebook: str | None,
    vposer_file: str | None,
) -> tuple[PoseHead, str | None]:
    """A pose head, and the description of its codebook.

    Args:
        name: `vq_soft` for averages of codes, `vq_ce` for the most probable codes, which also have a cross-entropy
            loss, `rot6d` for rotations, `vposer` for codes of VPoser (release).
        width: of the decoder's states.
        num_layers: of the decoder.
        codebook_checkpoint: checkpoint of `methods.dpmesh.Codebook`, or the name of a shipped one.
        codebook: description of a codebook whose weights are loaded with those of the whole model; used if the
            checkpoint is not given or does not exist any more.
        vposer_file: weights of VPoser; None if they are loaded with those of the whole model.

    Raises:
        InputError: if a file is missing or of another kind.
    """
    for option, value, heads in (
        ("codebook_checkpoint", codebook_checkpoint, _WITH_CODEBOOK),
        ("codebook", codebook, _WITH_CODEBOOK),
        ("vposer_file", vposer_file, ("vposer",)),
    ):
        if value is not None and name not in heads:
            raise InputError(f"model.{option} is for model.pose_head {' or '.join(heads)}, and that is {name}")
    if name == "rot6d":
        return Rot6dHead(width, num_layers), None
    if name == "vposer":
        decoder = VPoserDecoder()
        if vposer_file is not None:
            # A snapshot of VPoser holds an encoder too.
            weights = read_torch_file(Path(vposer_file))
            weights = weights.get("state_dict", weights) if isinstance(weights, dict) else {}
            weights = {key[key.index(_VPOSER) :]: value for key, value in weights.items() if _VPOSER in key}
            try:
                load(decoder, weights, "the decoder of VPoser, version 1")
            except InputError as error:
                raise InputError(f"model.vposer_file: {vposer_file}: {error}") from error
        return VPoserHead(decoder, width, num_layers), None
    if codebook is not None and (codebook_checkpoint is None or not Path(codebook_checkpoint).exists()):
        method: Any = make_described_method(codebook)
    elif codebook_checkpoint is not None:
        method = _read_codebook(codebook_checkpoint)
    else:
        raise InputError(
            f"model.pose_head {name} needs a trained codebook: train one (configs/experiments/dpmesh_codebook_*.yaml) "
            "and give model.codebook_checkpoint FILE, or set model.pose_head to rot6d; to resume or test a run, give "
            "its own -c runs/NAME/config.yaml"
        )
    return CodebookHead(method.codebook, name == "vq_ce", width, num_layers), describe_method(method)


def _read_codebook(path_or_name: str) -> Any:
    """A trained `methods.dpmesh.Codebook`."""
    try:
        method = load_method(path_or_name)
    except InputError as error:
        raise InputError(f"model.codebook_checkpoint: {error}") from error
    if not isinstance(method, Codebook):
        raise InputError(f"model.codebook_checkpoint: {path_or_name} is {method.title}, expected a pose codebook")
    return method
