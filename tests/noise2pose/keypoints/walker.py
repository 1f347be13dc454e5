"""Plausible 2-D poses of a person who walks through an image, for tests."""

import numpy as np

from noise2pose import skeletons

# Human3.6M's joints of somebody who stands, in heights of a person: x to the right of the image, y down.
_STANDING = {
    "pelvis": (0.0, 0.0), "spine": (0.0, -0.13), "thorax": (0.0, -0.27), "chin": (0.01, -0.34),
    "head_top": (0.0, -0.45),
    "left_hip": (0.07, 0.0), "left_knee": (0.08, 0.25), "left_ankle": (0.08, 0.5),
    "left_shoulder": (0.09, -0.26), "left_elbow": (0.12, -0.1), "left_wrist": (0.14, 0.05),
}  # fmt: skip
_HEAD = {"nose": (0.02, -0.36), "left_eye": (0.03, -0.38), "left_ear": (0.05, -0.37)}


def walker(frames: int, seed: int = 0, skeleton: str = "h36m_17") -> np.ndarray:
    """(T, J, 3) pixels and a confidence of 0.9: the joints of a skeleton whose names are known here."""
    random = np.random.default_rng(seed)
    places = {**_STANDING, **_HEAD}
    places |= {name.replace("left_", "right_"): (-x, y) for name, (x, y) in places.items() if name.startswith("left_")}
    standing = np.array([places[joint] for joint in skeletons.get(skeleton).joints])
    step = 0.04 * np.sin(np.arange(frames)[:, None] / 6.0 + random.uniform(0, 6, len(standing)))
    across = np.linspace(0.0, 0.3, frames)[:, None]
    pixels = np.stack((standing[:, 0] + step + across, standing[:, 1] + 0.3 * step), axis=-1)
    return np.concatenate((500.0 + 400.0 * pixels, np.full((*pixels.shape[:2], 1), 0.9)), axis=-1)


def coco_walker(frames: int, seed: int = 0) -> np.ndarray:
    """(T, 17, 3) in COCO's order."""
    return walker(frames, seed, "coco_17")
