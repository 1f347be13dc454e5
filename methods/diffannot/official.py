"""Published weights of PaperL/Human-3D-Diffusion, the MLP that denoises body states.

No weights of it were published; checkpoints are what its training script writes (`modelNNNNNN.pt`, and the moving
average as a file of its own, `ema_RATE_NNNNNN.pt`). Every size is read off the tensors.
"""

import argparse
import shlex
from collections.abc import Mapping
from typing import Any

from methods.diffannot.denoiser import ReleasedDenoiser
from methods.diffannot.module import DiffAnnot
from methods.diffannot.states import STATE_SIZE
from methods.official_weights import Imported, load, read_published, require, state_dict_in

DESCRIPTION = """DiffAnnot's denoiser, as the release's training script saves it.

  noise2pose import diffannot ema_0.9999_100000.pt annotator.ckpt --frontend hmr.ckpt
  noise2pose predict --checkpoint annotator.ckpt photo.jpg --output annotated

The denoiser refines the answers of a front end, so the checkpoint holds both. --frontend names the front end: an
imported HMR, for example, or a shipped model. The denoiser knows the answers of the front end that it was trained with:
give that one for meaningful bodies. The shipped hmr-people answers for the free body, not for SMPL, and sees 2-D
joints instead of the image; with it a file can be tried without any other download. The checkpoint always takes 10
denoising steps (selector `fixed`); no ground truth chooses.
"""
FIXED_STEP = 10
_NETWORK = "the released denoiser"
_FIRST = ("time_embed.",)  # the network's own first layers are called `module`, as a wrapper is
_SIZES = {"module.0.weight": 2, "module.4.weight": 2, "time_embed.0.weight": 2}


def load_denoiser(state_dict: Mapping[str, Any], output_relu: bool = True) -> ReleasedDenoiser:
    """The released denoiser.

    Args:
        state_dict: official names (`module.0.weight`, ..., `time_embed.2.bias`) to tensors or arrays of any floating
            type, or a checkpoint that holds them (see `methods.official_weights.state_dict_in`).
        output_relu: end with a ReLU, as released, which no tensor shows.

    Returns:
        Network in evaluation mode: `forward(x: (B, D), t: (B,)) -> (B, E)`, the noise in x.

    Raises:
        InputError: if a tensor is missing, superfluous or of the wrong shape.
    """
    weights = state_dict_in(state_dict, _FIRST)
    require(weights, _SIZES, _NETWORK)
    (width, size), output_size = weights["module.0.weight"].shape, len(weights["module.4.weight"])
    network = ReleasedDenoiser(size, width, output_size, output_relu, time_width=len(weights["time_embed.0.weight"]))
    return load(network, weights, _NETWORK).eval()


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of `import_checkpoint`."""
    parser.add_argument("--ema", action="store_true", help="take the moving average of the weights")
    parser.add_argument(
        "--frontend",
        default="hmr-people",
        metavar="MODEL",
        help="front end: a checkpoint, or the folder or name of a model (default: hmr-people; see above)",
    )


def import_checkpoint(arguments: argparse.Namespace) -> Imported:
    """A whole `DiffAnnot` as released (226-d states), its front end included.

    Raises:
        InputError: if the file or the front end is missing, broken or of another kind.
    """
    network = load_denoiser(state_dict_in(read_published(arguments.source), _FIRST, arguments.ema))
    weights = network.state_dict()
    width = len(weights["module.0.weight"])
    method = DiffAnnot(
        frontend_checkpoint=arguments.frontend,
        selector="fixed",
        fixed_step=FIXED_STEP,
        denoiser="released",
        width=width,
        output_relu=True,
        x_start="frontend",
        clip="all",
        project_rotations=False,
    )
    load(method.denoiser, weights, f"the denoiser of DiffAnnot, whose states have {STATE_SIZE} entries")
    output, frontend = shlex.quote(str(arguments.output)), shlex.quote(arguments.frontend)
    commands = f"""  noise2pose predict --checkpoint {output} photo.jpg --output annotated
  noise2pose train test -c configs/experiments/diffannot_rendered_synthetic.yaml \\
      --model configs/methods/diffannot_release.yaml --model.selector fixed --model.fixed_step {FIXED_STEP} \\
      --model.width {width} --model.frontend_checkpoint {frontend} --ckpt_path {output} --name imported"""
    return Imported(
        "methods.diffannot.DiffAnnot", {**method.hparams, "frontend_checkpoint": None}, method.state_dict(), commands
    )
