"""A method for other runtimes: a folder of ONNX graphs with what a program needs to know to call them.

DIR/model.onnx   the method; further networks beside it where it has some
   /model.yaml   inputs and outputs with shapes and units, order of the joints, what was checked
   /README.md    the same to read, and a call
"""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml

from methods.onnx_graphs import TOLERANCE, UNITS, deployable_of, write_method, write_network
from noise2pose import cameras, skeletons
from noise2pose.annotation.layout import SKELETON
from noise2pose.errors import InputError
from noise2pose.export.extras import load
from noise2pose.files import sha256

if TYPE_CHECKING:
    from methods.base import PoseMethod

MODEL, ABOUT, README = "model.onnx", "model.yaml", "README.md"
_BONES = "translation and rotations pose the body as BodyModel.joints does: the root turns about its own joint"


def write_onnx(method: "PoseMethod", folder: Path, source: str, people: int = 1) -> str:
    """Writes a method as ONNX graphs, whole or not at all; returns what was written, in words.

    Args:
        method: in evaluation mode.
        folder: to make.
        source: the checkpoint or model that the method is from, for the files.
        people: that a call takes at once.

    Raises:
        InputError: if the folder exists, a package is missing, or the method cannot be exported.
    """
    if folder.exists():
        raise InputError(f"{folder} exists already: give the name of a folder to make, or remove it first")
    for package in ("onnx", "onnxruntime"):
        load(package, "onnx", "--onnx")
    deployable = deployable_of(method)
    shown = deployable.method
    skeleton = skeletons.get(str(shown.hparams.get("skeleton", SKELETON)))
    facts = {
        "method": method.title,
        "source": source,
        "answers": deployable.about or "all that the method predicts",
        "people": str(people),
        "frames": str(shown.num_frames),
        "skeleton": skeleton.name,
        "joints": ",".join(skeleton.joints),
        "units": "metres; camera frame: x right, y down, z forward; pixels from the upper left corner",
    }
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        graphs = {MODEL: write_method(shown, partial / MODEL, facts, people)}
        for name, (network, inputs, output) in deployable.networks.items():
            path = partial / f"{name}.onnx"
            graphs[path.name] = write_network(f"{method.title}: {name}", network.eval(), inputs, output, path, facts)
        content: dict[str, Any] = {
            **{key: int(value) if value.isdigit() else value for key, value in facts.items()},
            "joints": list(skeleton.joints),
            "body": None if shown.body is None else shown.body_name,
            "graphs": {
                name: {
                    "sha256": sha256(partial / name),
                    "inputs": _named(graph.inputs),
                    "outputs": _named(graph.outputs),
                    "largest_difference_from_pytorch": graph.difference,
                }
                for name, graph in graphs.items()
            },
            "torch": str(torch.__version__),
        }
        text = yaml.safe_dump(content, sort_keys=False, width=120)
        (partial / ABOUT).write_text(text, encoding="utf-8")
        (partial / README).write_text(_readme(content), encoding="utf-8")
        os.replace(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    most = max(graph.difference for graph in graphs.values())
    about = f"; {deployable.about}" if deployable.about else ""
    return (
        f"{folder}: {method.title} as {', '.join(graphs)}, {people} at once{about}; onnxruntime agrees with PyTorch to "
        f"{most:.1g} (at most {TOLERANCE:g} is allowed); how to call it: {folder / README}"
    )


def _named(shapes: dict[str, list[int]]) -> dict[str, Any]:
    return {name: {"shape": shape, "unit": UNITS.get(name, "of the network")} for name, shape in shapes.items()}


def _readme(content: dict[str, Any]) -> str:
    """The text of README.md."""
    lines = [f"# {content['method']} for ONNX runtimes", "", f"Exported from `{content['source']}`. It answers "]
    lines[-1] += f"{content['answers']}."
    for name, graph in content["graphs"].items():
        lines += ["", f"## {name}", "", "| | name | shape | |", "|---|---|---|---|"]
        for kind in ("inputs", "outputs"):
            for key, about in graph[kind].items():
                lines.append(f"| {kind[:-1]} | `{key}` | {tuple(about['shape'])} | {about['unit']} |")
        lines += ["", f"Largest difference from PyTorch: {graph['largest_difference_from_pytorch']:.1g}."]
    inputs = content["graphs"][MODEL]["inputs"]
    lines += ["", f"The joints are those of {content['skeleton']}: {', '.join(content['joints'])}."]
    lines += ["" if content["body"] is None else f"The body is `{content['body']}`; {_BONES}.", ""]
    if "keypoints_2d" in inputs and content["body"] is None:
        lines += [
            "`noise2pose predict` puts joints without confidence at their nearest visible neighbours, and the person "
            "in the middle of a virtual image, so that the answer does not depend on the place in the photograph:",
            "",
            "```python",
            "import numpy, onnxruntime",
            "",
            "low, high = keypoints[..., :2].min((0, 1)), keypoints[..., :2].max((0, 1))  # of one person",
            f"side = {cameras.VIRTUAL_SIDE} * (high - low).max()",
            "keypoints[..., :2] -= (low + high - side) / 2",
            f"size = numpy.full(({content['people']}, 2), side, 'float32')",
            f"camera = {{'focal': {cameras.VIRTUAL_FOCAL} * size, 'principal_point': size / 2, 'image_size': size}}",
            f"session = onnxruntime.InferenceSession('{MODEL}')",
            "given = {'keypoints_2d': keypoints.astype('float32'), **camera}",
            "answer = session.run(['joints_3d'], {node.name: given[node.name] for node in session.get_inputs()})[0]",
            "```",
            "",
        ]
    return "\n".join(lines).replace("\n\n\n", "\n\n")
