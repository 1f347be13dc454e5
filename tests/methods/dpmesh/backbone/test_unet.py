"""The diffusion backbone: what it answers, what is trained, and what absent joints can change."""

import copy

import pytest
import torch

from methods.dpmesh.backbone.attention import CONTEXTS, ContextTokens, RecordingProcessor, VisibleContext
from methods.dpmesh.backbone.unet import LORA_LAYERS, Backbone
from noise2pose.errors import InputError
from tests.parity.tolerances import assert_close

JOINTS = 5
BATCH = 2


def make(**options):
    torch.manual_seed(0)
    return Backbone(JOINTS, **{"lora_rank": 4, **options})


@pytest.fixture(scope="module")
def backbone():
    made = make(maps=(8, 16, 32))
    wake(made)
    return made


def wake(backbone):
    """Weights that are zero at the start hide what is wrong behind them."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in backbone.named_parameters():
        if "controlnet_down_blocks" in name or "controlnet_mid_block" in name or "lora_B" in name:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)


def trained_parameters(backbone):
    return [parameter for parameter in backbone.parameters() if parameter.requires_grad]


def inputs(seed=0):
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(BATCH, 4, 32, 32, generator=generator)
    heatmaps = torch.rand(BATCH, JOINTS, 32, 32, generator=generator)
    return latents, heatmaps, torch.randn(BATCH, JOINTS, 128, generator=generator)


def loss_of(levels):
    return sum(level.square().mean() for level in levels.values())


@torch.no_grad()
def test_images_become_a_pyramid_with_maps(backbone):
    latents = backbone.encode(torch.rand(BATCH, 3, 128, 128))
    assert latents.shape == (BATCH, 4, 32, 32)
    levels = backbone(latents, *inputs()[1:])
    assert {name: level.shape[1] for name, level in levels.items()} == backbone.channels
    for side in (4, 8, 16, 32):
        assert levels[f"level_{side}"].shape[2:] == (side, side)
        if side > 4:
            maps = levels[f"level_{side}"][:, -JOINTS:]
            assert maps.min() >= 0
            torch.testing.assert_close(maps.sum(dim=1), torch.ones(BATCH, side, side))


def test_the_tiny_size_is_tiny():
    backbone = make(unet_training="frozen")
    assert 7e6 < sum(p.numel() for p in backbone.unet.parameters()) < 13e6


@torch.no_grad()
def test_recording_changes_no_feature(backbone):
    silent = make(maps=())
    silent.load_state_dict(backbone.state_dict())
    assert not any(isinstance(p, RecordingProcessor) for p in silent.unet.attn_processors.values())
    tokens = ContextTokens(inputs()[2], torch.tensor([[True, False, True, True, False]] * BATCH))
    ours, theirs = backbone(*inputs()[:2], tokens), silent(*inputs()[:2], tokens)
    for name, level in theirs.items():
        assert_close(ours[name][:, : level.shape[1]], level)


def test_only_the_layers_that_are_asked_for_record():
    names = {8: ("down_blocks.2", "up_blocks.1"), 16: ("down_blocks.1", "up_blocks.2")}
    processors = make().unet.attn_processors
    recording = [name for name, processor in processors.items() if isinstance(processor, RecordingProcessor)]
    assert recording
    assert all(name.endswith("attn2.processor") for name in recording)
    assert {name.split(".attentions")[0] for name in recording} == {block for pair in names.values() for block in pair}


@pytest.mark.parametrize("scope", LORA_LAYERS)
def test_lora_and_the_controlnet_are_trained_and_nothing_else(scope):
    backbone = make(lora_scope=scope)
    trained = {name for name, p in backbone.named_parameters() if p.requires_grad}
    lora = {name for name in trained if name.startswith("unet.")}
    assert {name for name, _ in backbone.named_parameters() if name.startswith("controlnet.")} == trained - lora
    layers = {name.split(".lora_")[0].split("transformer_blocks.0.")[1] for name in lora}
    of_attention = ("to_q", "to_k", "to_v", "to_out.0")
    expected = {f"attn2.{layer}" for layer in of_attention}
    if scope != "attn2":
        expected |= {f"attn1.{layer}" for layer in of_attention}
    if scope == "attn_ff":
        expected |= {"ff.net.0.proj"}
    assert layers == expected


def test_all_or_nothing_of_the_unet_can_be_trained():
    full = make(unet_training="full", train_controlnet=False)
    assert {name.split(".")[0] for name, p in full.named_parameters() if p.requires_grad} == {"unet"}
    assert not trained_parameters(make(unet_training="frozen", train_controlnet=False))


@pytest.mark.parametrize("options", [{}, {"unet_training": "full"}, {"control": False}, {"heatmap_input": "add"}])
def test_everything_trained_gets_a_gradient(options):
    backbone = make(**options)
    wake(backbone)
    latents, heatmaps, tokens = inputs()
    loss_of(backbone(latents, None if "control" in options else heatmaps, tokens)).backward()
    assert [name for name, p in backbone.named_parameters() if p.requires_grad and p.grad is None] == []
    assert all(p.grad is None for p in backbone.autoencoder.parameters())


def test_fresh_lora_and_controlnet_change_nothing():
    latents, heatmaps, tokens = inputs()
    backbone = make()
    plain = make(control=False, unet_training="frozen")
    plain.load_pretrained({name.replace(".base_layer.", "."): v for name, v in backbone.state_dict().items()})
    for name, level in plain(latents, None, tokens).items():
        torch.testing.assert_close(backbone(latents, heatmaps, tokens)[name], level, rtol=1e-4, atol=1e-5)


def test_checkpointing_gives_the_same_gradients_and_leaves_nothing_behind(backbone):
    sparing = make(maps=(8, 16, 32), gradient_checkpointing=True)
    sparing.load_state_dict(backbone.state_dict())
    gradients = []
    for module in (backbone, sparing):
        module.zero_grad()
        loss_of(module(*inputs())).backward()
        gradients.append([p.grad for p in trained_parameters(module)])
        assert not module._record.entries
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


@torch.no_grad()
def test_a_copy_keeps_its_own_maps(backbone):
    copied = copy.deepcopy(backbone)
    for parameter in trained_parameters(copied):
        parameter.zero_()
    before = backbone(*inputs())
    levels = copied(*inputs())
    assert not torch.equal(levels["level_8"], before["level_8"])
    torch.testing.assert_close(backbone(*inputs())["level_8"], before["level_8"])


@torch.no_grad()
def test_channels_last_changes_no_number(backbone):
    other = make(maps=(8, 16, 32), channels_last=True)
    other.load_state_dict(backbone.state_dict())
    for ours, theirs in zip(backbone(*inputs()).values(), other(*inputs()).values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("name", CONTEXTS)
def test_coordinates_of_absent_joints_reach_nothing(backbone, name):
    torch.manual_seed(0)
    context = CONTEXTS[name](JOINTS, backbone.context_width)
    present = torch.tensor([[True, True, False, True, False], [False] * JOINTS])
    points = torch.rand(BATCH, JOINTS, 2)
    latents, heatmaps, _ = inputs()
    first = backbone(latents, heatmaps, context(points, present))
    for lost in (float("nan"), float("inf"), 1e6):
        points[~present] = lost
        again = backbone(latents, heatmaps, context(points, present))
        for level, same in zip(first.values(), again.values(), strict=True):
            assert level.isfinite().all()
            assert torch.equal(level, same)


@torch.no_grad()
def test_absent_joints_have_empty_maps_unless_all_are_absent(backbone):
    context = VisibleContext(JOINTS, backbone.context_width)
    present = torch.tensor([[True, True, False, True, False], [False] * JOINTS])
    levels = backbone(*inputs()[:2], context(torch.rand(BATCH, JOINTS, 2), present))
    maps = levels["level_16"][:, -JOINTS:]
    assert maps[0, ~present[0]].max() < 1e-6
    torch.testing.assert_close(maps[1].sum(dim=0), torch.ones(16, 16))


def test_null_tokens_always_take_part_in_the_gradient():
    context = VisibleContext(JOINTS, 8)
    context(torch.rand(BATCH, JOINTS, 2), torch.ones(BATCH, JOINTS, dtype=torch.bool)).tokens.sum().backward()
    assert all(p.grad is not None for p in context.parameters())


@torch.no_grad()
def test_added_heatmaps_change_the_latents_and_need_no_controlnet():
    latents, heatmaps, tokens = inputs()
    added, plain = make(heatmap_input="add"), make(control=False)
    assert added.controlnet is None and added.takes_heatmaps and not plain.takes_heatmaps
    added.load_pretrained(make(generative=True, unet_training="full").state_dict())  # which has no such map
    plain.load_state_dict({key: value for key, value in added.state_dict().items() if key != "to_latents.weight"})
    moved = latents + torch.einsum("cj,bjhw->bchw", added.to_latents.weight[..., 0, 0], heatmaps)
    for name, level in plain(moved, None, tokens).items():
        torch.testing.assert_close(added(latents, heatmaps, tokens)[name], level, rtol=1e-4, atol=1e-4)


def test_a_prior_becomes_a_backbone():
    prior = make(generative=True, unet_training="full")
    prior.latent_scale.fill_(0.5)
    latents, heatmaps, tokens = inputs()
    noise = prior.epsilon(latents, torch.tensor([3, 700]), heatmaps, tokens)
    assert noise.shape == latents.shape
    assert prior.decode(latents).shape == (BATCH, 3, 128, 128)
    backbone = make()
    backbone.load_pretrained(prior.state_dict())
    for ours, theirs in zip(backbone(*inputs()).values(), prior(*inputs()).values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert backbone.latent_scale == 0.5
    with pytest.raises(InputError, match="generative=False"):
        backbone.epsilon(latents, torch.tensor([3, 700]), heatmaps, tokens)
    with pytest.raises(InputError, match="generative=False"):
        backbone.decode(latents)
    with pytest.raises(InputError, match=r"unet\.conv_in\.weight is missing"):
        backbone.load_pretrained({})


@torch.no_grad()
def test_conventions_of_latents():
    image = torch.rand(BATCH, 3, 128, 128)
    ours, released = make(), make(latent="release")
    ours.latent_scale.fill_(0.25)
    assert torch.equal(released.encode(2 * image - 1) * 0.25, ours.encode(image))


@pytest.mark.slow
@torch.no_grad()
def test_compiled_is_the_same(backbone, monkeypatch):
    # The graphs are captured and run without making code of them, which takes minutes and a compiler.
    whole = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: whole(self, backend="eager"))
    compiled = make(maps=(8, 16, 32), compile=True)
    compiled.load_state_dict(backbone.state_dict())
    for _ in range(2):
        for ours, theirs in zip(backbone(*inputs()).values(), compiled(*inputs()).values(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
