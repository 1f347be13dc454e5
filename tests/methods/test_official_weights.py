"""Published weights are found in whatever holds them, and loaded only if every tensor has its place."""

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from methods.diffannot.official import load_denoiser
from methods.diffpose.official import load_gcndiff, load_gcnpose, load_mixste
from methods.official_weights import check, load, published_names, read_published, require, state_dict_in
from noise2pose.errors import InputError
from scripts.import_checkpoint import main
from tests.parity.procedural import procedural_state_dict, read_fixture
from tests.places import PARITY, SHARED

WEIGHTS = {"in.weight": torch.ones(2, 3), "in.bias": torch.zeros(2)}
ZEROS = {key: torch.zeros_like(value) for key, value in WEIGHTS.items()}


def same(left, right):
    return set(left) == set(right) and all(torch.equal(left[key], right[key]) for key in left)


@pytest.mark.parametrize(
    "content",
    [
        WEIGHTS,
        {key: value.numpy() for key, value in WEIGHTS.items()},
        {"state_dict": WEIGHTS, "epoch": 1},
        {"model": {"state_dict": WEIGHTS}, "ema": ZEROS},
        {"best": torch.ones(()), "model_pos": WEIGHTS},
        {"network": WEIGHTS},
        [WEIGHTS, {"state": {}}, 3, 4, ZEROS],
        (WEIGHTS,),
    ],
)
def test_every_container_is_read(content):
    assert same(state_dict_in(content, ["in."]), WEIGHTS)


@pytest.mark.parametrize("content", [{"model": ZEROS, "ema": WEIGHTS}, [ZEROS, {}, 3, 4, WEIGHTS]])
def test_the_moving_average_is_taken_where_it_is_asked_for(content):
    assert same(state_dict_in(content, ["in."], ema=True), WEIGHTS)


@pytest.mark.parametrize("content", [WEIGHTS, {"state_dict": WEIGHTS}, [WEIGHTS, {}]])
def test_a_moving_average_is_not_invented(content):
    with pytest.raises(InputError, match="no moving average"):
        state_dict_in(content, ["in."], ema=True)


@given(st.lists(st.sampled_from(["module.", "_orig_mod.", "model.", "net."]), max_size=4))
def test_wrappers_are_removed_in_any_order(wrappers):
    prefix = "".join(wrappers)
    assert same(state_dict_in({prefix + key: value for key, value in WEIGHTS.items()}, ["in."]), WEIGHTS)


def test_a_wrappers_name_may_be_the_networks_own():
    own = {"model.in.weight": torch.ones(1), "net.out.weight": torch.ones(1)}
    wrapped = {f"module.model.{key}": value for key, value in own.items()}
    assert same(state_dict_in(wrapped, ["model.in."]), own)
    assert same(state_dict_in(own, ["model.in."]), own)
    with pytest.raises(InputError, match=r"some names begin with model. and some do not: net.out.weight"):
        state_dict_in(own, ["in."])


@pytest.mark.parametrize("content", [None, 3, [], {}, {"epoch": 3}, {"state_dict": {}}, [[1]], "text"])
def test_what_holds_no_tensors_is_refused(content):
    with pytest.raises(InputError, match="no state dict of tensors"):
        state_dict_in(content, ["in."])


def test_numbers_are_no_tensors_but_counters_are():
    counter = {"in.num_batches_tracked": 7}
    assert state_dict_in({**WEIGHTS, **counter}, ["in."])["in.num_batches_tracked"] == 7
    with pytest.raises(InputError, match="lr is of type float, expected a tensor"):
        state_dict_in({**WEIGHTS, "lr": 0.1}, ["in."])


def test_problems_of_each_kind_are_named_but_not_all_of_them():
    network = nn.ModuleDict({"in": nn.Linear(3, 2), "out": nn.Linear(2, 2)})
    names = published_names(network.state_dict(), {r"in\.": "first."})
    weights = {f"layer{number}": torch.ones(1) for number in range(1000)}
    weights |= {"first.weight": torch.ones(3, 2), "first.bias": torch.zeros(2)}
    with pytest.raises(InputError) as refusal:
        load(network, weights, "a network", names)
    message = str(refusal.value)
    for part in ("layer0 is not known", "and 995 more", "out.weight is missing", "out.bias is missing"):
        assert part in message
    assert "first.weight has shape (3, 2), expected (2, 3)" in message and len(message) < 400
    with pytest.raises(InputError, match=r"a is missing; b has shape \(1,\), expected 2 dimensions"):
        require({"b": torch.ones(1)}, {"a": 1, "b": 2}, "a network")


def test_types_are_the_networks():
    network = nn.Linear(3, 2)
    half = {"weight": torch.ones(2, 3).half(), "bias": torch.ones(2).double()}
    assert {value.dtype for value in check(network, half, "a network").values()} == {torch.float32}
    load(network, half, "a network")
    assert network.training and network.weight.dtype == torch.float32 and bool((network.weight == 1).all())


LOADERS = {
    "diffpose_gcndiff": load_gcndiff,
    "diffpose_gcnpose": load_gcnpose,
    "diffpose_mixste": load_mixste,
    "diffannot_mlp_226": load_denoiser,
}


def published(name):
    meta = read_fixture(PARITY / f"{name}.safetensors")[1]
    weights = procedural_state_dict(meta["state_dict"], salt=meta["salt"])
    return {
        key: torch.as_tensor(value)
        for key, value in weights.items()
        if not key.startswith("temb.") or "diff" in name[8:]
    }


@pytest.fixture(scope="module", params=LOADERS)
def loader(request):
    weights = published(request.param)
    return LOADERS[request.param], weights, LOADERS[request.param](weights).state_dict()


@given(data=st.data())
@settings(max_examples=15)
def test_order_does_not_matter_and_another_name_never_loads(loader, data):
    load_network, weights, expected = loader
    order = data.draw(st.permutations(list(weights)))
    assert same(load_network({key: weights[key] for key in order}).state_dict(), expected)
    old = data.draw(st.sampled_from(order))
    new = data.draw(
        st.sampled_from([f"{old}2", old[:-1], f"other.{old}", f"module.{old}", old.upper() + "_", "temb.x"])
    )
    with pytest.raises(InputError):
        load_network({new if key == old else key: value for key, value in weights.items()})
    with pytest.raises(InputError):
        load_network({key: value for key, value in weights.items() if key != old})
    with pytest.raises(InputError):
        load_network({**weights, f"another.{old}": weights[old]})


@pytest.mark.parametrize("is_zip", [True, False])
def test_what_trainings_save_beside_weights_is_left_out(tmp_path, is_zip):
    beside = {
        "generator": np.random.Generator(np.random.Philox(0)),
        "random": np.random.RandomState(0),
        "seeds": np.random.SeedSequence(1),
        "texts": np.array(["a", "bc"]),
        "when": np.datetime64("2020-01-01"),
        "options": argparse.Namespace(lr=1e-3, folder=Path("runs")),
    }
    path = tmp_path / "a.bin"
    weights = {"model.module._orig_mod." + key: value for key, value in WEIGHTS.items()}
    torch.save({**beside, "state_dict": weights}, path, _use_new_zipfile_serialization=is_zip)
    assert same(state_dict_in(read_published(path), ["in."]), WEIGHTS)


def test_numbers_and_arrays_of_numpy_are_read(tmp_path):
    log = {"best": np.float64(67.5), "seen": np.int64(3), "random": np.random.RandomState(0).get_state()}
    torch.save({**log, "model": WEIGHTS}, tmp_path / "a.pth")
    content = read_published(tmp_path / "a.pth")
    assert content["best"] == 67.5 and same(state_dict_in(content, ["in."]), WEIGHTS)


@pytest.mark.skipif(not (SHARED / "faults").is_dir(), reason="the shared files are not there")
def test_one_network_as_people_save_it(tmp_path):
    states = {}
    for path in sorted((SHARED / "faults").glob("mixste_*")):
        assert main(["diffpose", str(path), str(tmp_path / "out.ckpt")]) == 0, path
        states[path.name] = torch.load(tmp_path / "out.ckpt", weights_only=True)["state_dict"]
    assert len(states) == 9
    for name, state in states.items():
        expected = states["mixste_plain.bin"]
        close = {
            key: torch.allclose(value, expected[key], atol=1e-3 if "half" in name else 0.0)
            for key, value in state.items()
        }
        assert set(state) == set(expected) and all(close.values()), name
