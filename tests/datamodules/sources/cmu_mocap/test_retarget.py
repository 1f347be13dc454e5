import numpy as np
import pytest
import roma
import torch

from datamodules.sources.cmu_mocap.asf_amc import parse_amc, parse_asf
from datamodules.sources.cmu_mocap.files import list_motions
from datamodules.sources.cmu_mocap.retarget import retarget
from datamodules.sources.common.archives import read_file
from noise2pose.bodies import BodyModel
from tests.datamodules.acclaim import amc, asf
from tests.places import SHARED

CMU = SHARED / "data" / "cmu_mocap"
# SMPL-24 bones and the Human3.6M-17 bones that they follow: thighs, shanks, upper arms, forearms.
LIMBS = {
    **{(1, 4): (4, 5), (4, 7): (5, 6), (2, 5): (1, 2), (5, 8): (2, 3)},
    **{(16, 18): (11, 12), (18, 20): (12, 13), (17, 19): (14, 15), (19, 21): (15, 16)},
}


def posed_body(result):
    """The joints (F, 24, 3) of the mean free body in the world, and its global rotations."""
    body = BodyModel.load("free", dtype=torch.float64)
    rotations = roma.rotvec_to_rotmat(torch.from_numpy(result.rotations))
    zeros = torch.zeros(len(rotations), 13, dtype=torch.float64)
    joints = body.joints(rotations[:, 0], rotations[:, 1:], zeros[:, :10], zeros[:, :3], regressor="smpl_24")
    joints = joints - joints[:, :1] + torch.from_numpy(result.translation)[:, None]
    for number, parent in enumerate(body.parents[1:], start=1):
        rotations[:, number] = rotations[:, parent] @ rotations[:, number]
    return joints.numpy(), rotations.numpy()


def degrees_between(a, b):
    cosine = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
    return np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))


def degrees_of(rotations):
    return np.degrees(roma.rotmat_geodesic_distance(torch.from_numpy(rotations), torch.eye(3, dtype=torch.float64)))


@pytest.fixture(scope="module")
def result():
    skeleton = parse_asf(asf(), "01.asf")
    return retarget(skeleton, parse_amc(amc(), skeleton, "01_01.amc"), 120.0, 50.0)


def test_limbs_of_the_body_point_where_those_of_the_mocap_do(result):
    joints, _ = posed_body(result)
    for (start, end), (a, b) in LIMBS.items():
        limb, bone = joints[:, end] - joints[:, start], result.joints_3d[:, b] - result.joints_3d[:, a]
        assert degrees_between(limb, bone).max() < 1e-3


def test_the_hips_of_the_body_are_in_the_middle_of_those_of_the_mocap(result):
    joints, _ = posed_body(result)
    assert np.allclose(joints[:, 1:3].mean(axis=1), result.joints_3d[:, [1, 4]].mean(axis=1), atol=1e-6)


def test_without_motion_the_body_stands_upright_and_faces_minus_y_of_the_world():
    skeleton = parse_asf(asf(), "01.asf")
    still = "\n".join(
        " ".join([word.split()[0], *("0" for _ in word.split()[1:])]) if word[:1].isalpha() else word
        for word in amc(frames=3).split("\n")
    )
    result = retarget(skeleton, parse_amc(still, skeleton, "01_01.amc"), 120.0, 50.0)
    assert np.allclose(result.rotations[:, 0], [np.pi / 2, 0.0, 0.0])  # y up to z up, z to -y
    joints, _ = posed_body(result)
    assert (joints[0, 15, 2] > joints[0, 0, 2] + 0.5) and joints[0, 10, 1] < joints[
        0, 7, 1
    ] - 0.1  # head up, toes to -y
    assert joints[0, 4, 0] > 0.1 and np.allclose(joints[0, 4], joints[0, 5] * [-1, 1, 1], atol=5e-3)  # left is +x


@pytest.mark.skipif(not CMU.exists(), reason="the CMU files are not here")
@pytest.mark.parametrize("clip", ["01_01", "02_01", "02_03", "03_01"])
def test_real_motions_agree_with_an_independent_conversion(clip):
    source = CMU / "all_asfamc_subjects_01-03.zip"
    files = next(motion for motion in list_motions(source) if motion.name == clip)
    skeleton = parse_asf(read_file(source, files.skeleton or "").decode(), files.skeleton or "")
    motion = parse_amc(read_file(source, files.motion).decode(), skeleton, files.motion)
    result = retarget(skeleton, motion, 120.0, 50.0)
    with np.load(CMU / "cmu_motion_50fps.npz") as other:
        number = other["clip_name"].tolist().index(clip)
        frames = slice(int(other["clip_start"][number]), int(other["clip_end"][number]))
        root = other["root_mm"][frames, None].astype(np.float64)
        joints = (other["pos3d_rootrel_mm"][frames] + root) / 1000.0
        rotations = roma.rotvec_to_rotmat(torch.from_numpy(other["smpl_aa"][frames].astype(np.float64))).numpy()
    count = len(joints)
    assert abs(len(result.joints_3d) - count) <= 1
    assert np.abs(result.joints_3d[:count] - joints).max() < 2e-3  # the other is stored in half precision

    body = BodyModel.load("free")
    _, mine = posed_body(result)
    z_up = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
    rotations[:, 0] = z_up @ rotations[:, 0]
    for joint, parent in enumerate(body.parents[1:], start=1):
        rotations[:, joint] = rotations[:, parent] @ rotations[:, joint]
    error = degrees_of(np.swapaxes(mine[:count], -1, -2) @ rotations).mean(axis=0)
    # The other conversion aligned its limbs with those of a body fitted to each subject; most of the difference is in
    # the feet.
    assert (np.asarray(error) < np.where(np.isin(np.arange(24), [7, 8]), 2.0, 0.7)).all()
