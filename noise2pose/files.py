"""Files that are written whole or not at all, so that a killed process leaves nothing half-written."""

import os
from pathlib import Path

import numpy as np


def write_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    os.replace(partial, path)


def write_png(path: Path, picture: np.ndarray) -> None:
    """Writes an RGB picture, (H, W, 3) uint8, whole or not at all."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    Image.fromarray(picture).save(partial, format="PNG")
    os.replace(partial, path)


def write_npz(path: Path, **arrays: np.ndarray) -> None:
    """Writes an npz file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
    os.replace(partial, path)
