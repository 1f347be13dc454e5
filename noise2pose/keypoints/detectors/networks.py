"""Networks in files: LiteRT's (.tflite) and ONNX's, run on the CPU, with what they say of their inputs and outputs."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from noise2pose.errors import InputError


class Port(NamedTuple):
    """An input or an output; a size that may be any is 0."""

    name: str
    shape: tuple[int, ...]


class Network:
    """A network with one input that is an image.

    Attributes:
        file: where it came from.
        input: its input.
        kind: type of its numbers, such as `uint8`.
        quantisation: scale and zero of integers that stand for other numbers; 0 and 0 where they do not.
        outputs: its outputs, in the order in which a call gives them.
        metadata: what the file says about itself.
    """

    file: Path
    input: Port
    kind: str
    quantisation: tuple[float, int]
    outputs: list[Port]
    metadata: Mapping[str, str]

    def __call__(self, image: np.ndarray) -> list[Tensor]:
        """Runs it: the input as numbers of the network's own scale, the outputs as float32."""
        raise NotImplementedError


class LiteNetwork(Network):
    """A network of LiteRT; an integer input or output is scaled as its file says.

    Args:
        file: ending in .tflite.

    Raises:
        InputError: if LiteRT is not installed or the file is not its model.
    """

    def __init__(self, file: Path) -> None:
        try:
            interpreter = importlib.import_module("ai_edge_litert.interpreter").Interpreter
        except ImportError as error:
            raise InputError(f"{file} needs ai-edge-litert: pip install -e '.[detection]' ({error})") from error
        try:
            self._model: Any = interpreter(model_path=str(file), num_threads=1)
            self._model.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise InputError(f"{file} is not a model that LiteRT reads ({error})") from error
        self._input, self._outputs = self._model.get_input_details()[0], self._model.get_output_details()
        self.file, self.metadata, self.kind = file, {}, np.dtype(self._input["dtype"]).name
        self.quantisation = self._input["quantization"]
        self.input, *self.outputs = (
            Port(each["name"], tuple(int(size) for size in each["shape"])) for each in (self._input, *self._outputs)
        )

    def __call__(self, image: np.ndarray) -> list[Tensor]:
        """See `Network`."""
        kind = self._input["dtype"]
        if np.issubdtype(kind, np.integer):
            scale, zero = self.quantisation
            image = np.rint(image / scale + zero) if scale else np.rint(image)
            image = np.clip(image, np.iinfo(kind).min, np.iinfo(kind).max)
        self._model.set_tensor(self._input["index"], np.ascontiguousarray(image, dtype=kind))
        self._model.invoke()
        return [self._read(each) for each in self._outputs]

    def _read(self, output: dict[str, Any]) -> Tensor:
        values = self._model.get_tensor(output["index"]).astype(np.float32)
        scale, zero = output["quantization"]
        return torch.from_numpy((values - zero) * scale if scale else values)


class OnnxNetwork(Network):
    """A network of ONNX.

    Args:
        file: ending in .onnx.

    Raises:
        InputError: if onnxruntime is not installed, or the file is no model or takes something else than an image.
    """

    def __init__(self, file: Path) -> None:
        try:
            runtime = importlib.import_module("onnxruntime")
        except ImportError as error:
            raise InputError(f"{file} needs onnxruntime: pip install -e '.[onnx]' ({error})") from error
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # leaves the cores to others
        options.log_severity_level = 3
        try:
            self._session: Any = runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime has a kind of exception for every cause
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{file} is not a model that onnxruntime reads ({reason})") from error
        self.file, self.metadata = file, dict(self._session.get_modelmeta().custom_metadata_map)
        ports = [
            Port(each.name, tuple(size if isinstance(size, int) else 0 for size in each.shape))
            for each in (*self._session.get_inputs(), *self._session.get_outputs())
        ]
        self.quantisation = (0.0, 0)
        inputs = len(self._session.get_inputs())
        self.input, self.outputs = ports[0], ports[inputs:]
        types = {"tensor(uint8)": "uint8", "tensor(float16)": "float16"}
        self.kind = types.get(self._session.get_inputs()[0].type, "float32")
        if inputs != 1 or len(self.input.shape) != 4:
            raise InputError(f"{file} takes {described(ports[:inputs])}, expected one input: images, 4 dimensions")

    def __call__(self, image: np.ndarray) -> list[Tensor]:
        """See `Network`."""
        found = self._session.run(None, {self.input.name: np.ascontiguousarray(image, dtype=self.kind)})
        return [torch.from_numpy(np.asarray(each, dtype=np.float32)) for each in found]


def described(ports: list[Port]) -> str:
    """Names and shapes in one line."""
    return ", ".join(f"{port.name} {'x'.join(str(size or '?') for size in port.shape)}" for port in ports)


def open_network(file: Path) -> Network:
    """The network of a file, by its ending.

    Raises:
        InputError: if the file is missing, of another kind, or not what its ending says.
    """
    if not file.is_file():
        raise InputError(f"{file} does not exist")
    if file.suffix.lower() == ".tflite":
        return LiteNetwork(file)
    if file.suffix.lower() == ".onnx":
        return OnnxNetwork(file)
    raise InputError(f"{file}: expected a model ending in .onnx or .tflite")
