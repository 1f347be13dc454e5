"""Results that were saved give the same motions again."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from methods.inference import Annotations, Lifter
from methods.inference.results import LiftedPoses
from methods.inference.saved import load_result
from noise2pose.annotation.layout import empty
from noise2pose.bodies import BodyModel
from noise2pose.errors import InputError
from tests.noise2pose.keypoints.walker import coco_walker

INFO = {"camera_pitch": 10.0, "method": "x", "keypoints_about": "", "body": "free", "gender": "neutral"}


@pytest.fixture(scope="module")
def lifted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lifted")
    poses = Lifter("diffpose-people").predict(coco_walker(5), fps=20.0)
    poses.save(folder, pictures=0, gif=False)
    return poses, folder


def bodies():
    """Two frames of somebody in a video, and a frame of somebody else."""
    arrays = {key: np.zeros((3, *value.shape[1:]), value.dtype) for key, value in empty().items()}
    arrays["poses"][:, 0] = np.pi
    arrays["trans"][:] = [0.1, 0.2, 4.0]
    body = BodyModel.load("free")
    orient = torch.diag(torch.tensor([1.0, -1.0, -1.0])).expand(3, 3, 3)
    pose, shape = torch.eye(3).expand(3, 23, 3, 3), torch.zeros(3, 10)
    place = torch.from_numpy(arrays["trans"])
    arrays["joints_3d"] = body.joints(orient, pose, shape, place, regressor="h36m_17").numpy()
    arrays["keypoints_2d"][..., 2] = 0.8
    arrays["observed"][:] = True
    arrays["names"] = np.array(["a", "b", "c"])
    arrays["file_names"] = np.array(["c.mp4/c_000000", "c.mp4/c_000002", "c.mp4/c_000002"])
    arrays["people"], arrays["frames"] = np.array(["7", "7", "8"]), np.array([0, 2, 2])
    arrays["times"] = np.array([0.0, 0.1, 0.1])
    arrays["suspect_reasons"] = np.array(["", "", ""])
    return Annotations(arrays, [("d.jpg", "nobody")], body, [], None, INFO, {}, lambda batch: None)


def same(one, other):
    assert (one.name, one.video, one.level_about) == (other.name, other.video, other.level_about)
    assert np.array_equal(one.joints, other.joints) and np.allclose(one.times, other.times)
    assert np.array_equal(one.keypoints_2d, other.keypoints_2d) and np.allclose(one.level, other.level)
    for key in ("uncertainty", "hypotheses"):
        assert np.array_equal(getattr(one, key), getattr(other, key)), key


def test_lifted_poses_are_read_again(lifted):
    poses, folder = lifted
    again = load_result(folder)
    for one, other in zip(again.motions(), poses.motions(), strict=True):
        same(one, other)
    assert np.array_equal(again.valid, poses.valid) and again.names == poses.names


def test_annotations_are_read_again(tmp_path):
    people = bodies()
    people.save(tmp_path, pictures=0)
    again = load_result(tmp_path / "annotations.npz")
    assert isinstance(again, Annotations) and again.skipped == [("d.jpg", "nobody")]
    motions = again.motions()
    assert [(motion.name, len(motion)) for motion in motions] == [("7", 2), ("c", 1)]
    for one, other in zip(motions, people.motions(), strict=True):
        same(one, other)
        assert one.body is not None and other.body is not None
        assert np.array_equal(one.body.rotations, other.body.rotations)
    with pytest.raises(InputError, match=r"bodies of none.npz, which is not there: .* --body FILE"):
        load_result(tmp_path, body="none.npz")


def test_what_is_no_result_is_named(tmp_path, lifted):
    _, folder = lifted

    def refused(place):
        with pytest.raises(InputError) as error:
            load_result(place)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "does not exist: give the folder that `noise2pose predict SOURCE --output DIR` wrote" in refused("nowhere")
    assert "it is empty: write them with `noise2pose predict SOURCE" in refused(tmp_path)
    (tmp_path / "a.txt").write_text("")
    assert "only a.txt: write them" in refused(tmp_path) and "is none of poses.npz" in refused(tmp_path / "a.txt")
    inside = tmp_path / "run"
    inside.mkdir()
    content = (folder / "poses.npz").read_bytes()
    (inside / "poses.npz").write_bytes(content[:1000])
    assert "folders in it do: give " in refused(tmp_path) and "is damaged (" in refused(inside)
    (inside / "poses.npz").write_bytes(b"")
    assert "is damaged (" in refused(inside)
    with np.load(folder / "poses.npz") as file:
        arrays = dict(file)
    np.savez(inside / "poses.npz", **{key: value for key, value in arrays.items() if key != "level"})
    assert "lacks level: it was not written by this version" in refused(inside)
    np.savez(inside / "poses.npz", **{**arrays, "keypoints_2d": arrays["keypoints_2d"][:3]})
    assert "keypoints_2d has the shape (3, 17, 3), expected (5, 17, 3)" in refused(inside)
    (inside / "annotations.npz").write_bytes(content)
    assert "holds poses.npz and annotations.npz: say which" in refused(inside)


def test_frame_of_reference_and_rate_are_those_that_were_saved(tmp_path):
    level = Lifter("diffpose-people").predict(coco_walker(3), fps=20.0, level=True)
    level.save(tmp_path / "level", pictures=0, gif=False)
    again = load_result(tmp_path / "level")
    assert isinstance(again, LiftedPoses) and again.frame == level.frame != LiftedPoses.frame
    assert np.array_equal(again.from_camera, level.from_camera)

    people = bodies()
    arrays = {**people.arrays, "times": np.full(3, -1.0), "frames": np.array([0, 1, 1])}
    slow = replace(people, arrays=arrays, info={**INFO, "fps": 12.5}, fps=12.5)
    slow.save(tmp_path / "slow", pictures=0)
    moving = load_result(tmp_path / "slow").motions()[0]
    assert moving.fps == 12.5 and np.allclose(moving.times, [0.0, 1 / 12.5])


def test_poses_that_are_all_at_one_time_are_refused(tmp_path):
    people = bodies()
    replace(people, arrays={**people.arrays, "times": np.zeros(3)}).save(tmp_path, pictures=0)
    with pytest.raises(InputError, match="at the same time, though their frames differ"):
        load_result(tmp_path).motions()
