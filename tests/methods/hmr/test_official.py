"""The published networks: same numbers from the same weights, and clear refusals of other weights."""

import numpy as np
import pytest
import roma
import torch

from methods.hmr.losses import Discriminators
from methods.hmr.official import layout_of, load_hmr
from methods.mesh_regression import Regressor
from noise2pose.errors import InputError
from tests.parity.procedural import procedural_state_dict, read_fixture
from tests.parity.tolerances import assert_close
from tests.places import PARITY


def fixture(name):
    tensors, meta = read_fixture(PARITY / f"hmr_{name}.safetensors")
    weights = procedural_state_dict(meta["state_dict"], salt=meta["salt"])
    return {key: torch.as_tensor(value) for key, value in tensors.items()}, weights


@pytest.fixture(scope="module")
def published():
    """Tensors of the fixture and SPIN's state dict."""
    return fixture("resnet50_full")


def in_mmhuman3d(weights, prefix=""):
    head = ("fc1.", "fc2.", "dec", "init_")
    return {f"{prefix}{'head.' if key.startswith(head) else 'backbone.'}{key}": value for key, value in weights.items()}


@torch.no_grad()
def test_the_regressor_is_mmhuman3ds():
    tensors, weights = fixture("head")
    weights = {key: torch.as_tensor(value) for key, value in weights.items()}
    vector = tensors["input/vec"]
    inputs = {
        "vec": vector,
        "vec_iter1": vector,
        "seq": vector.view(2, 2, -1),
        "map": tensors["input/map_signed"].abs().mean(dim=(-1, -2)),
    }
    for name, features in inputs.items():
        regressor = Regressor(2048, 1024, num_iterations=1 if name == "vec_iter1" else 3).eval()
        regressor.load_state_dict(weights)
        # In float64, because 6-D rotations with almost parallel axes magnify the rounding of each processor.
        answer = regressor.double()(features.double())
        for part, key in ((answer.rotations, "rotmat"), (answer.betas, "shape"), (answer.camera, "cam")):
            assert_close(part, tensors[f"output/{name}_{key}"], 3e-5)


@torch.no_grad()
@pytest.mark.parametrize("layout", ["mmhuman3d", "spin"])
def test_image_to_rotations_is_spins(published, layout):
    tensors, weights = published
    network = load_hmr(weights if layout == "spin" else in_mmhuman3d(weights, "module."), layout)
    assert not network.training
    seen = {}
    for name in ("layer1", "layer2", "layer3", "layer4"):
        layer = getattr(network.backbone, name)
        layer.register_forward_hook(
            lambda _, inputs, output, name=name: seen.update({name: output, name + "_in": inputs})
        )
    network.backbone.register_forward_hook(lambda _, inputs, output: seen.update(feature=output))
    image = tensors["input/image_u8_hwc"].permute(2, 0, 1)[None] / 255.0
    answer = network(image)
    assert_close(answer["rotmat"], tensors["output/rotmat"], 3e-5)
    assert_close(answer["betas"], tensors["output/shape"], 3e-5)
    assert_close(answer["camera"], tensors["output/cam"], 3e-5)
    assert_close(seen["feature"], tensors["output/feature"], 3e-5)
    assert_close(seen["layer1_in"][0][:, ::16, ::7, ::7], tensors["output/maxpool__c16"], 3e-5)
    for name in ("layer1", "layer2", "layer3"):
        assert_close(seen[name][:, ::16, ::7, ::7], tensors[f"output/{name}__c16"], 3e-5)
    assert_close(seen["layer4"][:, ::16], tensors["output/layer4__c16"], 3e-5)


@torch.no_grad()
def test_the_discriminators_are_mmhuman3ds():
    tensors, weights = fixture("discriminator")
    discriminators = Discriminators().eval()
    discriminators.load_state_dict({key: torch.as_tensor(value) for key, value in weights.items()})
    betas = tensors["input/betas"]
    assert_close(discriminators(tensors["input/rotmat"], betas), tensors["output/from_rotmat"], 2e-5)
    turned = roma.rotvec_to_rotmat(tensors["input/axis_angle"].view(4, 24, 3))
    assert_close(discriminators(turned, betas), tensors["output/from_axis_angle"], 2e-5)


def test_what_a_whole_training_saved_is_left_out_with_a_note(published, capsys):
    weights = in_mmhuman3d(published[1])
    whole = {
        **{key: value for key, value in weights.items() if not key.endswith("num_batches_tracked")},
        "backbone.bn1.num_batches_tracked": 7,
        "disc.shape_discriminator.fc_blocks.regressor_fc_0.weight": np.zeros((5, 10)),
        "body_model_train.v_template": np.zeros((6890, 3)),
        "body_model_test.v_template": np.zeros((6890, 3)),
    }
    network = load_hmr({"meta": {"epoch": 3}, "state_dict": whole}, "mmhuman3d")
    assert not any("v_template" in key or "disc" in key for key in network.state_dict())
    assert network.backbone.bn1.num_batches_tracked == 7
    noted = capsys.readouterr().err
    assert "discriminators" in noted and noted.count("licence") == 1


def test_wrong_weights_are_named(published):
    weights = dict(published[1])
    weights.pop("layer2.3.bn1.bias")
    weights["deccam.weight"] = np.zeros((4, 1024), np.float32)
    weights["layer5.weight"] = np.zeros(3, np.float32)
    with pytest.raises(InputError) as refusal:
        load_hmr(weights, "spin")
    for part in ("layer2.3.bn1.bias is missing", "layer5.weight is not known", "deccam.weight has shape (4, 1024)"):
        assert part in str(refusal.value)
    with pytest.raises(InputError, match="head.fc1.weight is missing"):
        load_hmr(weights, "mmhuman3d")
    with pytest.raises(InputError, match="not weights of HMR"):
        layout_of({"conv1.weight": 0})


def test_the_layout_shows_in_the_names(published):
    assert layout_of(published[1]) == "spin" and layout_of(in_mmhuman3d(published[1])) == "mmhuman3d"


@pytest.mark.parametrize("content", [{}, {"model": {}}, {"epoch": "three"}, [1], None])
def test_a_file_without_weights_is_refused(content):
    with pytest.raises(InputError, match="no state dict"):
        load_hmr(content)
