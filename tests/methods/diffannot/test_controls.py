"""The controls of refinement: their rows, their settings and the joints that they are measured on."""

import json

import lightning as L
import pytest
import torch

from datamodules.base import select
from methods.diffannot import DiffAnnot, controls
from methods.diffannot.controls import DEPLOYABLE, FRONT_END, SMPLIFY, Settings, choose, measure_controls, untrained
from methods.diffannot.fitting import PosePrior, fit_to_keypoints
from methods.diffannot.refinement import half_of_the_joints
from methods.diffannot.search import denoise_from
from methods.diffannot.states import to_state
from noise2pose.metrics import functional
from noise2pose.metrics.protocols import MESH_JOINTS
from tests.tiny import TinyPeople

STRENGTHS = (10.0, 1000.0)
FRONT = {"class_path": "methods.hmr.HMR", "arguments": {"input": "keypoints", "width": 32, "hidden": 32}}


def make(**options) -> DiffAnnot:
    """A denoiser with random weights that knows the mean and spread of the poses."""
    L.seed_everything(3, verbose=False)
    small = {"width": 32, "num_blocks": 1, "max_steps": 8, "patience": 3, "guidance_start": 10, "guidance_rounds": 1}
    method = DiffAnnot(frontend=json.dumps(FRONT), num_diffusion_steps=100, **{**small, **options})
    states = train_states()
    method.denoiser.set_statistics(states.mean(dim=0), states.std(dim=0))
    return method.eval()


def train_states():
    return to_state(TinyPeople(image_size=1).load("train")["smpl"])


def batches(split):
    samples = TinyPeople(image_size=1).load(split)
    return [select(samples, part) for part in torch.arange(19).split(12)]


@pytest.fixture(scope="module", autouse=True)
def few_strengths():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(controls, "STRENGTHS", STRENGTHS)
        yield


@pytest.fixture(scope="module")
def method():
    return make()


@pytest.fixture(scope="module")
def found(method):
    return measure_controls(method, train_states(), batches("val"), batches("test"))


def errors(state, method, joints=MESH_JOINTS):
    """(MPJPE, PA-MPJPE) of states of the test split in millimetres, by hand."""
    target = TinyPeople(image_size=1).load("test")["keypoints_3d"][..., :3]
    pose, chosen = method.posed_body.joints(state), list(joints)
    pose, target = (points - points[:, :1] for points in (pose, target))
    pose, target = pose[:, chosen], target[:, chosen]
    return [1000.0 * float(error(pose, target).mean()) for error in (functional.mpjpe, functional.pa_mpjpe)]


@torch.no_grad()
def first_answer(method):
    return to_state(method.frontend(TinyPeople(image_size=1).load("test"))["smpl"])


def rows(table):
    return {(row.name, row.control): row for row in table}


def test_every_selector_stands_beside_its_controls(found):
    expected = [(name, control) for name in DEPLOYABLE for control in ("none", "untrained", "trained")]
    expected.remove(("consistency", "none"))  # which needs a denoiser
    assert list(rows(found.deployable)) == [(FRONT_END, ""), (SMPLIFY, ""), *expected]
    for name, table in (("oracle", found.oracle), ("half_joints", found.half_joints)):
        assert list(rows(table)) == [
            (FRONT_END, ""),
            *((name, control) for control in ("none", "untrained", "trained")),
        ]
    for row in (*found.deployable, *found.oracle, *found.half_joints):
        assert 0.0 <= row.improved <= 1.0 and row.pa_mpjpe <= row.mpjpe and row.milliseconds >= 0.0


def test_the_first_row_is_the_front_ends_error(found, method):
    row = found.deployable[0]
    assert [row.mpjpe, row.pa_mpjpe] == pytest.approx(errors(first_answer(method), method), rel=1e-4)
    assert row == found.oracle[0] and row.improved == 0.0 and row.step == 0.0


def test_the_oracle_is_never_worse_than_the_front_end(found):
    for row in found.oracle[1:]:
        assert row.pa_mpjpe <= found.oracle[0].pa_mpjpe + 1e-3
    assert rows(found.oracle)["oracle", "none"].improved > 0.0, "it gains something without any denoiser"


def test_half_joints_are_measured_on_the_other_seven(found, method):
    chosen_by, reported = half_of_the_joints(MESH_JOINTS)
    assert len(reported) == 7 and not set(chosen_by) & set(reported)
    theta = first_answer(method)
    assert [found.half_joints[0].mpjpe, found.half_joints[0].pa_mpjpe] == pytest.approx(
        errors(theta, method, reported), rel=1e-4
    )
    states = []
    for batch, part in zip(batches("test"), theta.split(12), strict=True):
        evidence = method.evidence(batch, part)._replace(target=batch["keypoints_3d"])
        states.append(method.refiner.refine(method.denoiser, part, "half_joints", evidence))
    row = rows(found.half_joints)["half_joints", "trained"]
    refined = torch.cat([each.state for each in states])
    assert [row.mpjpe, row.pa_mpjpe] == pytest.approx(errors(refined, method, reported), rel=1e-3)
    assert row.step == pytest.approx(float(torch.cat([each.step for each in states]).double().mean()))


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_the_fixed_step_has_the_lowest_mean_error_of_all(sampler):
    method = make(sampler=sampler)
    networks = {"none": None, "untrained": untrained(method.denoiser, 0), "trained": method.denoiser}
    chosen = {}
    for control, network in networks.items():
        means = []
        for count in range(method.refiner.max_steps + 1):
            scores = []
            for batch in batches("val"):
                with torch.no_grad():
                    theta = to_state(method.frontend(batch)["smpl"])
                evidence = method.evidence(batch, theta)
                step, noise = method.refiner._step(network, evidence), method.refiner._noise(network, evidence)
                pose = method.posed_body.joints(denoise_from(step, theta, count, noise))[:, list(MESH_JOINTS)]
                scores.append(functional.pa_mpjpe(pose, batch["keypoints_3d"][:, list(MESH_JOINTS), :3]))
            means.append(float(torch.cat(scores).mean()))
        chosen[control] = means.index(min(means))
        assert choose(method, network, None, batches("val")).fixed_step == chosen[control], control
    assert chosen["trained"] > 0, "else this would say little"


def test_the_strengths_have_the_lowest_mean_error_of_all(method):
    prior = PosePrior.fit(train_states())
    guided, fitted = torch.zeros(2, len(STRENGTHS))
    methods = [make(guidance_strength=strength) for strength in STRENGTHS]
    validation = [select(batch, torch.arange(3)) for batch in batches("val")]
    for batch in validation:
        with torch.no_grad():
            theta = to_state(method.frontend(batch)["smpl"])
        evidence = method.evidence(batch, theta)
        for number, (strength, pulled) in enumerate(zip(STRENGTHS, methods, strict=True)):
            states = (
                pulled.refiner.refine(pulled.denoiser, theta, "guided", evidence).state,
                fit_to_keypoints(theta, method.posed_body, evidence.keypoints, prior, strength),
            )
            for sums, state in zip((guided, fitted), states, strict=True):
                pose = method.posed_body.joints(state)[:, list(MESH_JOINTS)]
                target = batch["keypoints_3d"][:, list(MESH_JOINTS), :3]
                sums[number] += functional.pa_mpjpe(pose, target).sum().detach()
    chosen = choose(method, method.denoiser, prior, validation)
    assert chosen.strength == STRENGTHS[int(guided.argmin())]
    assert chosen.comparator == STRENGTHS[int(fitted.argmin())]


def test_rows_have_the_settings_that_validation_chose_and_the_method_keeps_its_own(found, method):
    for control, setting in found.settings.items():
        assert rows(found.deployable)["fixed", control].step == setting.fixed_step
    assert method.refiner.fixed_step == 20 and method.refiner.guidance.strength == 300.0
    changed = Settings(3, 10.0, 30.0).applied_to(method.refiner)
    assert changed.fixed_step == 3 and changed.guidance.strength == 10.0 and changed.guidance.start == 10


def test_an_untrained_denoiser_depends_on_the_seed_alone(method):
    before = {key: value.clone() for key, value in method.denoiser.state_dict().items()}
    state = torch.random.get_rng_state()
    fresh, again, other = (untrained(method.denoiser, seed).state_dict() for seed in (5, 5, 6))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(before[key], value) for key, value in method.denoiser.state_dict().items())
    assert all(torch.equal(fresh[key], again[key]) for key in fresh)
    for key in before:
        statistics = key in ("mean", "std") or key.startswith("norm.")
        assert torch.equal(fresh[key], before[key]) == statistics, key
        assert torch.equal(fresh[key], other[key]) == statistics, key
    assert not before["output.weight"].any() and fresh["output.weight"].any(), "also what starts at zero"
