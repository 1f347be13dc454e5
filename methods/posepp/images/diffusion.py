"""The small generator's network, noise and sampler: a pixel diffusion model with two condition maps.

Noise is that of DDPM (Ho et al., NeurIPS 2020) with the cosine schedule of Nichol and Dhariwal (ICML 2021), the network
predicts the velocity (Salimans and Ho, ICLR 2022), and images are drawn by DDIM (Song et al., ICLR 2021) with
classifier-free guidance for two conditions (Brooks et al., CVPR 2023, equation 3). The schedules are diffusers'.

Shape letters: B batch, S side of the image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from noise2pose.errors import InputError

NUM_STEPS = 1000  # of the noise that the network is trained with
_HIDDEN = -1.0  # of a map that the network is not shown; maps are in [0, 1]
_LEVELS = (1, 2)  # width of each resolution of the network, over that of the first
_GROUPS = 16  # of the normalisation


class Maps(NamedTuple):
    """The two condition maps, in [0, 1], or -1 everywhere where one is hidden."""

    depth: Float[Tensor, "B 1 S S"]
    keypoints: Float[Tensor, "B 3 S S"]

    def hidden(self, depth: bool | Bool[Tensor, " B"], keypoints: bool | Bool[Tensor, " B"]) -> "Maps":
        """The maps without those that are to be hidden, in all samples or in some."""
        return Maps(_hide(self.depth, depth), _hide(self.keypoints, keypoints))


@dataclass(frozen=True)
class Sampling:
    """How images are drawn.

    Attributes:
        steps: of DDIM.
        guidance: how far the conditions are followed; 1 is the network's own distribution.
        scales: of guidance by depth and by keypoints; 0 hides a map.
    """

    steps: int = 40
    guidance: float = 2.0
    scales: tuple[float, float] = (1.0, 1.0)

    def weights(self) -> dict[tuple[bool, bool], float]:
        """How much the answer counts with (depth, keypoints) hidden or not; the sum is one.

        Returns:
            Those that are not zero: with both scales equal, two calls of the network instead of three.
        """
        depth, keypoints = (self.guidance * scale for scale in self.scales)
        if depth == 0.0:
            found = {(True, True): 1.0 - keypoints, (True, False): keypoints}
        else:
            found = {(True, True): 1.0 - depth, (False, True): depth - keypoints, (False, False): keypoints}
        return {hidden: weight for hidden, weight in found.items() if weight != 0.0}


class Denoiser(nn.Module):
    """Predicts the velocity of noisy images, given both maps.

    A UNet sees squares of pixels as channels, which costs the square of their side less than a UNet on pixels.

    Args:
        image_size: S, pixels.
        patch: side of the squares, pixels.
        width: of the UNet at its first resolution.

    Raises:
        InputError: if the sizes do not fit each other.
    """

    def __init__(self, image_size: int, patch: int, width: int) -> None:
        from diffusers import UNet2DModel

        super().__init__()
        if image_size % (2 * patch):
            raise InputError(f"model.image_size is {image_size}, expected a multiple of twice model.patch, {2 * patch}")
        if width % _GROUPS:
            raise InputError(f"model.width is {width}, expected a multiple of {_GROUPS}")
        self.image_size, self.patch = image_size, patch
        self.unet = UNet2DModel(
            sample_size=image_size // patch,
            in_channels=7 * patch**2,
            out_channels=3 * patch**2,
            block_out_channels=tuple(width * factor for factor in _LEVELS),
            layers_per_block=2,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            norm_num_groups=_GROUPS,
            attention_head_dim=2 * _GROUPS,
        )

    def forward(
        self, noisy: Float[Tensor, "B 3 S S"], times: Int[Tensor, " B"], maps: Maps
    ) -> Float[Tensor, "B 3 S S"]:
        """The velocity at steps of the noise, pixels in [-1, 1]."""
        seen = torch.cat((noisy, maps.depth.to(noisy), maps.keypoints.to(noisy)), dim=1)
        velocity: Any = self.unet(F.pixel_unshuffle(seen, self.patch), times)
        return F.pixel_shuffle(velocity.sample, self.patch)


def noise_schedule() -> Any:
    """That of the training: `add_noise`, and `get_velocity` for the target."""
    from diffusers import DDPMScheduler

    return DDPMScheduler(
        num_train_timesteps=NUM_STEPS, beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction"
    )


def drop_conditions(maps: Maps, share: float) -> Maps:
    """Hides the depth of a share of the samples, the keypoints of another such share, and both of a third."""
    drawn = torch.rand(len(maps.depth), device=maps.depth.device)
    both = (drawn >= 2.0 * share) & (drawn < 3.0 * share)
    return maps.hidden((drawn < share) | both, ((drawn >= share) & (drawn < 2.0 * share)) | both)


@torch.no_grad()
def draw_images(denoiser: Denoiser, maps: Maps, seeds: Sequence[int], sampling: Sampling) -> Float[Tensor, "B 3 S S"]:
    """Draws one image for each sample, RGB in [0, 1], from noise that depends on its seed alone."""
    from diffusers import DDIMScheduler

    scheduler: Any = DDIMScheduler.from_config(
        noise_schedule().config, timestep_spacing="trailing", clip_sample=True, set_alpha_to_one=True
    )
    scheduler.set_timesteps(sampling.steps)
    shape, device = (3, denoiser.image_size, denoiser.image_size), maps.depth.device
    # On the CPU, so that every type of device starts from the same noise.
    noise = [torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed)) for seed in seeds]
    image = torch.stack(noise).to(device)
    weights = sampling.weights()
    states = [maps.hidden(*hidden) for hidden in weights]
    shown = Maps(*(torch.cat(parts) for parts in zip(*states, strict=True)))
    for time in scheduler.timesteps.tolist():
        times = torch.full((len(shown.depth),), time, device=device)
        answers = denoiser(image.repeat(len(states), 1, 1, 1), times, shown).chunk(len(states))
        velocity = sum(weight * answer for weight, answer in zip(weights.values(), answers, strict=True))
        image = scheduler.step(velocity, time, image, use_clipped_model_output=True).prev_sample
    return ((image + 1.0) / 2.0).clamp(0.0, 1.0)


def _hide(values: Tensor, hidden: bool | Tensor) -> Tensor:
    if isinstance(hidden, bool):
        return torch.full_like(values, _HIDDEN) if hidden else values
    return torch.where(hidden.view(-1, 1, 1, 1), torch.full_like(values, _HIDDEN), values)
