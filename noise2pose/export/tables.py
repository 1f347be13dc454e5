"""Joints as text: TRC for OpenSim and Pose2Sim, CSV for spreadsheets and statistics.

TRC: https://opensimconfluence.atlassian.net/wiki/spaces/OpenSim/pages/53089972 (Marker .trc files); metres, y up,
right-handed, one file a person, the names of the markers as Pose2Sim has them. Its OpenSim models know Hip, RHip,
RKnee, ... LWrist, Neck and Head; Spine and Chin are additional.

CSV: one row a frame, `frame,time,measured` and then x, y and z of each joint in metres in the same axes, after them
`JOINT_std` where the uncertainty is known, and `JOINT_confidence` where there were 2-D keypoints. `measured` is 0 for
interpolated frames.

Shape letters: F frames, J joints.
"""

import csv
import io
from pathlib import Path

import numpy as np

from noise2pose.export.motion import Motion
from noise2pose.files import write_text

_MARKERS = {"pelvis": "Hip", "thorax": "Neck", "head_top": "Head"}
_KEYS = (
    *("DataRate", "CameraRate", "NumFrames", "NumMarkers", "Units"),
    *("OrigDataRate", "OrigDataStartFrame", "OrigNumFrames"),
)


def marker_name(joint: str) -> str:
    """Pose2Sim's name of a joint: `right_hip` is RHip."""
    if joint in _MARKERS:
        return _MARKERS[joint]
    side, _, rest = joint.rpartition("_")
    return f"{side[:1].upper()}{rest.capitalize()}" if side in ("left", "right") else joint.capitalize()


def write_trc(path: Path, motion: Motion) -> None:
    """Writes the joints of one person, whole or not at all; missing frames are interpolated.

    Args:
        path: file.
        motion: one person.

    Raises:
        InputError: if the file cannot be written.
    """
    motion = motion.consecutive()
    joints = motion.joints @ motion.to_y_up.T
    rate = f"{motion.rate:.10g}"
    names = [marker_name(joint) for joint in motion.skeleton.joints]
    values = (rate, rate, len(motion), len(names), "m", rate, motion.frames[0], len(motion))
    lines = [
        f"PathFileType\t4\t(X/Y/Z)\t{path.name}",
        "\t".join(_KEYS),
        "\t".join(map(str, values)),
        "Frame#\tTime\t" + "\t\t\t".join(names) + "\t\t",
        "\t\t" + "\t".join(f"{axis}{number}" for number in range(1, len(names) + 1) for axis in "XYZ"),
        "",
    ]
    for frame, time, pose in zip(motion.frames, motion.times, joints, strict=True):
        lines.append("\t".join([str(frame), f"{time:.6f}", *(f"{number:.6f}" for number in pose.ravel())]))
    write_text(path, "\n".join(lines) + "\n")


def write_csv(path: Path, motion: Motion) -> None:
    """Writes the joints of one person, whole or not at all; missing frames are interpolated and marked.

    Args:
        path: file.
        motion: one person.

    Raises:
        InputError: if the file cannot be written.
    """
    motion = motion.consecutive()
    names, measured = motion.skeleton.joints, motion.measured
    assert measured is not None
    header = ["frame", "time", "measured", *(f"{name}_{axis}" for name in names for axis in "xyz")]
    columns = [(motion.joints @ motion.to_y_up.T).reshape(len(motion), -1)]
    if motion.uncertainty is not None:
        header += [f"{name}_std" for name in names]
        columns.append(motion.uncertainty)
    if motion.keypoints_2d is not None:
        header += [f"{name}_confidence" for name in names]
        columns.append(motion.keypoints_2d[..., 2])
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for row, numbers in enumerate(np.concatenate(columns, axis=1)):
        about = [int(motion.frames[row]), f"{motion.times[row]:.6f}", int(measured[row])]
        writer.writerow([*about, *(f"{number:.6f}" for number in numbers)])
    write_text(path, text.getvalue())
