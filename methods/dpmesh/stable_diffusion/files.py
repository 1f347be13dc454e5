"""Stable Diffusion 1.5 and its ControlNets, read from local files; nothing is downloaded."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from methods.dpmesh.stable_diffusion import weights as ldm_weights
from methods.dpmesh.stable_diffusion.networks import Networks, NoHint, make_controlnet
from methods.official_weights import read_published, require, state_dict_in
from noise2pose.errors import InputError

WHERE = (
    "for model.pretrained, get unet/ and vae/ (config.json and diffusion_pytorch_model.safetensors of each) of "
    "stable-diffusion-v1-5/stable-diffusion-v1-5 from huggingface.co and put them into this folder, or get its file "
    "v1-5-pruned-emaonly.safetensors and give its path"
)
_WHERE_CONTROL = (
    "for model.control_pretrained, get config.json and diffusion_pytorch_model.safetensors of "
    "lllyasviel/control_v11p_sd15_openpose from huggingface.co and put them into this folder, or get "
    "control_v11p_sd15_openpose.pth of lllyasviel/ControlNet-v1-1 and give its path"
)
_PICKLED = (".ckpt", ".pth", ".pt", ".bin")
# Levels, channels of latents and width of tokens of version 1's U-Net; levels and channels of its autoencoder.
_UNET, _AUTOENCODER = (4, 4, 768), (4, 4)


def read_networks(path: str | Path, num_joints: int, control: bool, control_weights: str | Path | None) -> Networks:
    """Stable Diffusion 1.5, with a ControlNet for heat-maps.

    Args:
        path: folder in the layout of diffusers (`unet/`, `vae/`), or one `.safetensors` or `.ckpt` file with the names
            of Stable Diffusion's own code. Sizes are those of the files.
        num_joints: heat-maps of the ControlNet.
        control: make a ControlNet.
        control_weights: of a published ControlNet, folder or file; its network for hint images is left out. None starts
            from the U-Net's down and middle blocks.

    Returns:
        Networks in float32. The ControlNet's weights for heat-maps are random.

    Raises:
        InputError: if a file is missing (says what to get and where to put it), damaged, or of other sizes.
    """
    path = Path(path)
    if path.is_dir():
        unet, autoencoder = (_from_folder(path, part) for part in ("unet", "vae"))
    else:
        weights = _read(path, WHERE)
        _check_file(path, weights)
        try:
            unet, autoencoder, _ = ldm_weights.networks(weights)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        if autoencoder is None:
            raise InputError(f"{path} has no autoencoder (first_stage_model.*): {WHERE}")
    controlnet = None
    if control:
        controlnet = make_controlnet(unet, num_joints, copied=control_weights is None)
        if control_weights is not None:
            _fill_controlnet(controlnet, Path(control_weights))
    return Networks(unet, autoencoder, controlnet)


def _from_folder(folder: Path, part: str) -> Any:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from diffusers.utils import logging

    kind = {"unet": UNet2DConditionModel, "vae": AutoencoderKL}[part]
    if not (folder / part / "config.json").is_file():
        raise InputError(f"{folder / part / 'config.json'} does not exist: {WHERE}")
    loud = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)  # or it prints the names of hundreds of tensors before the error
    try:
        config: Any = kind.load_config(folder, subfolder=part, local_files_only=True)
        _check_version(folder / part, config)
        network, about = kind.from_pretrained(
            folder, subfolder=part, local_files_only=True, torch_dtype=torch.float32, output_loading_info=True
        )
    except InputError:
        raise
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{folder / part} cannot be read as a model of diffusers ({reason}): {WHERE}") from error
    finally:
        logging.set_verbosity(loud)
    if missing := sorted(about["missing_keys"]):  # which diffusers leaves unset
        raise InputError(f"{folder / part}: {len(missing)} weights are missing, first {missing[0]}: {WHERE}")
    return network


def _check_version(path: Path, config: Mapping[str, Any]) -> None:
    """Refuses networks of other versions than 1, before their weights are read."""
    levels, part = len(config.get("block_out_channels", ())), path.name
    if part == "unet":
        found, expected = (levels, config.get("in_channels"), config.get("cross_attention_dim")), _UNET
    else:
        found, expected = (levels, config.get("latent_channels")), _AUTOENCODER
    _check(path, found, expected)


def _check_file(path: Path, weights: Mapping[str, Tensor]) -> None:
    """`_check_version` for the U-Net in a single file."""
    prefix = ldm_weights.UNET
    first = weights.get(f"{prefix}input_blocks.0.0.weight")
    keys = weights.get(f"{prefix}middle_block.1.transformer_blocks.0.attn2.to_k.weight")
    levels = sum(f"{prefix}input_blocks.{1 + 3 * level}.0.in_layers.2.weight" in weights for level in range(4))
    found = (levels, *(None if x is None else x.shape[1] for x in (first, keys)))
    _check(path, found, _UNET)


def _check(path: Path, found: tuple[int | None, ...], expected: tuple[int, ...]) -> None:
    names = ("levels", "latent channels", "width of tokens")
    sizes = ", ".join(
        f"{name} {value} (expected {right})" for name, value, right in zip(names, found, expected, strict=False)
    )
    if found != expected:
        raise InputError(f"{path} is not Stable Diffusion 1.5: {sizes}. Instead, {WHERE}")


def _fill_controlnet(controlnet: Any, path: Path) -> None:
    """Loads published weights; the weights of the heat-maps in the first layer stay as they are."""
    if path.is_dir():
        file, name, prefix = path / "diffusion_pytorch_model.safetensors", str, ""
        first, hint = "conv_in.weight", "controlnet_cond_embedding."
    else:
        file, name, prefix = path, ldm_weights.unet_name, ldm_weights.CONTROLNET
        first, hint = f"{prefix}input_blocks.0.0.weight", f"{prefix}input_hint_block."
    weights = {key: value for key, value in _read(file, _WHERE_CONTROL).items() if not key.startswith(hint)}
    start = controlnet.conv_in.weight.detach().clone()
    try:
        require(weights, {first: 4}, "a ControlNet")
        published = weights[first]
        if published.shape[0] != start.shape[0] or published.shape[2:] != start.shape[2:]:
            raise InputError(f"{first} has shape {tuple(published.shape)}, expected a U-Net's of this size")
        start[:, : published.shape[1]] = published.float()
        ldm_weights.fill(controlnet, name, {**weights, first: start}, prefix)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    controlnet.controlnet_cond_embedding = NoHint()


def _read(path: Path, where: str) -> Mapping[str, Tensor]:
    """The tensors of one file.

    Raises:
        InputError: if there is no such file, or it does not hold tensors.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist: {where}")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise InputError(f"{path} cannot be read: it is empty, cut off or damaged ({error})") from error
    if path.suffix not in _PICKLED:
        raise InputError(f"{path} is neither a folder nor a .safetensors or .ckpt file: {where}")
    content = read_published(path)
    try:
        return state_dict_in(content, (ldm_weights.UNET, ldm_weights.CONTROLNET))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
