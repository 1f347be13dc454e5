"""The BVH format: what is read, and what is said of files that are malformed."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from datamodules.sources.bvh.format import forward_kinematics, parse, resampled
from noise2pose.errors import InputError

TEXT = """HIERARCHY
ROOT Hips
{
  OFFSET 0 1 0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT Knee {
    OFFSET 0 -1 0
    CHANNELS 3 Yrotation Zrotation Xrotation
    End Site
    {
      OFFSET 0 -2 0.5
    }
  }
}
MOTION
Frames: 2
Frame Time: 0.05
1 2 3 10 20 30 40 50 60
1 2 4 90 0 0 0 0 90
"""


def matrix(axis, degrees):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    turned = np.eye(3)
    turned[i, i] = turned[j, j] = c
    turned[j, i], turned[i, j] = s, -s
    return turned


def test_kinematics_equal_products_of_matrices():
    motion = parse(TEXT, "a.bvh")
    assert motion.names == ["Hips", "Knee", "Knee.end"] and motion.parents == [-1, 0, 1]
    assert motion.fps == pytest.approx(20.0)
    joints = forward_kinematics(motion)
    hips = matrix("z", 10) @ matrix("x", 20) @ matrix("y", 30)
    knee = hips @ matrix("y", 40) @ matrix("z", 50) @ matrix("x", 60)
    assert np.allclose(joints[0, 0], [1, 2, 3])
    assert np.allclose(joints[0, 1], joints[0, 0] + hips @ [0, -1, 0])
    assert np.allclose(joints[0, 2], joints[0, 1] + knee @ [0, -2, 0.5])
    assert np.allclose(joints[1], [[1, 2, 4], [2, 2, 4], [2.5, 2, 2]])


def test_resampling_passes_through_common_frames_and_keeps_lengths():
    motion = parse(TEXT, "a.bvh")
    faster = resampled(motion, 20.0, 40.0)
    joints, given = forward_kinematics(faster), forward_kinematics(motion)
    assert len(joints) == 3 and np.allclose(joints[::2], given)
    assert np.allclose(np.linalg.norm(joints[:, 2] - joints[:, 1], axis=-1), np.sqrt(4.25))
    middle = (motion.rotations[1][0].inv() * motion.rotations[1][1]).as_rotvec() / 2
    assert np.allclose(
        (motion.rotations[1][0] * Rotation.from_rotvec(middle)).as_matrix(), faster.rotations[1][1].as_matrix()
    )


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("MOTION", "MOVING", ": has no HIERARCHY and MOTION; not a BVH file, or truncated"),
        ("OFFSET 0 -1 0", "OFFSET 0 -1", ", line 7: found OFFSET 0 -1, expected 3 numbers"),
        ("CHANNELS 3 Y", "CHANNELS 4 Y", ", line 8: found 'CHANNELS 4 Yrotation .*', expected a number and so many"),
        ("Xrotation\n    End", "Wrotation\n    End", ", line 8: found 'CHANNELS 3 Yrotation Zrotation Wrotation'"),
        ("JOINT Knee", "JOINT Hips", ": two joints are called Hips"),
        ("}\nMOTION", "}\n}\nMOTION", ", line 15: a brace closes nothing"),
        ("}\nMOTION", "MOTION", ": its HIERARCHY has no joints, or does not end"),
        (
            "}\nMOTION",
            "}\nROOT Other { OFFSET 0 0 0 }\nMOTION",
            ", line 15: a second root Other; a file holds one person",
        ),
        ("Frames: 2", "Frames 2", ": found no Frames: after MOTION"),
        ("Frame Time: 0.05", "Frame Time: 0", ": Frames 2 and Frame Time 0, expected more than 0"),
        ("1 2 4 90", "1 2 x 90", ": something else than numbers in a frame"),
        ("1 2 4 90", "1 2 nan 90", ": has 18 finite numbers, expected 2 frames of 9"),
        ("0 0 90\n", "0 0\n", ": has 17 finite numbers, expected 2 frames of 9"),
    ],
)
def test_a_malformed_file_is_named_with_what_is_wrong(old, new, message):
    assert old in TEXT
    with pytest.raises(InputError, match="^a.bvh" + message):
        parse(TEXT.replace(old, new, 1), "a.bvh")
