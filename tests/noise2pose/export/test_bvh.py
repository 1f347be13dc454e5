import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from noise2pose import skeletons
from noise2pose.errors import InputError
from noise2pose.export.bvh import write_bvh
from noise2pose.export.motion import ASSUMED_FPS
from tests.noise2pose.export.motions import FPS, H36M, body_motion, body_places, free_body, joint_motion, places

pybvh = pytest.importorskip("pybvh")
MILLIMETRE = 0.001


def read(path):
    """Names, rest places, places in each frame and frame rate of a file, by the words of the format alone.

    Lengths in metres; rotations are applied in the order of the channels, a position channel is the place of the root.
    """
    header, _, motion = path.read_text().partition("MOTION")
    names, parents, offsets, channels, open_joints = [], [], [], [], []
    for line in header.splitlines():
        words = line.split()
        if not words or words[0] in ("HIERARCHY", "{"):
            continue
        if words[0] in ("ROOT", "JOINT", "End"):
            parents.append(open_joints[-1] if open_joints else -1)
            names.append(f"{names[parents[-1]]}.end" if words[0] == "End" else words[1])
            channels.append([])
            open_joints.append(len(names) - 1)
        elif words[0] == "OFFSET":
            offsets.append([float(word) / 100.0 for word in words[1:]])
        elif words[0] == "CHANNELS":
            channels[-1] = words[2:]
        elif words[0] == "}":
            open_joints.pop()
    count, time, *rows = motion.strip().splitlines()
    values = np.array([row.split() for row in rows], dtype=float)
    assert len(values) == int(count.split()[1])
    world, found, column = [], [], 0
    for joint, parent in enumerate(parents):
        here = values[:, column : column + len(channels[joint])]
        column += len(channels[joint])
        turns = [number for number, channel in enumerate(channels[joint]) if channel.endswith("rotation")]
        order = "".join(channels[joint][number][0] for number in turns)
        own = Rotation.from_euler(order, here[:, turns], degrees=True) if order else Rotation.identity(len(values))
        world.append(own if parent < 0 else world[parent] * own)
        if parent < 0:
            assert channels[joint][:3] == ["Xposition", "Yposition", "Zposition"]
            found.append(here[:, :3] / 100.0)
        else:
            found.append(found[parent] + world[parent].apply(np.array(offsets[joint])))
    rest = np.zeros((len(names), 3))
    for joint, parent in enumerate(parents):
        rest[joint] = np.array(offsets[joint]) + (rest[parent] if parent >= 0 else 0.0)
    return names, rest, np.stack(found, axis=1), 1.0 / float(time.split()[-1])


def test_the_joints_of_a_body_come_back_from_the_file_alone(tmp_path):
    motion = body_motion()
    write_bvh(tmp_path / "a.bvh", motion)
    names, rest, found, fps = read(tmp_path / "a.bvh")
    columns = [names.index(name) for name in free_body().joint_names]
    assert fps == pytest.approx(FPS, rel=1e-6)
    assert np.abs(found[:, columns] - body_places(motion)[1]).max() < MILLIMETRE
    assert motion.body is not None
    own = free_body().rest_joints(torch.from_numpy(motion.body.betas)).numpy()
    assert np.abs(rest[columns] - (own - own[0])).max() < MILLIMETRE  # the body's own rest pose
    package = pybvh.read_bvh_file(tmp_path / "a.bvh", world_up="+y")
    theirs = package.joint_positions()[:, [package.joint_index[name] for name in free_body().joint_names]]
    assert np.abs(theirs / 100.0 - body_places(motion)[1]).max() < MILLIMETRE
    assert package.fps == pytest.approx(FPS, rel=1e-6)
    ends = {name: rest[number] - rest[names.index(name[:-4])] for number, name in enumerate(names) if ".end" in name}
    assert set(ends) == {"L_Foot.end", "R_Foot.end", "Head.end", "L_Hand.end", "R_Hand.end"}
    assert ends["Head.end"][1] > 0.05 and ends["L_Foot.end"][2] > 0.01 and ends["L_Hand.end"][0] > 0.02


def test_the_joints_of_a_lifter_come_back(tmp_path):
    motion = joint_motion()
    write_bvh(tmp_path / "a.bvh", motion)
    names, rest, found, _ = read(tmp_path / "a.bvh")
    columns = [names.index(name) for name in H36M.joints]
    assert np.abs(found[:, columns] - places(motion)).max() < MILLIMETRE
    t_pose = dict(zip(names, rest, strict=True))  # y up, facing +z, the left at +x
    assert t_pose["left_wrist"][0] > 0.5 and t_pose["right_wrist"][0] < -0.5
    assert t_pose["left_wrist"][1] == pytest.approx(t_pose["thorax"][1])
    assert t_pose["head_top"][1] > t_pose["thorax"][1] > 0 > t_pose["left_knee"][1] > t_pose["left_ankle"][1]


def test_bones_that_change_their_length_get_the_median_and_reach_as_far_as_they_can(tmp_path):
    plain = joint_motion(7)
    stretched = plain.joints * np.array([0.9, 1.0, 1.1, 1.0, 1.0, 1.0, 1.0])[:, None, None]
    write_bvh(tmp_path / "a.bvh", joint_motion(7, joints=stretched))
    names, _, found, _ = read(tmp_path / "a.bvh")
    found = found[:, [names.index(name) for name in H36M.joints]]
    parents, children = np.array(H36M.edges).T
    lengths = np.linalg.norm(found[:, children] - found[:, parents], axis=-1)
    want = np.median(np.linalg.norm(stretched[:, children] - stretched[:, parents], axis=-1), axis=0)
    assert np.abs(lengths - want).max() < MILLIMETRE
    away = np.linalg.norm(found - stretched @ plain.to_y_up.T, axis=-1)
    in_old_directions = np.linalg.norm(plain.joints - stretched, axis=-1)
    assert away[[1, 3, 4, 5, 6]].max() < MILLIMETRE and away[[0, 2]].mean() < in_old_directions[[0, 2]].mean()


def test_the_file_is_right_handed_upright_and_names_the_sides_as_they_are(tmp_path):
    for number, motion in enumerate((body_motion(), joint_motion())):
        write_bvh(tmp_path / f"{number}.bvh", motion)
        names, _, found, _ = read(tmp_path / f"{number}.bvh")
        place = {
            name.lower().replace("l_", "left_").replace("r_", "right_"): found[:, i] for i, name in enumerate(names)
        }
        up = place["neck" if number == 0 else "thorax"] - place["pelvis"]
        left = place["left_hip"] - place["right_hip"]
        forward = np.cross(left, up)  # of a right-handed frame
        assert (up[:, 1] > 0.3).all()
        thigh = place["right_knee"] - place["right_hip"]
        shank = place["right_ankle"] - place["right_knee"]
        bend = np.cross(thigh, shank)[-1]  # the right knee is bent by 1.2 at the end
        assert np.linalg.norm(bend) > 0.05
        # a knee that bends as people's do lies in front of the line from hip to ankle
        middle = (place["right_hip"] + place["right_ankle"])[-1] / 2.0
        assert (place["right_knee"][-1] - middle) @ forward[-1] > 0


def test_missing_frames_are_interpolated_so_that_the_rate_is_right(tmp_path):
    whole = body_motion(6)
    write_bvh(tmp_path / "a.bvh", whole.rows([0, 1, 4, 5]))
    _, _, found, fps = read(tmp_path / "a.bvh")
    assert len(found) == 6 and fps == pytest.approx(FPS, rel=1e-6)
    write_bvh(tmp_path / "b.bvh", whole.rows([0, 2, 4]))
    _, _, every_second, fps = read(tmp_path / "b.bvh")
    assert len(every_second) == 3 and fps == pytest.approx(FPS / 2.0, rel=1e-6)
    assert np.abs(every_second[2] - found[4]).max() < MILLIMETRE
    write_bvh(tmp_path / "c.bvh", whole.rows([3]))
    _, _, one, fps = read(tmp_path / "c.bvh")
    assert len(one) == 1 and fps == pytest.approx(FPS)
    write_bvh(tmp_path / "d.bvh", body_motion(1, fps=None))
    assert read(tmp_path / "d.bvh")[3] == pytest.approx(ASSUMED_FPS)


def test_limbs_that_point_against_the_rest_pose_and_angles_that_turn_far_stay_exact(tmp_path):
    motion = joint_motion(40)
    turns = Rotation.from_euler("y", np.linspace(0.0, 4.0 * np.pi, 40)[:, None]).as_matrix()  # two whole turns
    joints = np.einsum("fab,fjb->fja", turns, np.repeat(motion.joints[:1], 40, axis=0)).astype(np.float32)
    left = H36M.index("left_elbow")
    shoulders = joints[:, H36M.index("left_shoulder")] - joints[:, H36M.index("right_shoulder")]
    joints[:, left] = joints[:, H36M.index("left_shoulder")] - 0.5 * shoulders  # across the breast
    joints[:, H36M.index("left_wrist")] = joints[:, left] - 0.4 * shoulders
    write_bvh(tmp_path / "a.bvh", joint_motion(40, joints=joints))
    names, _, found, _ = read(tmp_path / "a.bvh")
    want = joints @ motion.to_y_up.T
    assert np.abs(found[:, [names.index(name) for name in H36M.joints]] - want).max() < MILLIMETRE
    values = np.loadtxt((tmp_path / "a.bvh").read_text().partition("Frame Time")[2].splitlines()[1:])
    assert np.abs(np.diff(values[:, 3:6], axis=0)).max() < 60.0  # degrees of the root: no leaps by a turn


def test_skeletons_without_a_known_rest_pose_are_refused(tmp_path):
    coco = skeletons.get("coco_17")
    with pytest.raises(InputError, match="no rest pose is known of skeleton coco_17, because of left_eye"):
        write_bvh(tmp_path / "a.bvh", joint_motion(skeleton=coco))
    assert not list(tmp_path.iterdir())
