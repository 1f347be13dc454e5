"""The regressor, its volume and its pose heads: what they promise, at a small width."""

import math

import pytest
import torch
from torch import nn

from methods.dpmesh.backbone.features import FusionHead
from methods.dpmesh.regressor.pose_heads import Cascade, CodebookHead, Rot6dHead, VPoserDecoder, VPoserHead
from methods.dpmesh.regressor.regressor import IMAGE_JOINTS, Regressor, Volume
from methods.dpmesh.regressor.transformer import plane_code, sine_code
from noise2pose import skeletons

SIZES = {"num_heads": 2, "num_encoder_layers": 1, "num_decoder_layers": 2, "feedforward": 48, "volume_feedforward": 24}


class ToyCodebook(nn.Module):
    """Three tokens of five codes each; the rotation about z is the mean number of the codes."""

    def __init__(self):
        super().__init__()
        self.num_tokens, self.num_codes = 3, 5
        self.scale = nn.Parameter(torch.ones(()))

    def decode_indices(self, indices):
        return self._turn(indices.float().mean(dim=-1))

    def decode_soft(self, logits):
        return self._turn((logits.softmax(dim=-1) @ torch.arange(5.0)).mean(dim=-1))

    def _turn(self, angle):
        rotation = torch.zeros(len(angle), 23, 3, 3)
        cos, sin = (angle * self.scale).cos()[:, None], (angle * self.scale).sin()[:, None]
        rotation[..., 0, 0], rotation[..., 0, 1], rotation[..., 1, 0], rotation[..., 1, 1] = cos, -sin, sin, cos
        rotation[..., 2, 2] = 1.0
        return rotation


def pose_head(kind):
    if kind == "rot6d":
        return Rot6dHead(16, 2)
    if kind == "vposer":
        return VPoserHead(VPoserDecoder(hidden=8), 16, 2)
    return CodebookHead(ToyCodebook(), kind == "vq_ce", 16, 2)


def make(kind="rot6d", **options):
    torch.manual_seed(0)
    return Regressor(24, pose_head(kind), 16, rows=4, depth=3, **SIZES, **options)


def features(batch=2):
    return torch.randn(batch, 24, 4, 4, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", ["rot6d", "vposer", "vq_soft", "vq_ce"])
def test_every_pose_head_answers_with_rotations_and_trains_everything(kind):
    regressor = make(kind)
    estimate = regressor(features())
    assert estimate.joint_img.shape == (2, 2, 15, 3) and estimate.volume.shape == (2, 16, 3, 4, 4)
    assert estimate.pose_code.shape == {"rot6d": (2, 138), "vposer": (2, 32)}.get(kind, (2, 3, 5))
    assert estimate.rotations.shape == (2, 24, 3, 3)
    identity = estimate.rotations @ estimate.rotations.transpose(-1, -2)
    assert torch.allclose(identity, torch.eye(3).expand_as(identity), atol=1e-5)
    (sum(part.square().sum() for part in estimate) + estimate.body_pose.sum() + estimate.root.sum()).backward()
    idle = [name for name, value in regressor.named_parameters() if value.requires_grad and value.grad is None]
    frozen = {name.split(".")[1] for name, value in regressor.named_parameters() if not value.requires_grad}
    assert not idle
    assert frozen == {"rot6d": set(), "vposer": {"decoder"}}.get(kind, {"codebook"})


@torch.no_grad()
@pytest.mark.parametrize("release", [False, True])
def test_an_answer_does_not_depend_on_the_batch(release):
    options = {"learned_exponent": True, "position_temperature": 1.0} if release else {}
    regressor = make(**options).eval()
    both, alone = regressor(features()), regressor(features()[1:])
    for ours, theirs in zip(both, alone, strict=True):
        ours = ours[:, 1:] if ours.ndim == 4 and ours.shape[-1] == 3 and ours.shape[2] == 15 else ours[1:]
        assert torch.allclose(ours, theirs, atol=1e-5)


@torch.no_grad()
def test_training_starts_from_a_body_that_faces_the_camera():
    estimate = make().eval()(features())
    assert torch.allclose(estimate.root, torch.diag(torch.tensor([1.0, -1.0, -1.0])).expand(2, 3, 3), atol=0.2)
    assert torch.allclose(estimate.body_pose, torch.eye(3).expand(2, 23, 3, 3), atol=0.2)
    assert (2.5 * estimate.camera[:, 2].sigmoid() - 2.0).abs().max() < 0.1, "metres that the box shows"


@torch.no_grad()
def test_a_hard_code_is_taken_only_when_predicting():
    regressor = make("vq_ce").train()
    assert not regressor.pose_head.codebook.training, "a frozen codebook stays in evaluation mode"
    estimate = regressor(features())
    soft = regressor.pose_head.codebook.decode_soft(estimate.pose_code)
    assert torch.equal(estimate.body_pose, soft)
    estimate = regressor.eval()(features())
    hard = regressor.pose_head.codebook.decode_indices(estimate.pose_code.argmax(dim=-1))
    assert torch.equal(estimate.body_pose, hard)


def test_a_point_finds_its_voxel():
    volume = Volume(6, 4, 3, 5, 1, 2, 8, 0.0, learned_exponent=False)
    voxels = torch.randn(1, 4, 3, 5, 5)
    centres = torch.tensor([[[0.5 / 5, 2.5 / 5, 1.5 / 3], [4.5 / 5, 0.5 / 5, 2.5 / 3]]])
    assert torch.allclose(
        volume.sample(voxels, centres)[0], torch.stack((voxels[0, :, 1, 2, 0], voxels[0, :, 2, 0, 4]))
    )
    corner = volume.sample(voxels, torch.tensor([[[0.0, 0.0, 0.0]]]))[0, 0]
    assert torch.allclose(corner, voxels[0, :, 0, 0, 0]), "nothing fades towards the border"


@torch.no_grad()
def test_the_exponent_is_kept_in_its_range():
    volume = Volume(6, 4, 3, 5, 1, 2, 8, 0.0, learned_exponent=True)
    voxels, points = torch.randn(1, 4, 3, 5, 5), torch.tensor([[[0.3, 0.6, 0.7]]])
    assert volume.exponent == 3.0
    answers = []
    for exponent in (-5.0, 1.0, 2.0):
        volume.exponent.fill_(exponent)
        answers.append(volume.sample(voxels, points))
    assert torch.equal(answers[0], answers[1]) and not torch.allclose(answers[1], answers[2])


@torch.no_grad()
def test_a_cascade_corrects_what_it_said_before():
    cascade, states = Cascade(3, 2, 2, torch.tensor([1.0, -1.0])), torch.randn(2, 5, 3)
    first, second = cascade.layers
    said = states[0] @ first.weight.T + first.bias
    expected = said + torch.cat((states[1], said), dim=-1) @ second.weight.T + second.bias
    assert torch.allclose(cascade(states), expected, atol=1e-6)


def test_codes_of_positions():
    code = sine_code(torch.arange(3), 4)
    expected = [math.sin(2.0), math.cos(2.0), math.sin(0.02), math.cos(0.02)]
    assert torch.allclose(code[2], torch.tensor(expected))
    code = plane_code(2, 3, 8)
    y, x = 2 * math.pi * 2 / (2 + 1e-6), 2 * math.pi * 1 / (3 + 1e-6)
    expected = [f(v) for v in (y, y / 100, x, x / 100) for f in (math.sin, math.cos)]
    assert torch.allclose(code[3], torch.tensor(expected), atol=5e-6), "second row, first column"
    assert torch.allclose(plane_code(2, 3, 8, 1.0)[3, :4], code[3, :2].repeat(2)), "all frequencies are 1"


def test_the_head_takes_any_number_of_maps():
    channels = {"level_4": 64, "level_8": 81, "level_16": 81, "level_32": 81}
    head = FusionHead(channels, 32)
    pyramid = {level: torch.randn(1, number, int(level[6:]), int(level[6:])) for level, number in channels.items()}
    assert head(pyramid).shape == (1, 32, 8, 8)


def test_image_joints_are_joints_of_the_data():
    joints = skeletons.get("h36m_17").joints
    assert set(joints) - set(IMAGE_JOINTS) == {"spine", "chin"} and len(set(IMAGE_JOINTS)) == 15
