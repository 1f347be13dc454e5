"""The gain of refinement: every selector beside its controls, in the layout of the paper's Tables II and III.

A selector that uses the ground truth improves almost any set of candidates, so each selector is run three times: with
the trained denoiser, with an untrained one, and without one. Settings are chosen on validation data: the steps of
`fixed` and the weight of the keypoints in `guided` for each control, and that weight for the SMPLify-style baseline.

Shape letters: B samples, J joints, I candidates.
"""

import copy
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm import tqdm

from methods.diffannot.fitting import PosePrior, fit_to_keypoints
from methods.diffannot.module import DiffAnnot
from methods.diffannot.refinement import Evidence, Refined, Refiner, Selector, half_of_the_joints, truth_score
from methods.diffannot.states import to_state
from noise2pose.batch import PoseBatch
from noise2pose.metrics import functional
from noise2pose.metrics.protocols import MESH_JOINTS

Control = Literal["trained", "untrained", "none"]
DEPLOYABLE: tuple[Selector, ...] = ("fixed", "reproj2d", "consistency", "guided")
ORACLE: tuple[Selector, ...] = ("oracle", "half_joints")
CONTROLS: tuple[Control, ...] = ("none", "untrained", "trained")
FRONT_END, SMPLIFY = "front end", "SMPLify-style"
STRENGTHS = (3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)  # weights of the keypoints to choose from
_HALF = "half"  # control of the front end's row with errors of half of the joints
_Key = tuple[str, str]  # name and control of a row
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
        name: of the selector, or of the method that it is compared with.
        control: its denoiser; empty for a method without one.
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


class Settings(NamedTuple):
    """Settings that are chosen on validation data.

    Attributes:
        fixed_step: of `fixed`.
        strength: of the keypoints in `guided`.
        comparator: of the keypoints in the SMPLify-style baseline.
    """

    fixed_step: int
    strength: float
    comparator: float

    def applied_to(self, refiner: Refiner) -> Refiner:
        """A copy of a refiner with these settings."""
        guidance = replace(refiner.guidance, strength=self.strength)
        return replace(refiner, fixed_step=self.fixed_step, guidance=guidance)


class ControlTables(NamedTuple):
    """The tables of one checkpoint.

    Attributes:
        deployable: rows in which nothing was chosen with the ground truth of the samples.
        oracle: rows chosen by PA-MPJPE of all joints.
        half_joints: rows chosen by PA-MPJPE of every other joint, with errors of the remaining ones.
        settings: chosen on validation data, by control.
    """

    deployable: list[Row]
    oracle: list[Row]
    half_joints: list[Row]
    settings: dict[str, Settings]


@torch.no_grad()
def measure_controls(
    method: DiffAnnot,
    train_states: Float[Tensor, "B D"],
    validation: Iterable[PoseBatch],
    test: Iterable[PoseBatch],
    seed: int = 0,
) -> ControlTables:
    """Measures every selector and control on test samples.

    Args:
        method: trained, in evaluation mode.
        train_states: ground truth, for the prior of the SMPLify-style baseline.
        validation: batches for the choice of the settings.
        test: batches to report on.
        seed: of the untrained network.
    """
    networks: dict[Control, nn.Module | None] = {
        "none": None,
        "untrained": untrained(method.denoiser, seed),
        "trained": method.denoiser,
    }
    prior = PosePrior.fit(train_states)
    settings: dict[Control, Settings] = {
        control: choose(method, network, None if network else prior, validation)
        for control, network in networks.items()
    }
    parts: dict[_Key, list[Errors]] = defaultdict(list)
    seconds: dict[_Key, float] = defaultdict(float)
    for batch in tqdm(list(test), desc="test batches"):
        for key, found, taken in _answers(method, networks, settings, prior, batch):
            parts[key].append(found)
            seconds[key] += taken
    joined = {key: Errors(*map(torch.cat, zip(*values, strict=True))) for key, values in parts.items()}

    def row(name: str, control: str, base: str = "") -> Row:
        values = joined[name, control]
        return Row(
            name,
            "" if control == _HALF else control,
            1000.0 * float(values.mpjpe.mean()),
            1000.0 * float(values.pa_mpjpe.mean()),
            float((values.pa_mpjpe < joined[FRONT_END, base].pa_mpjpe).double().mean()),
            float(values.pixels.mean()),
            float(values.step.double().mean()),
            1000.0 * seconds[name, control] / len(values.step),
        )

    controls = [(selector, control) for selector in DEPLOYABLE for control in CONTROLS if (selector, control) in joined]
    return ControlTables(
        [row(FRONT_END, ""), row(SMPLIFY, ""), *(row(*key) for key in controls)],
        [row(FRONT_END, ""), *(row("oracle", control) for control in CONTROLS)],
        [row(FRONT_END, _HALF, _HALF), *(row("half_joints", control, _HALF) for control in CONTROLS)],
        {str(control): setting for control, setting in settings.items()},
    )


def _answers(
    method: DiffAnnot,
    networks: dict[Control, nn.Module | None],
    settings: dict[Control, Settings],
    prior: PosePrior,
    batch: PoseBatch,
) -> Iterator[tuple[_Key, Errors, float]]:
    """Errors of all answers to one batch and the seconds that they took; the front end also with half of the joints."""
    batch, _ = method.facing(batch)
    theta = to_state(method.frontend(batch)["smpl"])
    evidence = method.evidence(batch, theta)._replace(target=batch["keypoints_3d"])
    kept = Refined(theta, torch.zeros_like(evidence.keys))
    yield (FRONT_END, ""), errors(method, kept, evidence, MESH_JOINTS), 0.0
    yield (FRONT_END, _HALF), errors(method, kept, evidence, _REPORTED), 0.0

    def measured(key: _Key, joints: tuple[int, ...], answer: Callable[[], Refined]) -> tuple[_Key, Errors, float]:
        started = time.perf_counter()
        refined = answer()
        taken = time.perf_counter() - started
        return key, errors(method, refined, evidence, joints), taken

    def fitted() -> Refined:
        strength = settings["none"].comparator
        return Refined(fit_to_keypoints(theta, method.posed_body, evidence.keypoints, prior, strength), kept.step)

    yield measured((SMPLIFY, ""), MESH_JOINTS, fitted)
    for selector in (*DEPLOYABLE, *ORACLE):
        joints = _REPORTED if selector == "half_joints" else MESH_JOINTS
        for control, network in networks.items():
            if selector != "consistency" or network is not None:
                refiner = settings[control].applied_to(method.refiner)
                answer = partial(refiner.refine, network, theta, selector, evidence)
                yield measured((selector, control), joints, answer)


@torch.no_grad()
def choose(
    method: DiffAnnot, network: nn.Module | None, prior: PosePrior | None, validation: Iterable[PoseBatch]
) -> Settings:
    """The settings with the lowest mean PA-MPJPE on validation samples; the first of equals.

    Args:
        method: trained.
        network: the denoiser of a control.
        prior: of the SMPLify-style baseline; None leaves its strength at the first of `STRENGTHS`.
        validation: batches.
    """
    by_step = torch.zeros(method.refiner.max_steps + 1, dtype=torch.float64)
    guided, fitted = torch.zeros(2, len(STRENGTHS), dtype=torch.float64)
    for batch in validation:
        batch, _ = method.facing(batch)
        theta = to_state(method.frontend(batch)["smpl"])
        evidence = method.evidence(batch, theta)
        score = truth_score(method.posed_body, batch["keypoints_3d"], MESH_JOINTS, method.refiner.select_by)
        rows = torch.arange(len(theta))
        losses = method.refiner.losses_of_fixed_steps(network, theta, score, evidence)
        by_step += losses.double().sum(dim=0)
        for number, strength in enumerate(STRENGTHS):
            refiner = Settings(0, strength, strength).applied_to(method.refiner)
            state = refiner.refine(network, theta, "guided", evidence).state
            guided[number] += score(state, rows).double().sum()
            if prior is not None:
                state = fit_to_keypoints(theta, method.posed_body, evidence.keypoints, prior, strength)
                fitted[number] += score(state, rows).double().sum()
    return Settings(int(by_step.argmin()), STRENGTHS[int(guided.argmin())], STRENGTHS[int(fitted.argmin())])


def untrained(network: nn.Module, seed: int) -> nn.Module:
    """A copy with new random weights in every layer, also in those that start at zero.

    The normalisation of states (`ResidualDenoiser.set_statistics`) is kept, because it is not trained.
    """
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
    pose, chosen = method.posed_body.joints(refined.state), list(joints)
    pixels = evidence.keypoints.distance(evidence.keypoints.project(pose))
    target, valid = evidence.target[..., :3], evidence.target[:, chosen, 3]
    pose, target = pose - pose[:, :1], target - target[:, :1]
    pose, target = pose[:, chosen], target[:, chosen]
    return Errors(functional.mpjpe(pose, target, valid), functional.pa_mpjpe(pose, target, valid), pixels, refined.step)
