"""One checkpoint of DPMesh on all test sets of its paper, in one command; and the release's habit, kept apart."""

import json
from pathlib import Path

import pytest
import torch

from methods.dpmesh import DPMesh
from scripts import compare, prepare
from scripts.train import main
from tests.datamodules import gendered_bodies, panoptic_tree, threedoh_tree, threedpw_tree
from tests.places import ROOT

SETS = ["threedpw", "threedpw_oc", "threedpw_pc", "threedpw_crowd", "threedoh", "panoptic"]
MODEL = {"backbone": "transformer", "image_size": 64, "pose_head": "rot6d", "body": "data/bodies/smpl_neutral.npz"}
EXPERIMENT = {
    "model": {"class_path": "methods.dpmesh.DPMesh", "init_args": MODEL},
    "trainer": {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with `data/` as the configuration expects it, an experiment and two checkpoints."""
    home = tmp_path_factory.mktemp("benchmarks")
    bodies = gendered_bodies.write(home / "data" / "bodies")
    threedpw_tree.write(home / "3DPW", bodies)
    threedoh_tree.write(home / "3DOH", bodies)
    panoptic_tree.write(home / "toolbox")
    for name, source in (("threedpw", "3DPW"), ("threedoh", "3DOH"), ("panoptic", "toolbox")):
        target = str(home / "data" / name)
        assert prepare.main([name, "--source", str(home / source), "--output", target, "--num_workers", "0"]) == 0
    (home / "experiment.yaml").write_text(json.dumps(EXPERIMENT))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        for seed in (0, 1):
            torch.manual_seed(seed)
            method = DPMesh(**MODEL)
            about = {"hyper_parameters": dict(method.hparams), "class_path": "methods.dpmesh.DPMesh"}
            about |= {"epoch": 0, "global_step": 0, "pytorch-lightning_version": "2.5.0", "trained_on": "detected"}
            torch.save({"state_dict": method.state_dict(), **about}, home / f"{seed}.ckpt")
    return home


@pytest.mark.slow
def test_one_checkpoint_on_all_sets_and_one_for_each_set_only_as_an_oracle(home, monkeypatch, capfd):
    monkeypatch.chdir(home)
    data = str(ROOT / "configs" / "data" / "occlusion_benchmarks.yaml")
    for seed in (0, 1):
        options = ["-c", "experiment.yaml", "--data", data, "--ckpt_path", f"{seed}.ckpt", "--name", f"test_{seed}"]
        assert main(["test", *options]) == 0, capfd.readouterr().err
    found = [json.loads(Path(f"runs/test_{seed}/test.json").read_text()) for seed in (0, 1)]
    assert [protocol["dataset"] for protocol in found[0]["protocols"]] == SETS
    assert [protocol.get("train_keypoints_2d") for protocol in found[0]["protocols"]] == [None] * 5 + ["detected"]
    for name in SETS:
        metrics = {"mpjpe", "pa_mpjpe", "pve"} if name != "panoptic" else {"mpjpe"}
        assert all(f"test/{name}/{metric}" in found[0]["metrics"] for metric in metrics), name
    assert {protocol["vertex_root"] for protocol in found[0]["protocols"][:5]} == {"smpl"}

    assert compare.main(["test_0", "test_1", "--output", "report", "--oracle_per_set", "runs/oracle"]) == 0
    record = json.loads(Path("runs/oracle/test.json").read_text())
    assert all("/oracle/best_of_2_checkpoints" in key for key in record["metrics"])
    for name in SETS:
        values = [run["metrics"][f"test/{name}/mpjpe"] for run in found]
        prefix = f"test/{name}/oracle/best_of_2_checkpoints"
        assert record["metrics"][f"{prefix}/mpjpe"] == min(values)
        assert record["metrics"][f"{prefix}_null/mpjpe"] == pytest.approx(sum(values) / 2)
        assert record["checkpoint"][name] == f"test_{values.index(min(values))}"
    printed = capfd.readouterr().out
    assert "best of 2 checkpoints" in printed and "not comparable with the numbers above" in printed
    for arguments in (["test_0"], ["test_0", "test_1", "--oracle_per_set", "runs/test_0"]):
        given = [*arguments, *(["--oracle_per_set", "runs/b"] if len(arguments) == 1 else [])]
        assert compare.main([*given, "--output", "report"]) == 2
