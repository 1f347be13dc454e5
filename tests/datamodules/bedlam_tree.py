"""BEDLAM in small, with labels for SMPL as its processing script writes them; everything random is seeded."""

from pathlib import Path

import numpy as np
import roma
import torch
from PIL import Image

from noise2pose.bodies import BodyModel
from tests.datamodules import gendered_bodies

SIZE = (128, 72)
FOCAL = 150.0
RECORDINGS = 5
PEOPLE = ("rp_aaron", "rp_beth")
FRAMES = 2


def write(folder: Path, bodies: Path, scene: str = "20221010_3_250_static_6fps") -> dict[str, np.ndarray]:
    """Writes SCENE.npz and its images; returns the arrays."""
    random = np.random.default_rng(0)
    rows = [
        (f"seq_{recording:06d}/seq_{recording:06d}_{5 * frame:04d}.png", subject)
        for recording in range(RECORDINGS)
        for subject in PEOPLE
        for frame in range(FRAMES)
    ]
    number = len(rows)
    poses = random.normal(0, 0.2, (number, 72))
    poses[:, 0] += np.pi
    ext = np.tile(np.eye(4), (number, 1, 1))
    ext[:, :3, 3] = [0.3, 0.1, 4.0]
    arrays = {
        "imgname": np.array([name for name, _ in rows]),
        "center": np.zeros((number, 2)),
        "scale": np.zeros(number),
        "pose_cam": poses,
        "pose_world": poses,
        "shape": random.normal(0, 1, (number, 10)),
        "trans_cam": random.normal(0, 0.05, (number, 3)),
        "gtkps": np.zeros((number, 45, 3)),
        "cam_int": np.tile([[FOCAL, 0, SIZE[0] / 2], [0, FOCAL, SIZE[1] / 2], [0, 0, 1]], (number, 1, 1)),
        "cam_ext": ext,
        "gender": np.array(["male" if "aaron" in subject else "female" for _, subject in rows]),
        "motion_info": np.array([["", ""]] * number, dtype=object),
        "sub": np.array([subject for _, subject in rows]),
    }
    body, _ = gendered_bodies.load(bodies, "neutral")
    for index, name in enumerate(arrays["imgname"]):
        path = folder / scene / "png" / str(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE, (90, 40, 10)).save(path)
        joints = points(arrays, index, body)
        pixels = joints[:, :2] / joints[:, 2:] * FOCAL + np.array(SIZE) / 2
        low, high = pixels.min(axis=0), pixels.max(axis=0)
        arrays["center"][index], arrays["scale"][index] = (low + high) / 2, 1.2 * (high - low).max() / 200
        arrays["gtkps"][index, :24, :2] = pixels
    np.savez(folder / f"{scene}.npz", **arrays)  # pyright: ignore[reportArgumentType]
    return arrays


def points(arrays: dict[str, np.ndarray], index: int, body: BodyModel) -> np.ndarray:
    """(24, 3) joints of one row in the camera frame, as the publisher's script projects them."""
    turned = roma.rotvec_to_rotmat(torch.from_numpy(arrays["pose_cam"][index]).reshape(24, 3)).float()
    shape = torch.from_numpy(arrays["shape"][index]).float()
    place = torch.from_numpy(arrays["trans_cam"][index]).float()
    joints = body.joints(turned[0], turned[1:], shape, place, regressor="smpl_24").double().numpy()
    return joints + arrays["cam_ext"][index, :3, 3]
