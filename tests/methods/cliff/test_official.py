"""The published networks: same numbers from the same weights, and clear refusals of other weights."""

from typing import Any

import numpy as np
import pytest
import torch

from datamodules.base import select
from methods.checkpoints import load_method
from methods.cliff.official import load_cliff
from methods.cliff.regressor import HeadSize
from methods.networks.backbones import ResNet50
from methods.networks.hrnet import ClassificationHRNet, PoseHRNet
from noise2pose.errors import InputError
from scripts.import_checkpoint import main
from tests.parity.procedural import procedural_state_dict
from tests.parity.tolerances import assert_close
from tests.tiny import TinyPeople

SMPL, SMPLX = HeadSize(24, 10), HeadSize(22, 11)


def published(backbone, encoder, head, size, hidden=16):
    """A state dict under published names: layers of the backbone, and of the head as its code writes them."""
    features, pose = backbone.width, 6 * size.num_rotations
    shapes = {f"{encoder}{name}": tuple(value.shape) for name, value in backbone.state_dict().items()}
    inputs = features + 3 + pose + size.num_betas + 3
    layers = {
        "fc1": (hidden, inputs), "fc2": (hidden, hidden), "decpose": (pose, hidden),
        "decshape": (size.num_betas, hidden), "deccam": (3, hidden),
    }  # fmt: skip
    for name, shape in layers.items():
        shapes |= {f"{head}{name}.weight": shape, f"{head}{name}.bias": shape[:1]}
    shapes |= {f"{head}init_pose": (1, pose), f"{head}init_shape": (1, size.num_betas), f"{head}init_cam": (1, 3)}
    weights = procedural_state_dict(shapes, salt=4)
    return {name: torch.as_tensor(value) for name, value in weights.items()}


def original(backbone):
    return published(backbone, "encoder.", "", SMPL)


def bedlam(size=SMPLX):
    """A whole Lightning checkpoint's weights: with what is beside the network, and what it never uses."""
    weights = published(PoseHRNet(4), "model.backbone.", "model.head.", size)
    extra = {
        "model.backbone.final_layer.weight": (24, 4, 1, 1), "model.backbone.final_layer.bias": (24,),
        "model.head.downsample_module.0.0.weight": (60, 60, 3, 3), "smplx.v_template": (10, 3),
        "model.smpl.smplx.v_template": (10, 3), "smpl.J_regressor": (24, 10), "J_regressor": (17, 10),
    }  # fmt: skip
    return weights | {name: torch.zeros(shape) for name, shape in extra.items()}


def naive(weights, features, box, head, size):
    """Three steps of the head in NumPy, from the tensors under their published names."""
    w = {name.removeprefix(head): value.double().numpy() for name, value in weights.items() if name.startswith(head)}
    rows = len(features)
    state = [np.repeat(w[name], rows, axis=0) for name in ("init_pose", "init_shape", "init_cam")]
    for _ in range(3):
        x = np.concatenate((features, box, *state), axis=1)
        for layer in ("fc1", "fc2"):
            x = x @ w[f"{layer}.weight"].T + w[f"{layer}.bias"]
        names = ("decpose", "decshape", "deccam")
        state = [s + x @ w[f"{name}.weight"].T + w[f"{name}.bias"] for s, name in zip(state, names, strict=True)]
    columns = state[0].reshape(rows, size.num_rotations, 3, 2)
    first = columns[..., 0] / np.linalg.norm(columns[..., 0], axis=-1, keepdims=True)
    second = columns[..., 1] - (first * columns[..., 1]).sum(axis=-1, keepdims=True) * first
    second /= np.linalg.norm(second, axis=-1, keepdims=True)
    return np.stack((first, second, np.cross(first, second)), axis=-1), state[1], state[2]


CASES: dict[str, tuple[Any, ...]] = {
    "resnet50": (lambda: original(ResNet50()), "", SMPL, "cliff", "portrait"),
    "hrnet": (lambda: original(ClassificationHRNet(4)), "", SMPL, "cliff", "portrait"),
    "bedlam_smplx": (bedlam, "model.head.", SMPLX, "bedlam", "square"),
    "bedlam_smpl": (lambda: bedlam(SMPL), "model.head.", SMPL, "bedlam", "square"),
}


@torch.no_grad()
@pytest.mark.parametrize("case", CASES)
def test_the_head_is_the_published_one(case, capsys):
    make, head, size, norm, crop = CASES[case]
    weights = make()
    wrapped = {f"module.{name}": value for name, value in weights.items()} if not head else weights
    network = load_cliff({"model" if not head else "state_dict": wrapped}).double()
    assert not network.training and (network.bbox_norm, network.crop, network.head) == (norm, crop, size)
    image, box = torch.rand(2, 3, 64, 64).double(), torch.randn(2, 3).double()
    found = network(image, box)
    features = network.backbone(image)
    expected = naive(weights, features.numpy(), box.numpy(), head, size)
    for name, value in zip(("rotmat", "betas", "camera"), expected, strict=True):
        assert_close(found[name], torch.from_numpy(value), 1e-9)
    assert ("licence of its own" in capsys.readouterr().err) == bool(head)
    # Every tensor of the backbone arrived under its own name.
    prefix = "model.backbone." if head else "encoder."
    for name, value in network.backbone.state_dict().items():
        if "num_batches" not in name:
            assert torch.equal(value.float(), weights[prefix + name]), name


def test_other_weights_are_named():
    weights = original(ResNet50())
    for name, value, message in (
        ("encoder.layer2.3.bn1.bias", None, "encoder.layer2.3.bn1.bias is missing"),
        ("encoder.layer5.weight", torch.zeros(3), "encoder.layer5.weight is not known"),
        ("deccam.weight", torch.zeros(4, 16), r"deccam.weight has shape \(4, 16\)"),
    ):
        changed = {**weights, name: value}
        with pytest.raises(InputError, match=message):
            load_cliff({key: value for key, value in changed.items() if value is not None})
    without_box = {**bedlam(), "model.head.fc1.weight": torch.zeros(16, 60 + 132 + 14)}
    with pytest.raises(InputError, match="they are of HMR, not of CLIFF"):
        load_cliff(without_box)
    with pytest.raises(InputError, match="not weights of CLIFF"):
        load_cliff({"conv1.weight": torch.zeros(1), "fc1.weight": torch.zeros(1)})


@torch.no_grad()
def test_an_imported_checkpoint_answers_as_the_published_network(tmp_path):
    weights = original(ResNet50())
    torch.save({"model": weights}, tmp_path / "res50.pt")
    assert main(["cliff", str(tmp_path / "res50.pt"), str(tmp_path / "cliff.ckpt")]) == 0
    method, network = load_method(tmp_path / "cliff.ckpt"), load_cliff(weights)
    assert (method.bbox_norm, method.crop) == ("cliff", "portrait")
    batch: Any = select(TinyPeople().load("test"), torch.arange(2))
    focal, centre = batch["camera"]["focal"][:, 0], batch["camera"]["principal_point"]
    offset = 2.8 * (batch["box"][:, :2] - centre) / focal[:, None]
    box = torch.cat((offset, ((batch["box"][:, 2] - 0.24 * focal) / (0.06 * focal))[:, None]), dim=-1)
    image = torch.nn.functional.interpolate(batch["image"][..., 4:28], size=(256, 192), mode="bilinear")
    expected = network(image, box)
    found = method(batch)["smpl"]
    assert_close(found["global_orient"], expected["rotmat"][:, 0], 1e-5)
    assert_close(found["body_pose"], expected["rotmat"][:, 1:], 1e-5)
    assert_close(found["betas"], expected["betas"], 1e-5)
