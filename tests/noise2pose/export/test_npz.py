import numpy as np
import roma
import torch

from noise2pose.export.npz import write_motion_npz
from tests.noise2pose.export.motions import FPS, H36M, body_motion, body_places, free_body, joint_motion

MILLIMETRE = 0.001


def test_the_keys_of_amass_pose_the_body_with_z_up(tmp_path):
    motion = body_motion()
    write_motion_npz(tmp_path / "a.npz", motion)
    with np.load(tmp_path / "a.npz") as file:
        read = dict(file)
    assert read["poses"].shape == (5, 72) and read["betas"].shape == (10,) and str(read["gender"]) == "neutral"
    assert float(read["mocap_framerate"]) == FPS and str(read["body"]) == "free"
    rotations = roma.rotvec_to_rotmat(torch.from_numpy(read["poses"]).unflatten(-1, (24, 3)))
    betas = torch.from_numpy(read["betas"]).expand(5, -1)
    posed = free_body()(rotations[:, 0], rotations[:, 1:], betas, torch.from_numpy(read["trans"])).vertices.numpy()
    x, y, z = np.moveaxis(body_places(motion)[0], -1, 0)
    assert np.abs(posed - np.stack((x, -z, y), axis=-1)).max() < MILLIMETRE  # from y up to z up
    regressed = free_body().joints(rotations[:, 0], rotations[:, 1:], betas, torch.from_numpy(read["trans"]))
    assert np.abs(regressed.numpy() - read["joints"]).max() < MILLIMETRE
    names = read["joint_names"].tolist()
    assert (
        names == list(H36M.joints) and (read["joints"][:, names.index("head_top"), 2] > read["joints"][:, 0, 2]).all()
    )
    assert "z up" in str(read["axes"]) and "15 degrees" in str(read["level"])


def test_joints_alone_come_with_what_is_known_about_them(tmp_path):
    motion = joint_motion(4)
    write_motion_npz(tmp_path / "a.npz", motion.rows([0, 1, 3]))
    with np.load(tmp_path / "a.npz") as file:
        read = dict(file)
    assert {"poses", "trans", "betas"}.isdisjoint(read) and str(read["person"]) == "berta"
    assert read["frames"].tolist() == [0, 1, 2, 3] and read["measured"].tolist() == [True, True, False, True]
    assert np.abs(read["joints"][[0, 1, 3]] - (motion.joints @ motion.to_z_up.T)[[0, 1, 3]]).max() < MILLIMETRE
    assert read["hypotheses"].shape == (4, 3, 17, 3) and read["uncertainty"].shape == (4, 17)
    away = np.linalg.norm(read["hypotheses"] - read["joints"][:, None], axis=-1)
    want = np.linalg.norm(motion.hypotheses - motion.joints[:, None], axis=-1)
    assert np.allclose(away[[0, 1, 3]], want[[0, 1, 3]], atol=1e-5)
