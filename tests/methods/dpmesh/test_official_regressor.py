"""The published network after the backbone: same numbers from the same weights, and clear refusals of other weights."""

import pytest
import roma
import torch

from methods.dpmesh.backbone.features import FusionHead
from methods.dpmesh.official import load_regressor
from methods.dpmesh.regressor.pose_heads import VPoserDecoder
from methods.dpmesh.regressor.regressor import full_translation
from methods.mesh_batches import PinholeCamera, project_to_image
from noise2pose.errors import InputError
from tests.parity.procedural import procedural_state_dict, procedural_tensor, read_fixture
from tests.parity.tolerances import assert_close
from tests.places import PARITY

VPOSER = {
    "vposer.vposer.bodyprior_dec_fc1.weight": (512, 32),
    "vposer.vposer.bodyprior_dec_fc1.bias": (512,),
    "vposer.vposer.bodyprior_dec_fc2.weight": (512, 512),
    "vposer.vposer.bodyprior_dec_fc2.bias": (512,),
    "vposer.vposer.bodyprior_dec_out.weight": (126, 512),
    "vposer.vposer.bodyprior_dec_out.bias": (126,),
}


def fixture(name):
    tensors, meta = read_fixture(PARITY / f"dpmesh_{name}.safetensors")
    return {key: torch.as_tensor(value) for key, value in tensors.items()}, meta


def weights_of(meta):
    weights = procedural_state_dict(meta["state_dict"], salt=meta["salt"])
    return {key: torch.as_tensor(value) for key, value in weights.items()}


@pytest.fixture(scope="module")
def published():
    """A whole state dict, as the release saves it."""
    regressor, head = fixture("regressor")[1], fixture("fusion_head")[1]
    weights = weights_of(regressor) | weights_of({"state_dict": VPOSER, "salt": regressor["salt"]})
    weights |= {f"backbone.{key}": value for key, value in weights_of(head).items()}
    left_out = {
        "human_model_layer.th_betas": torch.zeros(1, 10),
        "vposer.vposer.bodyprior_enc_mu.weight": torch.zeros(32, 512),
        "pos_embed_1d.pos_table": torch.zeros(512, 256),
        "backbone.sd_model.model.diffusion_model.out.0.weight": torch.zeros(320),
    }
    return {f"module.{key}": value for key, value in (weights | left_out).items()}


@pytest.fixture(scope="module")
def network(published):
    return load_regressor({"network": published, "epoch": 3})


def levels(tensors):
    return {key.removeprefix("input/"): value for key, value in tensors.items() if key.startswith("input/")}


@torch.no_grad()
def test_the_fusion_head_is_theirs(network):
    tensors, meta = fixture("fusion_head")
    assert_close(network.fusion(levels(tensors))[:, ::4], tensors["output/feature__c4"])
    tensors, meta = fixture("fusion_head_small")
    channels = {f"level_{side}": number for side, number in meta["config"]["level_channels"].items()}
    head = FusionHead(channels, meta["config"]["out_channels"])
    names = {"outmodules.0.": "from_32.", "outmodules.1.0.": "from_16.", "outmodules.2.": "merge."}
    head.load_state_dict(
        {
            next(ours + key.removeprefix(theirs) for theirs, ours in names.items() if key.startswith(theirs)): value
            for key, value in weights_of(meta).items()
        }
    )
    assert_close(head(levels(tensors)), tensors["output/feature"])


@torch.no_grad()
def test_the_regressor_is_theirs(network):
    tensors, meta = fixture("regressor")
    assert not network.training
    seen = {}
    network.regressor.plane_encoder.register_forward_hook(lambda _, inputs, output: seen.update(memory=output))
    network.regressor.decoder.register_forward_hook(lambda _, inputs, output: seen.update(states=output[0]))
    estimate = network.regressor(tensors["input/feature"])
    assert_close(network.tokens(tensors["input/joints"][..., :2])[..., ::8], tensors["output/context__c8"])
    assert_close(seen["memory"].transpose(0, 1)[::4, :, ::4], tensors["output/memory_2d__s"])
    assert_close(estimate.volume.flatten(2).permute(2, 0, 1)[::8, :, ::8], tensors["output/volume_tokens__s"])
    assert_close(seen["states"].transpose(1, 2), tensors["output/decoder_states"])
    assert_close(estimate.joint_img[-1], tensors["output/joint_img"])
    assert_close(estimate.pose_code, tensors["output/pose_code32"])
    assert_close(estimate.betas, tensors["output/smpl_shape"])
    assert_close(estimate.camera, tensors["output/cam_param"])
    code = estimate.pose_code  # what stands for VPoser in the recording repeats it
    pose = torch.cat((roma.rotmat_to_rotvec(estimate.root), code, code, code[:, :5]), dim=-1)
    assert_close(pose, tensors["output/smpl_pose"])
    mesh = torch.cat((pose, estimate.betas), dim=-1) @ (0.2 * procedural("fake_smpl.a", (82, 192), meta))
    # The release's camera is that of a crop of 256 pixels, with the first sample's focal length for all.
    camera = PinholeCamera(tensors["input/focal"][:1].expand(len(mesh), 2), torch.full((len(mesh), 2), 128.0))
    box = torch.tensor([128.0, 128.0, 256.0]).expand(len(mesh), 3)
    translation = full_translation(estimate.camera, box, camera)
    mesh = mesh.unflatten(-1, (64, 3)) + translation[:, None]
    assert_close(mesh[:, ::4], tensors["output/mesh_translated__n4"])
    joints = (4.0 * procedural("fake_smpl.joint_regressor", (30, 64), meta)).softmax(dim=-1) @ mesh
    assert_close(mesh - joints[:, :1], tensors["output/smpl_mesh_cam"])
    cells = project_to_image(joints, camera) / 4.0  # of a grid of 64
    assert_close(cells, tensors["output/joint_proj"])


def procedural(key, shape, meta):
    return torch.as_tensor(procedural_tensor(key, shape, meta["salt"]))


def test_each_image_has_its_own_focal_length():
    camera, focal = torch.tensor([[0.1, 0.2, 0.3]]).repeat(2, 1), torch.tensor([[2000.0, 2000.0], [1000.0, 1000.0]])
    box, middle = torch.tensor([[128.0, 128.0, 256.0]]).repeat(2, 1), torch.full((2, 2), 128.0)
    near, far = full_translation(camera, box, PinholeCamera(focal, middle)).flip(0)
    assert torch.equal(near[:2], far[:2]) and far[2] == 2 * near[2]


@torch.no_grad()
def test_vposer_decodes_as_published(published, network):
    decoder, code = network.regressor.pose_head.decoder, torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    assert isinstance(decoder, VPoserDecoder) and not any(p.requires_grad for p in decoder.parameters())

    def linear(name, x):
        layer = f"module.vposer.vposer.bodyprior_dec_{name}"
        return x @ published[f"{layer}.weight"].T + published[f"{layer}.bias"]

    hidden = linear("fc1", code)
    hidden = linear("fc2", torch.where(hidden > 0, hidden, 0.2 * hidden))
    axes = linear("out", torch.where(hidden > 0, hidden, 0.2 * hidden)).view(3, 21, 3, 2)
    first = axes[..., 0] / axes[..., 0].norm(dim=-1, keepdim=True)
    second = axes[..., 1] - (first * axes[..., 1]).sum(dim=-1, keepdim=True) * first
    second = second / second.norm(dim=-1, keepdim=True)
    expected = torch.stack((first, second, torch.linalg.cross(first, second)), dim=-1)
    answer = decoder(code)
    assert torch.allclose(answer[:, :21], expected, atol=5e-5)  # dividing by short axes magnifies rounding
    assert torch.equal(answer[:, 21:], torch.eye(3).expand(3, 2, 3, 3)), "hands are not turned"


def test_other_weights_are_refused(published):
    key = "module.cascade_shaoe_out.1.weight"
    broken = {name: value for name, value in published.items() if name != key}
    broken["module.query.weight"] = torch.zeros(14, 256)
    broken["module.awl.params"] = torch.ones(9)
    with pytest.raises(InputError) as error:
        load_regressor(broken)
    message = str(error.value)
    assert "cascade_shaoe_out.1.weight is missing" in message and "awl.params is not known" in message
    assert "query.weight has shape (14, 256), expected (15, 256)" in message
    with pytest.raises(InputError, match=r"down_linear.weight is missing; .*and 5 more"):
        load_regressor({"query.weight": torch.zeros(15, 256)})
    for nothing in ({}, {"network": {}}, {"epoch": 3}):
        with pytest.raises(InputError, match="no state dict of tensors"):
            load_regressor(nothing)
