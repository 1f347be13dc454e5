"""SSP-3D in small, as published; everything random is seeded."""

from pathlib import Path

import numpy as np
import roma
import torch
from PIL import Image

from tests.datamodules import gendered_bodies

PEOPLE = 5
SIDE = 512
FOCAL = 5000.0


def write(folder: Path, bodies: Path) -> dict[str, np.ndarray]:
    """Writes labels.npz and the images; returns the arrays."""
    random = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    poses = random.normal(0, 0.2, (PEOPLE, 72))
    poses[:, 0] += np.pi
    arrays = {
        "fnames": np.array([f"person_{index}.png" for index in range(PEOPLE)]),
        "shapes": random.normal(0, 1, (PEOPLE, 10)).astype(np.float32),
        "poses": poses.astype(np.float32),
        "genders": np.array(["m", "f", "f", "m", "f"]),
        "cam_trans": np.tile([0.05, 0.1, 45.0], (PEOPLE, 1)).astype(np.float32),
        "joints2D": np.zeros((PEOPLE, 17, 3), np.float32),
        "bbox_centres": np.zeros((PEOPLE, 2), np.float32),
        "bbox_whs": np.zeros(PEOPLE, np.float32),
    }
    for index, name in enumerate(arrays["fnames"]):
        Image.new("RGB", (SIDE, SIDE), (90, 40, 10)).save(folder / "images" / name)
        mesh = vertices(arrays, index, bodies)
        pixels = mesh[:, :2] / mesh[:, 2:] * FOCAL + SIDE / 2
        low, high = pixels.min(axis=0), pixels.max(axis=0)
        arrays["bbox_centres"][index] = ((low + high) / 2)[::-1]  # row, column
        arrays["bbox_whs"][index] = (high - low).max()
        arrays["joints2D"][index] = np.concatenate((pixels[:17], np.ones((17, 1))), axis=1)
    np.savez(folder / "labels.npz", **arrays)
    return arrays


def vertices(arrays: dict[str, np.ndarray], index: int, bodies: Path) -> np.ndarray:
    """(V, 3) of one person in the camera frame."""
    body, _ = gendered_bodies.load(bodies, {"m": "male", "f": "female"}[str(arrays["genders"][index])])
    turned = roma.rotvec_to_rotmat(torch.from_numpy(arrays["poses"][index]).reshape(24, 3))
    shape, place = (torch.from_numpy(arrays[key][index]) for key in ("shapes", "cam_trans"))
    return body(turned[0], turned[1:], shape, place).vertices.double().numpy()
