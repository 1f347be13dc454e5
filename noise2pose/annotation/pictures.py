"""Pictures of annotations: the image, the body over it with the 2-D joints as dots, and the body from the side.

Methods that have heat-maps and attention maps get panels with these over the crop as well.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from noise2pose import skeletons
from noise2pose.annotation.layout import ARRAYS, SKELETON, vertices_of
from noise2pose.batch import JointMaps, PoseBatch
from noise2pose.bodies import BodyModel
from noise2pose.bodies.legs import unseen_vertices
from noise2pose.files import write_png
from noise2pose.images import crops
from noise2pose.images.photographs import Photograph
from noise2pose.rendering.figures import drawn_rows, picture_names
from noise2pose.rendering.levelling import Levels
from noise2pose.rendering.skeletons import color_of_joint

_LONGEST = 720  # pixels of a panel's longer side
_PAPER = 255
_DOT = 4.0  # pixels, radius
_LETTERS = 1 / 28  # height of a caption's letters, sides of the panel
_AROUND = 1.5  # sides of the box, of a panel without an image

Look = Callable[[PoseBatch], JointMaps | None]  # `PoseMethod.joint_maps`


def write_body_pictures(
    folder: Path,
    arrays: Mapping[str, np.ndarray],
    levels: Levels,
    body: BodyModel,
    photographs: Sequence[Photograph],
    most: int,
    look: Look | None = None,
) -> list[Path]:
    """Draws some people of a set, each to DIR/NAME.png; pictures that are there already stay.

    These are the first ones, or those of frames that are spread over a video.

    Args:
        folder: DIR.
        arrays: of `layout.ARRAYS`.
        levels: of these people, for the view from the side.
        body: the one that was annotated.
        photographs: the images; without its image a person is drawn with the keypoints, on white.
        most: pictures.
        look: gives the maps that the annotation of a person in an image was made from. It is called for each person
            alone, so that a picture is the same whenever it is drawn.

    Returns:
        The pictures of these people.
    """
    by_name = {photograph.file_name: photograph for photograph in photographs}
    rows = drawn_rows(len(arrays["names"]), most, spread=bool((arrays["frames"] >= 0).any()))
    names = picture_names([str(arrays["names"][row]) for row in rows])
    targets = [folder / f"{name}.png" for name in names]
    read: tuple[str, np.ndarray] = ("", np.zeros(0))
    for row, target in zip(rows, targets, strict=True):
        if target.is_file():
            continue
        person = {key: arrays[key][row] for key in ARRAYS}
        file_name = str(person["file_names"])
        if file_name in by_name and read[0] != file_name:
            read = (file_name, by_name[file_name].pixels())
        image = read[1] if file_name in by_name else None
        write_png(target, _draw(person, levels.rotation[row], levels.about[row], body, image, look))
    return targets


@torch.no_grad()
def _draw(
    person: Mapping[str, np.ndarray],
    level_rotation: np.ndarray,
    level: str,
    body: BodyModel,
    image: np.ndarray | None,
    look: Look | None,
) -> np.ndarray:
    """(H, W, 3) uint8: panels of one height."""
    from PIL import Image

    from noise2pose.rendering import meshes
    from noise2pose.rendering.people import captioned, map_panels

    vertices, faces = vertices_of(person, body).cpu().numpy(), body.faces.cpu().numpy()
    focal, centre = person["camera_focal"], person["camera_principal_point"]
    if image is None:
        half = max(_AROUND * float(person["box"][2]), 1.0) / 2.0
        corner, side, scale = person["box"][:2] - half, _LONGEST, _LONGEST / (2.0 * half)
        left = np.full((side, side, 3), _PAPER, dtype=np.uint8)
        ground = left
        left = _with_skeleton(left, (person["keypoints_2d"] - [*corner, 0.0]) * [scale, scale, 1.0])
    else:
        corner, scale = np.zeros(2), min(1.0, _LONGEST / max(image.shape[:2]))
        size = (max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1))
        left = ground = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))
    panels = [left]
    if np.isfinite(vertices).all():
        joints, weights = skeletons.get(SKELETON).joints, body.skinning_weights.cpu().numpy()
        unseen = unseen_vertices(weights, person["observed"], joints)
        over = meshes.overlay(ground, vertices, faces, scale * focal, scale * (centre - corner), unseen=unseen)
        panels.append(_with_joints(over, (person["keypoints_2d"] - [*corner, 0.0]) * [scale, scale, 1.0]))
        side_view = meshes.side_view(vertices @ level_rotation.T, faces, (left.shape[0], left.shape[0]), unseen)
        panels.append(captioned(side_view, f"side, {level}", _LETTERS))
    if image is not None and look is not None:
        alone = _alone(person, image, body.template.device)
        panels += map_panels(alone["image"][0], look(alone), 0, left.shape[0])
    return np.concatenate(panels, axis=1)


def _alone(person: Mapping[str, np.ndarray], image: np.ndarray, device: torch.device) -> PoseBatch:
    """The batch of one person that the annotation was made from."""

    def one(key: str) -> torch.Tensor:
        return torch.from_numpy(person[key])[None].to(device)

    camera = ("camera_focal", "camera_principal_point", "image_size")
    return {
        "image": crops.crop(image, torch.from_numpy(person["box"]))[None].to(device),
        "keypoints_2d": one("keypoints_2d"),
        "box": one("box"),
        "camera": {key.removeprefix("camera_"): one(key) for key in camera},  # pyright: ignore[reportReturnType]
        "sample_id": [str(person["names"])],
    }


def _with_skeleton(canvas: np.ndarray, keypoints: np.ndarray) -> np.ndarray:
    """The canvas with the limbs whose ends are both visible, left and right in their colours."""
    from PIL import Image, ImageDraw

    skeleton = skeletons.get(SKELETON)
    image = Image.fromarray(canvas)
    draw = ImageDraw.Draw(image)
    for parent, child in skeleton.edges:
        if (keypoints[[parent, child], 2] > 0.0).all():
            ends = [tuple(keypoints[parent, :2]), tuple(keypoints[child, :2])]
            draw.line(ends, fill=color_of_joint(skeleton.joints[child]), width=4)
    return np.array(image)


def _with_joints(canvas: np.ndarray, keypoints: np.ndarray) -> np.ndarray:
    """The canvas with a dot at each visible joint of the input, left and right in their colours."""
    from PIL import Image, ImageDraw

    image = Image.fromarray(canvas)
    draw = ImageDraw.Draw(image)
    for name, (x, y, confidence) in zip(skeletons.get(SKELETON).joints, keypoints, strict=True):
        if confidence > 0.0:
            around = (x - _DOT, y - _DOT, x + _DOT, y + _DOT)
            draw.ellipse(around, fill=color_of_joint(name), outline="white")
    return np.array(image)
