import json

import lightning as L
import pytest
import torch
import yaml

from datamodules.rendered_people import RenderedPeople
from methods.diffannot import DiffAnnot, controls
from methods.hmr import HMR
from scripts import annotator_report

SMALL_HMR = {"input": "keypoints", "width": 16, "hidden": 16}
FRONT_END = json.dumps({"class_path": "methods.hmr.HMR", "arguments": SMALL_HMR})


def save(path, method, class_path):
    weights = {"state_dict": method.state_dict(), "hyper_parameters": dict(method.hparams), "class_path": class_path}
    torch.save(weights, path)
    return path


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Two random methods, as if trained with two seeds."""
    folder = tmp_path_factory.mktemp("checkpoints")
    paths = []
    for seed in (1, 2):
        L.seed_everything(seed, verbose=False)
        method = DiffAnnot(frontend=FRONT_END, width=16, num_blocks=1, guidance_start=10, guidance_rounds=1)
        torch.nn.init.normal_(method.denoiser.output.weight, std=0.1)
        paths.append(save(folder / f"{seed}.ckpt", method, "methods.diffannot.DiffAnnot"))
    return paths


def data_file(folder, class_path="datamodules.rendered_people.RenderedPeople", **arguments):
    path = folder / "data.yaml"
    arguments = arguments or {"images": False, "num_people": 80}
    path.write_text(yaml.safe_dump({"class_path": class_path, "init_args": arguments}))
    return path


def run(data, output, *checkpoints):
    given = ["--data", data, "--output", output, "--max_steps", 4, "--max_people", 3, "--curve_people", 3, *checkpoints]
    return annotator_report.main([str(argument) for argument in given])


def test_tables_and_numbers_of_several_seeds(tmp_path, checkpoints, capsys, monkeypatch):
    monkeypatch.setattr(controls, "STRENGTHS", (100.0,))
    output = tmp_path / "report"
    assert run(data_file(tmp_path), output, *checkpoints) == 0
    numbers = json.loads((output / "numbers.json").read_text())
    assert numbers["people"] == 3 and numbers["protocol"]["dataset"] == "rendered_synthetic"
    assert numbers["command"].startswith("python scripts/annotator_report.py --data ")
    assert [set(settings) for settings in numbers["settings"]] == [{"none", "untrained", "trained"}] * 2
    for name, count in (("deployable", 13), ("oracle", 4), ("half_joints", 4)):
        assert [len(rows) for rows in numbers[name]] == [count, count]
    text = (output / "tables.md").read_text()
    assert text in capsys.readouterr().out
    tables = [part.split("\n\n")[0].splitlines() for part in text.split("| selector ")[1:]]
    assert [len(table) - 2 for table in tables] == [13, 4, 4], "a line each, below two of heading"
    first = numbers["deployable"]
    for line, name, control in ((0, "front end", ""), (4, "fixed", "trained")):
        low, high = sorted(rows[line]["mpjpe"] for rows in first)
        said = f"| {name} | {control} | {(low + high) / 2:.1f} ({low:.1f} to {high:.1f}) |"
        assert tables[0][2 + line].startswith(said)
    curves = (output / "curves.csv").read_text().splitlines()
    assert curves[0] == "checkpoint,denoiser,metric,step,fixed,best" and len(curves) == 1 + 2 * 3 * 2 * 5
    front_end = {line.split(",")[4] for line in curves[1:] if line.split(",")[2:4] == ["pa_mpjpe", "0"]}
    assert len(front_end) == 2, "no step is the answer of the front end, one of each checkpoint"
    assert (output / "curves.svg").read_text().startswith("<svg ")
    assert "chooses, by PA-MPJPE" in text
    assert text.count("never deployable") == 2 and "never deployable" not in text.split("**Oracle")[0]


def test_a_checkpoint_of_another_method_is_refused_by_name(tmp_path, checkpoints, capsys):
    other = save(tmp_path / "hmr.ckpt", HMR(**SMALL_HMR), "methods.hmr.HMR")
    assert run(data_file(tmp_path), tmp_path / "report", other) == 2
    assert "hmr.ckpt holds HMR (keypoints), expected DiffAnnot" in capsys.readouterr().err
    assert run(data_file(tmp_path), tmp_path / "report", tmp_path / "none.ckpt") == 2
    assert "none.ckpt does not exist" in capsys.readouterr().err
    assert not (tmp_path / "report").exists()


def test_data_that_do_not_fit_are_refused_by_name(tmp_path, checkpoints, capsys):
    assert run(tmp_path / "nothing.yaml", tmp_path / "report", checkpoints[0]) == 2
    assert "nothing.yaml: not a file with class_path and init_args of a data module" in capsys.readouterr().err
    for described, message in (
        ({"class_path": "datamodules.nobody.People"}, "data.yaml: not a file with class_path"),
        ({"people": 3}, "data.yaml: not a file with class_path"),
        ({"images": False, "num_people": 3}, "num_people is 3, expected at least 40"),
        (
            {"class_path": "datamodules.synthetic_motion.SyntheticMotion", "clips_per_activity": 1},
            "data.yaml: synthetic has no body parameters, which the report needs",
        ),
    ):
        assert run(data_file(tmp_path, **described), tmp_path / "report", checkpoints[0]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "report").exists()


def test_pictures_reach_the_method_as_a_loader_would_give_them(tmp_path):
    data = RenderedPeople(num_people=40, picture_size=32, cache=str(tmp_path), num_workers=0)
    (batch,) = annotator_report._batches(data, "test", 1000)
    (expected,) = data.test_dataloader()
    assert batch["image"].max() <= 1.0 and torch.equal(batch["image"], expected["image"])
    assert batch["sample_id"] == expected["sample_id"]
