"""Methods as ONNX graphs: the part of a method that needs neither gradients nor fits.

A graph takes what `PoseBatch` holds of each person and gives what `Prediction` holds. Random numbers are constants in
it: those that every person gets in `methods.inference`. A graph is for a fixed number of people at once. It is run by
onnxruntime before it is kept, on other people than it was traced with, and must agree with PyTorch.
"""

import importlib
import importlib.util
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from noise2pose import cameras, keyed_random
from noise2pose.batch import PoseBatch, Prediction
from noise2pose.bodies import BodyModel
from noise2pose.errors import InputError
from noise2pose.export.extras import load

if TYPE_CHECKING:
    from methods.base import PoseMethod

TOLERANCE = 1e-4  # metres and entries of rotation matrices
UNITS = {
    "image": "RGB in [0, 1], the square box of the person",
    "box": "pixels: centre x, centre y and side of the square around the person",
    "keypoints_2d": "pixels x, y and confidence in [0, 1]; 0 for a joint that is not seen",
    "focal": "pixels",
    "principal_point": "pixels",
    "image_size": "pixels, width and height",
    "joints_3d": "metres from the pelvis; camera frame: x right, y down, z forward",
    "uncertainty": "metres, one standard deviation",
    "hypotheses": "metres from the pelvis",
    "vertices": "metres from the pelvis",
    "camera_translation": "metres, added to the body that the parameters pose",
    "global_orient": "rotation matrix of the root",
    "body_pose": "rotation matrices of the other joints relative to their parents",
    "betas": "shape coefficients",
}
_SAMPLE = "person"  # as methods.inference calls everybody, so that their random numbers are the same
_OPSET = 17
_TRACED, _CHECKED = 0, 1  # seeds of people
_CAMERA = ("focal", "principal_point", "image_size")
_SMPL = ("global_orient", "body_pose", "betas")


@dataclass
class Deployable:
    """What of a method can be a graph.

    Attributes:
        method: whose forward pass is `model.onnx`; often the method itself.
        about: what it answers, and what the method has beyond it, in words; empty for everything.
        networks: further networks by file name, with example inputs by name and the name of their output.
    """

    method: "PoseMethod"
    about: str = ""
    networks: dict[str, tuple[nn.Module, dict[str, Tensor], str]] = field(default_factory=dict)


class Graph(NamedTuple):
    """A graph that was written and checked.

    Attributes:
        inputs, outputs: shapes by name.
        difference: the largest between onnxruntime and PyTorch.
    """

    inputs: dict[str, list[int]]
    outputs: dict[str, list[int]]
    difference: float


def deployable_of(method: "PoseMethod") -> Deployable:
    """What of a method can be a graph: all of it, or what its folder's deployment.py says; its settings may change."""
    package = type(method).__module__.rpartition(".")[0]
    if not package or importlib.util.find_spec(f"{package}.deployment") is None:
        return Deployable(method)
    return importlib.import_module(f"{package}.deployment").deployable(method)


class _Forward(nn.Module):
    """The forward pass of a method from tensors to tensors, in the order of `names`."""

    def __init__(self, method: "PoseMethod", names: list[str]) -> None:
        super().__init__()
        self.method, self.names = method, names

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(self.names, inputs, strict=True))
        return tuple(outputs_of(self.method(as_batch(given))).values())


def as_batch(given: Mapping[str, Tensor]) -> PoseBatch:
    """The batch of a method from the inputs of its graph."""
    batch: Any = {key: value for key, value in given.items() if key not in _CAMERA}
    batch |= {"camera": {key: given[key] for key in _CAMERA}, "sample_id": [_SAMPLE] * len(given["focal"])}
    return batch


def outputs_of(prediction: Prediction) -> dict[str, Tensor]:
    """The tensors of a prediction by the names that a graph gives them."""
    values: dict[str, Any] = {key: prediction[key] for key in UNITS if key in prediction}
    if len(values.get("hypotheses", ())) == 1:  # the answer
        del values["hypotheses"]
    return values | {key: prediction["smpl"][key] for key in _SMPL if "smpl" in prediction}


def example_inputs(method: "PoseMethod", people: int, seed: int, image_size: int = 224) -> dict[str, Tensor]:
    """People of random poses and shapes in front of a camera, some of whose joints are not seen.

    Args:
        method: which takes them.
        people: how many.
        seed: of the poses.
        image_size: of crops, pixels.
    """
    random = torch.Generator().manual_seed(seed)
    body = BodyModel.load("free")
    frames = method.num_frames
    count = people * frames
    turns = 0.3 * torch.randn(count, 24, 3, generator=random)
    turns[:, 0] += torch.tensor([torch.pi, 0.0, 0.0])  # a body has y up, a camera y down
    matrices = torch.linalg.matrix_exp(_cross(turns))
    betas = torch.randn(count, 10, generator=random)
    joints = body.joints(matrices[:, 0], matrices[:, 1:], betas, regressor="h36m_17")
    joints = joints + torch.tensor([0.2, 0.0, 5.0])
    confidence = (0.3 + 0.7 * torch.rand(count, 17, 1, generator=random)) * (
        torch.rand(count, 17, 1, generator=random) > 0.1
    )
    pixels = 1100.0 * joints[..., :2] / joints[..., 2:] + 500.0
    keypoints = torch.cat((pixels, confidence), dim=-1)
    focal, size = torch.full((people, 2), 1100.0), torch.full((people, 2), 1000.0)
    inputs = {"keypoints_2d": keypoints.unflatten(0, (people, frames)) if frames > 1 else keypoints}
    if method.input == "image":
        corner, side = cameras.virtual_image(pixels)
        box = torch.cat((corner + side[:, None] / 2.0, side[:, None] / 2.0), dim=-1)
        inputs = {"image": torch.rand(people, 3, image_size, image_size, generator=random), "box": box}
    return {**inputs, "focal": focal, "principal_point": size / 2.0, "image_size": size}


def _cross(vectors: Tensor) -> Tensor:
    zero = torch.zeros_like(vectors[..., 0])
    x, y, z = vectors.unbind(-1)
    return torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), dim=-1).unflatten(-1, (3, 3))


@torch.no_grad()
def write_method(method: "PoseMethod", path: Path, about: Mapping[str, str], people: int = 1) -> Graph:
    """Writes the forward pass of a method as a graph, and checks it.

    Args:
        method: in evaluation mode.
        path: of the file.
        about: kept in the file as metadata.
        people: at once.

    Raises:
        InputError: if the method does something that a graph cannot, or the graph disagrees.
    """
    if method.needs_ground_truth:
        raise InputError(f"{method.title} chooses with the ground truth: export it with another choice by --set")
    traced, checked = (example_inputs(method, people, seed) for seed in (_TRACED, _CHECKED))
    expected = outputs_of(method(as_batch(checked)))
    module = _Forward(method, list(traced))
    with keyed_random.drawn_once():
        module(*traced.values())
        _trace(method.title, module, traced, list(expected), path)
    return _finish(method.title, path, checked, expected, about)


@torch.no_grad()
def write_network(
    title: str, network: nn.Module, inputs: dict[str, Tensor], output: str, path: Path, about: Mapping[str, str]
) -> Graph:
    """Writes a network as a graph, and checks it; arguments and errors as in `write_method`."""
    _trace(title, network, inputs, [output], path)
    return _finish(title, path, inputs, {output: network(*inputs.values())}, about)


def _transposed(graph: Any, matrix: Any) -> Any:
    """`Tensor.mT`, which the exporter does not know."""
    rank = matrix.type().dim()
    return graph.op("Transpose", matrix, perm_i=[*range(rank - 2), rank - 1, rank - 2])


def _trace(title: str, module: nn.Module, inputs: Mapping[str, Tensor], outputs: list[str], path: Path) -> None:
    torch.onnx.register_custom_op_symbolic("aten::mT", _transposed, _OPSET)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes, which are constants here
            torch.onnx.export(
                module.eval(),
                tuple(inputs.values()),
                path,
                dynamo=False,
                opset_version=_OPSET,
                input_names=list(inputs),
                output_names=outputs,
            )
    except (RuntimeError, ValueError, TypeError, NotImplementedError, torch.onnx.errors.OnnxExporterError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{title} cannot be exported to ONNX: {reason}") from error


def _finish(
    title: str, path: Path, inputs: Mapping[str, Tensor], expected: Mapping[str, Tensor], about: Mapping[str, str]
) -> Graph:
    """Writes metadata into a graph, and runs it on other people than it was traced with."""
    onnx = load("onnx", "onnx", "--onnx")
    runtime = load("onnxruntime", "onnx", "--onnx")
    model = onnx.load(path)
    onnx.helper.set_model_props(model, dict(about))
    onnx.save(model, path)
    try:
        session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
        used = [node.name for node in session.get_inputs()]
        found = session.run(None, {name: inputs[name].numpy() for name in used})
    except Exception as error:  # onnxruntime has its own errors, without a common base
        raise InputError(f"{title} cannot be exported to ONNX: its graph does not run ({error})") from error
    difference = 0.0
    for (name, value), result in zip(expected.items(), found, strict=True):
        gap = float("inf")
        if value.shape == result.shape:
            gap = float((torch.from_numpy(result) - value).abs().max())
        if not gap <= TOLERANCE:
            raise InputError(
                f"{title} cannot be exported to ONNX: {name} of its graph differs from PyTorch's by {gap:g}, expected "
                f"{TOLERANCE:g} at most"
            )
        difference = max(difference, gap)
    return Graph(_shapes({name: inputs[name] for name in used}), _shapes(expected), difference)


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, list[int]]:
    return {name: list(value.shape) for name, value in tensors.items()}
