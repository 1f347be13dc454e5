"""Pictures of annotations: the photo, the body over it with the 2-D joints as dots, and the body from the side."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from noise2pose import rotations, skeletons
from noise2pose.annotation_writer import read_annotations
from noise2pose.annotations import SKELETON
from noise2pose.bodies import BodyModel
from noise2pose.lifted_pictures import picture_names
from noise2pose.photographs import read_picture
from noise2pose.rendering import LEFT, MIDDLE, RIGHT

_LONGEST = 720  # pixels of a panel's longer side
_PAPER = 255
_DOT = 4.0  # pixels, radius
_AROUND = 1.5  # sides of the box, of a panel without photo


def write_pictures(folder: Path, body: BodyModel, paths: Mapping[str, Path], most: int) -> int:
    """Draws the first people of a finished set, each to DIR/NAME.png; those that are drawn already stay.

    Args:
        folder: of the set.
        body: the one that was annotated.
        paths: of the photos, by file name; without its photo a person is drawn with the keypoints, on white.
        most: pictures.

    Returns:
        How many people have a picture.
    """
    arrays = read_annotations(folder)
    rows = range(min(max(most, 0), len(arrays["names"])))
    photo: tuple[str, np.ndarray] = ("", np.zeros(0))
    for row, name in zip(rows, picture_names(arrays["names"].tolist()[: len(rows)]), strict=True):
        target = folder / f"{name}.png"
        if target.is_file():
            continue
        person = {
            key: arrays[key][row] for key in arrays if arrays[key].ndim and len(arrays[key]) == len(arrays["names"])
        }
        file_name = str(person["file_names"])
        if file_name in paths and photo[0] != file_name:
            photo = (file_name, read_picture(paths[file_name]))
        _save(target, _draw(person, body, photo[1] if file_name in paths else None))
    return len(rows)


def vertices_of(person: Mapping[str, np.ndarray], body: BodyModel) -> torch.Tensor:
    """(V, 3) metres in the camera frame, of one person's `poses`, `betas` and `trans`."""
    values = {key: torch.from_numpy(person[key]).to(body.template) for key in ("poses", "betas", "trans")}
    rotation = rotations.rotvec_to_rotmat(values["poses"].reshape(24, 3))
    return body(rotation[0], rotation[1:], values["betas"], values["trans"]).vertices


@torch.no_grad()
def _draw(person: Mapping[str, np.ndarray], body: BodyModel, photo: np.ndarray | None) -> np.ndarray:
    """(H, W, 3) uint8: two or three panels of one height."""
    from PIL import Image

    from noise2pose import mesh_pictures

    vertices, faces = vertices_of(person, body).cpu().numpy(), body.faces.cpu().numpy()
    focal, centre = person["camera_focal"], person["camera_principal_point"]
    if photo is None:
        half = max(_AROUND * float(person["box"][2]), 1.0) / 2.0
        corner, side, scale = person["box"][:2] - half, _LONGEST, _LONGEST / (2.0 * half)
        left = np.full((side, side, 3), _PAPER, dtype=np.uint8)
        ground = left
        left = _with_skeleton(left, (person["keypoints_2d"] - [*corner, 0.0]) * [scale, scale, 1.0])
    else:
        corner, scale = np.zeros(2), min(1.0, _LONGEST / max(photo.shape[:2]))
        size = (max(round(photo.shape[1] * scale), 1), max(round(photo.shape[0] * scale), 1))
        left = ground = np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.BOX))
    panels = [left]
    if np.isfinite(vertices).all():
        over = mesh_pictures.overlay(ground, vertices, faces, scale * focal, scale * (centre - corner))
        panels.append(_with_joints(over, (person["keypoints_2d"] - [*corner, 0.0]) * [scale, scale, 1.0]))
        panels.append(mesh_pictures.side_view(vertices, faces, (left.shape[0], left.shape[0])))
    return np.concatenate(panels, axis=1)


def _with_skeleton(canvas: np.ndarray, keypoints: np.ndarray) -> np.ndarray:
    """The canvas with the limbs whose ends are both visible, left and right in their colours."""
    from PIL import Image, ImageDraw

    skeleton = skeletons.get(SKELETON)
    image = Image.fromarray(canvas)
    draw = ImageDraw.Draw(image)
    for parent, child in skeleton.edges:
        if (keypoints[[parent, child], 2] > 0.0).all():
            ends = [tuple(keypoints[parent, :2]), tuple(keypoints[child, :2])]
            draw.line(ends, fill=_color(skeleton.joints[child]), width=4)
    return np.array(image)


def _with_joints(canvas: np.ndarray, keypoints: np.ndarray) -> np.ndarray:
    """The canvas with a dot at each visible joint of the input, left and right in their colours."""
    from PIL import Image, ImageDraw

    image = Image.fromarray(canvas)
    draw = ImageDraw.Draw(image)
    for name, (x, y, confidence) in zip(skeletons.get(SKELETON).joints, keypoints, strict=True):
        if confidence > 0.0:
            around = (x - _DOT, y - _DOT, x + _DOT, y + _DOT)
            draw.ellipse(around, fill=_color(name), outline="white")
    return np.array(image)


def _color(joint: str) -> str:
    return LEFT if joint.startswith("left_") else RIGHT if joint.startswith("right_") else MIDDLE


def _save(path: Path, picture: np.ndarray) -> None:
    from PIL import Image

    partial = path.with_name(path.name + ".partial")
    Image.fromarray(picture).save(partial, format="PNG")
    os.replace(partial, path)
