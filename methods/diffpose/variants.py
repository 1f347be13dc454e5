"""What every variant takes and answers, the released DiffPose, and the paper's baselines without diffusion (Table 5).

Each variant holds its network and its schedule, and computes `loss` and `sample` from the output of the frozen context
encoder. The paper's own diffusion is in `mixture_diffusion.py`.

Shape letters: B batch, F frames, N hypotheses, S samples of H_K, J joints, D channels of the features.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from methods.diffpose import diffusion
from methods.diffpose.denoisers import GraphDenoiser
from methods.diffpose.residual import ResidualDenoiser
from noise2pose.errors import InputError

Denoiser = GraphDenoiser | ResidualDenoiser
STATE_SCALE = 0.3  # metres per unit of a denoiser's state, about the spread of joints around the root


class Lifted(NamedTuple):
    """Output of a context encoder for a batch of frames, or of clips (with F frames)."""

    screen: Float[Tensor, "B *F J 2"]  # 2-D input, as it is normalised
    pose: Float[Tensor, "B *F J 3"]  # root-relative metres
    features: Float[Tensor, "B *F J D"]  # f_ST
    uncertain_poses: Float[Tensor, "B S J 3"] | None = None  # samples of H_K, for the paper's variant


class Samples(NamedTuple):
    """What a variant answers, relative to no particular root."""

    answer: Float[Tensor, "B J 3"]  # metres
    hypotheses: Float[Tensor, "N B J 3"]  # metres; with N = 1 the answer itself


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

    def sample(self, lifted: Lifted, num_hypotheses: int, keys: Int[Tensor, " B"]) -> Samples:
        """The denoised pose; the process is deterministic, so keys are not used and there is one hypothesis."""

        def denoise(state: Tensor, step: int) -> tuple[Tensor, Tensor]:
            noise = self.denoiser(state, torch.full_like(state[:, 0, 0], step))
            return diffusion.clean_from_noise(state, noise, self.alphas_cumprod[step]), noise

        state = torch.cat((lifted.screen, lifted.pose), dim=-1)
        pose = diffusion.ddim_sample(denoise, state, self.alphas_cumprod, self.timesteps)[..., 2:]
        return Samples(pose, pose[None])


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

    def sample(self, lifted: Lifted, num_hypotheses: int, keys: Int[Tensor, " B"]) -> Samples:
        """The pose; it is deterministic, so there is one hypothesis."""
        pose = self._regress(lifted)
        return Samples(pose, pose[None])

    def _regress(self, lifted: Lifted) -> Float[Tensor, "B J 3"]:
        pose = lifted.pose
        for step, denoiser in zip(self.timesteps, self.denoisers, strict=True):
            steps = torch.full_like(pose[:, 0, 0], step)
            pose = pose + STATE_SCALE * denoiser(pose / STATE_SCALE, steps, lifted.features)
        return pose
