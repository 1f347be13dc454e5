"""2-D joints of people in pictures."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from noise2pose.errors import InputError
from noise2pose.photographs import Photograph

SKELETON = "coco_17"
DETECTOR, LANDMARKS = "pose_detection.tflite", "pose_landmark_full.tflite"


def model_files(folder: Path | None) -> list[Path]:
    """The files of the detector.

    Raises:
        InputError: if they are not there; the message says how to do without.
    """
    files = [] if folder is None else [folder / DETECTOR, folder / LANDMARKS]
    missing = [file for file in files if not file.is_file()]
    if folder is None or missing:
        raise InputError(
            "pictures need the 2-D joints of their people: give a keypoint file with --keypoints FILE, or fetch the "
            f"detector once with `python scripts/prepare.py detector --output {folder or 'data/detector'}`"
        )
    return files


def detect_pictures(
    models: Sequence[Path], photographs: Sequence[Photograph], cache: Path
) -> tuple[dict[str, Tensor], list[tuple[str, str]]]:
    raise NotImplementedError
