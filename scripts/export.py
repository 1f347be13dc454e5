"""Write a trained method as a model folder, or as ONNX graphs."""

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from noise2pose.errors import InputError
from noise2pose.reports.model_card import GIVES_BODIES, LIFTS, Notes, model_card, read_notes
from noise2pose.reports.runs import Run, load_run

if TYPE_CHECKING:
    from torch import Tensor

    from methods.base import PoseMethod

DESCRIPTION = """Write a trained method as a model folder (weights, configuration and a card), or as ONNX graphs.

  noise2pose export runs/my_run models/my_model
  noise2pose export runs/my_run models/my_model --dtype float16 --notes notes.md
  noise2pose export runs/my_run/checkpoints/last.ckpt models/other --set guidance_strength=1000
  noise2pose export runs/my_run models/my_model --wandb
  noise2pose predict --checkpoint models/my_model photo.jpg --output annotated
  noise2pose export diffpose-people onnx_model --onnx

Every --checkpoint, --ckpt_path and model.*_checkpoint takes the folder.
"""
EPILOG = """what it writes:
  DIR/model.safetensors   all weights; of a run those of best.ckpt: the moving average, where the run kept one
  DIR/config.yaml         class and constructor arguments of the method, and the SHA-256 of model.safetensors
  DIR/README.md           the card, with a YAML head that model hubs read. It has the numbers of the run's test.json
                          with their protocol, command, commit and seed: test the run first, with --ckpt_path best.

what --onnx writes instead, for onnxruntime and other runtimes (pip install -e '.[onnx]'):
  DIR/model.onnx          what the method answers to people without gradients and fits: lifters, and bodies of HMR; of
                          DiffPose the answer without its hypotheses, of DiffAnnot its front end, with its denoiser
                          beside it. It is checked: onnxruntime agrees with PyTorch to 1e-4 on other people.
  DIR/model.yaml          inputs and outputs with shapes and units, order of the joints
  DIR/README.md           the same to read, with a call

--notes takes a Markdown file with what only you know: what the model is, data, limits, credit. Its YAML head may have
`license` (of the weights), `data_license` (of the training data), `datasets`, `metrics` and `tags`. README.md of an
exported model may be given again; its hand-written part is taken.
"""


def main(args: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a run, a checkpoint, or a shipped model")
    parser.add_argument("output", type=Path, metavar="DIR", help="folder to write, which must not exist")
    parser.add_argument(
        "--dtype", choices=["float32", "float16", "bfloat16"], help="of the weights in the file (default: float32)"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="constructor argument to change; repeatable"
    )
    parser.add_argument("--wandb", action="store_true", help="also log the folder to W&B, as an artifact of the run")
    parser.add_argument("--notes", type=Path, metavar="FILE", help="hand-written part of the card (Markdown)")
    parser.add_argument("--onnx", action="store_true", help="write ONNX graphs for other runtimes instead")
    parser.add_argument("--people", type=int, metavar="N", help="with --onnx, people that a call takes (default: 1)")
    arguments = parser.parse_args(args)
    try:
        print(_export_onnx(arguments) if arguments.onnx else _export(arguments))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _export(arguments: argparse.Namespace) -> str:
    """Writes the folder; returns the summary."""
    if arguments.people is not None:
        raise InputError("--people is for --onnx: weights take any number of people")
    if arguments.output.exists():
        raise InputError(f"{arguments.output} exists already: give the name of a folder to make, or remove it first")
    notes = Notes({}, "") if arguments.notes is None else read_notes(arguments.notes)
    checkpoint, run = _source(arguments.run)

    from methods.base import class_path_of  # these load Lightning
    from methods.checkpoints import load_method
    from methods.model_folders import write_model

    method = load_method(checkpoint)
    changes = _changes(method, arguments.set)
    if changes:
        method = _changed(method, changes)
    weights = _converted(method, arguments.dtype)
    class_path, number = class_path_of(type(method)), sum(value.numel() for value in weights.values())
    size = sum(value.nbytes for value in weights.values())
    types = sorted({str(value.dtype).removeprefix("torch.") for value in weights.values() if value.is_floating_point()})
    facts = {
        "method": f"{method.title}, `{class_path}`",
        "weights": f"{number:,} values, {size / 1e6:.1f} MB, {', '.join(types)}",
        "2-D keypoints of the training": method.trained_on or "not known",
        **_training({} if run is None else run.fit),
    }
    if changes:
        facts["set in the configuration"] = ", ".join(f"`{key}: {value}`" for key, value in changes.items())
    tags = [
        GIVES_BODIES if method.body is not None else LIFTS,
        class_path.split(".")[1],
        *(["diffusion"] if method.num_steps else []),
    ]
    remarks = _remarks(method, run, arguments.dtype)
    write_model(
        arguments.output,
        class_path,
        dict(method.hparams),
        method.trained_on,
        weights,
        lambda sha256: model_card(arguments.output.name, notes, facts, tags, run, remarks, sha256),
    )
    if arguments.wandb:
        from methods.callbacks.wandb_record import log_model

        if run is None or not (run.test or run.fit):
            raise InputError(f"--wandb logs the model of a run, and {arguments.run} is none; the folder is written")
        log_model(arguments.output, run.folder, run.test or run.fit)
    numbers = "with the numbers of its test" if run is not None and run.test else "without numbers of a test"
    return f"{arguments.output}: {method.title}, {facts['weights']}; card {numbers}: {arguments.output / 'README.md'}"


def _export_onnx(arguments: argparse.Namespace) -> str:
    """Writes the graphs; returns the summary."""
    for option in ("dtype", "notes"):
        if getattr(arguments, option) is not None:
            raise InputError(f"--{option} is for weights: leave it out with --onnx, whose graphs are float32")
    people = 1 if arguments.people is None else arguments.people
    if people < 1:
        raise InputError(f"--people is {people}, expected 1 or more")
    if arguments.output.exists():
        raise InputError(f"{arguments.output} exists already: give the name of a folder to make, or remove it first")
    checkpoint, _ = _source(arguments.run)

    from methods.checkpoints import load_method  # these load Lightning
    from methods.onnx_folders import write_onnx

    method = load_method(checkpoint)
    if changes := _changes(method, arguments.set):
        method = _changed(method, changes)
    return write_onnx(method, arguments.output, str(arguments.run), people)


def _source(given: Path) -> tuple[Path, Run | None]:
    """The checkpoint to export, and its run if a run was given.

    Raises:
        InputError: if the run has no best checkpoint, or was tested with another one.
    """
    checkpoint = given / "checkpoints" / "best.ckpt"
    if not checkpoint.parent.is_dir():
        return given, None
    if not checkpoint.is_file():
        raise InputError(f"{checkpoint} does not exist: train the run first")
    run = load_run(given)
    tested = Path(str(run.test.get("checkpoint", checkpoint)))
    record = given / "test.json"
    if tested.parts[-2:] != checkpoint.parts[-2:]:
        raise InputError(
            f"{record} has the numbers of {tested}, not of {checkpoint}: test the run again with --ckpt_path best, or "
            "give the checkpoint itself"
        )
    if run.test and checkpoint.stat().st_mtime > record.stat().st_mtime:
        print(f"note: {checkpoint} is newer than {record}: test it again if it was trained further", file=sys.stderr)
    return checkpoint, run


def _training(fit: Mapping[str, Any]) -> dict[str, str]:
    """What `fit.json` says about the training; nothing if it is empty."""
    if not fit:
        return {}
    epochs = f"{fit['epochs']} epochs, " if "epochs" in fit else ""
    return {
        "training": f"{epochs}{fit['steps']} steps, {fit['seconds'] / 60:.0f} minutes on {fit['device']}, seed "
        f"{fit.get('seed', 'unknown')}, commit {fit.get('commit') or 'unknown'}",
        "training command": f"`{fit['command']}`",
    }


def _remarks(method: "PoseMethod", run: Run | None, dtype: str | None) -> str:
    """How the model that was tested differs from the one that is written; empty if it does not."""
    if run is None or not run.test:
        return ""
    remarks = [f"Measured before the weights were rounded to {dtype}."] if dtype in ("float16", "bfloat16") else []
    path = run.folder / "config_test.yaml"
    try:
        tested = yaml.safe_load(path.read_text(encoding="utf-8"))["model"]["init_args"]
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError) as error:
        raise InputError(f"{path} does not say how the method was tested: test the run again") from error
    written = {key: value for key, value in method.hparams.items() if key not in method.weight_files}
    if other := [f"`{key}: {tested[key]}`" for key in written if key in tested and tested[key] != written[key]]:
        remarks.append(f"Measured with {', '.join(other)}, unlike the configuration here.")
    return " ".join(remarks)


def _changes(method: "PoseMethod", given: Sequence[str]) -> dict[str, Any]:
    """Constructor arguments from KEY=VALUE, read as the command line of a training reads them.

    Raises:
        InputError: if the method has no such argument, or takes no such value.
    """
    from jsonargparse import ArgumentError, ArgumentParser

    kind = type(method)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind)
    changes = {}
    for change in given:
        key, separator, value = change.partition("=")
        if not separator or key not in method.hparams:
            raise InputError(f"--set {change}: expected KEY=VALUE; the keys are {', '.join(method.hparams)}")
        if key in kind.weight_files:
            raise InputError(f"--set {change}: the weights of {key} are in the checkpoint already")
        try:
            changes[key] = parser.parse_args([f"--{key}={value}"])[key]
        except ArgumentError as error:
            reason = " ".join(str(error).split())
            raise InputError(f"--set {change}: {kind.__name__} does not take this value ({reason})") from error
    return changes


def _changed(method: "PoseMethod", changes: Mapping[str, Any]) -> "PoseMethod":
    """The same weights in a method with other arguments.

    Raises:
        InputError: if the weights do not fit the arguments.
    """
    from methods.base import class_path_of
    from methods.checkpoints import make_method
    from methods.official_weights import load

    other = make_method(class_path_of(type(method)), {**method.hparams, **changes})
    try:
        load(other, method.state_dict(), "a method with these settings")
    except InputError as error:
        raise InputError(f"--set {shlex.join(f'{key}={value}' for key, value in changes.items())}: {error}") from error
    other.trained_on = method.trained_on
    return other.eval()


def _converted(method: "PoseMethod", dtype: str | None) -> "dict[str, Tensor]":
    """The state dict in the type that was asked for.

    What is computed in double precision stays so, and counts that are too large for the type stay as they are.

    Raises:
        InputError: if a weight is too large for the type.
    """
    import torch

    weights = {key: value.detach() for key, value in method.state_dict().items()}
    parameters = {key for key, _ in method.named_parameters()}
    for key, value in weights.items():
        if dtype is not None and value.dtype in (torch.float32, torch.float16, torch.bfloat16):
            rounded = value.to(getattr(torch, dtype))
            if torch.equal(rounded.isfinite(), value.isfinite()):
                weights[key] = rounded
            elif key in parameters:
                raise InputError(f"--dtype {dtype}: values of {key} are too large for it")
    return weights


if __name__ == "__main__":
    sys.exit(main())
