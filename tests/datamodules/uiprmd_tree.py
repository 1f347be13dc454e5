"""Small copies of UI-PRMD: a standing person who sways, as markers of a Vicon and as a skeleton of a Kinect."""

from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from datamodules.sources.uiprmd.kinect import JOINTS
from datamodules.sources.uiprmd.markers import MARKERS

# Joints of the left side that the markers are placed around, metres: facing +x, left +y, z up.
KNEE, ANKLE, SHOULDER, ELBOW, WRIST = (
    np.array(place)
    for place in ((0.02, 0.10, 0.50), (-0.01, 0.11, 0.09), (0.0, 0.17, 1.42), (-0.03, 0.22, 1.13), (0.14, 0.2, 0.95))
)
_WIDTH, _DEPTH = 0.26, 0.16
HIP = np.array([_DEPTH / 2 - 0.24 * _DEPTH - 0.0099, 0.33 * _WIDTH + 0.0073, 1.0 - 0.30 * _WIDTH - 0.0109])


def _beside(joint, above, offset):
    """A marker `offset` outwards of a joint, at a right angle to the bone from `above`."""
    bone = (above - joint) / np.linalg.norm(above - joint)
    outwards = np.array([0.0, 1.0, 0.0]) - bone[1] * bone
    return joint + offset * outwards / np.linalg.norm(outwards)


def standing() -> np.ndarray:
    """(39, 3) markers."""
    knee, ankle = _beside(KNEE, HIP, 0.060), _beside(ANKLE, KNEE, 0.043)
    elbow = _beside(ELBOW, SHOULDER, 0.040)
    left = {
        "FHD": (0.09, 0.07, 1.65),
        "BHD": (-0.09, 0.07, 1.65),
        "SHO": SHOULDER + [0.0, 0.0, 0.047],
        "UPA": (SHOULDER + elbow) / 2 + [0.0, 0.035, 0.0],
        "ELB": elbow,
        "FRM": (0.05, 0.26, 1.04),
        "WRA": WRIST + [0.0, -0.03, 0.0],
        "WRB": WRIST + [0.0, 0.03, 0.0],
        "FIN": WRIST + [0.08, 0.0, -0.03],
        "ASI": (_DEPTH / 2, _WIDTH / 2, 1.0),
        "PSI": (-_DEPTH / 2, 0.05, 1.0),
        "THI": (HIP + knee) / 2 + [0.0, 0.08, 0.0],
        "KNE": knee,
        "TIB": (KNEE + ankle) / 2 + [0.0, 0.06, 0.0],
        "ANK": ankle,
        "HEE": (-0.06, 0.11, 0.04),
        "TOE": (0.13, 0.12, 0.04),
    }
    places = {"L" + name: np.array(place) for name, place in left.items()}
    places |= {"R" + name: np.array(place) * [1.0, -1.0, 1.0] for name, place in left.items()}
    middle = {"C7": (-0.07, 0, 1.5), "CLAV": (0.07, 0, 1.5), "T10": (-0.1, 0, 1.25), "STRN": (0.1, 0, 1.25)}
    places |= {name: np.array(place) for name, place in middle.items()} | {"RBAK": np.array([-0.1, -0.1, 1.35])}
    return np.stack([places[name] for name in MARKERS])


def swaying(points: np.ndarray, frames: int, fps: float, start: float = 0.0) -> np.ndarray:
    """(F, K, 3): the points turning and leaning about the feet, faster and faster."""
    time = np.arange(frames) / fps + start
    turns = Rotation.from_rotvec(
        np.stack([0.2 * np.sin(2.0 * time**1.5), 0.1 * np.sin(3.0 * time), 0.4 * time], axis=-1)
    )
    return np.stack([turn.apply(points) for turn in turns])


def kinect_positions(frames: int) -> tuple[np.ndarray, np.ndarray]:
    """(F, 22, 3) centimetres and degrees of a person with every joint turning."""
    generator = np.random.default_rng(0)
    positions = np.tile(generator.uniform(-30, 30, (1, len(JOINTS), 3)), (frames, 1, 1))
    angles = 40.0 * np.sin(np.linspace(0, 3, frames)[:, None, None] + generator.uniform(0, 6, (len(JOINTS), 3)))
    return positions, angles


def write_vicon(folder: Path, name: str, markers: np.ndarray, incorrect: bool = False) -> Path:
    """Writes (F, 39, 3) markers in metres as a file of the data set, with 0 for NaN."""
    where = folder / ("Incorrect Segmented Movements" if incorrect else "Segmented Movements") / "Vicon" / "Positions"
    where.mkdir(parents=True, exist_ok=True)
    path = where / f"{name}_positions{'_inc' if incorrect else ''}.txt"
    np.savetxt(path, 1000.0 * np.nan_to_num(markers).reshape(len(markers), -1), delimiter=",", fmt="%.4f")
    return path


def write_kinect(folder: Path, name: str, positions: np.ndarray, angles: np.ndarray) -> None:
    """Writes both files of a Kinect's repetition."""
    for kind, values in (("Positions", positions), ("Angles", angles)):
        where = folder / "Segmented Movements" / "Kinect" / kind
        where.mkdir(parents=True, exist_ok=True)
        path = where / f"{name}_{kind.lower()}.txt"
        np.savetxt(path, values.reshape(len(values), -1), delimiter=",", fmt="%.6f")
