"""Pictures of a method's answers for people in crops: its input, its maps of joints, the body, the body from the side.

Shape letters: K joints of maps, S side of the crop, s side of maps, p side of a panel, H and W of the picture.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from noise2pose import skeletons
from noise2pose.batch import JointMaps, PoseBatch, Prediction
from noise2pose.bodies import BodyModel
from noise2pose.images import crops
from noise2pose.rendering import meshes
from noise2pose.rendering.levelling import ASSUMED
from noise2pose.rendering.skeletons import LEFT, MIDDLE, RIGHT, color_of_joint

SIDE = 224  # pixels of a panel by default
_GAP = 4  # pixels between panels
_PALE = 0.6  # how far towards white the crop behind maps is
_OPACITY = 0.9  # of a map where it is 1
_SHARPNESS = 4  # the strongest colour of a pixel prevails
_FARTHEST = 1000.0  # metres; a body beyond is not drawn, like one that is not finite
_LETTERS = 1 / 15  # height of a caption's letters, sides of the panel
_SMALL = 1 / 22  # of a caption above the body, which leaves the head in sight
_CAPTIONS = {"heatmaps": "heat-maps"}
_PAPER, _INK, _LABEL = 255, "#222222", "white"


@torch.no_grad()
def draw_people(
    batch: PoseBatch, prediction: Prediction, body: BodyModel, found: JointMaps | None = None, side: int = SIDE
) -> UInt8[np.ndarray, "H W 3"]:
    """A row for each person of a batch: the crop, maps of the joints over it, the body over it and from the side.

    A body that is not finite, is a kilometre away or has no camera is left out.

    Args:
        batch: with `image`, and `camera` to draw bodies.
        prediction: with `smpl` and `camera_translation`.
        body: whose parameters they are.
        found: of the same people.
        side: p.
    """
    box = batch["box"] if "box" in batch else crops.box_of_keypoints(batch["keypoints_2d"])
    parameters: Any = prediction["smpl"]
    smpl: Any = {key: value.to(body.template) for key, value in parameters.items()}  # it may be of bfloat16
    vertices = body(**smpl, translation=prediction["camera_translation"].to(body.template)).vertices.float().cpu()
    stated: Any = batch.get("camera", {})
    camera: dict[str, Tensor] = {key: value.float().cpu() for key, value in stated.items()}
    box, faces = box.float().cpu(), body.faces.cpu().numpy()
    rows = []
    for row, image in enumerate(batch["image"]):
        crop = _enlarged(image, side)
        name = batch["sample_id"][row] if "sample_id" in batch else "input"
        panels = [captioned(_bytes(crop), name), *map_panels(image, found, row, side)]
        if "focal" in camera and "principal_point" in camera and bool((vertices[row].abs() < _FARTHEST).all()):
            scale = side / box[row, 2]
            centre = (camera["principal_point"][row] - box[row, :2]) * scale + side / 2.0
            focal, mesh = camera["focal"][row] * scale, vertices[row].numpy()
            over = meshes.overlay(_bytes(crop), mesh, faces, focal.numpy(), centre.numpy())
            panels += [captioned(over, "body")]
            panels += [captioned(meshes.side_view(mesh, faces, (side, side)), f"side, {ASSUMED}", _SMALL)]
        rows.append(panels)
    return _table(rows, side)


def map_panels(
    image: Float[Tensor, "3 S S"], found: JointMaps | None, row: int, side: int = SIDE
) -> list[UInt8[np.ndarray, "p p 3"]]:
    """Each kind of map over the pale crop of one person, left, right and middle joints in their colours.

    A pixel shows the strongest of the joints whose place the method was given. Heat-maps are drawn as they are.
    Attention to a joint is drawn as its excess over its smallest value, relative to the largest excess of any joint,
    which the caption states: attention sums to one over the joints of a pixel, so its mean is the same everywhere.

    Args:
        image: RGB in [0, 1].
        found: of a batch; None for no panel.
        row: of the person.
        side: p.
    """
    if found is None:
        return []
    present = found.present[row].cpu()
    panels = []
    for kind, batch_of_maps in found.maps.items():
        maps = batch_of_maps[row].float().cpu()
        if kind.startswith("attention"):
            maps, most = _excess(maps, present)
            kind = f"attention {maps.shape[-2]} x {maps.shape[-1]}: {most:.2g}"
        maps = torch.where(present[:, None, None], maps, 0.0)
        colored = _colored(_enlarged(image, side), maps.clamp(0.0, 1.0), skeletons.get(found.skeleton).joints)
        panels.append(captioned(_bytes(colored), _CAPTIONS.get(kind, kind)))
    return panels


def captioned(panel: UInt8[np.ndarray, "p p 3"], text: str, letters: float = _LETTERS) -> UInt8[np.ndarray, "p p 3"]:
    """The panel with a line of small letters on white at its upper border; text that is too long is cut off.

    Args:
        panel: RGB.
        text: one line.
        letters: their height, in sides of the panel.
    """
    from PIL import Image, ImageDraw, ImageFont

    image = Image.fromarray(panel)
    draw, height = ImageDraw.Draw(image), max(round(letters * len(panel)), 8)
    font = ImageFont.load_default(height)
    draw.rectangle((0, 0, draw.textlength(text, font=font) + height / 2, 1.3 * height), fill=_LABEL)
    draw.text((height / 4, 0), text, fill=_INK, font=font)
    return np.array(image)


def _excess(maps: Float[Tensor, "K s s"], present: Bool[Tensor, " K"]) -> tuple[Float[Tensor, "K s s"], float]:
    """The excess of each map over its smallest value, relative to the largest excess of any joint; and that largest."""
    maps = maps - maps.amin(dim=(-2, -1), keepdim=True)
    most = float(maps[present].max()) if bool(present.any()) else 0.0
    return maps / most if most > 0.0 else torch.zeros_like(maps), most


def _colored(
    crop: Float[Tensor, "3 p p"], maps: Float[Tensor, "K s s"], joints: Sequence[str]
) -> Float[Tensor, "3 p p"]:
    """A pale grey crop with maps in [0, 1] over it, in the colours of their joints."""
    side = crop.shape[-1]
    ground = 1.0 - (1.0 - _PALE) * (1.0 - crop.mean(dim=0, keepdim=True))
    mixed, total, strength = (torch.zeros(channels, side, side) for channels in (3, 1, 1))
    for color in (LEFT, RIGHT, MIDDLE):
        chosen = [joint for joint, name in enumerate(joints) if color_of_joint(name) == color]
        share = _resized(maps[chosen].amax(dim=0, keepdim=True), side)
        rgb = torch.tensor([int(color[i : i + 2], 16) / 255.0 for i in (1, 3, 5)])
        weight = share**_SHARPNESS
        mixed, total, strength = mixed + weight * rgb[:, None, None], total + weight, strength.maximum(share)
    return ground + _OPACITY * strength * (mixed / total.clamp_min(1e-12) - ground)


def _enlarged(image: Float[Tensor, "3 S S"], side: int) -> Float[Tensor, "3 p p"]:
    return _resized(image.float().cpu(), side).clamp(0.0, 1.0)


def _resized(maps: Float[Tensor, "C s s"], side: int) -> Float[Tensor, "C p p"]:
    return F.interpolate(maps[None], size=(side, side), mode="bilinear", align_corners=False, antialias=True)[0]


def _bytes(image: Float[Tensor, "3 p p"]) -> UInt8[np.ndarray, "p p 3"]:
    return (255.0 * image).round().byte().permute(1, 2, 0).numpy()


def _table(rows: Sequence[Sequence[np.ndarray]], side: int) -> UInt8[np.ndarray, "H W 3"]:
    """Panels in rows on white, the first of each below one another."""
    step = side + _GAP
    columns = max(len(panels) for panels in rows)
    table = np.full((len(rows) * step - _GAP, columns * step - _GAP, 3), _PAPER, dtype=np.uint8)
    for row, panels in enumerate(rows):
        for column, panel in enumerate(panels):
            table[row * step : row * step + side, column * step : column * step + side] = panel
    return table
