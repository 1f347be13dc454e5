"""Turn the authors' published checkpoints into checkpoints of this project."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import torch

from noise2pose.bodies import BodyModel
from noise2pose.errors import InputError

DESCRIPTION = """Turn the authors' published checkpoints into checkpoints of this project.

  python scripts/import_checkpoint.py diffpose gcndiff.pth denoiser.ckpt     the denoiser (GCNdiff)
  python scripts/import_checkpoint.py diffpose gcnpose.pth encoder.ckpt      the context encoder (GCNpose)
  python scripts/import_checkpoint.py diffpose mixste_cpn_243f.bin mixste.ckpt   the context encoder for clips (MixSTE)
  python scripts/import_checkpoint.py hmr resnet50_hmr_pw3d-04f40f58_20211201.pth hmr.ckpt --body smpl.npz
  python scripts/train.py test -c configs/experiments/diffpose_cmu_frame.yaml --ckpt_path denoiser.ckpt \\
      --model configs/methods/diffpose_release.yaml --model.context_checkpoint encoder.ckpt --name imported
  python scripts/import_checkpoint.py diffannot ema_0.9999_100000.pt denoiser.ckpt   the denoiser (MLP)

A file may hold the release's list, a dictionary or bare weights, with or without the prefix `module.`.
"""

SIZES = {"width": "width", "num_blocks": "blocks", "hidden": "hidden units"}


def import_diffpose(source: Path, num_heads: int | None, ema: bool) -> dict[str, Any]:
    """Reads a GCNdiff, GCNpose or MixSTE file; which one it is shows in its tensors.

    Args:
        source: file of the release.
        num_heads: of the attention, which no tensor tells; None for the release's 4, and MixSTE's 8.
        ema: take the moving average of the weights.

    Returns:
        A Lightning checkpoint of `DiffPose` (denoiser only) or of `ContextEncoder`.
    """
    from methods.diffpose import official
    from methods.diffpose.initialisation import empty_histogram

    weights = official.extract_state_dict(_load(source), ema)
    is_clip = "Temporal_pos_embed" in weights
    num_heads = num_heads or (8 if is_clip else 4)
    kind: dict[str, Any] = {"num_heads": num_heads}
    if is_clip:
        prefix, network = "network.", official.load_mixste(weights, num_heads)
        kind |= {"encoder": "mixste", "num_frames": network.frame_embedding.shape[1], "flip_test": True}
        kind |= {"width": network.input.out_features, "num_blocks": len(network.spatial_blocks)}
    else:
        is_denoiser = any(".temb_proj." in key for key in weights)
        load = official.load_gcndiff if is_denoiser else official.load_gcnpose
        prefix, network = ("diffusion.denoiser." if is_denoiser else "network."), load(weights, num_heads)
        kind |= {"variant": "release", "context_epochs": 0} if is_denoiser else {}
        kind |= {"width": network.output.linear.in_features, "num_blocks": len(network.blocks)}
    state = {prefix + key: value for key, value in network.state_dict().items()}
    if prefix != "network.":  # buffers that the release's variant has no use for, but a whole checkpoint holds
        state["depth_spread"] = torch.full((17,), 0.08)
        state["depth_histogram"] = empty_histogram(17)
        state["denoiser_steps"] = torch.ones((), dtype=torch.int64)
    return _checkpoint(state, kind)


def import_diffannot(source: Path, ema: bool) -> dict[str, Any]:
    """Reads a file of the release's training script.

    Args:
        source: `modelNNNNNN.pt` or `ema_RATE_NNNNNN.pt`.
        ema: take the moving average of the weights, where a file holds both.

    Returns:
        A Lightning checkpoint of `DiffAnnot` as released: on 226-d states, without its front end.
    """
    from methods.diffannot import official
    from methods.diffannot.states import STATE_SIZE

    network = official.load_denoiser(official.extract_state_dict(_load(source), ema))
    weights = network.state_dict()
    width = len(weights["module.0.weight"])
    for key, shape in {
        "module.0.weight": (width, STATE_SIZE),
        "module.4.weight": (STATE_SIZE, width),
        "time_embed.0.weight": (STATE_SIZE, STATE_SIZE),
    }.items():
        if weights[key].shape != shape:
            found = tuple(weights[key].shape)
            raise InputError(f"{key} has shape {found}, expected {shape}: DiffAnnot's states have {STATE_SIZE} entries")
    state = {f"denoiser.{key}": value for key, value in weights.items()}
    kind = {"denoiser": "released", "width": width, "output_relu": True, "x_start": "frontend"}
    return {**_checkpoint(state, kind), "class_path": "methods.diffannot.DiffAnnot"}


def _checkpoint(state: dict[str, Any], hyper_parameters: dict[str, Any]) -> dict[str, Any]:
    return {
        "state_dict": state,
        "hyper_parameters": hyper_parameters,
        "epoch": 0,
        "global_step": 0,
        "pytorch-lightning_version": _lightning_version(),
        "loops": {},
    }


def import_hmr(source: Path, layout: str, body: str) -> dict[str, Any]:
    """Reads a file of HMR or SPIN.

    Args:
        source: as mmhuman3d or SPIN published it.
        layout: `mmhuman3d`, `spin`, or `auto` for what its tensors' names look like.
        body: `free`, or the file of the body whose parameters the weights were trained to answer with.

    Returns:
        A Lightning checkpoint of `HMR`, with the class path that `methods.checkpoints.load_method` reads.
    """
    from methods.hmr import official

    weights = official.extract_state_dict(official.read_checkpoint(source))
    network = official.load_hmr(weights, official.layout_of(weights) if layout == "auto" else layout)  # pyright: ignore
    BodyModel.load(body)  # refuses what could not be loaded again
    if body == "free":
        print(
            "note: without --body the rotations are given to the free body, which they fit approximately; the shape "
            "coefficients are SMPL's and mean nothing to it",
            file=sys.stderr,
        )
    return {
        "state_dict": network.state_dict(),
        "hyper_parameters": {
            "input": "image",
            "backbone": "resnet50",
            "hidden": network.regressor.fc2.out_features,
            "body": body,
        },
        "class_path": "methods.hmr.HMR",
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
    parser.add_argument("method", choices=["diffpose", "diffannot", "hmr"], help="whose checkpoint it is")
    parser.add_argument("source", type=Path, help="published file")
    parser.add_argument("output", type=Path, help="checkpoint to write")
    parser.add_argument(
        "--num_heads", type=int, help="diffpose: attention heads, which no tensor tells (default: 4; MixSTE: 8)"
    )
    parser.add_argument(
        "--ema", action="store_true", help="diffpose, diffannot: take the moving average of the weights"
    )
    parser.add_argument(
        "--layout", choices=["auto", "mmhuman3d", "spin"], default="auto", help="hmr: whose names the tensors have"
    )
    parser.add_argument("--body", default="free", help="hmr: body file (npz) that the weights were trained with")
    arguments = parser.parse_args()
    try:
        if arguments.method == "diffannot":
            checkpoint = import_diffannot(arguments.source, arguments.ema)
        elif arguments.method == "hmr":
            checkpoint = import_hmr(arguments.source, arguments.layout, arguments.body)
        else:
            checkpoint = import_diffpose(arguments.source, arguments.num_heads, arguments.ema)
    except InputError as error:
        print(f"error: {arguments.source}: {error}", file=sys.stderr)
        return 2
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    partial = arguments.output.with_name(arguments.output.name + ".partial")
    torch.save(checkpoint, partial)
    os.replace(partial, arguments.output)
    number = sum(value.numel() for value in checkpoint["state_dict"].values())
    sizes = {key: value for key, value in checkpoint["hyper_parameters"].items() if key in SIZES}
    described = ", ".join(f"{SIZES[key]} {value}" for key, value in sizes.items())
    print(f"{arguments.output}: {number} parameters, {described}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
