import numpy as np
import pytest
from tests.datamodules.acclaim import amc, asf, bones

from datamodules import asf_kinematics
from datamodules.asf_amc import parse_amc, parse_asf
from noise2pose.errors import InputError

SKELETON = parse_asf(asf(), "01.asf")
METRES = 0.0254 / 0.45


def turn(axis, degrees):
    angle = np.radians(degrees)
    c, s = np.cos(angle), np.sin(angle)
    i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = c
    matrix[j, i], matrix[i, j] = s, -s
    return matrix


def naive_ends(frame):
    """Global end of every bone, from the numbers of one frame, by the definition of the format."""
    matrices = {
        "root": np.linalg.multi_dot(
            [turn("z", frame["root"][5]), turn("y", frame["root"][4]), turn("x", frame["root"][3])]
        )
    }
    ends = {"root": frame["root"][:3] * METRES}
    for name, parent, direction, length, axis, dof in bones():
        x, y, z = map(float, axis.split()[:3])
        c = turn("z", z) @ turn("y", y) @ turn("x", x)
        m = np.eye(3)
        for channel, value in zip(dof.split(), frame.get(name, ()), strict=True):
            m = turn(channel[1], value) @ m
        matrices[name] = matrices[parent] @ c @ m @ np.linalg.inv(c)
        ends[name] = ends[parent] + matrices[name] @ (np.array(direction) * length * METRES)
    return ends


def test_kinematics_equal_the_definition_of_the_format():
    motion = parse_amc(amc(), SKELETON, "01_01.amc")
    quaternions = asf_kinematics.rotations(SKELETON, motion)
    _, ends = asf_kinematics.forward_kinematics(SKELETON, quaternions, asf_kinematics.root_position(SKELETON, motion))
    for frame in (0, 100, 239):
        expected = naive_ends({name: values[frame] for name, values in motion.items()})
        for number, bone in enumerate(SKELETON.bones):
            assert np.allclose(ends[frame, number], expected[bone.name], atol=1e-9), bone.name


def test_resampling_keeps_bone_lengths_and_passes_through_common_frames():
    motion = parse_amc(amc(), SKELETON, "01_01.amc")
    quaternions = asf_kinematics.rotations(SKELETON, motion)
    position = asf_kinematics.root_position(SKELETON, motion)
    slow, where = asf_kinematics.resample(quaternions, position, 120.0, 50.0)
    assert len(slow) == int(239 * 50 / 120) + 1
    assert np.allclose(slow[5], quaternions[12]) and np.allclose(where[10], position[24])
    _, ends = asf_kinematics.forward_kinematics(SKELETON, slow, where)
    for number, bone in enumerate(SKELETON.bones[1:], start=1):
        lengths = np.linalg.norm(ends[:, number] - ends[:, bone.parent], axis=-1)
        assert np.ptp(lengths) < 1e-9 and lengths[0] == pytest.approx(np.linalg.norm(bone.offset))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda text: text.replace("ltibia", "lshin", 1), r"01_01.amc, line \d+: bone lshin is not in the skeleton"),
        (lambda text: text.replace("\nhead ", "\nhead oops ", 1), "head has 4 numbers, expected 3"),
        (lambda text: swap(text, 200, "nan"), "line 200: nan is not a finite number"),
        (lambda text: swap(text, 201, "1.2.3"), "line 201: 1.2.3 is not a finite number"),
        (lambda text: text[: len(text) // 2], "the file ends after|has . numbers|is not a finite"),
        (lambda text: remove(text, 300), "line 300: found"),
        (lambda text: "", "01_01.amc: no frames"),
        (lambda text: ":DEGREES\n", "01_01.amc: no frames"),
    ],
)
def test_a_malformed_motion_is_named_by_file_line_and_reason(change, message):
    with pytest.raises(InputError, match=message):
        parse_amc(change(amc()), SKELETON, "01_01.amc")


def swap(text, line, word):
    """Replaces the last number of a line."""
    lines = text.split("\n")
    lines[line - 1] = " ".join([*lines[line - 1].split()[:-1], word])
    return "\n".join(lines)


def remove(text, line):
    lines = text.split("\n")
    del lines[line - 1]
    return "\n".join(lines)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda text: "", "01.asf: no bones"),
        (
            lambda text: text.replace("    lfemur ltibia", "    lfemur nothing"),
            "bone nothing has no entry in :bonedata",
        ),
        (
            lambda text: text.replace("direction 0.34 -0.94 0", "direction 0.34 x 0", 1),
            "direction of lfemur is `0.34 x 0`",
        ),
        (lambda text: text.replace("length 0.45", "length wide"), "units length is `wide`"),
    ],
)
def test_a_malformed_skeleton_is_named(change, message):
    with pytest.raises(InputError, match=message):
        parse_asf(change(asf()), "01.asf")
