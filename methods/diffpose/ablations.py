"""The variants that the paper compares DiffPose with (Tables 4 and 5), with the same interface as `variants.py`.

Shape letters: B batch, N hypotheses, J joints.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from methods.diffpose.denoisers import GraphDenoiser
from methods.diffpose.variants import STATE_SCALE, Lifted, MixtureDiffusion
from noise2pose import keyed_random

_STANDARD_NOISE = 41  # stream of keyed_random


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

    def __init__(self, denoisers: list[GraphDenoiser]) -> None:
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
