"""What the doctor says of nothing, of prepared folders, and of damaged ones."""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from datamodules.preparation import prepare
from datamodules.sources.panoptic import files as panoptic_files
from noise2pose.bodies import files as body_files
from scripts import doctor
from scripts.checkup import readiness
from scripts.checkup.page import WIDTH
from tests.datamodules import acclaim, panoptic_tree
from tests.places import ROOT


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder to work in, with the configurations of this test alone."""
    configs = tmp_path / "configs"
    texts = {
        "methods/lifter.yaml": "class_path: methods.diffpose.DiffPose\ninit_args: {context_checkpoint: null}\n",
        "data/synthetic.yaml": "class_path: datamodules.synthetic_motion.SyntheticMotion\n",
        "data/cmu.yaml": data_piece("cmu_mocap.CMUMocap", "data/cmu_mocap", keypoints_2d="synthetic"),
        "data/many_people.yaml": data_piece("panoptic.Panoptic", "data/panoptic", images="true"),
        "data/elsewhere.yaml": data_piece("panoptic.Panoptic", "data/other", keypoints_2d="detected"),
        "experiments/plain.yaml": "name: plain\nmodel: ../methods/lifter.yaml\ndata: ../data/synthetic.yaml\n",
        "experiments/lift_cmu.yaml": "name: lift_cmu\nmodel: ../methods/lifter.yaml\ndata: ../data/cmu.yaml\n",
        "experiments/crowd.yaml": "name: crowd\nmodel: ../methods/lifter.yaml\ndata: ../data/many_people.yaml\n",
        "experiments/own/mesh.yaml": """
name: mesh
model:
  class_path: methods.diffannot.DiffAnnot
  init_args: {frontend_checkpoint: runs/plain/checkpoints/best.ckpt, body: data/bodies/mine.npz, pretrained: imagenet}
data:
  class_path: datamodules.mixture.Mixture
  init_args:
    datasets: [../../data/many_people.yaml, ../../data/cmu.yaml]
""",
        "experiments/own/shipped.yaml": """
name: shipped
model: {class_path: methods.diffannot.DiffAnnot, init_args: {frontend_checkpoint: hmr-people, body: free}}
data: ../../data/synthetic.yaml
""",
    }
    for name, text in texts.items():
        (configs / name).parent.mkdir(parents=True, exist_ok=True)
        (configs / name).write_text(text)
    monkeypatch.setattr(doctor, "CONFIGS", configs)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def data_piece(name: str, root: str, **options: str) -> str:
    lines = [f"class_path: datamodules.{name}", "init_args:", f"  root: {root}"]
    return "\n".join(lines + [f"  {key}: {value}" for key, value in options.items()]) + "\n"


def examine(here: Path, data: str = "data") -> dict:
    return doctor.examine(Path(data), Path("runs"), imports=False)


def states(report: dict) -> dict[str, list[str]]:
    return {entry["file"]: entry["missing"] for entry in report["experiments"]}


def write_panoptic(here: Path, *options: str) -> Path:
    panoptic_tree.write(here / "source")
    parser = argparse.ArgumentParser()
    panoptic_files.add_options(parser)
    plan = panoptic_files.plan(here / "source", here / "data" / "panoptic", parser.parse_args(options))
    prepare(plan, here / "data" / "panoptic", 0)
    return here / "data" / "panoptic"


def write_cmu(here: Path) -> Path:
    folder = here / "data" / "cmu_mocap"
    source = acclaim.write(here / "clips", {"01": 1}, frames=90)
    acclaim.prepare(source, folder)
    return folder


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def run(*arguments: str) -> tuple[int, list[str]]:
    command = [sys.executable, "-X", "importtime", str(ROOT / "scripts" / "doctor.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    assert not any(line.endswith(("| lightning", "| diffusers", "| torchmetrics")) for line in done.stderr.splitlines())
    return done.returncode, done.stdout.splitlines()


def test_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, lines = run()
    assert status == 0 and lines[-1] == "Nothing that was found is damaged."
    assert max(map(len, lines)) <= WIDTH
    text = "\n".join(lines)
    for words in (
        "free  neutral; ships with the project",
        "data/detector  not there",
        "diffpose-people",
        "context_synthetic_frame",
    ):
        assert words in text
    assert "noise2pose prepare cmu_mocap --download --output data/cmu_mocap" in text
    assert "noise2pose prepare panoptic --source FOLDER --output data/panoptic" in text
    assert "licence: http://domedb.perception.cs.cmu.edu" in text


def test_what_every_experiment_needs(here):
    report = examine(here)
    imagenet = [] if all(p["version"] for p in report["packages"] if p["extra"] == "image") else ["extra image"]
    assert states(report) == {
        "plain": [],
        "lift_cmu": ["data/cmu_mocap"],
        "crowd": ["data/panoptic"],
        "own/mesh": ["data/panoptic", "data/cmu_mocap", "run plain", "data/bodies/mine.npz", *imagenet],
        "own/shipped": [],
        "elsewhere": ["data/other"],
    }
    commands = {lack["what"]: lack["command"] for lack in report["missing"]}
    assert commands["run plain"] == "noise2pose train fit -c configs/experiments/plain.yaml"
    assert commands["data/other"] == "noise2pose prepare panoptic --source FOLDER --output data/other"
    assert commands["data/bodies/mine.npz"].startswith("noise2pose prepare body --source MODEL.pkl --output data/b")
    text = doctor.as_text(report, Path("data"))
    assert "own/ (2)" not in text and "own/shipped" not in text and "  own/ (1)" in text


def test_prepared_folders_are_found_and_make_experiments_ready(here):
    write_panoptic(here)
    write_cmu(here)
    (here / "data" / "notes").mkdir()
    report = examine(here)
    assert not report["damaged"]
    assert {e["dataset"]: (e["rows"], e["splits"], e["images"]) for e in report["data_sets"]} == {
        "cmu_mocap": (38, {"all": 38}, 0),
        "panoptic": (12, {"test": 12}, 6),
    }
    ready = states(report)
    assert ready["lift_cmu"] == ready["crowd"] == [] and ready["own/mesh"][0] == "run plain"
    text = doctor.as_text(report, Path("data"))
    assert "panoptic   ready: 12 rows (12 test); 2-D: gt; 6 images" in text
    assert not any(lack["what"] == "data/cmu_mocap" for lack in report["missing"])
    shutil.copytree(here / "data", here / "disk")  # elsewhere
    shutil.rmtree(here / "data")
    assert states(examine(here, "disk"))["crowd"] == []
    assert states(examine(here))["crowd"] == ["data/panoptic"]


def test_a_folder_without_what_an_experiment_takes(here):
    shutil.copytree(write_panoptic(here, "--no_images"), here / "data" / "other")
    assert states(examine(here))["crowd"] == ["images in data/panoptic"]
    assert states(examine(here))["elsewhere"] == ["detections in data/other"]


@pytest.mark.parametrize(
    "damage, words",
    [
        (lambda data: truncate(data / "panoptic" / "keypoints_3d.npy"), "panoptic: keypoints_3d.npy: cannot be read"),
        (lambda data: (data / "panoptic" / "focal.npy").unlink(), "panoptic: focal.npy: cannot be read"),
        (lambda data: truncate(data / "panoptic" / "dataset.json"), "panoptic: dataset.json cannot be read"),
        (lambda data: (data / "panoptic" / "dataset.json").write_text("[]"), "panoptic: dataset.json cannot be read"),
        (lambda data: truncate(data / "panoptic" / "index.npz"), "panoptic: index.npz: cannot be read"),
        (lambda data: shutil.rmtree(data.parent / "source"), "no such folder; say with data.picture_root"),
        (lambda data: shutil.rmtree(data.parent / "source" / "160422_haggling1"), "is gone; data.picture_root says"),
        (lambda data: truncate(data / "cmu_mocap" / "poses.npy"), "cmu_mocap: poses.npy: cannot be read"),
        (lambda data: truncate(data / "cmu_mocap" / "dataset.json"), "cmu_mocap: dataset.json cannot be read"),
    ],
)
def test_damaged_folders_are_named(here, capsys, damage, words):
    write_panoptic(here)
    write_cmu(here)
    damage(here / "data")
    assert doctor.main([]) == 1
    text = capsys.readouterr().out
    last = text[text.rindex("\n\n") :].replace("\n  ", " ")
    assert last.count("damaged:") == 1 and words in last
    assert max(map(len, text.splitlines())) <= WIDTH + 60  # long paths of the test's folder
    damaged = "crowd" if "panoptic" in words or "picture_root" in words else "lift_cmu"
    assert states(examine(here))[damaged][0].endswith("whole")


def test_unfinished_work_is_no_damage(here, capsys):
    (here / "data" / "panoptic" / ".parts").mkdir(parents=True)
    assert doctor.main([]) == 0
    assert "panoptic   unfinished: type the command that prepares it again" in capsys.readouterr().out


def test_bodies_and_checkpoints(here, capsys):
    (here / "data" / "bodies").mkdir(parents=True)
    shutil.copy(body_files.FREE_BODY, here / "data" / "bodies" / "mine.npz")
    home = here / "runs" / "plain" / "checkpoints"
    home.mkdir(parents=True)
    weights = {"state_dict": {"a": torch.zeros(3)}, "hyper_parameters": {"_class_path": "methods.x.Lifter"}, "epoch": 4}
    for name in ("best", "last"):
        torch.save(weights, home / f"{name}.ckpt")
    assert doctor.main([]) == 0
    text = capsys.readouterr().out
    assert "data/bodies/mine.npz  neutral; model: other; joints: h36m_17" in text
    assert "runs/plain/checkpoints  Lifter, 5 epochs: best.ckpt, last.ckpt" in text
    assert {"run plain", "data/bodies/mine.npz"}.isdisjoint(states(examine(here))["own/mesh"])
    truncate(home / "last.ckpt")
    (home / "best.ckpt").write_text("no checkpoint")
    torch.save([1, 2], home / "list.ckpt")
    truncate(here / "data" / "bodies" / "mine.npz")
    assert doctor.main([]) == 1
    last = capsys.readouterr().out.rpartition("\n\n")[2]
    assert last.count("damaged: runs/plain/checkpoints/") == 3 and "list.ckpt: not a checkpoint of this project" in last
    assert "damaged: data/bodies/mine.npz: found no readable npz file" in last


def test_detector(here):
    folder = here / "data" / "detector"
    folder.mkdir(parents=True)
    assert examine(here)["detector"]["problem"] == "pose_detection.tflite is missing"
    (folder / "pose_detection.tflite").write_bytes(b"something else")
    report = examine(here)
    assert report["damaged"] == ["data/detector: damaged: pose_detection.tflite is not what was published"]


def test_broken_configurations_are_named(here, capsys):
    (here / "configs" / "experiments" / "broken.yaml").write_text("name: [")
    (here / "configs" / "experiments" / "odd.yaml").write_text("name: odd\nmodel: ../methods/nothing.yaml\n")
    (here / "configs" / "experiments" / "no_data.yaml").write_text("name: odd\nmodel: ../methods/lifter.yaml\n")
    assert doctor.main([]) == 1
    text = " ".join(capsys.readouterr().out.split())
    assert "broken.yaml: cannot be read" in text and "nothing.yaml: cannot be read" in text
    assert "no_data.yaml: not an experiment" in text and "lift_cmu" in text


def test_json_says_the_same(here, capsys):
    write_panoptic(here)
    assert doctor.main(["--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["data_sets"][0]["dataset"] == "panoptic" and report["data_sets"][0]["keypoints_2d"] == ["gt"]
    assert {"python", "devices", "packages", "bodies", "detector", "checkpoints", "experiments", "missing"} <= set(
        report
    )


def test_missing_and_unfitting_packages(here, monkeypatch, capsys):
    version = doctor.importlib.metadata.version

    def other(name: str) -> str:
        if name == "smplx":
            raise doctor.importlib.metadata.PackageNotFoundError
        return "0.0.1" if name == "lightning" else version(name)

    monkeypatch.setattr(doctor.importlib.metadata, "version", other)
    assert doctor.main([]) == 1
    text = capsys.readouterr().out
    assert "smplx: not installed; pip install -e ." in text and "lightning: version 0.0.1, needs ~=2.6" in text
    monkeypatch.setitem(sys.modules, "torch", None)
    assert doctor.main([]) == 1
    assert "unknown without PyTorch" in capsys.readouterr().out


def test_imports_are_tried_in_another_process(monkeypatch):
    monkeypatch.setattr(
        doctor.importlib.metadata, "requires", lambda _: ["numpy>=2", 'scipy>=99; extra == "old"', "no"]
    )
    packages = {package.name: package for package in doctor.check_packages(imports=True)}
    assert [packages[name].problem for name in ("numpy", "no")] == ["", "not installed"]
    assert "needs >=99" in packages["scipy"].problem and packages["scipy"].extra == "old"
    assert doctor.import_problems(["numpy", "pyyaml"]) == {"numpy": "", "pyyaml": ""}


def test_requirements_are_those_of_the_project():
    extras = {package.name: package.extra for package in doctor.check_packages()}
    assert extras["torch"] == "" and extras["ai-edge-litert"] == "detection" and extras["jsonargparse"] == ""


def test_a_project_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(doctor, "_PROJECT", "noise2pose-elsewhere")
    assert [package.problem for package in doctor.check_packages()] == ["not installed"]


def test_several_folders_of_one_piece_are_each_needed(here):
    file = here / "configs" / "data" / "several.yaml"
    file.write_text(
        data_piece("motion_capture.MotionCapture", "data/cmu_mocap, data/uiprmd").replace("root:", "roots:")
    )
    assert [need.folder for need in readiness.read_data(file).folders] == ["data/cmu_mocap", "data/uiprmd"]
