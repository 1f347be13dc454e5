import csv

import numpy as np
import pytest

from noise2pose.export.tables import marker_name, write_csv, write_trc
from tests.noise2pose.export.motions import FPS, H36M, body_motion, joint_motion, places

MILLIMETRE = 0.001


def read_trc(path):
    """As OpenSim reads it: eight keys and values, names, X1 Y1 Z1 and so on, a blank line, rows of one width."""
    lines = path.read_text().split("\n")
    assert lines[0].split("\t")[:3] == ["PathFileType", "4", "(X/Y/Z)"]
    keys, values = (line.split("\t") for line in lines[1:3])
    about = dict(zip(keys, values, strict=True))
    names = [name for name in lines[3].split("\t") if name]
    assert names[:2] == ["Frame#", "Time"] and len(names) == int(about["NumMarkers"]) + 2
    labels = [label for label in lines[4].split("\t") if label]
    assert labels == [f"{axis}{number}" for number in range(1, len(names) - 1) for axis in "XYZ"]
    assert lines[5] == ""
    rows = np.array([line.split("\t") for line in lines[6:] if line], dtype=float)
    assert rows.shape == (int(about["NumFrames"]), 2 + 3 * (len(names) - 2))
    return about, names[2:], rows


def test_opensim_gets_the_joints_in_metres_y_up(tmp_path):
    motion = body_motion()
    write_trc(tmp_path / "a.trc", motion)
    about, names, rows = read_trc(tmp_path / "a.trc")
    assert about["Units"] == "m" and float(about["DataRate"]) == float(about["CameraRate"]) == FPS
    assert np.allclose(np.diff(rows[:, 1]), 1.0 / FPS, atol=1e-5)
    assert np.abs(rows[:, 2:].reshape(-1, 17, 3) - places(motion)).max() < MILLIMETRE
    assert names[:4] == ["Hip", "RHip", "RKnee", "RAnkle"] and {"LWrist", "Neck", "Head", "Spine"} < set(names)
    heights = dict(zip(names, rows[0, 3::3], strict=True))
    assert heights["Head"] > heights["Neck"] > heights["Hip"] > heights["LKnee"] > heights["LAnkle"]
    for name, joint in zip(names, H36M.joints, strict=True):
        side = {"L": "left_", "R": "right_"}.get(name[0], "") if name[1:2].isupper() else ""
        assert joint.startswith(side or joint[:1]) and (side != "") == ("_" in joint and joint != "head_top")
    assert marker_name("left_shoulder") == "LShoulder"


def test_a_table_has_a_column_a_coordinate_and_marks_what_was_not_measured(tmp_path):
    whole = joint_motion(6)
    write_csv(tmp_path / "a.csv", whole.rows([0, 1, 4, 5]))
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["measured"] for row in rows] == ["1", "1", "0", "0", "1", "1"]
    assert [int(row["frame"]) for row in rows] == list(range(6))
    assert float(rows[5]["time"]) == pytest.approx(5.0 / FPS, abs=1e-6)
    for frame in (0, 1, 4, 5):
        found = [[float(rows[frame][f"{joint}_{axis}"]) for axis in "xyz"] for joint in H36M.joints]
        assert np.abs(np.array(found) - places(whole)[frame]).max() < MILLIMETRE
        assert float(rows[frame]["left_wrist_std"]) == pytest.approx(0.03)
    assert float(rows[0]["left_wrist_confidence"]) == pytest.approx(0.9) and float(rows[2]["chin_confidence"]) == 0.0
    write_csv(tmp_path / "b.csv", body_motion(2, keypoints_2d=None))
    header = (tmp_path / "b.csv").read_text().splitlines()[0].split(",")
    assert len(header) == 3 + 17 * 3 and header[3:6] == ["pelvis_x", "pelvis_y", "pelvis_z"]
