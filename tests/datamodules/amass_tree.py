"""A small AMASS in the layout of its archives; the motions are random."""

from pathlib import Path

import numpy as np


def motion(path: Path, frames: int = 60, rate: float = 60.0, seed: int = 0, columns: int = 156) -> np.ndarray:
    """Writes an SMPL+H file; returns its `poses`."""
    generator = np.random.default_rng(seed)
    poses = 0.3 * np.cumsum(generator.normal(0, 0.05, (frames, columns)), axis=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path,
        trans=generator.normal(size=(frames, 3)),
        gender=np.array("male"),
        mocap_framerate=np.array(rate),
        betas=generator.normal(size=16),
        dmpls=generator.normal(size=(frames, 8)),
        poses=poses,
    )
    return poses


def motion_smplx(path: Path, frames: int = 60, rate: float = 60.0, seed: int = 0) -> np.ndarray:
    """Writes an SMPL-X file; returns its `poses`."""
    generator = np.random.default_rng(seed)
    poses = 0.1 * generator.normal(size=(frames, 165))
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path,
        gender=np.array("neutral"),
        surface_model_type=np.array("smplx"),
        mocap_frame_rate=np.array(rate),
        mocap_time_length=np.array(frames / rate),
        trans=generator.normal(size=(frames, 3)),
        poses=poses,
        betas=generator.normal(size=16),
        num_betas=np.array(16),
        root_orient=poses[:, :3],
        pose_body=poses[:, 3:66],
    )
    return poses


def write(folder: Path) -> dict[str, np.ndarray]:
    """Writes data sets of every split, with the files of subjects beside the motions.

    Returns:
        `poses` of each motion by its name below the folder.
    """
    motions = {
        "ACCAD/Female1General_c3d/A1_-_Stand_poses.npz": 1,
        "CMU/CMU/01/01_01_poses.npz": 2,
        "CMU/CMU/02/02_01_poses.npz": 3,
        "HumanEva/S1/Box_1_poses.npz": 4,
        "SSM_synced/20160330_03333/chicken_wings_poses.npz": 5,
    }
    for name in motions:
        shape = folder / Path(name).parent / "shape.npz"
        shape.parent.mkdir(parents=True, exist_ok=True)
        np.savez(shape, betas=np.zeros(16), gender=np.array("male"))
    return {name: motion(folder / name, seed=seed) for name, seed in motions.items()}
