"""The two DiffPoses, what the authors released and what the paper describes, and the variants of Tables 4 and 5.

Each holds its network and its schedule, and computes `loss` and `sample` from the output of the frozen context encoder.

Shape letters: B batch, F frames, N hypotheses, S samples of H_K, J joints, D channels of the features.
"""

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from methods.diffpose import diffusion, gmm
from methods.diffpose.denoisers import GraphDenoiser
from methods.diffpose.residual import ResidualDenoiser
from noise2pose import keyed_random
from noise2pose.errors import InputError

Denoiser = GraphDenoiser | ResidualDenoiser
Variant = Literal["release", "paper", "standard", "single_step", "stacked"]
STATE_SCALE = 0.3  # metres per unit of a denoiser's state, about the spread of joints around the root
_VARIANCE_FLOOR = 1e-6  # square metres, of the components
_STANDARD_NOISE = 41  # stream of keyed_random


@dataclass(frozen=True)
class Settings:
    """Settings of a variant; all fields but the title are arguments of `DiffPose`."""

    title: str
    width: int = 256
    num_blocks: int = 3
    num_diffusion_steps: int = 50
    num_sampling_steps: int = 5
    num_hypotheses: int = 5


_DEFAULTS: dict[Variant, Settings] = {
    "release": Settings("DiffPose (release)", 96, 5, num_diffusion_steps=51, num_sampling_steps=2, num_hypotheses=1),
    "paper": Settings("DiffPose (paper)"),
    "standard": Settings("Stand-Diff"),
    "single_step": Settings("Baseline A (single step)", num_sampling_steps=1, num_hypotheses=1),
    "stacked": Settings("Baseline B (stacked)", num_hypotheses=1),
}


def resolve_settings(variant: Variant, num_components: int, num_mixture_samples: int, **given: int | None) -> Settings:
    """The given settings, with the variant's defaults for those that are None.

    Raises:
        InputError: if a setting is out of range.
    """
    default = _DEFAULTS[variant]
    settings = replace(default, **{name: value for name, value in given.items() if value is not None})
    if not 1 <= settings.num_sampling_steps <= settings.num_diffusion_steps:
        raise InputError(
            f"model.num_sampling_steps is {settings.num_sampling_steps}, expected 1 to num_diffusion_steps "
            f"({settings.num_diffusion_steps})"
        )
    if not 1 <= num_components <= num_mixture_samples:
        raise InputError(
            f"model.num_components is {num_components}, expected 1 to num_mixture_samples ({num_mixture_samples})"
        )
    if settings.num_hypotheses < 1:
        raise InputError(f"model.num_hypotheses is {settings.num_hypotheses}, expected at least 1")
    if settings.num_hypotheses > 1 and default.num_hypotheses == 1:
        raise InputError(f"variant {variant} draws nothing at random, so model.num_hypotheses can only be 1")
    return settings


class Lifted(NamedTuple):
    """Output of a context encoder for a batch of frames, or of clips (with F frames)."""

    screen: Float[Tensor, "B *F J 2"]  # 2-D input, as it is normalised
    pose: Float[Tensor, "B *F J 3"]  # root-relative metres
    features: Float[Tensor, "B *F J D"]  # f_ST
    uncertain_poses: Float[Tensor, "B S J 3"] | None = None  # samples of H_K, for the paper's variant


class ReleasedDiffusion(nn.Module):
    """The release: state (u, v, x, y, z), predicted noise, a schedule that stays near the clean pose.

    Training adds noise to the true pose; at test the state starts from the detection and the encoder's pose without
    noise, so all hypotheses would be equal, and there is only one. The in-place root-centring of the release, which
    moves no joint but the root, is not copied.

    Args:
        denoiser: network with five state channels and no context.
        num_steps: T of the training schedule.
        start_step: T' of sampling; the released schedules are 24 (detected 2-D) and 12 (true 2-D).
        num_sampling_steps: S of sampling.
        uv_noise_scale: s of the two image channels, relative to the 1 of x, y and z.
    """

    starts_from_samples = False  # of H_K
    noise_scale: Tensor
    alphas_cumprod: Tensor

    def __init__(
        self,
        denoiser: Denoiser,
        num_steps: int,
        start_step: int,
        num_sampling_steps: int,
        uv_noise_scale: float,
    ) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.timesteps = diffusion.ddim_timesteps(start_step, num_sampling_steps)
        if not 1 <= start_step <= num_steps:
            raise InputError(f"model.start_step is {start_step}, expected 1 to num_diffusion_steps ({num_steps})")
        self.register_buffer("noise_scale", torch.tensor([uv_noise_scale] * 2 + [1.0] * 3), persistent=False)
        alphas_cumprod = diffusion.linear_alphas_cumprod(num_steps, 1e-4, 1e-3)
        self.register_buffer("alphas_cumprod", alphas_cumprod, persistent=False)

    def loss(self, lifted: Lifted, target: Float[Tensor, "B J 3"], valid: Float[Tensor, "B J"]) -> Float[Tensor, ""]:
        """Squared error of the predicted noise, summed over channels; steps are drawn in antithetic pairs."""
        clean = torch.cat((lifted.screen, target), dim=-1)
        last = len(self.alphas_cumprod) - 1
        steps = torch.randint(0, last + 1, ((len(clean) + 1) // 2,), device=clean.device)
        steps = torch.cat((steps, last - steps))[: len(clean)]
        noise = torch.randn_like(clean) * self.noise_scale
        state = diffusion.add_noise(clean, noise, self.alphas_cumprod[steps, None, None])
        error = (self.denoiser(state, steps) - noise).square().sum(dim=-1) * valid
        return error.sum(dim=-1).mean()

    def sample(self, lifted: Lifted, num_hypotheses: int, keys: Int[Tensor, " B"]) -> Float[Tensor, "1 B J 3"]:
        """Denoised poses, relative to no particular root. The process is deterministic; keys are not used."""

        def denoise(state: Tensor, step: int) -> tuple[Tensor, Tensor]:
            noise = self.denoiser(state, torch.full_like(state[:, 0, 0], step))
            return diffusion.clean_from_noise(state, noise, self.alphas_cumprod[step]), noise

        state = torch.cat((lifted.screen, lifted.pose), dim=-1)
        return diffusion.ddim_sample(denoise, state, self.alphas_cumprod, self.timesteps)[None, ..., 2:]


class MixtureDiffusion(nn.Module):
    """The paper: state (x, y, z), a Gaussian mixture per pose, Eq. 7 forward, Eq. 8 reverse.

    Equation 9 asks the network for h_{k-1} itself. Neighbouring steps differ by less than the network's error, which
    then accumulates over the chain; so the network predicts a correction of the encoder's pose, h_0 = pose + g, and
    h_{k-1} follows from it (`diffusion.ddim_sample`), which is the same target under another parametrisation. The loss
    weighs all steps equally in h_0.

    Args:
        denoiser: network with three state channels and the encoder's features as context.
        num_steps: K of the schedule.
        num_sampling_steps: of DDIM.
        num_components, mixture_of, covariance, num_em_iterations: as in `DiffPose`. Components of a `joint` are drawn
            independently, as in the release's file.
    """

    starts_from_samples = True
    alphas_cumprod: Tensor

    def __init__(
        self,
        denoiser: Denoiser,
        num_steps: int,
        num_sampling_steps: int,
        num_components: int = 5,
        mixture_of: Literal["pose", "joint"] = "pose",
        covariance: gmm.Covariance = "diagonal",
        num_em_iterations: int = 10,
    ) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.num_components = num_components
        self.mixture_of = mixture_of
        self.covariance: gmm.Covariance = covariance
        self.num_em_iterations = num_em_iterations
        # The chain starts at K itself, where the state is a draw from the mixture.
        self.timesteps = [num_steps - 1 - i * num_steps // num_sampling_steps for i in range(num_sampling_steps)]
        self.register_buffer("alphas_cumprod", diffusion.cosine_alphas_cumprod(num_steps), persistent=False)

    def draw(
        self, lifted: Lifted, num_hypotheses: int, keys: Int[Tensor, " B"]
    ) -> tuple[Float[Tensor, "N B J 3"], Float[Tensor, "N B J 3"]]:
        """Fits the mixtures (Eq. 6) and draws mu^G and eps^G of each hypothesis, metres."""
        assert lifted.uncertain_poses is not None, "the paper's variant starts from samples of H_K"
        joints = lifted.pose.shape[-2]
        if self.mixture_of == "pose":
            samples = lifted.uncertain_poses.flatten(2)  # (B, S, 3J)
        else:
            samples = lifted.uncertain_poses.transpose(1, 2).flatten(0, 1)  # (B J, S, 3)
            keys = (keys[:, None] * joints + torch.arange(joints, device=keys.device)).flatten()
        mixture = gmm.fit_mixture(
            samples,
            self.num_components,
            keys,
            covariance=self.covariance,
            max_iterations=self.num_em_iterations,
            tolerance=0.0,  # the same number of iterations for every problem, whatever its batch
            variance_floor=_VARIANCE_FLOOR,
        )
        mean, noise = mixture.draw(keys, num_hypotheses)
        return self._to_poses(mean, joints), self._to_poses(noise, joints)

    def _to_poses(self, drawn: Tensor, joints: int) -> Float[Tensor, "N B J 3"]:
        if self.mixture_of == "pose":
            return drawn.transpose(0, 1).unflatten(-1, (joints, 3))
        return drawn.unflatten(0, (-1, joints)).permute(2, 0, 1, 3)

    def predict_clean(
        self, state: Float[Tensor, "B J 3"], steps: Float[Tensor, " B"], lifted: Lifted
    ) -> Float[Tensor, "B J 3"]:
        """Estimate of h_0, metres."""
        return lifted.pose + STATE_SCALE * self.denoiser(state / STATE_SCALE, steps, lifted.features)

    def loss(self, lifted: Lifted, target: Float[Tensor, "B J 3"], valid: Float[Tensor, "B J"]) -> Float[Tensor, ""]:
        """Eq. 9 for one draw (i, k) per pose, in h_0 and in units of the state scale."""
        keys = torch.randint(0, 2**62, (len(target),), device=target.device)
        mean, noise = self.draw(lifted, 1, keys)
        steps = torch.randint(0, len(self.alphas_cumprod), (len(target),), device=target.device)
        state = diffusion.add_noise(target, noise[0], self.alphas_cumprod[steps, None, None], mean[0])
        error = (self.predict_clean(state, steps, lifted) - target) / STATE_SCALE
        return (error.square().sum(dim=-1) * valid).sum(dim=-1).mean()

    def sample(self, lifted: Lifted, num_hypotheses: int, keys: Int[Tensor, " B"]) -> Float[Tensor, "N B J 3"]:
        """Denoised hypotheses."""
        mean, noise = self.draw(lifted, num_hypotheses, keys)
        mean, state = mean.flatten(0, 1), (mean + noise).flatten(0, 1)
        repeated = Lifted(
            *(part.repeat(num_hypotheses, 1, 1) for part in (lifted.screen, lifted.pose, lifted.features))
        )

        def denoise(state: Tensor, step: int) -> tuple[Tensor, Tensor]:
            clean = self.predict_clean(state, torch.full_like(state[:, 0, 0], step), repeated)
            return clean, diffusion.noise_from_clean(state, clean, self.alphas_cumprod[step], mean)

        clean = diffusion.ddim_sample(denoise, state, self.alphas_cumprod, self.timesteps, mean)
        return clean.unflatten(0, (num_hypotheses, -1))


class StandardDiffusion(MixtureDiffusion):
    """Stand-Diff: Eq. 4 instead of Eq. 7, so that h_K is white noise, independent of the pose."""

    starts_from_samples = False

    def draw(
        self, lifted: Lifted, num_hypotheses: int, keys: Int[Tensor, " B"]
    ) -> tuple[Float[Tensor, "N B J 3"], Float[Tensor, "N B J 3"]]:
        """mu^G = 0 and eps^G ~ N(0, I) in units of the state scale, metres."""
        shape = (num_hypotheses, *lifted.pose.shape[1:])
        noise = keyed_random.normal(keys, shape, stream=_STANDARD_NOISE).to(lifted.pose.dtype).transpose(0, 1)
        return torch.zeros_like(noise), STATE_SCALE * noise


class Regression(nn.Module):
    """The paper's baselines without diffusion: the same network predicts the pose itself.

    Baseline A is one network; Baseline B is a stack of as many networks as the reverse diffusion has steps, each of
    which corrects the pose of the one before. Both start from the encoder's pose and take its features.

    Args:
        denoisers: the networks of the stack.
    """

    starts_from_samples = False

    def __init__(self, denoisers: list[Denoiser]) -> None:
        super().__init__()
        self.denoisers = nn.ModuleList(denoisers)
        self.timesteps = list(range(len(denoisers)))[::-1]

    def loss(self, lifted: Lifted, target: Float[Tensor, "B J 3"], valid: Float[Tensor, "B J"]) -> Float[Tensor, ""]:
        """Squared error of the last answer, in units of the state scale."""
        error = (self._regress(lifted) - target) / STATE_SCALE
        return (error.square().sum(dim=-1) * valid).sum(dim=-1).mean()

    def sample(self, lifted: Lifted, num_hypotheses: int, keys: Int[Tensor, " B"]) -> Float[Tensor, "1 B J 3"]:
        """The pose; it is deterministic, so there is one hypothesis."""
        return self._regress(lifted)[None]

    def _regress(self, lifted: Lifted) -> Float[Tensor, "B J 3"]:
        pose = lifted.pose
        for step, denoiser in zip(self.timesteps, self.denoisers, strict=True):
            steps = torch.full_like(pose[:, 0, 0], step)
            pose = pose + STATE_SCALE * denoiser(pose / STATE_SCALE, steps, lifted.features)
        return pose
