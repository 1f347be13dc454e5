"""Recordings of rerun: people in space and in the image on a timeline that can be moved.

Format: https://rerun.io (opened with `rerun FILE.rrd`). Metres, y up, right-handed; pixels for 2-D joints. What is
where, on the timelines `frame` and `time`:

  world/PERSON/joints        points with names; radius 1.5 cm
  world/PERSON/bones         lines in the colours of the sides
  world/PERSON/uncertainty   spheres of one standard deviation, where it is known
  world/PERSON/hypotheses    translucent lines, where there are some
  image/PERSON/joints_2d     points that were seen, and image/PERSON/bones_2d their lines
  confidence/PERSON          of each 2-D joint, between 0 and 1

Shape letters: F frames, J joints, B bones, N hypotheses.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from noise2pose.errors import InputError
from noise2pose.export import extras
from noise2pose.export.motion import Motion
from noise2pose.files import replacing
from noise2pose.rendering.skeletons import NEUTRAL, color_of_joint

_JOINT, _BONE, _GHOST, _PIXELS = 0.015, 0.008, 0.003, 3.0  # radii; metres, and pixels
_GHOST_OPACITY, _SPHERE_OPACITY = 70, 60  # of 255


def write_rrd(path: Path, motions: Sequence[Motion]) -> None:
    """Writes all people of a video into one recording, whole or not at all; frames without a person have none.

    Args:
        path: file.
        motions: people of one video.

    Raises:
        InputError: if there is nobody, rerun is missing or the file cannot be written.
    """
    rerun = extras.load("rerun", "rerun", "writing rrd")
    if not motions:
        raise InputError(f"{path.name}: there is nobody to write")
    with replacing(path) as partial:
        stream = rerun.RecordingStream("noise2pose", recording_id=motions[0].video or path.stem)
        stream.save(partial)
        stream.set_log_time_enabled(False)  # the same motion gives the same recording
        stream.set_log_tick_enabled(False)
        stream.log("world", rerun.ViewCoordinates.RIGHT_HAND_Y_UP, static=True)
        for motion in motions:
            _send(rerun, stream, motion, rerun.escape_entity_path_part(motion.name))
        stream.flush()
        stream.disconnect()


def _send(rerun: Any, stream: Any, motion: Motion, name: str) -> None:
    """All columns of one person."""
    indexes = [rerun.TimeColumn("frame", sequence=motion.frames), rerun.TimeColumn("time", duration=motion.times)]

    def send(entity: str, columns: Any, lengths: Sequence[int]) -> None:
        stream.send_columns(entity, indexes=indexes, columns=columns.partition(lengths=lengths))

    world = motion.to_y_up
    joints, count, names = motion.joints @ world.T, len(motion), motion.skeleton.joints
    edges = np.array(motion.skeleton.edges)
    colors = [_rgba(color_of_joint(joint)) for joint in names]
    bone_colors = [colors[child] for _, child in edges]
    in_world = f"world/{name}"
    dots = rerun.Points3D.from_fields(radii=_JOINT, colors=colors, labels=names, show_labels=False)
    stream.log(f"{in_world}/joints", dots, static=True)
    stream.log(f"{in_world}/bones", rerun.LineStrips3D.from_fields(radii=_BONE, colors=bone_colors), static=True)
    points = rerun.Points3D.columns(positions=joints.reshape(-1, 3))
    send(f"{in_world}/joints", points, [len(names)] * count)
    lines = rerun.LineStrips3D.columns(strips=joints[:, edges].reshape(-1, 2, 3))
    send(f"{in_world}/bones", lines, [len(edges)] * count)
    if motion.uncertainty is not None:
        translucent = [_rgba(color_of_joint(joint), _SPHERE_OPACITY) for joint in names]
        spheres = rerun.Ellipsoids3D.from_fields(colors=translucent, fill_mode="solid")
        stream.log(f"{in_world}/uncertainty", spheres, static=True)
        sizes = np.repeat(motion.uncertainty.reshape(-1, 1), 3, axis=1)
        spheres = rerun.Ellipsoids3D.columns(half_sizes=sizes, centers=joints.reshape(-1, 3))
        send(f"{in_world}/uncertainty", spheres, [len(names)] * count)
    if motion.hypotheses is not None:
        number = motion.hypotheses.shape[1] * len(edges)
        ghosts = rerun.LineStrips3D.from_fields(radii=_GHOST, colors=[_rgba(NEUTRAL, _GHOST_OPACITY)])
        stream.log(f"{in_world}/hypotheses", ghosts, static=True)
        lines = (motion.hypotheses @ world.T)[:, :, edges].reshape(-1, 2, 3)
        send(f"{in_world}/hypotheses", rerun.LineStrips3D.columns(strips=lines), [number] * count)
    if motion.keypoints_2d is not None:
        _send_2d(rerun, stream, motion, name, send)
    ends = [*np.flatnonzero(np.diff(motion.frames) > motion.step), count - 1]
    for row in ends:  # else viewers go on showing what was there last
        stream.set_time("frame", sequence=int(motion.frames[row] + motion.step))
        stream.set_time("time", duration=float(motion.times[row] + 1.0 / motion.rate))
        for room in ("world", "image"):
            stream.log(f"{room}/{name}", rerun.Clear(recursive=True))


def _send_2d(rerun: Any, stream: Any, motion: Motion, name: str, send: Any) -> None:
    """The columns of the 2-D joints."""
    points = motion.keypoints_2d
    assert points is not None
    names, seen = motion.skeleton.joints, points[..., 2] > 0
    edges = np.array(motion.skeleton.edges)
    drawn = seen[:, edges].all(axis=-1)  # (F, B)
    colors = np.array([_rgba(color_of_joint(joint)) for joint in names], dtype=np.uint8)
    at = f"image/{name}"
    stream.log(f"{at}/joints_2d", rerun.Points2D.from_fields(radii=_PIXELS), static=True)
    dots = rerun.Points2D.columns(
        positions=points[..., :2][seen], colors=np.broadcast_to(colors, (*seen.shape, 4))[seen]
    )
    send(f"{at}/joints_2d", dots, seen.sum(axis=1))
    lines = points[:, edges, :2][drawn]
    shades = np.broadcast_to(colors[edges[:, 1]], (*drawn.shape, 4))[drawn]
    send(f"{at}/bones_2d", rerun.LineStrips2D.columns(strips=lines, colors=shades), drawn.sum(axis=1))
    send(f"confidence/{name}", rerun.Scalars.columns(scalars=points[..., 2].ravel()), [len(names)] * len(motion))
    stream.log(f"confidence/{name}", rerun.SeriesLines.from_fields(names=list(names)), static=True)


def _rgba(color: str, opacity: int = 255) -> list[int]:
    return [*(int(color[i : i + 2], 16) for i in (1, 3, 5)), opacity]
