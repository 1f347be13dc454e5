import argparse
from pathlib import Path

import numpy as np
import pytest
import torch

from methods.d3dp import D3DP, official
from methods.d3dp.denoiser import Denoiser
from methods.d3dp.diffusion import cosine_alphas_cumprod
from methods.diffpose.official import load_mixste
from noise2pose import skeletons
from noise2pose.errors import InputError
from tests.parity.procedural import procedural_state_dict, read_fixture
from tests.parity.tolerances import assert_close
from tests.places import PARITY


def fixture(name="mixste_d3dp"):
    tensors, meta = read_fixture(PARITY / f"diffpose_{name}.safetensors")
    weights = procedural_state_dict(meta["state_dict"], salt=meta["salt"])
    return {key: torch.as_tensor(value) for key, value in tensors.items()}, weights


def published(weights, num_steps=1000):
    """A checkpoint as the release saves it: DataParallel, the schedule beside the network."""
    state = {f"module.pose_estimator.{key}": torch.as_tensor(value) for key, value in weights.items()}
    schedule = {"module.betas": torch.zeros(num_steps), "module.alphas_cumprod": cosine_alphas_cumprod(num_steps)}
    return {"epoch": 379, "lr": 4e-6, "random_state": np.random.RandomState(0), "model_pos": {**schedule, **state}}


@torch.no_grad()
def test_it_denoises_as_published_with_and_without_hypotheses():
    tensors, weights = fixture()
    network = official.load_d3dp(weights)
    clip, steps = tensors["input/x_2d"], tensors["input/t"]
    assert_close(network(clip, tensors["input/x_3d"], steps), tensors["output/train_mode"])
    assert_close(network(clip, tensors["input/x_3d_hyp"], steps), tensors["output/hyp_mode"])


def test_the_published_size_has_its_parameters():
    network = Denoiser(243, 512, 8, 8)
    assert sum(parameter.numel() for parameter in network.parameters()) == 34_835_459


@torch.no_grad()
def test_a_whole_checkpoint_of_the_release_is_the_same_network():
    tensors, weights = fixture()
    inputs = tensors["input/x_2d"], tensors["input/x_3d"], tensors["input/t"]
    assert torch.equal(official.load_d3dp(published(weights))(*inputs), official.load_d3dp(weights)(*inputs))


@torch.no_grad()
def test_weights_for_another_order_of_the_joints_are_put_in_ours(tmp_path):
    tensors, weights = fixture()
    torch.save(published(weights), tmp_path / "3dhp_best_epoch.bin")
    parser = argparse.ArgumentParser()
    parser.add_argument("source", type=Path)
    official.add_options(parser)
    given = [str(tmp_path / "3dhp_best_epoch.bin"), "--skeleton", "mpi_inf_3dhp_17"]
    imported = official.import_checkpoint(parser.parse_args(given))
    method = D3DP(**imported.arguments).eval()
    method.load_state_dict(imported.state_dict)

    def ours(points):
        return skeletons.convert(points, "mpi_inf_3dhp_17", "h36m_17")

    clean = method.denoiser(ours(tensors["input/x_2d"]), ours(tensors["input/x_3d"]), tensors["input/t"])
    assert_close(clean, ours(tensors["output/train_mode"]))
    assert not torch.allclose(clean, tensors["output/train_mode"], atol=0.1)


def test_wrong_weights_are_refused_by_their_published_names():
    _, weights = fixture()
    missing = {key: value for key, value in weights.items() if key != "time_mlp.3.bias"}
    with pytest.raises(InputError, match="time_mlp.3.bias is missing"):
        official.load_d3dp(missing)
    with pytest.raises(InputError, match="extra is not known"):
        official.load_d3dp(published({**weights, "extra": np.zeros(1)}))
    with pytest.raises(InputError, match="takes 2 channels.*noise2pose import diffpose"):
        official.load_d3dp(fixture("mixste")[1])
    with pytest.raises(InputError, match="takes 5 channels.*noise2pose import d3dp"):
        load_mixste(weights)
