"""Pairs of a Kinect and a Vicon as an evaluation set: what is the input, what the truth, and what is removed."""

import numpy as np
import pytest
import torch

from datamodules.preparation import Part, Plan, Rows, prepare
from datamodules.sensor_motion import DATASET, SensorMotion, joint_offsets, trunk_frames
from noise2pose.errors import InputError
from tests.datamodules import uiprmd_tree as tree
from tests.datamodules.bvh_files import PERSON, naive_joints

FRAMES = 40


def standing():
    """(17, 3) of somebody who stands, z up, facing +x."""
    from scipy.spatial.transform import Rotation

    places = {joint: np.array(place) for joint, (_, place) in PERSON.items()}
    parents = {joint: above for joint, (above, _) in PERSON.items()}
    offsets = {joint: places[joint] - (places[above] if above else 0.0) for joint, above in parents.items()}
    (joints,) = naive_joints(parents, offsets, {joint: Rotation.identity(1) for joint in PERSON})
    return joints[:, [2, 0, 1]]


def pairs(noise):
    """A prepared folder's rows: two people with offsets of their own, and noise of a sensor."""
    generator = np.random.default_rng(0)
    truth, sensor, sequences = [], [], []
    for subject, split in (("UIPRMD01", "train"), ("UIPRMD08", "test")):
        offset = generator.normal(0, 0.05, (17, 3))
        for repetition in range(2):
            moving = tree.swaying(standing(), FRAMES, fps=30.0, start=repetition)
            lies = tree.swaying(offset, FRAMES, fps=30.0, start=repetition)
            truth.append(moving)
            sensor.append(moving + lies + generator.normal(0, noise, moving.shape))
            about = {"subject": subject, "action": "deep squat", "split": split}
            sequences.append({"name": f"m01_{subject}_{repetition}", **about})
    arrays = {"joints_world": np.concatenate(truth), "joints_sensor": np.concatenate(sensor)}
    return Rows(arrays, sequences, np.repeat(np.arange(4), FRAMES), [], {}, [])


def folder(tmp_path, noise=0.0):
    facts = {"fps": 30, "skeletons": dict.fromkeys(("joints_world", "joints_sensor"), "h36m_17")}
    plan = Plan(DATASET, "licence", facts, None, [Part("all", pairs, (noise,), ())], [], [])
    prepare(plan, tmp_path / "pairs", num_workers=0)
    return str(tmp_path / "pairs")


def pixels(samples):
    """Where the truth is seen, by projecting it again."""
    from datamodules.sources.human36m.cameras import H36M_INTRINSICS
    from noise2pose import cameras

    exact = torch.empty_like(samples["keypoints_2d"][..., :2])
    for number, name in enumerate(samples["sample_id"]):
        intrinsics = H36M_INTRINSICS[int(name.split("/camera")[1][0])]
        screen = cameras.project_distorted(samples["keypoints_3d"][number, :, :3], intrinsics.normalised())
        exact[number] = cameras.from_screen(screen, torch.tensor(intrinsics.size))
    return exact


def test_the_input_is_the_sensors_and_the_truth_is_the_vicons(tmp_path):
    root = folder(tmp_path)
    data = SensorMotion(root, same_joints=False, eval_stride=4)
    samples = data.load("test")
    assert samples["keypoints_3d"].shape == (2 * 10 * 4, 17, 4) and set(samples["subject"]) == {"UIPRMD08"}
    off = (samples["keypoints_2d"][..., :2] - pixels(samples)).norm(dim=-1)
    assert 3.0 < off.mean() < 60.0  # some 9 cm seen from 4.5 m
    bones = (samples["keypoints_3d"][:, 1, :3] - samples["keypoints_3d"][:, 2, :3]).norm(dim=-1)
    expected = np.linalg.norm(standing()[1] - standing()[2])
    assert torch.allclose(bones, torch.full_like(bones, float(expected)), atol=1e-4)


def test_constant_offsets_are_removed_and_noise_stays(tmp_path):
    exact = SensorMotion(folder(tmp_path)).load("test")
    assert torch.allclose(exact["keypoints_2d"][..., :2], pixels(exact), atol=0.5)
    noisy = SensorMotion(folder(tmp_path / "noisy", noise=0.02)).load("test")
    off = (noisy["keypoints_2d"][..., :2] - pixels(noisy)).norm(dim=-1)
    assert 2.0 < off.mean() < 15.0


def test_offsets_equal_a_loop_over_frames():
    generator = torch.Generator().manual_seed(0)
    measured = torch.randn(6, 17, 3, generator=generator)
    truth = torch.randn(6, 17, 3, generator=generator)
    expected = torch.zeros(17, 3)
    for frame in range(6):
        up = measured[frame, 8] - measured[frame, 0]
        up = up / up.norm()
        forwards = torch.linalg.cross(measured[frame, 4] - measured[frame, 1], up)
        forwards = forwards / forwards.norm()
        axes = (forwards, torch.linalg.cross(up, forwards), up)
        for joint in range(17):
            off = measured[frame, joint] - truth[frame, joint]
            expected[joint] += torch.stack([off @ axis for axis in axes]) / 6
    assert torch.allclose(joint_offsets(measured, truth), expected, atol=1e-6)
    (frame,) = trunk_frames(torch.from_numpy(standing())[None])
    assert torch.allclose(frame, torch.eye(3, dtype=frame.dtype), atol=1e-6)  # facing +x, left +y, z up


def test_it_is_for_evaluation_and_says_what_it_is(tmp_path):
    root = folder(tmp_path)
    data = SensorMotion(root)
    (protocol,) = data.protocols("test")
    assert protocol.dataset == "uiprmd_kinect" and protocol.keypoints_2d == "detected"
    assert "UIPRMD08" in protocol.split and "30 Hz" in protocol.split and "constant offsets" in protocol.split
    assert "its own joints" in SensorMotion(root, same_joints=False).protocols("test")[0].split
    assert set(SensorMotion(root, people="all").load("test")["subject"]) == {"UIPRMD01", "UIPRMD08"}
    with pytest.raises(InputError, match="for evaluation only"):
        data.load("train")
    with pytest.raises(InputError, match="has no people for val; take everybody with data.people all"):
        data.load("val")
    with pytest.raises(InputError, match="data.people is some, expected held_out or all"):
        SensorMotion(root, people="some")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="dataset.json does not exist"):
        SensorMotion(str(tmp_path / "none")).prepare_data()
