"""What is run and what is refused; tests/scripts/studies cover the rows and the page."""

import inspect
import json

import pytest

from methods.diffannot import DiffAnnot
from noise2pose.errors import InputError
from scripts import ROOT, ablations
from scripts.studies import diffannot, diffpose, runs


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Two seeds of an experiment of DPMesh that are finished, in a project without any other run."""
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    for seed, error in enumerate((90.0, 110.0)):
        folder = tmp_path / "runs" / f"ablation_dpmesh_random_seed{seed}"
        folder.mkdir(parents=True)
        metrics = {f"test/people/{key}": error for key in ("mpjpe", "pa_mpjpe", "pve")}
        (folder / "test.json").write_text(json.dumps({"protocols": [{"dataset": "people"}], "metrics": metrics}))
        (folder / "fit.json").write_text(json.dumps({"seconds": 60.0 + seed}))
    return tmp_path


def test_the_table_has_medians_and_ranges(project, capsys):
    assert ablations.main(["dpmesh", "--table"]) == 0
    row = (project / "report" / "ablations_dpmesh.md").read_text().splitlines()[-1]
    assert "| 100.0 (90.0 to 110.0) |" in row and "| dpmesh_random |" in row and "| 60 | 2 |" in row
    assert row in capsys.readouterr().out


def test_what_is_finished_is_not_trained_again(project, monkeypatch):
    monkeypatch.setattr(runs, "run", lambda *_: pytest.fail("it was trained"))
    assert ablations.main(["dpmesh", "--rows", "random", "--seeds", "0", "1"]) == 0


@pytest.mark.parametrize("epochs", [None, 1])
def test_runs_that_need_the_prior_ask_for_it(project, epochs, capsys):
    if epochs:
        folder = project / "runs" / "dpmesh_prior"
        folder.mkdir()
        (folder / "fit.json").write_text(json.dumps({"epochs": epochs}))
        (folder / "config.yaml").write_text("trainer: {max_epochs: 2}")
    assert ablations.main(["dpmesh", "--rows", "context", "--seeds", "0"]) == 1
    assert "failed: ablation_dpmesh_context_seed0: train the prior first: " in capsys.readouterr().err


def test_rows_with_a_codebook_ask_for_it(project, capsys):
    folder = project / "runs" / "dpmesh_prior"
    folder.mkdir()
    (folder / "fit.json").write_text(json.dumps({"epochs": 2}))
    (folder / "config.yaml").write_text("trainer: {max_epochs: 2}")
    assert ablations.main(["dpmesh", "--rows", "vq_soft", "--seeds", "0"]) == 1
    assert "failed: ablation_dpmesh_vq_soft_seed0: train the codebook first: " in capsys.readouterr().err


def test_rows_of_diffannot_stand_beside_their_null_controls(project, capsys):
    for seed in (0, 1):
        folder = project / "runs" / f"ablation_diffannot_3d_seed{seed}" / "report"
        folder.mkdir(parents=True)
        rows = {
            (name, control): {"name": name, "control": control, "mpjpe": error + seed, "pa_mpjpe": error / 2}
            for error, (name, control) in enumerate(
                [("front end", ""), *((n, c) for n in ("fixed", "guided", "oracle") for c in ("none", "trained"))], 80
            )
        }
        parts = {"oracle": [rows["oracle", "none"], rows["oracle", "trained"]], "deployable": list(rows.values())[:5]}
        (folder / "numbers.json").write_text(json.dumps({part: [found] for part, found in parts.items()}))
    assert ablations.main(["diffannot", "--table", "--seeds", "0", "1"]) == 0
    table = (project / "report" / "ablations_diffannot.md").read_text().splitlines()
    assert len(table) == 2 + 4 and table[2].startswith("| 3d | L_3D | front end | 80.5 (80.0 to 81.0) |")
    assert table[-1].split(" | ")[2:4] == ["oracle", "86.5 (86.0 to 87.0)"], "trained comes before the null control"
    assert table[-1].split(" | ")[5] == "85.5 (85.0 to 86.0)" and capsys.readouterr().out.startswith("| row |")


def test_options_of_the_rows_of_diffannot_are_those_of_the_method():
    known = inspect.signature(DiffAnnot).parameters
    for _, options in diffannot.ROWS.values():
        for name, value in zip(options[::2], options[1::2], strict=True):
            assert (ROOT / value).is_file() if name == "--model" else name.removeprefix("--model.") in known


def test_the_front_end_of_diffannot_must_be_trained(project, monkeypatch, capsys):
    monkeypatch.setattr(diffannot, "ROOT", project)
    assert ablations.main(["diffannot", "--rows", "none", "--seeds", "0"]) == 1
    assert (
        "train the front end first: noise2pose train fit -c configs/experiments/hmr_people" in capsys.readouterr().err
    )


def test_unknown_rows_are_refused(project, capsys):
    with pytest.raises(SystemExit):
        ablations.main(["dpmesh", "--rows", "gmm_5"])
    assert "--rows gmm_5: expected some of z0, heatmap" in capsys.readouterr().err


def test_a_row_that_fails_does_not_stop_the_others(project, monkeypatch, capsys):
    done = []

    def measure(measured, threads):
        done.append((measured.row, measured.seed, threads))
        if measured.row == "encoder":
            raise SystemExit("error: no")
        if measured.row == "m_1":
            raise InputError("the mixture is empty")

    monkeypatch.setattr(diffpose, "measure", measure)
    options = ["--quick", "--seeds", "3", "--threads", "2", "--rows", "m_1", "encoder", "m_9"]
    assert ablations.main(["diffpose", *options]) == 1
    assert done == [("encoder", 3, 2), ("m_1", 3, 2), ("m_9", 3, 2)]
    printed = capsys.readouterr()
    assert "failed: ablation_quick_synthetic_encoder_seed3: see above" in printed.err
    assert "failed: ablation_quick_synthetic_m_1_seed3: the mixture is empty" in printed.err
    assert "no row of these seeds is finished yet" in printed.out


def test_motion_that_is_not_prepared_is_told_at_once(project, monkeypatch, capsys):
    def check_data(splits):
        raise InputError(f"{splits[0]} is not prepared")

    monkeypatch.setattr(diffpose, "check_data", check_data)
    assert ablations.main(["diffpose"]) == 2
    assert "error: people is not prepared" in capsys.readouterr().err
