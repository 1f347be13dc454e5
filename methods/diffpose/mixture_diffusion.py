"""The DiffPose that the paper describes, and Stand-Diff of its Table 4, which starts from white noise instead.

Shape letters: B batch, F frames, N hypotheses, S samples of H_K, J joints.
"""

from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from methods.diffpose import diffusion, gmm
from methods.diffpose.residual import ResidualDenoiser
from methods.diffpose.variants import STATE_SCALE, Denoiser, Lifted, Samples
from noise2pose import keyed_random

_VARIANCE_FLOOR = 1e-6  # square metres, of the components
_STANDARD_NOISE = 41  # stream of keyed_random


class Moments(NamedTuple):
    """Mean and variance of each coordinate of h_K, over all components."""

    mean: Float[Tensor, "B J 3"]  # metres
    variance: Float[Tensor, "B J 3"]  # square metres


class MixtureDiffusion(nn.Module):
    """The paper: state (x, y, z), a Gaussian mixture per pose, Eq. 7 forward, Eq. 8 reverse.

    Equation 9 asks the network for h_{k-1} itself. Neighbouring steps differ by less than the network's error, which
    then accumulates over the chain; so the network predicts a correction of the encoder's pose, h_0 = pose + g, and
    h_{k-1} follows from it (`diffusion.ddim_sample`), which is the same target under another parametrisation. The loss
    weighs all steps equally in h_0.

    The answer is the mean of the estimates of h_0 after the first `answer_calls` calls. The first call alone is the
    best in the mean: from pure noise it estimates E[h_0 | context], and each further call adds the error of the chain.
    The chain gives hypotheses.

    With `state_skip` the network corrects the best linear estimate of h_0 from the encoder's pose and the noisy state
    instead of the pose alone: h_0 = pose + w (h_k - (1 - sqrt(a)) mu - sqrt(a) pose) + g with the Wiener weights
    w = sqrt(a) r^2 / (a r^2 + (1 - a) sigma^2), the moments mu and sigma^2 of H_K, and the running mean square r^2 of
    the encoder's error. Without it the network cannot pass on a state that is nearly clean: the chain loses spread.

    Args:
        denoiser: network with three state channels and the encoder's features as context.
        num_steps: K of the schedule.
        num_sampling_steps: of DDIM.
        num_joints: J.
        num_frames: F of clips, whose frames share step and random numbers in training too; 1 for single frames.
        answer_calls: calls after which the answer is taken.
        state_skip: whether the network corrects the linear estimate; until `loss` has been called, w is zero.
        num_components, mixture_of, covariance, num_em_iterations: as in `DiffPose`. Components of a `joint` are drawn
            independently, as in the release's file.
    """

    starts_from_samples = True
    alphas_cumprod: Tensor
    residual_variance: Tensor

    def __init__(
        self,
        denoiser: Denoiser,
        num_steps: int,
        num_sampling_steps: int,
        num_joints: int,
        num_frames: int = 1,
        answer_calls: int = 1,
        state_skip: bool = True,
        num_components: int = 5,
        mixture_of: Literal["pose", "joint"] = "pose",
        covariance: gmm.Covariance = "diagonal",
        num_em_iterations: int = 10,
    ) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.num_frames = num_frames
        self.answer_calls = answer_calls
        self.state_skip = state_skip
        self.num_components = num_components
        self.mixture_of = mixture_of
        self.covariance: gmm.Covariance = covariance
        self.num_em_iterations = num_em_iterations
        # The chain starts at K itself, where the state is a draw from the mixture.
        self.timesteps = [num_steps - 1 - i * num_steps // num_sampling_steps for i in range(num_sampling_steps)]
        self.register_buffer("alphas_cumprod", diffusion.cosine_alphas_cumprod(num_steps), persistent=False)
        self.register_buffer("residual_variance", torch.zeros(num_joints, 3))

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        # Models trained without the skip have no residual; with zero the skip adds nothing.
        state_dict.setdefault(f"{prefix}residual_variance", torch.zeros_like(self.residual_variance))
        super()._load_from_state_dict(state_dict, prefix, *args)

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

    def moments(self, lifted: Lifted) -> Moments:
        """Mean and variance of H_K."""
        assert lifted.uncertain_poses is not None, "the paper's variant starts from samples of H_K"
        variance, mean = torch.var_mean(lifted.uncertain_poses, dim=1)
        return Moments(mean, variance)

    def predict_clean(
        self,
        state: Float[Tensor, "B J 3"],
        steps: Int[Tensor, " B"],
        lifted: Lifted,
        moments: Moments,
        condition: Float[Tensor, "B H"] | None = None,
    ) -> Float[Tensor, "B J 3"]:
        """Estimate of h_0, metres; with the `condition` of a residual denoiser in place of the features if given."""
        scaled, times = state / STATE_SCALE, steps.to(state.dtype)
        if condition is not None and isinstance(self.denoiser, ResidualDenoiser):
            correction = self.denoiser.denoise(scaled, times, condition)
        else:
            correction = self.denoiser(scaled, times, lifted.features)
        estimate = lifted.pose + STATE_SCALE * correction
        if not self.state_skip:
            return estimate
        alpha = self.alphas_cumprod[steps, None, None]
        root = alpha.sqrt()
        # The root joint has neither error nor noise.
        power = (alpha * self.residual_variance + (1.0 - alpha) * moments.variance).clamp_min(1e-12)
        offset = state - (1.0 - root) * moments.mean - root * lifted.pose
        return estimate + root * self.residual_variance / power * offset

    def loss(self, lifted: Lifted, target: Float[Tensor, "B J 3"], valid: Float[Tensor, "B J"]) -> Float[Tensor, ""]:
        """Eq. 9 for one draw (i, k) per pose or clip, in h_0 and in units of the state scale."""
        self._update_residual(lifted.pose - target, valid)
        clips = len(target) // self.num_frames
        keys = torch.randint(0, 2**62, (clips,), device=target.device).repeat_interleave(self.num_frames)
        mean, noise = self.draw(lifted, 1, keys)
        steps = torch.randint(0, len(self.alphas_cumprod), (clips,), device=target.device)
        steps = steps.repeat_interleave(self.num_frames)
        state = diffusion.add_noise(target, noise[0], self.alphas_cumprod[steps, None, None], mean[0])
        error = (self.predict_clean(state, steps, lifted, self.moments(lifted)) - target) / STATE_SCALE
        return (error.square().sum(dim=-1) * valid).sum(dim=-1).mean()

    @torch.no_grad()
    def _update_residual(self, error: Float[Tensor, "B J 3"], valid: Float[Tensor, "B J"]) -> None:
        """Moves the running mean square of the encoder's error by a hundredth; the first batch sets it."""
        count = valid.sum(dim=0)[:, None]
        mean_square = (error.square() * valid[..., None]).sum(dim=0) / count.clamp_min(1.0)
        share = torch.where(self.residual_variance.any(), 0.01, 1.0) * (count > 0)
        self.residual_variance.lerp_(mean_square, share.expand_as(mean_square).to(mean_square))

    def sample(self, lifted: Lifted, num_hypotheses: int, keys: Int[Tensor, " B"]) -> Samples:
        """The answer, and denoised hypotheses.

        A single one starts from the mean of H_K, without a mixture, and is denoised only as far as the answer needs it:
        its error is that of the mean over five draws.
        """
        moments = self.moments(lifted)
        if num_hypotheses == 1:
            mean = state = moments.mean
        else:
            mean, noise = self.draw(lifted, num_hypotheses, keys)
            mean, state = mean.flatten(0, 1), (mean + noise).flatten(0, 1)

        def repeated(part: Tensor) -> Tensor:
            return part.repeat(num_hypotheses, *[1] * (part.ndim - 1))

        once = self.denoiser.condition(lifted.features) if isinstance(self.denoiser, ResidualDenoiser) else None
        condition = None if once is None else repeated(once)
        moments = Moments(*map(repeated, moments))
        lifted = Lifted(*map(repeated, (lifted.screen, lifted.pose, lifted.features)))
        estimates = []

        def denoise(state: Tensor, step: int) -> tuple[Tensor, Tensor]:
            steps = torch.full_like(state[:, 0, 0], step, dtype=torch.long)
            clean = self.predict_clean(state, steps, lifted, moments, condition)
            estimates.append(clean)
            return clean, diffusion.noise_from_clean(state, clean, self.alphas_cumprod[step], mean)

        timesteps = self.timesteps if num_hypotheses > 1 else self.timesteps[: self.answer_calls]
        clean = diffusion.ddim_sample(denoise, state, self.alphas_cumprod, timesteps, mean)
        answer = estimates[self.answer_calls - 1].unflatten(0, (num_hypotheses, -1)).mean(dim=0)
        return Samples(answer, clean.unflatten(0, (num_hypotheses, -1)) if num_hypotheses > 1 else answer[None])


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

    def moments(self, lifted: Lifted) -> Moments:
        return Moments(torch.zeros_like(lifted.pose), torch.full_like(lifted.pose, STATE_SCALE**2))
