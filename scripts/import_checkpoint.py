"""Turn the authors' published checkpoints into checkpoints of this project."""

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from methods.checkpoints import read_torch_file
from noise2pose.bodies import BodyModel
from noise2pose.errors import InputError
from noise2pose.files import replacing

DESCRIPTION = """Turn the authors' published checkpoints into checkpoints of this project.

  python scripts/import_checkpoint.py diffpose gcndiff.pth denoiser.ckpt     the denoiser (GCNdiff)
  python scripts/import_checkpoint.py diffpose gcnpose.pth encoder.ckpt      the context encoder (GCNpose)
  python scripts/import_checkpoint.py diffpose mixste_cpn_243f.bin mixste.ckpt   the context encoder for clips (MixSTE)
  python scripts/import_checkpoint.py hmr resnet50_hmr_pw3d-04f40f58_20211201.pth hmr.ckpt --body smpl.npz
  python scripts/import_checkpoint.py dpmesh 3dpw_best_ckpt.pth.tar dpmesh.ckpt --body smpl.npz
  python scripts/train.py test -c configs/experiments/diffpose_synthetic_frame.yaml --ckpt_path denoiser.ckpt \\
      --model configs/methods/diffpose_release.yaml --model.context_checkpoint encoder.ckpt --name imported
  python scripts/import_checkpoint.py diffannot ema_0.9999_100000.pt annotator.ckpt --frontend hmr.ckpt
  python scripts/predict.py --checkpoint annotator.ckpt photo.jpg --output annotated

A file may hold the release's list, a dictionary or bare weights, with or without the prefix `module.`.

DiffAnnot's denoiser refines what a front end answers, so its checkpoint holds both. --frontend names the front end: a
checkpoint of this project, such as an imported HMR, or a shipped one. The denoiser knows the answers of the front end
that it was trained on: give that one for meaningful bodies. The shipped hmr-keypoints answers for the free body, not
for SMPL, and looks at 2-D joints instead of the picture; with it a file can be tried without any other download. The
checkpoint answers with 10 denoising steps for everybody (selector `fixed`); no ground truth chooses.
"""

SIZES = {"width": "width", "num_blocks": "blocks", "hidden": "hidden units"}
FIXED_STEP = 10  # denoising steps of an imported DiffAnnot, which has no ground truth to choose with as its release has
_NO_AVERAGE = "; --ema needs a moving average under `ema`, which the release keeps in a file of its own"
_KEYS_NAMED = 5  # at most, of a file that holds something else


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

    weights = official.extract_state_dict(read_torch_file(source), ema)
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
    name = "ContextEncoder" if prefix == "network." else "DiffPose"
    state = {prefix + key: value for key, value in network.state_dict().items()}
    if prefix != "network.":  # buffers that the release's variant has no use for, but a whole checkpoint holds
        state["depth_spread"] = torch.full((17,), 0.08)
        state["depth_histogram"] = empty_histogram(17)
        state["denoiser_steps"] = torch.ones((), dtype=torch.int64)
    return {**_checkpoint(state, kind), "class_path": f"methods.diffpose.{name}"}


def import_diffannot(source: Path, ema: bool, frontend: str = "hmr-keypoints") -> dict[str, Any]:
    """Reads a file of the release's training script.

    Args:
        source: `modelNNNNNN.pt` or `ema_RATE_NNNNNN.pt`.
        ema: take the moving average of the weights, where a file holds both.
        frontend: file of a front end's checkpoint, or the name of one that is shipped.

    Returns:
        A whole checkpoint of `DiffAnnot` as released (226-d states), its front end included, with the class path that
        `methods.checkpoints.load_method` reads.
    """
    from methods.diffannot import DiffAnnot, official
    from methods.diffannot.states import STATE_SIZE

    content = read_torch_file(source)
    try:
        found = official.extract_state_dict(content, ema)
    except InputError as error:
        raise InputError(f"{_not_the_denoiser(content)}{_NO_AVERAGE if ema else ''}") from error
    if "module.0.weight" not in found or "time_embed.0.weight" not in found:
        raise InputError(_not_the_denoiser(found))
    network = official.load_denoiser(found)
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
    method = DiffAnnot(
        frontend_checkpoint=frontend,
        selector="fixed",
        fixed_step=FIXED_STEP,
        denoiser="released",
        width=width,
        output_relu=True,
        x_start="frontend",
        clip="all",
        project_rotations=False,
    )
    method.denoiser.load_state_dict(weights)
    kind = {**method.hparams, "frontend_checkpoint": None}
    return {**_checkpoint(method.state_dict(), kind), "class_path": "methods.diffannot.DiffAnnot"}


def _not_the_denoiser(content: Any) -> str:
    """What a file holds that is not what it should be; a foreign file may have thousands of keys."""
    found = f"the file holds {type(content).__name__}"
    if isinstance(content, Mapping):
        named = ", ".join(sorted(map(str, content))[:_KEYS_NAMED])
        found = f"the file has {len(content)} keys{f', {named} among them' if named else ''}"
    return f"these are not weights of the released denoiser: {found}"


def _checkpoint(state: dict[str, Any], hyper_parameters: dict[str, Any]) -> dict[str, Any]:
    return {
        "state_dict": state,
        "hyper_parameters": hyper_parameters,
        "epoch": 0,
        "global_step": 0,
        "pytorch-lightning_version": _lightning_version(),
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
    _note_body(body)
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
    }


def import_dpmesh(source: Path, body: str) -> dict[str, Any]:
    """Reads a file of DPMesh's release, which holds Stable Diffusion 1.5 as well.

    Args:
        source: as its authors published it.
        body: `free`, or the file of the body whose parameters the weights were trained to answer with.

    Returns:
        A Lightning checkpoint of `DPMesh`, with the class path that `methods.checkpoints.load_method` reads.
    """
    from methods.dpmesh import official

    state, arguments = official.method_state(official.load_dpmesh(read_torch_file(source)))
    _note_body(body)
    state["student_steps"] = torch.ones((), dtype=torch.int64)
    return {**_checkpoint(state, {**arguments, "body": body}), "class_path": "methods.dpmesh.DPMesh"}


def _note_body(body: str) -> None:
    """Refuses a body that could not be loaded again, and says what another body than SMPL's means."""
    BodyModel.load(body)
    if body == "free":
        print(
            "note: without --body the rotations are given to the free body, which they fit approximately; the shape "
            "coefficients are SMPL's and mean nothing to it",
            file=sys.stderr,
        )


def _next_commands(arguments: argparse.Namespace, hyper_parameters: dict[str, Any]) -> list[str]:
    """What can be done with an imported DPMesh or DiffAnnot."""
    if arguments.method == "dpmesh":
        output, body = shlex.quote(str(arguments.output)), shlex.quote(arguments.body)
        return [
            "next:",
            f"  python scripts/predict.py --checkpoint {output} photo.jpg --output bodies",
            "  python scripts/train.py test -c configs/experiments/dpmesh_threedpw.yaml --model "
            "configs/methods/dpmesh_release.yaml \\",
            f"      --model.body {body} --data configs/data/occlusion_benchmarks.yaml \\",
            f"      --ckpt_path {output} --name imported",
        ]
    if arguments.method != "diffannot":
        return []
    output, frontend = shlex.quote(str(arguments.output)), shlex.quote(arguments.frontend)
    return [
        "next:",
        f"  python scripts/predict.py --checkpoint {output} photo.jpg --output annotated",
        "  python scripts/train.py test -c configs/experiments/diffannot_rendered_synthetic.yaml \\",
        "      --model configs/methods/diffannot_release.yaml --model.selector fixed "
        f"--model.fixed_step {FIXED_STEP} \\",
        f"      --model.width {hyper_parameters['width']} --model.frontend_checkpoint {frontend} "
        f"--ckpt_path {output} --name imported",
    ]


def _lightning_version() -> str:
    from importlib.metadata import version

    return version("lightning")


def main(args: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", choices=["diffpose", "diffannot", "hmr", "dpmesh"], help="whose checkpoint it is")
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
    parser.add_argument(
        "--frontend",
        default="hmr-keypoints",
        metavar="NAME_OR_FILE",
        help="diffannot: checkpoint of the front end, or the name of a shipped one (default: hmr-keypoints; see above)",
    )
    parser.add_argument(
        "--body", default="free", help="hmr, dpmesh: body file (npz) that the weights were trained with"
    )
    arguments = parser.parse_args(args)
    try:
        if arguments.method == "diffannot":
            checkpoint = import_diffannot(arguments.source, arguments.ema, arguments.frontend)
        elif arguments.method == "hmr":
            checkpoint = import_hmr(arguments.source, arguments.layout, arguments.body)
        elif arguments.method == "dpmesh":
            checkpoint = import_dpmesh(arguments.source, arguments.body)
        else:
            checkpoint = import_diffpose(arguments.source, arguments.num_heads, arguments.ema)
    except InputError as error:
        message = str(error)
        print(
            f"error: {message if str(arguments.source) in message else f'{arguments.source}: {message}'}",
            file=sys.stderr,
        )
        return 2
    with replacing(arguments.output) as partial:
        torch.save(checkpoint, partial)
    number = sum(value.numel() for value in checkpoint["state_dict"].values())
    sizes = {key: value for key, value in checkpoint["hyper_parameters"].items() if key in SIZES}
    described = ", ".join(f"{SIZES[key]} {value}" for key, value in sizes.items())
    print(f"{arguments.output}: {number} parameters{f', {described}' if described else ''}")
    for line in _next_commands(arguments, checkpoint["hyper_parameters"]):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
