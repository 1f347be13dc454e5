"""Three bodies of different shape under SMPL's names, as `scripts/prepare.py body` writes them."""

from pathlib import Path

import numpy as np

from noise2pose.bodies import BodyModel
from noise2pose.bodies.files import FREE_BODY

# What each gender's template is stretched by, and moved: then the root joint lies elsewhere too.
_STRETCH = {"neutral": (1.0, 1.0, 1.0), "male": (1.08, 1.05, 1.0), "female": (0.95, 0.92, 1.05)}
_SHIFT = {"neutral": (0.0, 0.0, 0.0), "male": (0.01, -0.03, 0.02), "female": (-0.02, 0.04, -0.01)}


def write(folder: Path, regressor: bool = True) -> Path:
    """Writes smpl_neutral.npz, smpl_male.npz and smpl_female.npz; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with np.load(FREE_BODY) as file:
        entries = {key: file[key] for key in file.files if regressor or key != "J_regressor_h36m"}
    for gender, stretch in _STRETCH.items():
        template = entries["v_template"] * np.array(stretch) + np.array(_SHIFT[gender])
        changed = {
            "v_template": template.astype(np.float32),
            "gender": np.array(gender),
            "model_type": np.array("smpl"),
        }
        np.savez(folder / f"smpl_{gender}.npz", **{**entries, **changed})
    return folder


def load(folder: Path, gender: str) -> tuple[BodyModel, np.ndarray]:
    """A body and its regressor (17, V) of Human3.6M's joints."""
    path = folder / f"smpl_{gender}.npz"
    with np.load(path) as file:
        return BodyModel.load(path), file["J_regressor_h36m"]
