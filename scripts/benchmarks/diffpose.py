"""Mixtures against scikit-learn, lifting against the plain network, training against a loader of single samples.

Shape letters: B problems, S samples, D dimensions, J joints.
"""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from datamodules.base import select
from datamodules.synthetic_motion import SyntheticMotion
from methods.diffpose import diffusion, gmm, official
from noise2pose import skeletons
from noise2pose.errors import InputError
from scripts.benchmarks.diffpose_textbook import TextbookDenoiser
from scripts.benchmarks.diffpose_training import sampled_cameras, training_epoch
from scripts.benchmarks.measure import Comparison, Prepared, Side
from scripts.benchmarks.mixste_textbook import TextbookMixSTE

_NUM_COMPONENTS = 5
_LIKELIHOOD_LOSS = 0.01  # of |theirs|: how much lower our mean log-likelihood may be
_LEAST_LOSS = 0.02  # nats, where |theirs| is small
_SAME = 1e-5  # of the largest value: float32 results of two orders of summation
_SAME_IN_BFLOAT16 = 2e-2


def comparisons(device: torch.device, quick: bool) -> list[Comparison]:
    """The rows of both mixtures, of the lifting and, on the CPU only, where the loader costs most, of training."""
    on_gpu = device.type == "cuda"
    poses, their_poses, batch = (10, 1, 64) if quick else (300, 3, 1024)
    wholes, their_wholes = (8, 2) if quick else (96, 16)
    clips, frames = (1, 27) if quick else (2, 243)
    one_at_a_time = "scikit-learn GaussianMixture, one problem at a time on one CPU thread"
    rows = [
        Comparison(
            name="per-joint mixtures",
            setting="(x, y, z) of each of 17 joints a pose, 100 samples, M = 5, diagonal, float32 both",
            against=one_at_a_time,
            at_least=500.0 if on_gpu else 25.0,
            unit="mixture",
            prepare=lambda: _mixtures(_blobs(17 * poses, 100, 3), 17 * their_poses, 17 if quick else 204, device),
        ),
        Comparison(
            name="whole-pose mixtures",
            setting="51 dimensions, 1,000 samples, M = 5, diagonal, float32 both",
            against=one_at_a_time,
            at_least=500.0 if on_gpu else 3.0,
            unit="mixture",
            prepare=lambda: _mixtures(_blobs(wholes, 1000, 51), their_wholes, wholes, device),
        ),
        Comparison(
            name="DDIM lifting",
            setting=f"batch {batch}, width 96, 5 blocks, 4 heads, 2 denoiser calls, "
            + ("ours bfloat16 and compiled" if on_gpu else "float32 both"),
            against="the same network written plainly, on the CPU",
            at_least=1.3,
            unit="pose",
            prepare=lambda: _lifting(batch, device),
        ),
    ]
    if not on_gpu:
        rows += [
            Comparison(
                name="separated mixtures",
                setting="(x, y, z), 100 samples of 5 clusters a deviation of 0.15 wide, M = 5, diagonal, float32 both",
                against=one_at_a_time,
                at_least=25.0,
                unit="mixture",
                prepare=lambda: _mixtures(_clusters(17 * poses), 17 * their_poses, 17 if quick else 204, device),
            ),
            Comparison(
                name="MixSTE lifting",
                setting=f"{clips} clips of {frames} frames, width 512, 8 blocks, 8 heads, float32 both",
                against="the same network written plainly",
                at_least=1.2,
                unit="clip",
                prepare=lambda: _clips(clips, frames),
            ),
            Comparison(
                name="answer of DiffPose",
                setting=f"batch {batch}, paper's variant at the size of diffpose_paper_small.yaml, one call, flip_test",
                against="five hypotheses of five calls, whose mean is the answer as in the paper",
                at_least=5.0,
                unit="pose",
                prepare=lambda: _answer(batch),
            ),
            Comparison(
                name="answer of diffpose-people",
                setting=f"batch {batch}, as `predict` answers: one call, and five hypotheses of ten calls around it",
                against="five hypotheses of five calls of diffpose_paper_small.yaml, the default before it",
                at_least=None,
                unit="pose",
                prepare=lambda: _answer(batch, shipped=True),
            ),
            training_epoch(quick, width=16, num_blocks=1, at_least=2.0),
            training_epoch(quick, width=64, num_blocks=3, at_least=None),
            sampled_cameras(quick),
        ]
    return rows


def _mixtures(samples: Float[Tensor, "B S D"], their_problems: int, checked: int, device: torch.device) -> Prepared:
    """Ours fits all problems at once, theirs the first few one by one; likelihoods are of the first `checked`."""
    fit_one = _scikit_learn()
    arrays = samples.numpy()
    keys = torch.arange(len(samples), device=device)
    samples = samples.to(device)

    def fit_ours() -> gmm.Mixture:
        return gmm.fit_mixture(samples, _NUM_COMPONENTS, keys)

    def fit_theirs() -> None:
        for problem in arrays[:their_problems]:
            fit_one(problem)

    ours = float(fit_ours().log_prob(samples)[:checked].mean())
    theirs = sum(float(fit_one(problem).score(problem)) for problem in arrays[:checked]) / checked
    lower = ours < theirs - max(_LIKELIHOOD_LOSS * abs(theirs), _LEAST_LOSS)
    checks = {"our_log_likelihood": ours, "their_log_likelihood": theirs, "problems_checked": checked}
    complaint = f"log-likelihood {ours:.3f} against {theirs:.3f}" if lower else ""
    return Prepared(Side(fit_ours, len(samples)), Side(fit_theirs, their_problems), checks, complaint)


def _scikit_learn() -> Callable[[Any], Any]:
    """A function that fits one problem (S, D) with scikit-learn.

    Raises:
        InputError: if scikit-learn is not installed.
    """
    try:
        import threadpoolctl
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture
    except ImportError as error:
        raise InputError("this benchmark compares with scikit-learn: pip install -e .[dev]") from error
    controller = threadpoolctl.ThreadpoolController()

    def fit(problem: Any) -> Any:
        # It is fastest with one thread: more gain nothing on problems this small, and cost ten times on a busy machine.
        with controller.limit(limits=1), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # its number of iterations is its own default
            return GaussianMixture(n_components=_NUM_COMPONENTS, covariance_type="diag", random_state=0).fit(problem)

    return fit


def _lifting(batch: int, device: torch.device) -> Prepared:
    """The released reverse process with the network of `denoisers`, against the textbook network."""
    torch.manual_seed(0)
    textbook = TextbookDenoiser(skeletons.get(official.SKELETON).parents).eval()
    fast = official.load_gcndiff(textbook.state_dict()).to(device)
    state = torch.randn(batch, 17, 5)
    our_state = state.to(device)
    expected = _ddim(textbook, state)
    steps = torch.full((batch,), 12.0)
    with torch.inference_mode():
        # The pose hides errors of the noise behind its own size, so the noise is compared as well.
        noise_difference = _difference(fast(our_state, steps.to(device)), textbook(state, steps))
    values = {"pose_difference": _difference(_ddim(fast, our_state), expected), "noise_difference": noise_difference}
    wrong = max(values.values()) > _SAME
    network: Any = torch.compile(fast) if device.type == "cuda" else fast

    def run() -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            return _ddim(network, our_state)

    if device.type == "cuda":
        values["pose_difference_in_bfloat16"] = _difference(run(), expected)
        wrong = wrong or values["pose_difference_in_bfloat16"] > _SAME_IN_BFLOAT16
    complaint = "the two networks answer differently" if wrong else ""
    return Prepared(Side(run, batch), Side(lambda: _ddim(textbook, state), batch), values, complaint)


def _clips(clips: int, frames: int) -> Prepared:
    """MixSTE of `methods`, against the textbook network."""
    torch.manual_seed(0)
    textbook = TextbookMixSTE(frames).eval()
    fast = official.load_mixste(textbook.state_dict())
    clip = torch.randn(clips, frames, 17, 2)

    def answer(network: nn.Module) -> Tensor:
        with torch.inference_mode():
            return network(clip)

    values = {"pose_difference": _difference(answer(fast), answer(textbook))}
    complaint = "the two networks answer differently" if values["pose_difference"] > _SAME else ""
    return Prepared(Side(lambda: answer(fast), clips), Side(lambda: answer(textbook), clips), values, complaint)


def _blobs(problems: int, num_samples: int, dimensions: int) -> Float[Tensor, "B S D"]:
    """Samples of two to four blobs, whose centres lie within metres and whose spread is centimetres."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(problems, 4, dimensions, generator=generator)
    spreads = 0.02 + 0.1 * torch.rand(problems, 4, dimensions, generator=generator)
    number = torch.randint(2, 5, (problems, 1), generator=generator)
    chosen = (torch.rand(problems, num_samples, generator=generator) * number).long()[..., None]
    chosen = chosen.expand(-1, -1, dimensions)
    noise = torch.randn(problems, num_samples, dimensions, generator=generator)
    return centres.gather(1, chosen) + spreads.gather(1, chosen) * noise


@torch.inference_mode()
def _ddim(network: nn.Module, state: Float[Tensor, "B J 5"]) -> Float[Tensor, "B J 5"]:
    """The released reverse process for detected 2-D input, without the noise that eta = 0 leaves out."""
    alphas_cumprod = diffusion.linear_alphas_cumprod(51, 1e-4, 1e-3).to(state.device)

    def denoise(state: Tensor, step: int) -> tuple[Tensor, Tensor]:
        noise = network(state, torch.full_like(state[:, 0, 0], step))
        return diffusion.clean_from_noise(state, noise, alphas_cumprod[step]), noise

    return diffusion.ddim_sample(denoise, state, alphas_cumprod, diffusion.ddim_timesteps(24, 2))


def _clusters(problems: int) -> Float[Tensor, "B S 3"]:
    """Samples of five clusters, most of which are far apart."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(problems, _NUM_COMPONENTS, 3, generator=generator)
    chosen = torch.randint(0, _NUM_COMPONENTS, (problems, 100, 1), generator=generator).expand(-1, -1, 3)
    return centres.gather(1, chosen) + 0.15 * torch.randn(problems, 100, 3, generator=generator)


def _answer(batch: int, shipped: bool = False) -> Prepared:
    """DiffPose with one hypothesis, or the shipped model, and DiffPose as the paper describes it."""
    from methods.base import PoseMethod  # these load Lightning
    from methods.checkpoints import load_method
    from methods.diffpose import DiffPose

    torch.manual_seed(0)
    sizes: Any = {"width": 64, "num_blocks": 3, "context_width": 64, "context_blocks": 3, "flip_test": True}
    ours = DiffPose("paper", num_hypotheses=1, **sizes).eval()
    ours.denoiser_steps.fill_(1)
    theirs = DiffPose("paper", num_sampling_steps=5, answer_calls=5, **sizes).eval()
    theirs.load_state_dict(ours.state_dict())
    answered = load_method("diffpose-people") if shipped else ours
    samples = SyntheticMotion(clips_per_activity=10, eval_stride=2).load("val")
    poses = select(samples, torch.arange(min(batch, len(samples["keypoints_2d"]))))

    def answer(method: PoseMethod) -> None:
        with torch.inference_mode():
            method(poses)

    number = len(poses["keypoints_2d"])
    return Prepared(Side(lambda: answer(answered), number), Side(lambda: answer(theirs), number), {"poses": number})


def _difference(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference, relative to the largest value."""
    return float((ours.float().cpu() - theirs).abs().max() / theirs.abs().max())
