"""The rows of the ablations of DiffPose: sizes of the controls, options that exist, and the order of what is run."""

import inspect

import pytest
import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode

from datamodules.motion_capture import MotionCapture
from datamodules.synthetic_motion import SyntheticMotion
from methods.diffpose import ContextEncoder, DiffPose
from methods.fmpose import FMPose
from noise2pose.errors import InputError
from scripts import train as train_script
from scripts.studies import diffpose, people, runs
from scripts.studies.diffpose import EPOCHS, ROWS, SPLITS, SWEEPS, VALIDATED_EVERY, Measured, changed
from tests.places import ROOT
from tests.tiny import TinyPoses

BASE = yaml.safe_load((ROOT / "configs" / "experiments" / "diffpose_ablation.yaml").read_text())["model"]["init_args"]


def made(kind, row):
    known = inspect.signature(kind).parameters
    options = {key: value for key, value in BASE.items() if key in known} | changed(ROWS[row].options)[0]
    return kind(**options).eval()


def parameters(method):
    return sum(parameter.numel() for parameter in method.parameters())


@torch.no_grad()
def operations(method):
    counter = FlopCounterMode(display=False)
    with counter:
        method(TinyPoses().load("val"))
    return counter.get_total_flops()


def test_controls_are_as_large_and_as_expensive_as_diffpose():
    method = made(DiffPose, "diffpose")
    for row, kind in (("parameters", ContextEncoder), ("fmpose", FMPose)):
        options = {"network": "residual", "start": "uncertain"} if kind is FMPose else {}
        known = inspect.signature(kind).parameters
        arguments = (
            {key: value for key, value in BASE.items() if key in known} | changed(ROWS[row].options)[0] | options
        )
        assert parameters(kind(**arguments)) == pytest.approx(parameters(method), rel=0.04), row
    method.denoiser_steps += 1
    method.diffusion.timesteps = method.diffusion.timesteps[:1]
    method.diffusion.num_components = 1  # what mixtures cost is no network's
    assert operations(made(ContextEncoder, "compute")) == pytest.approx(operations(method), rel=0.05)


def test_rows_change_options_that_exist_and_come_after_what_they_need():
    of_method = inspect.signature(DiffPose).parameters
    of_data = inspect.signature(SyntheticMotion.__mro__[1]).parameters
    seen = []
    for name, row in ROWS.items():
        if row.trained in ("on_encoder", "no"):
            method, data = changed(row.options)
            assert set(method) <= set(of_method) and set(data) <= set(of_data), name
            assert "encoder" in seen and (row.trained == "on_encoder" or diffpose.REFERENCE in seen)
        assert EPOCHS[row.trained] % VALIDATED_EVERY[row.data] == 0  # so that the last epoch is validated
        seen.append(name)
        assert row.reference in ROWS
    assert all(row in ROWS for rows in SWEEPS.values() for row in rows)
    assert {changed(ROWS[row].options)[0]["num_sampling_steps"] for row in SWEEPS["calls"]} == {1, 2, 5, 10, 15}


@pytest.mark.slow
@pytest.mark.parametrize("row, split", [("gaussian", "people"), ("m_1_peaks", "synthetic"), ("d3dp", "activities")])
def test_the_command_line_takes_the_options_of_a_row(row, split, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as stop:
        train_script.main(
            [
                "fit",
                "-c",
                "configs/experiments/diffpose_ablation.yaml",
                *Measured(row, split, 3).options(),
                "--print_config",
            ]
        )
    assert stop.value.code == 0
    config = yaml.safe_load(capsys.readouterr().out)
    model, data = config["model"]["init_args"], config["data"]["init_args"]
    assert model["normalisation"] == "limbs" and data["noise_seed"] == 3
    assert model["width"] == (24 if row == "d3dp" else 16)
    assert data["cameras"] == "sampled"
    if split == "synthetic":
        assert (data["draw"], data["clips_per_activity"]) == (3, 20)
        assert 20 * 12 == 240 and data["heatmaps"] and model["num_components"] == 1
        assert model["context_checkpoint"] == "runs/ablation_synthetic_encoder_seed3/checkpoints/best.ckpt"
    else:
        assert data["hold_out"] == split and data["num_frames"] == (27 if row == "d3dp" else 1)
        assert config["trainer"]["max_epochs"] == EPOCHS["encoder"] + EPOCHS["on_encoder"]


def test_synthetic_people_of_another_draw_are_others():
    draws = [SyntheticMotion(clips_per_activity=1, frames_per_clip=2, draw=draw).clips("test") for draw in (0, 0, 1)]
    first, again, other = ({clip.subject: clip.joints for clip in clips} for clips in draws)
    assert len(first) == 12 and first.keys() == again.keys() and not first.keys() & other.keys()
    assert all(torch.equal(first[person], again[person]) for person in first)
    with pytest.raises(InputError, match=r"data.draw is 100, expected 0 to 99"):
        SyntheticMotion(draw=100)
    assert "draw 1" in SyntheticMotion(draw=1).protocols("test")[0].split


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project whose trainings only write their records; returns what was called."""
    calls = []

    def run(script, verb, *arguments, **environment):
        assert environment == {"OMP_NUM_THREADS": "2"}
        name = arguments[arguments.index("--name") + 1]
        calls.append((verb, name, "--ckpt_path" in arguments and arguments[arguments.index("--ckpt_path") + 1]))
        runs.folder_of(name).joinpath("checkpoints").mkdir(parents=True, exist_ok=True)
        (runs.folder_of(name) / "checkpoints" / "best.ckpt").touch()
        runs.write_record(name, "test.json" if verb == "test" else "fit.json", {})

    for module in (runs, diffpose):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(runs, "run", run)
    monkeypatch.setattr(people, "use_threads", lambda number: None)
    monkeypatch.setattr(people, "errors_by_person", lambda *_: {})
    monkeypatch.setattr(people, "changes", lambda checkpoint, data, options: dict.fromkeys(options, data["change"]))
    return calls


def test_a_row_is_trained_once_continued_and_tested_with_its_weights(project):
    encoder, reference, sweep = (Measured(row, "people", 4) for row in ("encoder", "diffpose", "calls_5"))
    with pytest.raises(InputError, match="row encoder of this split and seed comes first"):
        diffpose.measure(sweep, 2)
    (runs.folder_of(encoder.name) / "checkpoints").mkdir(parents=True)
    (runs.folder_of(encoder.name) / "checkpoints" / "last.ckpt").touch()
    for _ in range(2):
        for measured in (encoder, reference, sweep):
            diffpose.measure(measured, 2)
            (runs.folder_of(measured.name) / "config.yaml").write_text("data: {change: 7.0}")
    assert runs.record(reference.name, "changes.json") == {"calls": dict.fromkeys(SWEEPS["calls"], 7.0)}
    assert project == [
        ("fit", encoder.name, "last"),
        ("test", encoder.name, f"runs/{encoder.name}/checkpoints/best.ckpt"),
        ("fit", reference.name, False),
        ("test", reference.name, f"runs/{reference.name}/checkpoints/best.ckpt"),
        ("test", sweep.name, f"runs/{reference.name}/checkpoints/best.ckpt"),
    ]


def test_a_sweep_that_varies_nothing_is_not_measured(project, monkeypatch):
    def changes(checkpoint, data, options):
        raise InputError("the answers do not differ")

    monkeypatch.setattr(people, "changes", changes)
    for row in ("encoder", "diffpose"):
        diffpose.measure(Measured(row, "people", 0), 2)
        (runs.folder_of(Measured(row, "people", 0).name) / "config.yaml").write_text("data: {}")
    before = list(project)
    for row in ("m_9", "calls_2"):
        with pytest.raises(InputError, match="the answers do not differ"):
            diffpose.measure(Measured(row, "people", 0), 2)
    assert project == before
    diffpose.measure(Measured("single_step", "people", 0), 2)  # is in no sweep
    assert len(project) == len(before) + 2


def test_missing_motion_is_found_before_anything_is_trained(project, tmp_path):
    for split in SPLITS:
        (tmp_path / SPLITS[split]["frames"].split()[1]).parent.mkdir(parents=True, exist_ok=True)
        content = (ROOT / SPLITS[split]["frames"].split()[1]).read_text()
        (tmp_path / SPLITS[split]["frames"].split()[1]).write_text(content)
    diffpose.check_data(["synthetic"])
    (tmp_path / "data" / "cmu_mocap").mkdir(parents=True)
    with pytest.raises(InputError, match=r"motion_people_frame.yaml: data/uiprmd is not prepared .*--splits synthetic"):
        diffpose.check_data(["synthetic", "people"])
    assert issubclass(MotionCapture, SyntheticMotion.__mro__[1])
