"""A small prepared folder, written by the code that prepares data sets, and a data module over it."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from datamodules.base import Split
from datamodules.preparation import Part, Plan, Rows, prepare
from datamodules.prepared.data import PreparedData
from noise2pose.metrics.protocols import Protocol

FOCAL, CENTRE = (1100.0, 1000.0), (520.0, 480.0)
SIZE = (1000, 960)
MARKED = 10  # joint that images show
LENGTHS = {"train": (7, 5), "val": (6,), "test": (9, 4)}


class Toy(PreparedData):
    """The data set of this file."""

    dataset = "toy"

    def in_split(self, sequence: dict[str, Any], split: Split) -> bool:
        return sequence["split"] == split

    def protocols(self, split: Split) -> list[Protocol]:
        return [Protocol(name="toy", dataset="toy", split=split, skeleton="h36m_17", keypoints_2d=self.sources[split])]


def joints(split: str, sequence: int) -> np.ndarray:
    """(T, 17, 4) of a sequence."""
    random = np.random.default_rng([len(split), sequence])
    shape = np.random.default_rng(0).normal(0, 0.3, (1, 17, 3))
    points = shape + random.normal(0, 0.05, (LENGTHS[split][sequence], 17, 3)) + np.array([0.0, 0.0, 5.0])
    return np.concatenate((points, np.ones_like(points[..., :1])), axis=-1).astype(np.float32)


def write_image(path: Path, point: np.ndarray) -> None:
    """A grey image with a red disc around a point."""
    y, x = np.mgrid[: SIZE[1], : SIZE[0]] + 0.5
    pixels = np.full((SIZE[1], SIZE[0], 3), 90, dtype=np.uint8)
    pixels[np.hypot(x - point[0], y - point[1]) < 25] = (250, 20, 20)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=95)


def read(split: str, detected: bool, bounds: bool, only_2d: bool, images: Path | None) -> Rows:
    poses = [joints(split, i) for i in range(len(LENGTHS[split]))]
    points = np.concatenate(poses)
    number = len(points)
    valid = np.ones(number, dtype=bool)
    valid[2] = False
    pixels = points[..., :2] / points[..., 2:3] * np.array(FOCAL) + np.array(CENTRE)
    two = np.concatenate((pixels, np.ones_like(pixels[..., :1])), axis=-1)
    arrays: dict[str, np.ndarray] = {
        "frame": np.concatenate([np.arange(len(pose)) for pose in poses]),
        "valid": valid,
        "image_size": np.tile(np.array(SIZE), (number, 1)),
    }
    if only_2d:
        arrays["keypoints_2d_gt"] = two
    else:
        arrays["keypoints_3d"] = points
        arrays["focal"] = np.tile(np.array(FOCAL), (number, 1))
        arrays["principal_point"] = np.tile(np.array(CENTRE), (number, 1))
    if detected:
        arrays["keypoints_2d_detected"] = two + np.array([3.0, -4.0, 0.0])
    if bounds:
        arrays["bounds"] = np.tile(np.array([100.0, 200.0, 300.0, 600.0]), (number, 1))
    names = []
    if images is not None:
        names = [f"{split}/{i:03d}.jpg" for i in range(number)]
        arrays["picture"] = np.arange(number)
        for name, joint in zip(names, two[:, MARKED, :2], strict=True):
            write_image(images / name, joint)
    of = np.concatenate([np.full(len(pose), i) for i, pose in enumerate(poses)])
    sequences = [
        {"name": f"{split}{i}", "split": split, "subject": f"S{i}", "action": "stand"} for i in range(len(poses))
    ]
    return Rows(arrays, sequences, of, names, {f"{split}: frames": number}, [])


def write(root: Path, detected: bool = True, bounds: bool = False, only_2d: bool = False, images: bool = False) -> Path:
    """Writes the folder and returns it."""
    skeletons = {"keypoints_3d": "h36m_17", "keypoints_2d_gt": "h36m_17", "keypoints_2d_detected": "h36m_17"}
    where = root.parent / "pictures" if images else None
    parts = [Part(split, read, (split, detected, bounds, only_2d, where), ()) for split in LENGTHS]
    prepare(Plan("toy", "none", {"skeletons": skeletons}, where, parts, [], []), root, 0)
    return root
