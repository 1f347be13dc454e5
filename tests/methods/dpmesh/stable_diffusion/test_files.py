"""Stable Diffusion from local files: both layouts give the same network, and what is missing is said."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from methods.dpmesh.backbone.unet import Backbone
from methods.dpmesh.stable_diffusion import files as sd_files
from methods.dpmesh.stable_diffusion.networks import make_autoencoder, make_controlnet, make_unet
from methods.dpmesh.stable_diffusion.weights import autoencoder_name, unet_name
from noise2pose.errors import InputError

WIDTHS = (64, 64, 128, 128)
JOINTS = 5
LEVELS = 4
WEIGHTS = "diffusion_pytorch_model.safetensors"
HINT = {"input_hint_block.0.weight": torch.zeros(1), "input_hint_block.2.bias": torch.zeros(1)}


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(0)
    unet = make_unet({"block_out_channels": WIDTHS, "cross_attention_dim": 768})
    controlnet = make_controlnet(unet, 0, copied=False)  # published ones take latents alone
    return unet, make_autoencoder({"block_out_channels": WIDTHS, "layers_per_block": 2}), controlnet


@pytest.fixture(scope="module")
def folder(networks, tmp_path_factory):
    """In the layout of diffusers."""
    path = tmp_path_factory.mktemp("diffusers")
    networks[0].save_pretrained(path / "unet")
    networks[1].save_pretrained(path / "vae")
    return path


def in_official_names(networks):
    unet, autoencoder, _ = networks
    weights = {f"model.diffusion_model.{unet_name(key)}": value for key, value in unet.state_dict().items()}
    for key, value in autoencoder.state_dict().items():
        is_convolution = ".attentions." in key and value.ndim == 2
        name = f"first_stage_model.{autoencoder_name(key, LEVELS)}"
        weights[name] = value[..., None, None] if is_convolution else value
    return weights | {"cond_stage_model.transformer.weight": torch.zeros(3), "betas": torch.zeros(3)}


def read(path, **options):
    torch.manual_seed(1)
    return Backbone(JOINTS, "sd15", path, unet_training="frozen", **options)


def same_tensors(ours, theirs):
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())


def test_folder_and_single_files_give_the_same_backbone(networks, folder, tmp_path):
    expected = read(folder)
    same_tensors(
        {key: value for key, value in expected.unet.state_dict().items()},
        {
            key: value
            for key, value in networks[0].state_dict().items()
            if not key.startswith(("conv_norm", "conv_out"))
        },
    )
    assert torch.equal(expected.controlnet.conv_in.weight[:, :4], networks[0].conv_in.weight)
    weights = in_official_names(networks)
    save_file(weights, tmp_path / "sd.safetensors")
    torch.save({"state_dict": weights, "epoch": 3}, tmp_path / "sd.ckpt")
    for name in ("sd.safetensors", "sd.ckpt"):
        same_tensors(read(tmp_path / name).state_dict(), expected.state_dict())


def test_images_of_256_pixels(folder):
    with torch.no_grad():
        backbone = read(folder)
        latents = backbone.encode(torch.rand(1, 3, 256, 256))
        levels = backbone(latents, torch.rand(1, JOINTS, 32, 32), torch.rand(1, JOINTS, 768))
    assert latents.shape == (1, 4, 32, 32)
    assert {name: level.shape[1] for name, level in levels.items()} == backbone.channels


def test_half_precision_is_read_as_single(networks, folder, tmp_path):
    save_file({key: value.half() for key, value in in_official_names(networks).items()}, tmp_path / "half.safetensors")
    shutil.copytree(folder, tmp_path / "half")
    for part in ("unet", "vae"):
        path = tmp_path / "half" / part / WEIGHTS
        save_file({key: value.half() for key, value in load_file(path).items()}, path, {"format": "pt"})
    file, layout = (read(tmp_path / name) for name in ("half.safetensors", "half"))
    assert {p.dtype for p in file.parameters()} == {torch.float32}
    same_tensors(file.state_dict(), layout.state_dict())


def test_a_published_controlnet_leaves_its_hints_behind(networks, folder, tmp_path):
    published = networks[2].state_dict()
    in_file = {f"control_model.{unet_name(key)}": value for key, value in published.items()}
    torch.save(in_file | {f"control_model.{key}": value for key, value in HINT.items()}, tmp_path / "control.pth")
    (tmp_path / "control").mkdir()
    hint = {"controlnet_cond_embedding.conv_in.weight": torch.zeros(1)}
    save_file(published | hint, tmp_path / "control" / "diffusion_pytorch_model.safetensors")
    for name in ("control.pth", "control"):
        controlnet = read(folder, control_weights=tmp_path / name).controlnet
        found = controlnet.state_dict()
        first = found.pop("conv_in.weight")
        assert first.shape[1] == 4 + JOINTS and first[:, 4:].abs().max() > 0
        assert torch.equal(first[:, :4], published["conv_in.weight"])
        same_tensors(found, {key: value for key, value in published.items() if key != "conv_in.weight"})


def test_a_missing_file_says_what_to_get_and_where_to_put_it(folder, tmp_path):
    with pytest.raises(
        InputError,
        match=r"absent does not exist: for model.pretrained, get unet/ and vae/ .* put them into this folder",
    ):
        read(tmp_path / "absent")
    with pytest.raises(InputError, match=r"unet/config\.json does not exist: .*get .*v1-5-pruned-emaonly\.safetensors"):
        read(tmp_path)
    with pytest.raises(InputError, match=r"control\.pth does not exist: .*control_v11p_sd15_openpose"):
        read(folder, control_weights=tmp_path / "control.pth")


def test_broken_files_are_named(networks, folder, tmp_path):
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text((folder / "unet" / "config.json").read_text())
    with pytest.raises(InputError, match=r"unet cannot be read as a model of diffusers"):
        read(tmp_path)
    (tmp_path / "cut.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0")
    with pytest.raises(InputError, match=r"cut\.safetensors cannot be read"):
        read(tmp_path / "cut.safetensors")
    (tmp_path / "sd.txt").write_text("")
    with pytest.raises(InputError, match=r"sd\.txt is neither a folder"):
        read(tmp_path / "sd.txt")
    weights = in_official_names(networks)
    without = {key: value for key, value in weights.items() if not key.startswith("first_stage_model.")}
    save_file(without, tmp_path / "no_autoencoder.safetensors")
    with pytest.raises(InputError, match="has no autoencoder"):
        read(tmp_path / "no_autoencoder.safetensors")
    with pytest.raises(InputError, match="need model.size sd15"):
        Backbone(JOINTS, "tiny", folder)


def changed(folder, tmp_path, part, **config):
    """A copy of the folder with another configuration."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    path = tmp_path / part / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return tmp_path


@pytest.mark.parametrize(
    ("part", "config", "message"),
    [
        (
            "unet",
            {"cross_attention_dim": 1024},
            r"unet is not Stable Diffusion 1.5.*width of tokens 1024 \(expected 768\)",
        ),
        ("unet", {"block_out_channels": [64, 64, 128]}, r"unet is not Stable Diffusion 1.5.*levels 3 \(expected 4\)"),
        ("unet", {"in_channels": 9}, r"unet is not Stable Diffusion 1.5.*latent channels 9 \(expected 4\)"),
        ("vae", {"latent_channels": 16}, r"vae is not Stable Diffusion 1.5.*latent channels 16 \(expected 4\)"),
    ],
)
def test_other_models_in_a_folder_are_refused_before_their_weights_are_read(folder, tmp_path, part, config, message):
    changed(folder, tmp_path, part, **config)
    (tmp_path / part / WEIGHTS).unlink()
    with pytest.raises(InputError, match=message):
        read(tmp_path)


def test_other_models_in_a_file_are_refused(networks, tmp_path):
    weights = in_official_names(networks)
    first = "model.diffusion_model.input_blocks.0.0.weight"
    save_file(weights | {first: torch.zeros(WIDTHS[0], 9, 3, 3)}, tmp_path / "inpainting.safetensors")
    with pytest.raises(InputError, match=r"inpainting\.safetensors is not Stable Diffusion 1.5.*latent channels 9"):
        read(tmp_path / "inpainting.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "anything.safetensors")
    with pytest.raises(InputError, match=r"anything\.safetensors is not Stable Diffusion 1.5.*levels 0 \(expected 4\)"):
        read(tmp_path / "anything.safetensors")
    lost = "model.diffusion_model.middle_block.0.in_layers.0.weight"
    save_file({key: value for key, value in weights.items() if key != lost}, tmp_path / "lost.safetensors")
    with pytest.raises(InputError, match=rf"lost\.safetensors: .*{lost} is missing"):
        read(tmp_path / "lost.safetensors")


def test_a_folder_without_some_weights_is_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "unet" / WEIGHTS
    weights = load_file(path)
    save_file({key: value for key, value in weights.items() if "mid_block" not in key}, path, {"format": "pt"})
    with pytest.raises(InputError, match=r"unet: 46 weights are missing, first mid_block\.attentions\.0\.norm\.bias"):
        read(tmp_path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(InputError, match=r"unet cannot be read as a model of diffusers"):
        read(tmp_path)


def test_the_published_autoencoder_has_old_names_for_its_attention(folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "vae" / WEIGHTS
    weights = load_file(path)
    for ours, theirs in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
        old = f"attentions.0.{theirs}."
        weights = {key.replace(f"attentions.0.{ours}.", old): value for key, value in weights.items()}
    save_file(weights, path, {"format": "pt"})
    same_tensors(read(tmp_path).autoencoder.state_dict(), read(folder).autoencoder.state_dict())


def test_a_callback_in_a_checkpoint_is_left_out(tmp_path, monkeypatch):
    import sys
    import types

    module = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    kind = type("ModelCheckpoint", (), {"__module__": module.__name__})
    module.ModelCheckpoint = kind
    for name in ("pytorch_lightning", "pytorch_lightning.callbacks"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    torch.save({"state_dict": {"a": torch.ones(1)}, "callbacks": {kind: {"best": 1}}}, tmp_path / "sd.ckpt")
    assert list(sd_files._read(tmp_path / "sd.ckpt", "")) == ["a"]
