"""Random Stable Diffusion (XL) networks of a million weights in the folders that published ones come in."""

import json
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    ControlNetUnionModel,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789,.-'"
_NETS = ("depth", "keypoints")
_WIDTH = 32  # of a text encoder


def make_folders(root: Path, xl: bool) -> dict[str, str]:
    """Writes a base pipeline, a ControlNet for depth and one for keypoints, and, for SDXL, a union ControlNet."""
    torch.manual_seed(5)
    unet = _unet(xl)
    tokenizer = _tokenizer(root)
    parts = {
        "vae": AutoencoderKL(
            block_out_channels=(16, 32), norm_num_groups=8, down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=4, sample_size=32,
        ),
        "text_encoder": CLIPTextModel(_text(len(tokenizer))),
        "tokenizer": tokenizer,
        "unet": unet,
        "scheduler": EulerDiscreteScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012),
    }  # fmt: skip
    if xl:
        second = {"text_encoder_2": CLIPTextModelWithProjection(_text(len(tokenizer))), "tokenizer_2": tokenizer}
        pipeline = StableDiffusionXLPipeline(**parts, **second)
    else:
        pipeline = StableDiffusionPipeline(
            **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
        )
    pipeline.save_pretrained(root / "base")
    nets = {name: ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 16)) for name in _NETS}
    if xl:
        nets["union"] = _union(unet)
    for name, net in nets.items():
        _wake(net)
        net.save_pretrained(root / name)
    return {name: str(root / name) for name in ("base", *nets)}


def _wake(net: torch.nn.Module) -> None:
    """Replaces the zeros that a new ControlNet ends in, with which it changes nothing."""
    for name, parameter in net.named_parameters():
        if not parameter.any() and name.endswith("weight"):
            torch.nn.init.normal_(parameter, std=0.2)


def _unet(xl: bool) -> UNet2DConditionModel:
    more = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": _WIDTH + 6 * 8,
        "use_linear_projection": True,
    }
    return UNet2DConditionModel(
        sample_size=16, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4), cross_attention_dim=2 * _WIDTH if xl else _WIDTH, **(more if xl else {}),
    )  # fmt: skip


def _union(unet: UNet2DConditionModel) -> ControlNetUnionModel:
    kept = ("block_out_channels", "layers_per_block", "norm_num_groups", "down_block_types", "attention_head_dim")
    kept += ("cross_attention_dim", "addition_embed_type", "addition_time_embed_dim", "use_linear_projection")
    kept += ("projection_class_embeddings_input_dim",)
    return ControlNetUnionModel(
        **{name: unet.config[name] for name in kept}, conditioning_embedding_out_channels=(8, 16),
        num_trans_channel=16, num_trans_head=2, num_proj_channel=16,
    )  # fmt: skip


def _text(vocabulary: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=vocabulary, hidden_size=_WIDTH, intermediate_size=37, num_hidden_layers=3, num_attention_heads=4,
        projection_dim=_WIDTH, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip


def _tokenizer(root: Path) -> CLIPTokenizer:
    """CLIP's, with letters for words."""
    folder = root / "letters"
    folder.mkdir(parents=True)
    words = ["<|startoftext|>", "<|endoftext|>", *_LETTERS, *(f"{letter}</w>" for letter in _LETTERS)]
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77)
