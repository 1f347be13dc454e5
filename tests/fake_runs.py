"""Folders like those of `scripts/train.py`, made up without training anything."""

import json
from pathlib import Path

import numpy as np

from noise2pose.metrics.protocols import Protocol

NUM_JOINTS = 17


def write_run(
    folder: Path,
    method: str = "DiffPose (release)",
    mpjpe: float = 60.0,
    num_samples: int = 2,
    tables=None,
    seed: int = 0,
    config: str = "",
    **changes,
):
    """Writes a tested run.

    Args:
        folder: of the run.
        method: its title.
        mpjpe: of the test and, at last, of the validation.
        num_samples: that it keeps.
        tables: by group, of each data set.
        seed: of its training and its test.
        config: further lines of its configuration.
        changes: replace values of the protocol or, if that has none of the name, of `test.json`.
    """
    folder.mkdir(parents=True)
    protocol = Protocol(
        name="toy_frames",
        dataset="toy",
        split="test: everyone",
        skeleton="h36m_17",
        keypoints_2d="synthetic",
        num_hypotheses=5,
    ).as_dict()
    about = {
        "run": folder.name,
        "method": method,
        "protocols": [protocol],
        "num_steps": 2,
        "parameters": 485582,
        "device": "cpu, 2 threads",
        "commit": "abc1234",
        "seed": seed,
    }
    fit = {**about, "seconds": 300.0, "epochs": 2, "steps": 100, "command": "python scripts/train.py fit --name toy"}
    test = {
        **about,
        "poses_per_second": 2457.6,
        "command": f"python scripts/train.py test --name {folder.name}",
        "checkpoint": "runs/toy/checkpoints/best.ckpt",
        "calibration": {"removed": [0.0, 50.0], "error": [60.0, 40.0], "oracle_error": [60.0, 20.0]},
        "metrics": {
            "test/toy/mpjpe": mpjpe,
            "test/toy/pa_mpjpe": 0.75 * mpjpe,
            "test/toy/calibration/coverage_50": 44.04,
            "test/toy/calibration/coverage_90": 81.52,
            "test/toy/calibration/crps": 38.26,
            "test/toy/calibration/ause": 12.34,
            "test/toy/oracle/best_of_5/mpjpe": 31.25,
            "test/toy/oracle/best_of_5_null/mpjpe": 41.75,
        },
        "groups": tables or {},
    }
    for key, value in changes.items():
        (protocol if key in protocol else test)[key] = value
    (folder / "config.yaml").write_text(f"model:\n  class_path: methods.diffpose.DiffPose\n{config}")
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "best.ckpt").touch()
    (folder / "fit.json").write_text(json.dumps(fit))
    (folder / "test.json").write_text(json.dumps(test))
    (folder / "metrics.csv").write_text(
        f"epoch,step,train/loss,val/toy/mpjpe\n0,19,2.5,\n0,49,,{4 * mpjpe}\n1,69,1.5,\n1,99,,{mpjpe}\n"
    )
    random = np.random.default_rng(0)
    target = random.normal(scale=0.4, size=(num_samples, NUM_JOINTS, 3))
    np.savez(
        folder / "test_samples.npz",
        sample_id=np.array([f"walk/{i}" for i in range(num_samples)]),
        keypoints_2d=np.concatenate((500 + 200 * target[..., :2], np.ones_like(target[..., :1])), axis=-1),
        target=target,
        prediction=target + [0.0, 0.0, 0.05] * (np.arange(NUM_JOINTS) > 0)[:, None],
        skeleton=np.array("h36m_17"),
        image_size=np.full((num_samples, 2), 1000.0),
    )
    return folder
