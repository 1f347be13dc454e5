"""From what a network that finds objects answers to boxes of people: the common output layouts, by their shapes.

Boxes are x0, y0, x1, y1 in pixels of the network's input. Layouts as their publishers document them:

  yolo_v8     (1, 4 + C, N)      centre, size, scores of classes            Ultralytics v8 and later
  yolo_v5     (1, N, 5 + C)      centre, size, objectness, classes          Ultralytics v5, v7, decoded YOLOX
  yolox       (1, N, 5 + C)      the same before the grid is added, one anchor a cell
  end_to_end  (1, N, 6)          corners, score, class; nothing overlaps    YOLOv10 and later
  fastest_det (1, 5 + C, h, w)   objectness, offset, size, classes of each cell
  ssd         boxes (1, N, 4) with scores (1, N) and classes (1, N), or with scores (1, N, C);
              or boxes and scores as one (1, N, 5), with classes (1, N) or without

Shape letters: N candidates, C classes, h, w cells.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from noise2pose.keypoints.detectors.networks import Port

Found = tuple[Float[Tensor, "N 4"], Float[Tensor, " N"]]  # boxes, and the scores of the class that is asked for
_STRIDES = (8, 16, 32)
_FEW = 1000  # candidates at most of a network that suppresses by itself


def recognise(ports: Sequence[Port], size: tuple[int, int]) -> str | None:
    """The layout of some outputs; None if it is none of these.

    Args:
        ports: with the shapes that a run gave.
        size: width and height of the input.
    """
    shapes = [port.shape for port in ports]
    if len(shapes) > 1:
        return "ssd" if _parts(ports) else None
    if len(shapes[0]) == 4:
        return "fastest_det" if shapes[0][1] > 5 and min(shapes[0][2:]) > 1 else None
    if len(shapes[0]) != 3:
        return None
    _, rows, columns = shapes[0]
    cells = sum(math.ceil(size[0] / stride) * math.ceil(size[1] / stride) for stride in _STRIDES)
    if columns == 6 and rows <= _FEW:
        return "end_to_end"
    if columns == 5 and rows <= _FEW:
        return "ssd"
    if columns == cells and rows >= 5:
        return "yolo_v8"
    if columns >= 6 and rows in (cells, 3 * cells):
        return "yolox" if rows == cells else "yolo_v5"
    return None


def _parts(ports: Sequence[Port]) -> dict[str, int] | None:
    """Which output is the boxes, the scores and the classes, by shape and name; None if they are not there."""
    batched = _batched(port.shape for port in ports)
    shapes = [list(port.shape[1:] if batched and len(port.shape) > 1 else port.shape) for port in ports]
    parts: dict[str, int] = {}
    for number, (port, shape) in enumerate(zip(ports, shapes, strict=True)):
        name = port.name.lower()
        if "tflite_detection" in name:  # numbered: boxes, classes, scores, count
            name = {":1": "classes", ":2": "scores"}.get(name[-2:], "")
        if len(shape) == 2 and shape[1] in (4, 5) and "boxes" not in parts:
            parts["boxes"] = number
        elif len(shape) == 1 and any(word in name for word in ("label", "class")):
            parts["classes"] = number
        elif (len(shape) == 1 and any(word in name for word in ("score", "conf", "prob"))) or len(shape) == 2:
            parts["scores"] = number
    if "boxes" not in parts or ("scores" not in parts and shapes[parts["boxes"]][1] != 5):
        return None
    same = len({shapes[number][0] for number in parts.values()}) == 1
    return parts if same else None


def _batched(shapes: Iterable[Sequence[int]]) -> bool:
    """Whether outputs of several parts have a dimension for images; torchvision's do not."""
    return any(len(shape) == 3 for shape in shapes)


def yolo_v8(outputs: Mapping[str, Tensor], size: tuple[int, int], person: int) -> Found:
    """See the module."""
    values = next(iter(outputs.values()))[0].transpose(0, 1)
    return _corners(values[:, :2], values[:, 2:4]), values[:, 4 + person]


def yolo_v5(outputs: Mapping[str, Tensor], size: tuple[int, int], person: int) -> Found:
    """See the module."""
    values = next(iter(outputs.values()))[0]
    return _corners(values[:, :2], values[:, 2:4]), values[:, 4] * values[:, 5 + person]


def yolox(outputs: Mapping[str, Tensor], size: tuple[int, int], person: int) -> Found:
    """See the module; Ge et al., "YOLOX: Exceeding YOLO Series in 2021"."""
    values = next(iter(outputs.values()))[0]
    grids, strides = [], []
    for stride in _STRIDES:
        grid = _cells(math.ceil(size[1] / stride), math.ceil(size[0] / stride))
        grids.append(grid.flatten(0, 1))
        strides.append(torch.full((len(grids[-1]), 1), float(stride)))
    grid, stride = torch.cat(grids), torch.cat(strides)
    boxes = _corners((values[:, :2] + grid) * stride, values[:, 2:4].exp() * stride)
    return boxes, values[:, 4] * values[:, 5 + person]


def end_to_end(outputs: Mapping[str, Tensor], size: tuple[int, int], person: int) -> Found:
    """See the module."""
    values = next(iter(outputs.values()))[0]
    return values[:, :4], values[:, 4] * (values[:, 5].round() == person)


def fastest_det(outputs: Mapping[str, Tensor], size: tuple[int, int], person: int) -> Found:
    """See the module; the score weighs objectness and class 0.6 to 0.4, as the publisher's (dog-qiuqiu/FastestDet)."""
    values = next(iter(outputs.values()))[0]
    height, width = values.shape[1:]
    whole = torch.tensor(size).float()
    centre = (values[1:3].permute(1, 2, 0).tanh() + _cells(height, width)) / torch.tensor([width, height]) * whole
    boxes = _corners(centre, values[3:5].permute(1, 2, 0).sigmoid() * whole)
    scores = values[0] ** 0.6 * values[5 + person] ** 0.4 * (values[5:].argmax(dim=0) == person)
    return boxes.flatten(0, 1), scores.flatten()


def ssd(outputs: Mapping[str, Tensor], size: tuple[int, int], person: int) -> Found:
    """See the module; boxes of which no side reaches two pixels are shares of the input.

    Those of TensorFlow (named `detection_boxes`, or of TFLite's own suppression) are y0, x0, y1, x1.
    """
    names = list(outputs)
    batched = _batched(values.shape for values in outputs.values())
    flat = [values[0] if batched and values.ndim > 1 else values for values in outputs.values()]
    parts = _parts([Port(name, tuple(values.shape)) for name, values in zip(names, outputs.values(), strict=True)])
    assert parts is not None, "`recognise` refused it"
    boxes, title = flat[parts["boxes"]], names[parts["boxes"]].lower()
    scores = flat[parts["scores"]] if "scores" in parts else boxes[:, 4]
    if scores.ndim == 2:
        scores = scores[:, person]
    elif "classes" in parts:
        scores = scores * (flat[parts["classes"]].round() == person)
    boxes = boxes[:, :4]
    if "detection_boxes" in title or "tflite_detection" in title:
        boxes = boxes[:, [1, 0, 3, 2]]
    if len(boxes) and float(boxes.max()) <= 2.0:
        boxes = boxes * torch.tensor(size).float().repeat(2)
    return boxes, scores


HEADS: dict[str, Callable[[Mapping[str, Tensor], tuple[int, int], int], Found]] = {
    head.__name__: head for head in (yolo_v8, yolo_v5, yolox, end_to_end, fastest_det, ssd)
}


def _corners(centre: Tensor, extent: Tensor) -> Tensor:
    return torch.cat((centre - extent / 2.0, centre + extent / 2.0), dim=-1)


def _cells(height: int, width: int) -> Float[Tensor, "h w 2"]:
    """Column and row of each cell."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack((columns, rows), dim=-1).float()
