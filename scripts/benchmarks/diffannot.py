"""Algorithm 1 as a wavefront against the release's way; and the rows of `bodies`, which it spends its time on.

Shape letters: B samples, R rows, D entries of the state.
"""

import copy
from collections.abc import Callable
from dataclasses import replace

import roma
import torch
from jaxtyping import Float
from torch import Tensor

from methods.diffannot import search
from methods.diffannot.denoiser import ReleasedDenoiser
from methods.diffannot.diffusion import GaussianDiffusion, schedule_betas
from methods.diffannot.search import Noise, keyed_noise, reverse_step
from methods.diffannot.states import STATE_SIZE, to_smpl, to_state
from noise2pose.bodies import BodyModel
from noise2pose.bodies import files as body_files
from noise2pose.bodies.files import BodyArrays
from noise2pose.metrics import functional
from scripts.benchmarks import bodies, diffannot_textbook
from scripts.benchmarks.bodies import textbook_pa_mpjpe
from scripts.benchmarks.measure import Checks, Comparison, Prepared, Side

_JOINTS = [3, 2, 1, 4, 5, 6, 16, 15, 14, 11, 12, 13, 8, 10]  # of h36m_17: the 14 that numbers count
_SAME = 1e-5  # relative: float32 results of two orders of summation
_POSE_DIRECTION = 2e-3  # metres per feature
_MILLIMETRES = 1000.0


def comparisons(device: torch.device, quick: bool) -> list[Comparison]:
    """The rows of the search, with deterministic and with random steps, and those of the bodies.

    Args:
        device: where ours runs; theirs always runs on the CPU.
        quick: small sizes, to test the benchmark itself.
    """
    samples, their_samples, s_max = (3, 1, 6) if quick else (16, 4, 57)
    where = " on a GPU" if device.type == "cuda" else ""
    setting = (
        f"{samples} samples, {s_max} steps, no early stop, MLP 226/226/226, PA-MPJPE of 14 joints of a body of SMPL's "
        "size, alignment and stop rule included"
    )

    def prepare(deterministic: bool) -> Callable[[], Prepared]:
        return lambda: _search(samples, their_samples, s_max, deterministic, device)

    one_by_one = "the release's way: one sample, one candidate, one step at a time, whole meshes, NumPy Procrustes"
    return [
        Comparison(
            name="Algorithm 1, DDIM" + where,
            setting=setting,
            against=one_by_one,
            at_least=60.0,
            unit="sample",
            prepare=prepare(True),
        ),
        Comparison(
            name="Algorithm 1, DDPM" + where,
            setting=setting + "; ours draws noise by sample, start and time, theirs finds the same in a table",
            against=one_by_one,
            at_least=None,
            unit="sample",
            prepare=prepare(False),
        ),
        *bodies.comparisons(device, quick),
    ]


def _search(samples: int, their_samples: int, s_max: int, deterministic: bool, device: torch.device) -> Prepared:
    """Both searches; the answers of the first `their_samples` are compared."""
    torch.manual_seed(0)
    network, arrays = ReleasedDenoiser(STATE_SIZE, STATE_SIZE).eval(), _smpl_sized_body()
    truth, theta1 = _truth_and_first_answers(samples)
    mesh = diffannot_textbook.TextbookBody(arrays)
    target = torch.cat([_fourteen(mesh.joints(state)) for state in truth.split(1)])
    keys = torch.arange(samples)
    theirs = _their_search(
        network, mesh, theta1[:their_samples], target, s_max, keyed_noise(keys, STATE_SIZE), deterministic
    )
    expected = theirs()  # before the network moves to where ours runs
    ours = _our_search(
        copy.deepcopy(network).to(device), BodyModel(**vars(arrays)), theta1, target, s_max, keys, deterministic
    )
    return Prepared(Side(ours, samples), Side(theirs, their_samples), _compare(ours(), expected))


def _our_search(
    network: ReleasedDenoiser,
    body: BodyModel,
    theta1: Float[Tensor, "B D"],
    target: Float[Tensor, "B 14 3"],
    s_max: int,
    keys: Tensor,
    deterministic: bool,
) -> Callable[[], search.Found]:
    device = next(network.parameters()).device
    body, first_answers, goals = body.to(device), theta1.to(device), target.to(device)
    step = reverse_step(GaussianDiffusion(schedule_betas("linear")).to(device), network, deterministic)
    noise = None if deterministic else keyed_noise(keys.to(device), STATE_SIZE)

    def score(states: Tensor, sample: Tensor) -> Tensor:
        joints = body.joints(**to_smpl(states, project=False), regressor="h36m_17")
        return functional.pa_mpjpe(_fourteen(joints), goals[sample])

    def run() -> search.Found:
        with torch.inference_mode():
            return search.search_wavefront(step, first_answers, score, s_max, patience=s_max + 1, noise=noise)

    return run


def _their_search(
    network: ReleasedDenoiser,
    mesh: diffannot_textbook.TextbookBody,
    theta1: Float[Tensor, "B D"],
    target: Float[Tensor, "B 14 3"],
    s_max: int,
    noise: Noise,
    deterministic: bool,
) -> Callable[[], list[diffannot_textbook.Chosen]]:
    diffusion = diffannot_textbook.TextbookDiffusion(schedule_betas("linear").numpy())
    step = diffusion.ddim_step if deterministic else diffusion.ddpm_step
    sample, goals = torch.arange(len(theta1)), target.numpy()
    drawn = {
        (start, t): noise(sample, torch.full_like(sample, start), t) for start in range(s_max + 1) for t in range(start)
    }

    def run() -> list[diffannot_textbook.Chosen]:
        with torch.inference_mode():
            return [
                diffannot_textbook.select_best_result(
                    lambda state, t, start, b=b: step(network, state, t, drawn[start, int(t)][b : b + 1]),
                    theta1[b : b + 1],
                    lambda state, b=b: textbook_pa_mpjpe(_fourteen(mesh.joints(state))[0].numpy(), goals[b]),
                    s_max,
                    patience=s_max + 1,
                )
                for b in range(len(theta1))
            ]

    return run


def _compare(found: search.Found, expected: list[diffannot_textbook.Chosen]) -> Checks:
    """Losses and choices of ours against theirs, over the samples of theirs."""
    losses = torch.tensor([chosen.losses for chosen in expected], dtype=torch.float64)
    ours = found.losses[: len(expected)].double().cpu()
    difference = float(((ours - losses) / losses).abs().max())
    steps, stops = found.step[: len(expected)].tolist(), found.stop[: len(expected)].tolist()
    same = steps == [chosen.step for chosen in expected] and stops == [chosen.stop for chosen in expected]
    complaint = "" if same and difference < _SAME else "the two searches answer differently"
    return Checks({"loss_difference": difference, "samples_checked": len(expected)}, complaint)


def _truth_and_first_answers(samples: int) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D"]]:
    """Random bodies, and the same bodies with every joint rotated a little."""
    generator = torch.Generator().manual_seed(1)
    turns, errors = torch.randn(2, samples, 24, 3, generator=generator)
    truth = roma.rotvec_to_rotmat(0.3 * turns)
    answer = truth @ roma.rotvec_to_rotmat(0.16 * errors)
    betas = torch.randn(samples, 10, generator=generator)
    states = [
        to_state({"global_orient": pose[:, 0], "body_pose": pose[:, 1:], "betas": betas}) for pose in (truth, answer)
    ]
    return states[0], states[1]


def _smpl_sized_body() -> BodyArrays:
    """The free body, which has no pose directions, with random ones, so that both sides do all of SMPL's work."""
    arrays = body_files.read(body_files.FREE_BODY)
    generator = torch.Generator().manual_seed(0)
    shape = (*arrays.template.shape, 9 * (len(arrays.parents) - 1))
    return replace(arrays, pose_directions=_POSE_DIRECTION * torch.randn(shape, generator=generator).double())


def _fourteen(joints: Float[Tensor, "R 17 3"]) -> Float[Tensor, "R 14 3"]:
    """The joints that count, relative to the root, millimetres."""
    return _MILLIMETRES * (joints - joints[:, :1])[:, _JOINTS]
