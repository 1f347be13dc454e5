"""Turn the authors' published checkpoints into checkpoints of this project."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import torch

from noise2pose.errors import InputError

DESCRIPTION = """Turn the authors' published checkpoints into checkpoints of this project.

  python scripts/import_checkpoint.py diffpose gcndiff.pth denoiser.ckpt     the denoiser (GCNdiff)
  python scripts/import_checkpoint.py diffpose gcnpose.pth encoder.ckpt      the context encoder (GCNpose)
  python scripts/train.py test -c configs/experiments/diffpose_cmu_frame.yaml --ckpt_path denoiser.ckpt \\
      --model configs/methods/diffpose_release.yaml --model.context_checkpoint encoder.ckpt --name imported

A file may hold the release's list, a dictionary or bare weights, with or without the prefix `module.`.
"""


def import_diffpose(source: Path, num_heads: int, ema: bool) -> dict[str, Any]:
    """Reads a GCNdiff or GCNpose file; which one it is shows in its tensors.

    Args:
        source: file of the release.
        num_heads: of the attention, which no tensor tells.
        ema: take the moving average of the weights.

    Returns:
        A Lightning checkpoint of `DiffPose` (denoiser only) or of `ContextEncoder`.
    """
    from methods.diffpose import official

    weights = official.extract_state_dict(_load(source), ema)
    if any(".temb_proj." in key for key in weights):
        denoiser = official.load_gcndiff(weights, num_heads)
        prefix, network = "diffusion.denoiser.", denoiser
        kind = {"variant": "release", "context_epochs": 0}
    else:
        prefix, network = "network.", official.load_gcnpose(weights, num_heads)
        kind = {}
    width, num_blocks = network.output.linear.in_features, len(network.blocks)
    state = {prefix + key: value for key, value in network.state_dict().items()}
    if prefix != "network.":
        state["depth_spread"] = torch.full((17,), 0.08)
        state["denoiser_steps"] = torch.ones((), dtype=torch.int64)
    return {
        "state_dict": state,
        "hyper_parameters": {**kind, "width": width, "num_blocks": num_blocks, "num_heads": num_heads},
        "epoch": 0,
        "global_step": 0,
        "pytorch-lightning_version": _lightning_version(),
        "loops": {},
    }


def _load(source: Path) -> Any:
    if not source.is_file():
        raise InputError(f"{source} does not exist")
    try:
        return torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(f"{source} cannot be read as a PyTorch checkpoint ({error})") from error


def _lightning_version() -> str:
    from importlib.metadata import version

    return version("lightning")


def main() -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", choices=["diffpose"], help="whose checkpoint it is")
    parser.add_argument("source", type=Path, help="published file")
    parser.add_argument("output", type=Path, help="checkpoint to write")
    parser.add_argument("--num_heads", type=int, default=4, help="attention heads, which no tensor tells (release: 4)")
    parser.add_argument("--ema", action="store_true", help="take the moving average of the weights")
    arguments = parser.parse_args()
    try:
        checkpoint = import_diffpose(arguments.source, arguments.num_heads, arguments.ema)
    except InputError as error:
        print(f"error: {arguments.source}: {error}", file=sys.stderr)
        return 2
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    partial = arguments.output.with_name(arguments.output.name + ".partial")
    torch.save(checkpoint, partial)
    os.replace(partial, arguments.output)
    sizes = checkpoint["hyper_parameters"]
    number = sum(value.numel() for value in checkpoint["state_dict"].values())
    print(f"{arguments.output}: {number} parameters, width {sizes['width']}, {sizes['num_blocks']} blocks")
    return 0


if __name__ == "__main__":
    sys.exit(main())
