"""Errors of each person, and the check that options change the answer, with an untrained DiffPose."""

import numpy as np
import pytest
import torch
import yaml

from datamodules.synthetic_motion import SyntheticMotion
from methods.diffpose import DiffPose
from noise2pose.errors import InputError
from noise2pose.metrics.calibration import energy_score
from scripts.studies.people import changes, errors_by_person
from tests.datamodules import motion_folder

OPTIONS = {
    "variant": "paper", "encoder": "residual", "denoiser": "residual", "context_width": 8, "context_blocks": 1,
    "width": 8, "num_blocks": 1, "context_epochs": 1, "num_sampling_steps": 3, "num_mixture_samples": 16,
}  # fmt: skip
DATA = {"clips_per_activity": 1, "frames_per_clip": 20, "eval_stride": 10}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a tested run: its weights, and the configuration of the test."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    method = DiffPose(**OPTIONS)
    method.denoiser_steps += 1
    for parameter in method.diffusion.parameters():  # an untrained denoiser corrects nothing
        torch.nn.init.normal_(parameter, std=0.1)
    checkpoint = {
        "state_dict": method.state_dict(),
        "hyper_parameters": dict(method.hparams),
        "class_path": "methods.diffpose.DiffPose",
    }
    torch.save(checkpoint, folder / "best.ckpt")
    config = {
        "model": {"class_path": "methods.diffpose.DiffPose", "init_args": OPTIONS},
        "data": {"class_path": "datamodules.synthetic_motion.SyntheticMotion", "init_args": DATA},
    }
    (folder / "config_test.yaml").write_text(yaml.safe_dump(config))
    return folder, method.eval(), config


@torch.no_grad()
def test_errors_of_people_are_those_of_their_samples(run):
    folder, method, _ = run
    found = errors_by_person(folder, folder / "best.ckpt")["synthetic"]
    batch = next(iter(SyntheticMotion(**DATA).test_dataloader()))
    answer = method(batch)
    poses, truth = answer["joints_3d"], batch["keypoints_3d"][..., :3]
    errors = ((poses - poses[:, :1]) - (truth - truth[:, :1])).norm(dim=-1).mean(dim=-1)
    samples = answer["hypotheses"]
    scores = energy_score(samples - samples[..., :1, :], truth - truth[:, :1])[:, 1:].mean(dim=-1)
    assert len(found["mpjpe"]) == len(found["crps"]) == len(set(batch["subject"])) == 12
    for person in found["mpjpe"]:
        own = [i for i, subject in enumerate(batch["subject"]) if subject == person]
        assert found["mpjpe"][person] == pytest.approx(1000 * float(errors[own].mean()), rel=1e-4)
        assert found["crps"][person] == pytest.approx(1000 * float(scores[own].mean()), rel=1e-4)


def test_sources_of_motion_are_apart(run, tmp_path):
    folder, _, config = run
    people = [{"name": f"{subject}_01", "subject": subject, "action": "walk"} for subject in ("01", "02", "03", "11")]
    for name, dataset in (("cmu", "cmu_mocap"), ("uiprmd", "motion_clips")):
        source = {"source": "uiprmd-vicon"} if name == "uiprmd" else {}
        split = {"split": "test"} if name == "uiprmd" else {}
        motion_folder.write(tmp_path / name, dataset, [{**clip, **source, **split} for clip in people])
    roots = ",".join(str(tmp_path / name) for name in ("cmu", "uiprmd"))
    data = {"class_path": "datamodules.motion_capture.MotionCapture", "init_args": {"roots": roots, "eval_stride": 20}}
    (tmp_path / "config_test.yaml").write_text(yaml.safe_dump({**config, "data": data}))
    found = errors_by_person(tmp_path, folder / "best.ckpt")
    assert list(found["motion_people_cmu"]["mpjpe"]) == ["02", "03"]
    assert list(found["motion_people_uiprmd"]["crps"]) == ["01", "02", "03", "11"]


def test_what_is_varied_has_to_change_the_answer(run):
    folder, _, config = run
    rows = {
        "two calls": ({"num_sampling_steps": 2}, {}),
        "three calls": ({"num_sampling_steps": 3}, {}),
        "several peaks": ({}, {"heatmaps": True}),
    }
    apart = changes(folder / "best.ckpt", config["data"], rows)
    assert len(apart) == 3 and all(change > 1.0 for change in apart.values())
    rows = {"three calls": ({"num_sampling_steps": 3}, {}), "default": ({}, {})}
    with pytest.raises(
        InputError, match="rows three calls, default: the answers of the same weights differ by 0.000 mm"
    ):
        changes(folder / "best.ckpt", config["data"], rows)


def test_the_spread_as_the_chain_gives_it_has_no_factor(run):
    _, method, _ = run
    state = {**method.state_dict(), "spread_factor": torch.tensor(2.0)}
    factors = []
    for source in ("validation", "none"):
        again = DiffPose(**OPTIONS, spread_scale=source)
        again.load_state_dict(dict(state))
        factors.append(float(again.spread_factor))
    assert np.allclose(factors, [2.0, 1.0])
