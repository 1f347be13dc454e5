import math
import re

import numpy as np
import pytest

from datamodules.sources.cmu_mocap import asf_amc
from datamodules.sources.cmu_mocap import retarget as asf_kinematics
from datamodules.sources.cmu_mocap.asf_amc import parse_amc, parse_asf
from noise2pose.errors import InputError
from tests.datamodules.acclaim import amc, asf, bones

METRES = 0.0254 / 0.45
SKELETON = parse_asf(asf(), "01.asf")
MOTION = amc()
LINES = MOTION.split("\n")


def turn(axis, angle):
    c, s = np.cos(angle), np.sin(angle)
    i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = c
    matrix[j, i], matrix[i, j] = s, -s
    return matrix


def naive_ends(frame):
    """Global end of every bone, from the channels of one frame, by the definition of the format."""
    x, y, z = frame["root"][3:]
    matrices, ends = {"root": turn("z", z) @ turn("y", y) @ turn("x", x)}, {"root": frame["root"][:3]}
    for name, parent, direction, length, axis, dof in bones():
        x, y, z = np.radians([float(angle) for angle in axis.split()[:3]])
        c = turn("z", z) @ turn("y", y) @ turn("x", x)
        m = np.eye(3)
        for channel, value in zip(dof.split(), frame.get(name, ()), strict=True):
            m = turn(channel[1], value) @ m
        matrices[name] = matrices[parent] @ c @ m @ np.linalg.inv(c)
        ends[name] = ends[parent] + matrices[name] @ (np.array(direction) * length * METRES)
    return ends


def kinematics(skeleton, motion):
    rotations = asf_kinematics.channel_rotations(skeleton, motion)
    return asf_kinematics.forward_kinematics(skeleton, rotations, asf_kinematics.root_position(skeleton, motion))


def test_kinematics_equal_the_definition_of_the_format():
    motion = parse_amc(MOTION, SKELETON, "01_01.amc")
    _, ends = kinematics(SKELETON, motion)
    for frame in (0, 100, 239):
        expected = naive_ends({name: values[frame] for name, values in motion.items()})
        for number, bone in enumerate(SKELETON.bones):
            assert np.allclose(ends[frame, number], expected[bone.name], atol=1e-9), bone.name


@pytest.mark.parametrize("source_fps, frames", [(120.0, 100), (60.0, 200), (50.0, 240), (30.0, 399)])
def test_resampling_keeps_bone_lengths_and_passes_through_common_frames(source_fps, frames):
    motion = parse_amc(MOTION, SKELETON, "01_01.amc")
    rotations, position = (
        asf_kinematics.channel_rotations(SKELETON, motion),
        asf_kinematics.root_position(SKELETON, motion),
    )
    turned, moved = asf_kinematics.resample(rotations, position, source_fps, 50.0)
    assert len(turned[0]) == len(moved) == frames
    common = round(source_fps / 10)  # every fifth frame of the result is one of the source
    for result, given in zip(turned, rotations, strict=True):
        assert (result[5::5] * given[common::common][: len(result[5::5])].inv()).magnitude().max() < 1e-6
    assert np.allclose(moved[5::5], position[common::common][: len(moved[5::5])])
    _, ends = asf_kinematics.forward_kinematics(SKELETON, turned, moved)
    for number, bone in enumerate(SKELETON.bones[1:], start=1):
        lengths = np.linalg.norm(ends[:, number] - ends[:, bone.parent], axis=-1)
        assert np.allclose(lengths, np.linalg.norm(bone.offset), rtol=1e-12)


def test_a_turn_through_the_end_of_the_angle_goes_the_short_way():
    text = re.sub(r"(?m)^(root \S+ \S+ \S+) .*", r"\1 0 179 0", MOTION, count=1)
    text = re.sub(r"(?m)^(2\nroot \S+ \S+ \S+) .*", r"\1 0 -179 0", text, count=1)
    motion = parse_amc(text, SKELETON, "01_01.amc")
    rotations = [rotation[:2] for rotation in asf_kinematics.channel_rotations(SKELETON, motion)]
    turned, _ = asf_kinematics.resample(rotations, np.zeros((2, 3)), source_fps=1.0, target_fps=2.0)
    assert np.allclose(turned[0][1].as_matrix(), np.diag([-1.0, 1.0, -1.0]))  # half a turn about y


def test_the_fast_parser_equals_the_slow_one():
    channels = {bone.name: bone.channels for bone in SKELETON.bones if bone.channels}
    fast = asf_amc._parse_regular(LINES[3:], channels)
    slow = asf_amc._parse_lines(LINES[3:], 4, channels, "01_01.amc")
    assert fast is not None and fast.keys() == slow.keys()
    assert all(np.array_equal(fast[name], slow[name]) for name in slow)


def test_the_order_of_bones_may_differ_from_frame_to_frame():
    lines = [*LINES]
    lines[5], lines[6] = lines[6], lines[5]
    expected, shuffled = (parse_amc(text, SKELETON, "01_01.amc") for text in (MOTION, "\n".join(lines)))
    assert all(np.array_equal(expected[name], shuffled[name]) for name in expected)


def test_angles_and_lengths_are_in_the_units_of_the_files():
    def to_radians(match):
        word, *values = match[0].split()
        first = 3 if word == "root" else 0
        values = [*values[:first], *(repr(math.radians(float(value))) for value in values[first:])]
        return " ".join([word, *values])

    in_radians = re.sub(r"(?m)^[a-z].*", to_radians, MOTION).replace(":DEGREES", ":RADIANS")
    expected, same = (parse_amc(text, SKELETON, "01_01.amc") for text in (MOTION, in_radians))
    assert all(np.allclose(expected[name], same[name]) for name in expected)
    assert expected["root"][0, 1] == pytest.approx(17 * METRES)

    larger = parse_asf(asf().replace("length 0.45", "length 0.9"), "01.asf")
    for bone, other in zip(SKELETON.bones, larger.bones, strict=True):
        assert np.allclose(bone.offset, 2.0 * other.offset)


def test_axis_order_and_root_order_are_those_of_the_file():
    text = asf().replace("axis 0 0 0 XYZ", "axis 10 20 30 ZXY", 3).replace("TX TY TZ RX RY RZ", "RZ RY RX TX TY TZ")
    skeleton = parse_asf(text, "01.asf")
    bone = skeleton.bones[1]
    x, y, z = np.radians([10, 20, 30])
    expected = turn("y", y) @ turn("x", x) @ turn("z", z)
    assert np.allclose(bone.axis.as_matrix(), expected)
    reordered = re.sub(r"(?m)^root (\S+ \S+ \S+) (\S+) (\S+) (\S+)", r"root \4 \3 \2 \1", MOTION)
    one, other = (
        kinematics(SKELETON, parse_amc(MOTION, SKELETON, "a")),
        kinematics(skeleton, parse_amc(reordered, skeleton, "b")),
    )
    assert np.allclose(one[0][0].as_matrix(), other[0][0].as_matrix()) and np.allclose(one[1][:, 0], other[1][:, 0])


def line(number, word):
    """The motion with the last number of a line replaced."""
    return "\n".join([*LINES[: number - 1], " ".join([*LINES[number - 1].split()[:-1], word]), *LINES[number:]])


def without(*numbers):
    return "\n".join(text for number, text in enumerate(LINES, start=1) if number not in numbers)


@pytest.mark.parametrize(
    "text, message",
    [
        (MOTION.replace("ltibia", "lshin", 1), r", line 8: found 'lshin', which is no bone with channels"),
        (MOTION.replace("\nhead ", "\nhead oops ", 1), r", line \d+: head: found 'oops .*', expected 3 numbers"),
        (MOTION.replace("\nhead ", "\nhead 1 ", 1), r", line \d+: head: found 4 numbers, expected 3"),
        (line(200, "nan"), ", line 200: .*expected finite numbers"),
        (line(201, "1e999"), ", line 201: .*expected finite numbers"),
        (line(201, "1.2.3"), r", line 201: .*expected \d numbers"),
        (line(LINES.index("3") - 1, ""), r", line \d+: \w+: found \d numbers, expected \d"),
        (MOTION[: len(MOTION) // 2], r", line \d+: "),
        (without(300), r", line \d+: frame \d+ ends after 22 of 23 bones, without"),
        (without(len(LINES) - 1), r", line \d+: the file ends in frame 240 after 22 of 23 bones"),
        (without(LINES.index("9") + 1), r", line \d+: bone root is in frame 8 twice"),
        (MOTION.replace("\n100\n", "\n101\n"), r", line \d+: frame 101 follows frame 99"),
        (re.sub(r"(?m)^lfemur .*\n", "", MOTION), r", line \d+: frame 1 ends after 22 of 23 bones, without lfemur"),
        (without(4), ", line 4: found 'root', expected the number of the first frame"),
        ("\x00\x01" * 50, ", line 1: found '.x00.*expected the number of the first frame"),
        (":DEGREES\n", ": has no frames"),
        ("", ": has no frames"),
    ],
)
def test_a_malformed_motion_is_named_by_file_line_and_reason(text, message):
    with pytest.raises(InputError, match="^01_01.amc" + message):
        parse_amc(text, SKELETON, "01_01.amc")


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("    lfemur ltibia", "    lfemur nothing", r", line \d+: bone nothing is not in section :bonedata"),
        ("    lfemur ltibia", "    lfemur root", r", line \d+: bone root already has a parent"),
        ("    lfemur ltibia", "    lshin ltibia", r", line \d+: bone lshin has children before it has a parent"),
        (
            "direction 0.34 -0.94 0",
            "direction 0.34 x 0",
            r", line \d+: direction: found '0.34 x 0', expected 3 numbers",
        ),
        ("length 7.5", "length 0", r", line \d+: length: bone lfemur has no length"),
        ("     length 7.5\n", "", r", line \d+: bone lfemur: found no length"),
        ("     name lfemur\n", "", r", line \d+: found no name"),
        ("axis 0 0 20 XYZ", "axis", r", line \d+: axis: found 0 numbers"),
        ("axis 0 0 20 XYZ", "axis 0 0 20 XYX", r", line \d+: axis: found '0 0 20 xyx', expected X, Y and Z"),
        ("dof rx ry rz", "dof rx ry tz", r", line \d+: dof: found 'rx ry tz', expected rx, ry and rz, each once"),
        ("length 0.45", "length wide", ", line 5: length: found 'wide', expected 1 numbers"),
        ("length 0.45", "length 0", ", line 5: length: found 0.0, expected more than 0"),
        ("  length 0.45\n", "", ": section :units: found no length"),
        ("angle deg", "angle turns", ", line 6: angle: found 'turns', expected deg or rad"),
        ("TX TY TZ RX RY RZ", "TX TY RX RY RZ", ", line 8: order: found 'tx ty rx ry rz', expected TX TY TZ"),
        (":hierarchy", ":something", ": no bones in section :hierarchy"),
        (asf(), "", ": section :units: found no length"),
    ],
)
def test_a_malformed_skeleton_is_named_by_file_line_and_reason(old, new, message):
    text = asf()
    assert old in text
    with pytest.raises(InputError, match="^01.asf" + message):
        parse_asf(text.replace(old, new, 1), "01.asf")
