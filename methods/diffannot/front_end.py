"""The front end whose answers are refined, and its errors as the noise of a forward process.

With `noise: frontend` the forward process leads from the truth towards the front end's answer instead of towards white
noise: the noise is (Theta1 - x_0) / scale, with the root mean square of the front end's errors as scale, so that its
variance over all entries and samples is 1. Then

    x_t / sqrt(abar) = x_0 + sqrt((1 - abar) / abar) / scale (Theta1 - x_0),

which passes Theta1 at the time at which the noise of the schedule is as large as the front end's errors. The reverse
process from there needs no noise of its own.

Shape letters: B batch, D numbers of a state.
"""

from jaxtyping import Float
from torch import Tensor

from methods.base import PoseMethod
from methods.checkpoints import load_method, make_described_method
from methods.diffannot.diffusion import GaussianDiffusion
from noise2pose.errors import InputError


def front_end(checkpoint: str | None, description: str | None) -> PoseMethod:
    """The frozen front end: from its checkpoint, or from its description, with weights that are loaded later."""
    if checkpoint:
        try:
            frontend = load_method(checkpoint)
        except InputError as error:
            raise InputError(
                f"model.frontend_checkpoint: {error}. Train a front end first (configs/experiments/hmr_*.yaml), or "
                "use the shipped one: --model.frontend_checkpoint hmr-people"
            ) from error
    elif description:
        frontend = make_described_method(description)
    else:
        raise InputError(
            "DiffAnnot needs a front end: give model.frontend_checkpoint, the file of a trained method that predicts "
            "a body (runs/NAME/checkpoints/best.ckpt), or the name of a shipped one"
        )
    if frontend.body is None:
        raise InputError(f"{checkpoint}: {frontend.title} predicts joints only, and DiffAnnot needs a body to refine")
    return frontend.requires_grad_(False)


def error_scale(start: Float[Tensor, "B D"], theta: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
    """Root mean square of the front end's errors over all entries."""
    return (theta - start).square().mean().sqrt().clamp_min(1e-6)


def error_step(diffusion: GaussianDiffusion, scale: Tensor) -> int:
    """The number of steps from Theta1 to x_0: to the time at which the schedule's noise is as large as `scale`."""
    ratio = (1.0 - diffusion.alphas_cumprod) / diffusion.alphas_cumprod
    return 1 + int((ratio.sqrt() - scale.to(ratio)).abs().argmin())
