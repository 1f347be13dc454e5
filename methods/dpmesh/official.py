"""DPMesh as its authors published it: the whole network, from their checkpoint alone.

Files of the release hold the weights of Stable Diffusion up to three times, a body with a licence of its own, and text
encoders that nothing uses. What is needed is taken once: U-Net with LoRA, ControlNet and autoencoder from below
`backbone.sd_model.` (`methods.dpmesh.official_backbone`), the rest by `methods.dpmesh.official_regressor`.
"""

from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from methods.dpmesh.backbone.unet import Backbone
from methods.dpmesh.losses import WEIGHTS, UncertaintyWeights
from methods.dpmesh.official_backbone import load_backbone
from methods.dpmesh.official_regressor import GRID, PublishedRegressor, extract_state_dict, load_regressor
from methods.dpmesh.regressor.regressor import Estimate
from noise2pose.errors import InputError
from noise2pose.keypoints.heatmaps import heatmaps

__all__ = ["PublishedDPMesh", "extract_state_dict", "load_backbone", "load_dpmesh", "load_regressor"]

SIGMA = 2.5  # of the heat-maps, cells
BACKBONE = "backbone.sd_model."
# Copies of what is below `BACKBONE`.
_COPIES = ("backbone.unet.", "backbone.encoder_vq.")
_HEAD = "backbone.outmodules."
# Where `methods.dpmesh.DPMesh` has the parts of a `PublishedDPMesh`.
_PARTS = {
    "backbone.": "network.features.backbone.",
    "head.context.": "network.features.context.linear.",
    "head.fusion.": "network.features.fusion.",
    "head.regressor.": "network.regressor.",
}
SD15_WIDTHS = (320, 640, 1280, 1280)


class PublishedDPMesh(nn.Module):
    """Picture and 2-D joints to a body.

    Args:
        backbone: from latents, heat-maps and tokens to a pyramid.
        head: from joints to tokens, and from the pyramid to a body.
    """

    def __init__(self, backbone: Backbone, head: PublishedRegressor) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, image: Float[Tensor, "B 3 256 256"], joints: Float[Tensor, "B 30 3"]) -> Estimate:
        """What is said of each person.

        Args:
            image: RGB in [0, 1].
            joints: of the skeleton `dpmesh_30`: x and y in cells, of which the picture is 32 wide, and 1 or 0 for
                joints that were found or not. As released, the token of a joint is made of x and y in any case.
        """
        maps = heatmaps(joints[..., :2], (GRID, GRID), SIGMA) * joints[..., 2, None, None]
        return self.head(self.backbone(self.backbone.encode(image), maps, self.head.tokens(joints[..., :2])))


def load_dpmesh(state_dict: Mapping[str, Any], num_heads: int = 8) -> PublishedDPMesh:
    """The published network.

    Args:
        state_dict: of a checkpoint of the release, see `extract_state_dict`.
        num_heads: of all attention, in U-Net and regressor.

    Returns:
        Network in evaluation mode.

    Raises:
        InputError: if a key is missing, superfluous or of the wrong shape; all are named.
    """
    weights = extract_state_dict(state_dict)
    known = (BACKBONE, _HEAD, *_COPIES)
    strange = [key for key in sorted(weights) if key.startswith("backbone.") and not key.startswith(known)]
    if strange:
        raise InputError(f"the state dict does not fit DPMesh: {'; '.join(f'{key} is not known' for key in strange)}")
    below = {key.removeprefix(BACKBONE): value for key, value in weights.items() if key.startswith(BACKBONE)}
    if not below:
        raise InputError(f"the state dict does not fit DPMesh: nothing begins with {BACKBONE}")
    head = load_regressor(weights, num_heads)
    network = PublishedDPMesh(load_backbone(below, num_heads), head)
    width, tokens = network.backbone.context_width, head.context.out_features
    if width != tokens:
        raise InputError(f"the state dict does not fit DPMesh: kp_lifting makes tokens of {tokens}, expected {width}")
    return network.eval()


def method_state(network: PublishedDPMesh) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The published network as a `methods.dpmesh.DPMesh`: its tensors, and the arguments that it is made with.

    Raises:
        InputError: if its sizes are not those of Stable Diffusion 1.5.
    """
    widths = tuple(network.backbone.unet.config["block_out_channels"])
    if widths != SD15_WIDTHS:
        raise InputError(f"the U-Net has widths {widths}, expected {SD15_WIDTHS} of Stable Diffusion 1.5")
    updates = {name: value for name, value in network.backbone.unet.state_dict().items() if ".lora_A." in name}
    wider = [scope for scope, part in (("attn_ff", ".ff.net."), ("attn", ".attn1.")) if any(part in n for n in updates)]
    # The release learns the weights of its losses and does not save them; these are those that training starts from.
    balance = UncertaintyWeights((*WEIGHTS, "tokens")).state_dict(prefix="network.balance.")
    return renamed(network) | balance, {
        "backbone": "diffusion",
        "size": "sd15",
        "context": "linear30",
        "maps": "8-16",
        "unet_training": "lora" if updates else "frozen",
        "lora_scope": (*wider, "attn2")[0],
        "lora_rank": len(next(iter(updates.values()))) if updates else 64,
        "train_controlnet": False,
        "latent": "release",
        "timestep": 1,
        "pose_head": "vposer",
        "release": True,
        "uncertainty": True,
    }


def renamed(network: PublishedDPMesh) -> dict[str, Tensor]:
    """The tensors under the names that `methods.dpmesh.DPMesh` has for them."""
    state = {}
    for name, value in network.state_dict().items():
        prefix = next(prefix for prefix in _PARTS if name.startswith(prefix))
        state[_PARTS[prefix] + name.removeprefix(prefix)] = value
    return state
