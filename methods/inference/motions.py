"""The motions of an answer: its poses sorted by video, person and frame; and its poses as COCO's JSON.

Shape letters: T poses, J joints.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import roma
import torch

from methods.inference.inputs import FPS
from noise2pose import skeletons
from noise2pose.annotation.layout import ARRAYS, SKELETON, to_coco, to_text
from noise2pose.export.coco import write_joints_json
from noise2pose.export.motion import Camera, Motion, one_shape
from noise2pose.files import write_text
from noise2pose.keypoints.arrays import Keypoints
from noise2pose.keypoints.timeline import Timeline, timeline_of
from noise2pose.rendering.levelling import Levels, level_poses

if TYPE_CHECKING:
    from methods.inference.results import Annotations, LiftedPoses


def motions_of_poses(poses: "LiftedPoses") -> list[Motion]:
    """Of a lifter, whose joints are relative to the pelvis."""
    record = Keypoints(
        points=torch.from_numpy(poses.keypoints_2d),
        skeleton=poses.skeleton,
        names=poses.names,
        image_sizes=None if poses.image_size is None else torch.from_numpy(poses.image_size),
        images=poses.images,
        people=poses.people,
        frames=poses.frames,
        fps=poses.fps,
        times=poses.times,
    )
    motions = []
    for rows, common in _by_person(record, timeline_of(record, FPS), poses.joints_3d, poses.levels):
        motions.append(
            Motion(
                joints=poses.joints_3d[rows],
                origin="the pelvis of each frame",
                uncertainty=None if poses.uncertainty is None else poses.uncertainty[rows],
                hypotheses=None if poses.hypotheses is None else poses.hypotheses[rows],
                **common,
            )
        )
    return motions


def motions_of_annotations(annotations: "Annotations") -> list[Motion]:
    """Of an annotator, whose bodies are in the frame of the camera; bodies that are not finite are left out."""
    arrays = annotations.arrays
    record = record_of(arrays, annotations.fps)
    timeline, skeleton = timeline_of(record, FPS), skeletons.get(annotations.skeleton)
    pitch = annotations.info["camera_pitch"]
    levels = level_poses(annotations.joints_3d, arrays["observed"], skeleton, timeline.videos, pitch)
    motions = []
    for rows, common in _by_person(record, timeline, annotations.joints_3d, levels):
        vectors = torch.from_numpy(arrays["poses"][rows]).unflatten(-1, (-1, 3))
        rotations = roma.rotvec_to_rotmat(vectors).numpy()
        motions.append(
            Motion(
                joints=arrays["joints_3d"][rows],
                body=one_shape(annotations.body, rotations, arrays["betas"][rows], arrays["trans"][rows]),
                camera=Camera(arrays["camera_focal"][rows], arrays["camera_principal_point"][rows]),
                **common,
            )
        )
    return motions


def record_of(arrays: Mapping[str, np.ndarray], fps: float | None) -> Keypoints:
    """The keypoints of annotations, which say whose motion they are.

    Args:
        arrays: of `noise2pose.annotation.layout.ARRAYS`.
        fps: frames of the video in a second; None where it is unknown.
    """
    times, sizes = arrays["times"].tolist(), arrays["image_size"]
    return Keypoints(
        points=torch.from_numpy(arrays["keypoints_2d"]),
        skeleton=SKELETON,
        names=arrays["names"].tolist(),
        image_sizes=torch.from_numpy(sizes) if len(sizes) and (sizes > 0).all() else None,
        images=arrays["file_names"].tolist(),
        people=[person or None for person in arrays["people"].tolist()],
        frames=[None if frame < 0 else frame for frame in arrays["frames"].tolist()],
        fps=fps,
        times=times if times and min(times) >= 0.0 else [],
    )


def write_poses_json(poses: "LiftedPoses", path: Path) -> list[Path]:
    """Writes the poses of a lifter in COCO's layout; returns the file."""
    made = {"method": poses.method, "checkpoint": poses.checkpoint, "unit": poses.unit, "frame": poses.frame}
    about = (poses.images, poses.people, poses.frames, poses.image_size, poses.uncertainty, made)
    write_joints_json(path, poses.joints_3d, poses.keypoints_2d, skeletons.get(poses.skeleton), *about)
    return [path]


def write_annotations_json(annotations: "Annotations", path: Path) -> list[Path]:
    """Writes bodies in COCO's layout; returns the file."""
    arrays = {key: annotations.arrays[key] for key in ARRAYS}  # those of a finished set have more, of its making
    write_text(path, to_text(to_coco(arrays, annotations.info, annotations.skipped)))
    return [path]


def _by_person(
    record: Keypoints, timeline: Timeline, joints: np.ndarray, levels: Levels
) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
    """The rows of each person in each video in the order of frames, and what a motion says about them."""
    people: dict[tuple[str, str], dict[int, int]] = {}
    for row in range(len(joints)):
        if np.isfinite(joints[row]).all():
            frames = people.setdefault((timeline.videos[row], timeline.people[row]), {})
            frames.setdefault(timeline.frames[row], row)
    points = record.points.numpy()
    for (video, person), frames in people.items():
        numbers = sorted(frames)
        rows = np.array([frames[number] for number in numbers])
        moving = len(rows) > 1
        size = None if record.image_sizes is None else record.image_sizes[rows[0]].int().tolist()
        yield (
            rows,
            {
                "name": person,
                "video": video,
                "skeleton": skeletons.get(record.skeleton),
                "frames": np.array(numbers),
                "fps": timeline.fps if moving else None,
                "seconds": np.array([record.times[row] for row in rows]) if moving and record.times else None,
                "keypoints_2d": points[rows],
                "image_size": None if size is None else (size[0], size[1]),
                "level": levels.rotation[rows[0]].astype(np.float64),
                "level_about": levels.about[rows[0]],
                "measured": (points[rows, :, 2] > 0).any(axis=1),  # others were put between two that were seen
            },
        )
