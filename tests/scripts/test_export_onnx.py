"""Methods become ONNX graphs that predict the same, or one line says why not."""

import numpy as np
import pytest
import torch
import yaml

from methods import onnx_graphs
from methods.checkpoints import load_method
from methods.d3dp import D3DP
from methods.diffpose import ContextEncoder
from methods.inference import Lifter
from methods.onnx_folders import write_onnx
from noise2pose import skeletons
from noise2pose.errors import InputError
from scripts.export import main

onnxruntime = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")
MIXSTE = {"encoder": "mixste", "num_frames": 9, "width": 16, "num_blocks": 1, "num_heads": 2}


def run(path, given):
    session = onnxruntime.InferenceSession(path)
    names = [node.name for node in session.get_outputs()]
    inputs = {node.name: given[node.name].numpy() for node in session.get_inputs()}
    return dict(zip(names, session.run(None, inputs), strict=True))


def test_a_shipped_lifter_by_name_answers_in_onnxruntime_as_the_lifter_does(tmp_path, capsys):
    assert main(["diffpose-people", str(tmp_path / "out"), "--onnx", "--people", "2"]) == 0
    said = capsys.readouterr().out
    assert "agrees with PyTorch" in said and said.count("\n") == 1
    about = yaml.safe_load((tmp_path / "out" / "model.yaml").read_text())
    assert about["joints"] == list(skeletons.get("h36m_17").joints) and about["people"] == 2
    read = onnx.load(tmp_path / "out" / "model.onnx")
    assert {prop.key: prop.value for prop in read.metadata_props}["joints"].split(",") == about["joints"]

    keypoints = onnx_graphs.example_inputs(load_method("diffpose-people"), 2, 7)["keypoints_2d"]
    keypoints[..., 2] = 1.0
    points = keypoints.clone()
    low, high = points[..., :2].amin(dim=1), points[..., :2].amax(dim=1)
    side = 2.2 * (high - low).amax(dim=-1, keepdim=True)  # as README.md of the folder says
    points[..., :2] -= ((low + high - side) / 2.0)[:, None]
    size = side.expand(-1, 2)
    found = run(
        tmp_path / "out" / "model.onnx",
        {"keypoints_2d": points, "focal": 1.145 * size, "principal_point": size / 2.0, "image_size": size},
    )
    lifter = Lifter("diffpose-people")
    lifter.model.method.num_hypotheses = 1
    expected = lifter.predict(keypoints.numpy(), skeleton="h36m_17").joints_3d
    assert np.abs(found["joints_3d"] - expected).max() < 1e-4
    other = run(  # mirrored people get other answers: the graph looks at what it is given
        tmp_path / "out" / "model.onnx",
        {
            "keypoints_2d": points * torch.tensor([-1.0, 1.0, 1.0]) + size[:, None, :1] * torch.tensor([1.0, 0.0, 0.0]),
            "focal": 1.145 * size,
            "principal_point": size / 2.0,
            "image_size": size,
        },
    )
    assert np.abs(other["joints_3d"] - expected).max() > 0.05


def test_the_annotators_front_end_and_denoiser_are_graphs_and_the_refinement_is_said_to_be_none(tmp_path, capsys):
    assert main(["diffannot-people", str(tmp_path / "out"), "--onnx"]) == 0
    assert "in no graph" in capsys.readouterr().out
    method = load_method("diffannot-people")
    given = onnx_graphs.example_inputs(method, 1, 5)
    with torch.no_grad():
        expected = method.frontend(onnx_graphs.as_batch(given))
    found = run(tmp_path / "out" / "model.onnx", given)
    for key, value in expected["smpl"].items():
        assert np.abs(found[key] - value.numpy()).max() < 1e-4
    denoiser = yaml.safe_load((tmp_path / "out" / "model.yaml").read_text())["graphs"]["denoiser.onnx"]
    assert set(denoiser["inputs"]) == {"state", "time", "condition"}


@pytest.mark.parametrize(
    "method",
    [
        lambda: ContextEncoder(**MIXSTE),
        lambda: ContextEncoder(width=16, num_blocks=1, num_heads=2, head="gaussian"),
        lambda: D3DP(num_frames=9, width=16, num_blocks=1, num_heads=2, num_sampling_steps=2, num_hypotheses=2),
    ],
)
def test_networks_of_clips_and_of_frames_are_exported(method, tmp_path):
    torch.manual_seed(0)
    made = method().eval()
    assert "agrees" in write_onnx(made, tmp_path / "out", "a test")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_a_graph_that_disagrees_is_not_written(tmp_path, monkeypatch):
    method = ContextEncoder(width=16, num_blocks=1, num_heads=2).eval()
    outputs_of = onnx_graphs.outputs_of

    def wrong(prediction):
        scale = 1.0 if torch.jit.is_tracing() else 1.001
        return {key: scale * value for key, value in outputs_of(prediction).items()}

    monkeypatch.setattr(onnx_graphs, "outputs_of", wrong)
    with pytest.raises(InputError, match="differs from PyTorch"):
        write_onnx(method, tmp_path / "out", "a test")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--onnx", "--dtype", "float16"], "--dtype is for weights"),
        (["--onnx", "--notes", "notes.md"], "--notes is for weights"),
        (["--onnx", "--people", "0"], "--people is 0"),
        (["--people", "2"], "--people is for --onnx"),
    ],
)
def test_wrong_combinations_are_one_line(options, said, tmp_path, capsys):
    assert main(["diffpose-people", str(tmp_path / "out"), *options]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_an_unknown_model_a_folder_that_exists_and_an_oracle_are_one_line(tmp_path, capsys):
    assert main(["diffpose-persons", str(tmp_path / "out"), "--onnx"]) == 2
    assert main(["diffpose-people", str(tmp_path), "--onnx"]) == 2
    assert main(["fmpose-people", str(tmp_path / "out"), "--onnx", "--set", "aggregation=oracle"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and "exists already" in lines[1] and "ground truth" in lines[2]
    assert not list(tmp_path.iterdir())
