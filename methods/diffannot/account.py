"""What refinement is worth: every selector beside its controls, in the layout of the paper's Tables II and III.

A selector that sees the ground truth improves almost any set of candidates, so each is run three times: with the
trained denoiser, with an untrained one, and with none at all. `fixed` and its controls have each a step of their own,
chosen on validation data.

Shape letters: B samples, J joints, I candidates.
"""

import copy
import time
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm import tqdm

from methods.diffannot.module import DiffAnnot
from methods.diffannot.refinement import Evidence, Refined, Selector
from methods.diffannot.selection import half_of_the_joints, truth_score
from methods.diffannot.smplify import PosePrior, fit_to_keypoints
from methods.diffannot.states import to_state
from noise2pose.batch import PoseBatch
from noise2pose.metrics import functional
from noise2pose.metrics.protocols import MESH_JOINTS

Control = Literal["trained", "untrained", "none"]
DEPLOYABLE: tuple[Selector, ...] = ("fixed", "reproj2d", "consistency", "guided")
ORACLE: tuple[Selector, ...] = ("oracle", "half_joints")
CONTROLS: tuple[Control, ...] = ("none", "untrained", "trained")
FRONT_END, SMPLIFY = "front end", "SMPLify-style"
_HALF = "half"  # of the joints, which errors are of
_REPORTED = half_of_the_joints(MESH_JOINTS)[1]


class Errors(NamedTuple):
    """Errors of each sample.

    Attributes:
        mpjpe: metres, relative to the root.
        pa_mpjpe: metres.
        pixels: mean distance from the 2-D keypoints.
        step: denoising steps.
    """

    mpjpe: Float[Tensor, " B"]
    pa_mpjpe: Float[Tensor, " B"]
    pixels: Float[Tensor, " B"]
    step: Tensor


class Row(NamedTuple):
    """One line of the table; errors in millimetres and pixels.

    Attributes:
        name: of the selector, or of what it is compared with.
        control: which denoiser it had; empty for what has none.
        mpjpe, pa_mpjpe, pixels, step: means over the samples.
        improved: share of the samples whose PA-MPJPE is below the front end's (Table III).
        milliseconds: of one sample.
    """

    name: str
    control: str
    mpjpe: float
    pa_mpjpe: float
    improved: float
    pixels: float
    step: float
    milliseconds: float


class Account(NamedTuple):
    """All rows of one checkpoint.

    Attributes:
        deployable: nothing in them was chosen with the ground truth of the samples.
        oracle: PA-MPJPE of all joints chose.
        half_joints: PA-MPJPE of every other joint chose, errors are of the others.
        fixed_steps: of `fixed`, by control.
    """

    deployable: list[Row]
    oracle: list[Row]
    half_joints: list[Row]
    fixed_steps: dict[str, int]


@torch.no_grad()
def account(
    method: DiffAnnot,
    train_states: Float[Tensor, "B D"],
    validation: Iterable[PoseBatch],
    test: Iterable[PoseBatch],
    seed: int = 0,
) -> Account:
    """Measures every selector and control on test samples.

    Args:
        method: trained, in evaluation mode.
        train_states: ground truth, for the prior of the comparator.
        validation: batches that `fixed_step` is chosen on.
        test: batches to report on.
        seed: of the untrained network.
    """
    networks: dict[Control, nn.Module | None] = {
        "none": None,
        "untrained": untrained(method.denoiser, seed),
        "trained": method.denoiser,
    }
    steps: dict[Control, int] = {
        control: choose_fixed_step(method, network, validation) for control, network in networks.items()
    }
    prior = PosePrior.fit(train_states)
    parts: dict[tuple[str, str], list[Errors]] = {}
    seconds: dict[tuple[str, str], float] = {}
    for batch in tqdm(list(test), desc="test batches"):
        for answer in _answers(method, networks, steps, prior, batch):
            key = answer.name, answer.control
            parts.setdefault(key, []).append(answer.errors)
            seconds[key] = seconds.get(key, 0.0) + answer.seconds
    joined = {key: Errors(*map(torch.cat, zip(*values, strict=True))) for key, values in parts.items()}

    def row(name: str, control: str, base: str = "") -> Row:
        return _row(name, control, joined[name, control], joined[FRONT_END, base], seconds[name, control])

    controls = [(selector, control) for selector in DEPLOYABLE for control in CONTROLS if (selector, control) in joined]
    return Account(
        [row(FRONT_END, ""), row(SMPLIFY, ""), *(row(*key) for key in controls)],
        [row(FRONT_END, ""), *(row("oracle", control) for control in CONTROLS)],
        [row(FRONT_END, _HALF, _HALF), *(row("half_joints", control, _HALF) for control in CONTROLS)],
        {str(control): step for control, step in steps.items()},
    )


class _Answer(NamedTuple):
    name: str
    control: str
    errors: Errors
    seconds: float


def _answers(
    method: DiffAnnot,
    networks: dict[Control, nn.Module | None],
    steps: dict[Control, int],
    prior: PosePrior,
    batch: PoseBatch,
) -> Iterator[_Answer]:
    """Everything that is compared, on one batch; the first is the front end itself, twice."""
    theta = to_state(method.frontend(batch)["smpl"])
    evidence = method.evidence(batch, theta)._replace(target=batch["keypoints_3d"])
    kept = Refined(theta, torch.zeros_like(evidence.keys))
    yield _Answer(FRONT_END, "", errors(method, kept, evidence, MESH_JOINTS), 0.0)
    yield _Answer(FRONT_END, _HALF, errors(method, kept, evidence, _REPORTED), 0.0)
    started = time.perf_counter()
    fitted = Refined(fit_to_keypoints(theta, method.posed, evidence.keypoints, prior), kept.step)
    taken = time.perf_counter() - started
    yield _Answer(SMPLIFY, "", errors(method, fitted, evidence, MESH_JOINTS), taken)
    refiner = copy.copy(method.refiner)  # the method keeps its own number of steps
    for selector in (*DEPLOYABLE, *ORACLE):
        joints = _REPORTED if selector == "half_joints" else MESH_JOINTS
        for control, network in networks.items():
            if selector == "consistency" and network is None:
                continue
            refiner.fixed_step = steps[control]
            started = time.perf_counter()
            refined = refiner.refine(network, theta, selector, evidence)
            taken = time.perf_counter() - started
            yield _Answer(selector, control, errors(method, refined, evidence, joints), taken)


def choose_fixed_step(method: DiffAnnot, network: nn.Module | None, validation: Iterable[PoseBatch]) -> int:
    """The number of steps with the lowest mean PA-MPJPE on validation samples; the first of equals."""
    total = torch.zeros(method.refiner.max_steps + 1, dtype=torch.float64)
    for batch in validation:
        theta = to_state(method.frontend(batch)["smpl"])
        score = truth_score(method.posed, batch["keypoints_3d"], MESH_JOINTS)
        losses = method.refiner.losses_of_fixed_steps(network, theta, score, method.evidence(batch, theta))
        total += losses.double().sum(dim=0).cpu()
    return int(total.argmin())


def untrained(network: nn.Module, seed: int) -> nn.Module:
    """A copy with new random weights in every layer, also in those that start at zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = copy.deepcopy(network)
        for layer in fresh.modules():
            if isinstance(layer, nn.Linear):
                layer.reset_parameters()
    return fresh


def errors(method: DiffAnnot, refined: Refined, evidence: Evidence, joints: tuple[int, ...]) -> Errors:
    """Errors of refined states on some joints."""
    assert evidence.target is not None
    pose, chosen = method.posed.joints(refined.state), list(joints)
    pixels = evidence.keypoints.distance(evidence.keypoints.project(pose))
    target, valid = evidence.target[..., :3], evidence.target[:, chosen, 3]
    pose, target = pose - pose[:, :1], target - target[:, :1]
    pose, target = pose[:, chosen], target[:, chosen]
    return Errors(functional.mpjpe(pose, target, valid), functional.pa_mpjpe(pose, target, valid), pixels, refined.step)


def _row(name: str, control: str, values: Errors, base: Errors, seconds: float) -> Row:
    return Row(
        name,
        "" if control == _HALF else control,
        1000.0 * float(values.mpjpe.mean()),
        1000.0 * float(values.pa_mpjpe.mean()),
        float((values.pa_mpjpe < base.pa_mpjpe).double().mean()),
        float(values.pixels.mean()),
        float(values.step.double().mean()),
        1000.0 * seconds / len(values.step),
    )
