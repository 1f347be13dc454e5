"""What a network wants for an image: from its file, from the habits of its publisher, and from a YAML file beside it.

MODEL.yaml beside MODEL.onnx or MODEL.tflite may have these keys; without it the defaults hold.

  head: yolo_v8        layout of the outputs, if their shapes do not tell it
  size: [640, 640]     width and height of the input, if the file leaves them open
  layout: nchw         nchw or nhwc, if the file leaves them open
  colour: rgb          rgb or bgr
  mean: [0, 0, 0]      subtracted from values of 0 to 255, in the order of the colours
  std: [255, 255, 255] what they are divided by then
  fit: letterbox       of the whole image: letterbox (in the middle), corner (padded at the right and below) or stretch
  fill: 114            grey value of the padding
  score: 0.3           people below it are left out
  overlap: 0.6         two boxes that overlap by more are one person (intersection over union)
  person_class: 0      number of the class person
  margin: 1.25         sides of the part of the image that is looked at, in those of a person's box
  outside: 0.1         what of the image around a box is not painted over, in its sides; left out, nothing is
  joints: [nose, ...]  names of the joints in the order of the output
  skeleton: coco_17    or the name of a skeleton with that order
"""

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from torch import Tensor

from noise2pose.errors import InputError
from noise2pose.keypoints.detectors.networks import Network, Port, described, open_network

_CHOICES = {"layout": ("nchw", "nhwc"), "colour": ("rgb", "bgr"), "fit": ("letterbox", "corner", "stretch")}
_LENGTHS = {"size": 2, "mean": 3, "std": 3}
_NUMBERS = ("score", "overlap", "margin", "outside", "fill", "person_class")


@dataclass(frozen=True)
class Description:
    """The keys of the module; None for what is not said."""

    head: str | None = None
    size: tuple[int, int] | None = None
    layout: str | None = None
    colour: str = "rgb"
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    fit: str = "letterbox"
    fill: int = 114
    score: float = 0.3
    overlap: float = 0.6
    person_class: int | None = None
    margin: float = 1.25
    outside: float | None = None
    joints: tuple[str, ...] | None = None
    skeleton: str | None = None


_RAW = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
_SHARES = {"mean": (0.0, 0.0, 0.0), "std": (255.0, 255.0, 255.0)}
_IMAGENET = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375), "fill": 0}
# What the publishers of each layout do; `ssd` is of many publishers, who do not agree on the scale of the values.
_HABITS: dict[str, dict[str, Any]] = {
    "yolo_v8": _SHARES,
    "yolo_v5": _SHARES,
    "end_to_end": _SHARES,
    "yolo_pose": _SHARES,
    "yolox": {**_RAW, "colour": "bgr", "fit": "corner"},
    "pose_boxes": {**_RAW, "colour": "bgr", "fit": "corner"},
    "fastest_det": {**_SHARES, "colour": "bgr", "fit": "stretch", "score": 0.45, "overlap": 0.45},
    "ssd": {"fit": "stretch"},
    "simcc": _IMAGENET,
    "heatmap": _IMAGENET,
    "regression": {**_RAW, "fill": 0, "outside": 0.1},
}


class ImageNetwork:
    """A network that takes an image, with everything that is known of its input.

    Args:
        file: ending in .onnx or .tflite.
        about: what is expected of it: `people` or `joints`.
        heads: the layouts of outputs for that.
        recognise: the layout of outputs by their shapes, or None.

    Attributes:
        size: width and height of the input.
        description: everything but joints, skeleton and person_class is known.
        outputs: ports with the shapes that a run gave.

    Raises:
        InputError: if it is no such network, or something is not known; the message names the key to write.
    """

    def __init__(self, file: Path, about: str, heads: Sequence[str], recognise: Any) -> None:
        self.network: Network = open_network(file)
        self.beside = file.with_suffix(".yaml")
        stated = _read(self.beside)
        self.layout = stated.get("layout") or _layout(self.network.input)
        if self.layout is None:
            self._ask(f"takes {described([self.network.input])}", "layout: nchw or nhwc")
        self.size: tuple[int, int] = stated.get("size") or self._stated_size()
        blank = np.zeros((self.size[1], self.size[0], 3), np.float32)
        try:
            found = self.network(self._arranged(blank))
        except Exception as error:  # each runtime has its own
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{file} cannot take an image of {self.size[0]} x {self.size[1]} ({reason})") from error
        named = zip(self.network.outputs, found, strict=True)
        self.outputs = [Port(port.name, tuple(values.shape)) for port, values in named]
        head = stated.get("head") or recognise(self.outputs, self.size)
        if head not in heads:
            answer = f"head {head}" if head else described(self.outputs)
            what = f"answers an image of {self.size[0]} x {self.size[1]} with {answer}, which is no known layout of"
            self._ask(f"{what} {about}", f"head: {', '.join(heads)}")
        self.description = replace(Description(**{**_HABITS[head], **stated}), head=head)
        if self.description.mean is None or self.description.std is None:
            if self.network.kind != "uint8":
                self._ask("does not tell the scale of the image", "mean and std, such as [0, 0, 0] and [255, 255, 255]")
            scale, zero = self.network.quantisation  # pixels are stored as they are
            self.description = replace(
                self.description, mean=(float(zero),) * 3, std=(1.0 / scale if scale else 1.0,) * 3
            )

    def __call__(self, image: np.ndarray) -> dict[str, Tensor]:
        """The outputs by name, for (h, w, 3) uint8 RGB of the size of the input."""
        about = self.description
        values = image[..., ::-1] if about.colour == "bgr" else image
        values = (values.astype(np.float32) - np.array(about.mean, np.float32)) / np.array(about.std, np.float32)
        found = self.network(self._arranged(values))
        return {port.name: values for port, values in zip(self.network.outputs, found, strict=True)}

    def refuse(self, what: str, key: str) -> InputError:
        """An error that names the key of the YAML file that would help."""
        return InputError(f"{self.network.file} {what}: write `{key}` to {self.beside}")

    def _ask(self, what: str, key: str) -> None:
        raise self.refuse(what, key)

    def _arranged(self, values: np.ndarray) -> np.ndarray:
        return values.transpose(2, 0, 1)[None] if self.layout == "nchw" else values[None]

    def _stated_size(self) -> tuple[int, int]:
        """Of the input's shape, else of Ultralytics' metadata."""
        shape = self.network.input.shape
        height, width = shape[2:] if self.layout == "nchw" else shape[1:3]
        if not (height and width) and "imgsz" in self.network.metadata:
            height, width = ast.literal_eval(self.network.metadata["imgsz"])
        if not (height and width):
            self._ask(f"takes {described([self.network.input])}", "size: [WIDTH, HEIGHT]")
        return int(width), int(height)


def names_in(metadata: Mapping[str, str], key: str) -> dict[int, Any]:
    """A table that Ultralytics writes into its files, such as the names of the classes; empty if there is none."""
    try:
        found = ast.literal_eval(metadata.get(key, "{}"))
    except (ValueError, SyntaxError):
        return {}
    return found if isinstance(found, dict) else {}


def _layout(port: Port) -> str | None:
    if port.shape[1] == 3:
        return "nchw"
    return "nhwc" if port.shape[3] == 3 else None


def _read(path: Path) -> dict[str, Any]:
    """The keys of a file, checked; none if there is no file."""
    if not path.is_file():
        return {}
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path} cannot be read ({' '.join(str(error).split())})") from error
    known = [field.name for field in fields(Description)]
    if not isinstance(found, dict):
        raise InputError(f"{path}: expected keys and values, with some of {', '.join(known)}")
    if unknown := [str(key) for key in found if key not in known]:
        raise InputError(f"{path}: unknown {', '.join(unknown)}; known are {', '.join(known)}")
    for key, value in found.items():
        if key in _CHOICES and value not in _CHOICES[key]:
            raise InputError(f"{path}: {key} is {value!r}, expected {' or '.join(_CHOICES[key])}")
        if key in _LENGTHS:
            numbers = isinstance(value, list) and all(isinstance(each, int | float) for each in value)
            if not numbers or len(value) != _LENGTHS[key]:
                raise InputError(f"{path}: {key} is {value!r}, expected a list of {_LENGTHS[key]} numbers")
            found[key] = tuple(value)
        if key == "joints":
            if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
                raise InputError(f"{path}: joints is {value!r}, expected a list of names")
            found[key] = tuple(value)
        if key in _NUMBERS and not isinstance(value, int | float):
            raise InputError(f"{path}: {key} is {value!r}, expected a number")
    return found
