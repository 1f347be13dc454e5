"""Published cameras, and metadata.xml."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from datamodules.sources.human36m.cameras import _POSES, CAMERAS, INTRINSICS, extrinsics, read_metadata, to_camera
from datamodules.sources.human36m.sequences import JOINTS_OF_32, unify_action
from noise2pose import cameras
from noise2pose.errors import InputError
from tests.datamodules import human36m_tree as tree


def test_the_17_of_32_joints_are_the_published_ones():
    assert JOINTS_OF_32 == (0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27)


def test_world_to_camera_is_the_inverse_of_the_cameras_pose():
    points = np.random.default_rng(0).normal(size=(3, 5, 3))
    for subject, poses in _POSES.items():
        for camera, pose in zip(CAMERAS, poses, strict=True):
            orientation = Rotation.from_quat(pose[:4], scalar_first=True)
            naive = orientation.inv().apply((points - np.array(pose[4:]) / 1000.0).reshape(-1, 3)).reshape(3, 5, 3)
            np.testing.assert_allclose(to_camera(points, *extrinsics(subject, camera)), naive, atol=1e-5)


def test_every_camera_sees_the_middle_of_the_room():
    for subject in _POSES:
        for camera in CAMERAS:
            middle = to_camera(np.array([[[0.0, 0.0, 1.0]]]), *extrinsics(subject, camera))
            pixels = cameras.project(
                torch.from_numpy(middle),
                torch.tensor(INTRINSICS[camera].focal),
                torch.tensor(INTRINSICS[camera].principal_point),
            )
            assert 3.0 < middle[0, 0, 2] < 7.0 and 200 < pixels.min() and pixels.max() < 800
    with pytest.raises(InputError, match="S2, camera 54138969: no pose"):
        extrinsics("S2", "54138969")


def test_metadata(tmp_path):
    path = tmp_path / "metadata.xml"
    path.write_text(tree.metadata_xml())
    assert read_metadata(path) == INTRINSICS
    path.write_text(tree.metadata_xml().replace(" ", ";"))
    assert read_metadata(path)["58860488"].radial == INTRINSICS["58860488"].radial
    # The beginning of the first camera's numbers in the published file: k1, k2, k3, p1, p2 as OpenCV counts them.
    assert "-0.0030751503072679043 -0.00142447161488235 -0.0009756988729350269" in tree.metadata_xml()
    for broken in ("<metadata/>", "<metadata><w0>[1 2 3]</w0></metadata>", "<metadata><w0>[1 x", ""):
        path.write_text(broken)
        with pytest.raises(InputError, match="metadata.xml"):
            read_metadata(path)


def test_actions_have_one_name_each():
    names = {"TakingPhoto": "Photo", "TakingPhoto 1": "Photo 1", "WalkingDog_1": "WalkDog 1", "Walking 1": "Walking 1"}
    assert {name: unify_action(name) for name in names} == names
    assert unify_action("SittingDown 2").split(" ")[0] == "SittingDown"
