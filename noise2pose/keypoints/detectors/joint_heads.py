"""From what a pose network answers to joints in pixels of its input: the common output layouts, by their shapes.

Layouts of networks that see one person:

  simcc       (1, J, Wx) and (1, J, Wy)   a classification along each axis       RTMPose, RTMW
  heatmap     (1, J, h, w)                one map a joint                        ViTPose, HRNet, SimpleBaseline
  regression  (1, 1, J, 3)                y, x as shares of the input, score     MoveNet

and of networks that find the people themselves, P of them:

  yolo_pose   (1, 5 + 3 J, N)             centre, size, score, joints            Ultralytics v8 and later
              (1, P, 6 + 3 J)             corners, score, class, joints          the same, where nothing overlaps
  pose_boxes  (1, P, 5) and (1, P, J, 3)  corners and score; joints and scores   RTMO

Shape letters: J joints, h, w cells, N candidates, P people.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from noise2pose.keypoints.detectors.networks import Port

_LEAST_CELLS = 16  # along a side of a heat-map; a classifier's or a backbone's output has fewer
Sized = tuple[int, int]
FINDS_PEOPLE = ("yolo_pose", "pose_boxes")


def recognise(ports: Sequence[Port], size: Sized) -> str | None:
    """The layout of some outputs; None if it is none of these.

    Args:
        ports: with the shapes that a run gave.
        size: width and height of the input.
    """
    shapes = sorted((port.shape for port in ports), key=len)
    if len(shapes) == 2 and [len(shape) for shape in shapes] == [3, 3] and shapes[0][1] == shapes[1][1]:
        bins = sorted(shape[2] for shape in shapes)
        return "simcc" if bins[0] * max(size) == bins[1] * min(size) else None
    if len(shapes) == 2 and [len(shape) for shape in shapes] == [3, 4] and shapes[0][2] == 5 and shapes[1][3] == 3:
        return "pose_boxes"
    if len(shapes) != 1:
        return None
    shape = shapes[0]
    if len(shape) == 4 and shape[1] == 1 and shape[3] == 3:
        return "regression"
    if len(shape) == 4 and min(shape[2:]) >= _LEAST_CELLS and shape[3] * size[1] == shape[2] * size[0]:
        return "heatmap"
    if len(shape) == 3 and _joints_of_yolo(shape):
        return "yolo_pose"
    return None


def _joints_of_yolo(shape: tuple[int, ...]) -> int:
    """J, or 0 if the shape is none of yolo_pose."""
    rest = shape[1] - 5 if shape[2] > shape[1] else shape[2] - 6
    return rest // 3 if rest > 0 and rest % 3 == 0 else 0


def joints_of(head: str, ports: Sequence[Port]) -> int:
    """J, of outputs of a layout."""
    if head == "pose_boxes":
        return next(port.shape[2] for port in ports if len(port.shape) == 4)
    if head == "yolo_pose":
        return _joints_of_yolo(ports[0].shape)
    return ports[0].shape[2 if head == "regression" else 1]


def simcc(outputs: Sequence[Tensor], size: Sized) -> Float[Tensor, "J 3"]:
    """See the module; Li et al., "SimCC: a Simple Coordinate Classification Perspective for Human Pose Estimation".

    The bins are a whole multiple of the input's pixels; the confidence is the lower one of both axes.
    """
    across, down = outputs
    if across.shape[2] * size[1] != down.shape[2] * size[0]:
        across, down = down, across
    scores, places = zip(*(axis[0].max(dim=-1) for axis in (across, down)), strict=True)
    bins = torch.tensor([across.shape[2], down.shape[2]])
    pixels = torch.stack(places, dim=-1) * (torch.tensor(size) / bins)
    return torch.cat((pixels, torch.minimum(*scores)[:, None]), dim=1)


def heatmap(outputs: Sequence[Tensor], size: Sized) -> Float[Tensor, "J 3"]:
    """See the module: the highest cell, moved by a quarter of a cell towards the higher one of its neighbours.

    Xiao et al., "Simple Baselines for Human Pose Estimation and Tracking". Cells lie on the input as pixels of a
    resized image do.
    """
    maps = outputs[0][0]
    height, width = maps.shape[1:]
    scores, cells = maps.flatten(1).max(dim=1)
    x, y = cells % width, cells // width
    padded = torch.nn.functional.pad(maps, (1, 1, 1, 1), value=-torch.inf)
    rows = torch.arange(len(maps))
    shift_x = (padded[rows, y + 1, x + 2] - padded[rows, y + 1, x]).sign()
    shift_y = (padded[rows, y + 2, x + 1] - padded[rows, y, x + 1]).sign()
    inner_x, inner_y = (x > 0) & (x < width - 1), (y > 0) & (y < height - 1)
    places = torch.stack((x + 0.25 * shift_x * inner_x, y + 0.25 * shift_y * inner_y), dim=-1)
    pixels = (places + 0.5) * (torch.tensor(size) / torch.tensor([width, height]))
    return torch.cat((pixels, scores[:, None]), dim=1)


def regression(outputs: Sequence[Tensor], size: Sized) -> Float[Tensor, "J 3"]:
    """See the module."""
    values = outputs[0][0, 0]
    return torch.cat((values[:, [1, 0]] * torch.tensor(size), values[:, 2:]), dim=1)


SINGLE: dict[str, Callable[[Sequence[Tensor], Sized], Float[Tensor, "J 3"]]] = {
    head.__name__: head for head in (simcc, heatmap, regression)
}


def several(head: str, outputs: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes (N, 4) x0, y0, x1, y1, scores (N,) and joints (N, J, 3), in pixels of the input.

    Args:
        head: one of `FINDS_PEOPLE`.
        outputs: of the network.
    """
    if head == "pose_boxes":
        boxes, joints = sorted((each[0] for each in outputs), key=lambda values: values.ndim)
        return boxes[:, :4], boxes[:, 4], joints
    if outputs[0].shape[1] > outputs[0].shape[2]:
        values = outputs[0][0]
        return values[:, :4], values[:, 4], values[:, 6:].unflatten(1, (-1, 3))
    values = outputs[0][0].transpose(0, 1)
    centre, extent = values[:, :2], values[:, 2:4]
    boxes = torch.cat((centre - extent / 2.0, centre + extent / 2.0), dim=1)
    return boxes, values[:, 4], values[:, 5:].unflatten(1, (-1, 3))
