import roma
import torch

from noise2pose import cameras, skeletons
from noise2pose.images.mirroring import mirror_batch, mirror_pose, mirror_rotations, mirror_smpl
from tests.known_people import ASYMMETRY, people
from tests.tiny import TinyPoses

H36M = skeletons.get("h36m_17")


def test_mirroring_twice_changes_nothing():
    for frames in (1, 4):
        batch = TinyPoses(num_frames=frames).load("val")
        again = mirror_batch(mirror_batch(batch, H36M), H36M)
        for key in ("keypoints_2d", "keypoints_3d"):
            assert torch.allclose(again[key], batch[key])
        for key in ("focal", "principal_point", "image_size"):
            assert torch.equal(again["camera"][key], batch["camera"][key])
        assert again["sample_id"] == batch["sample_id"]
    pose = torch.randn(3, 17, 3)
    assert torch.equal(mirror_pose(mirror_pose(pose, H36M), H36M), pose)


def test_the_mirrored_pose_projects_on_the_mirrored_image():
    batch = TinyPoses().load("val")
    batch["camera"]["principal_point"] = torch.tensor([480.0, 510.0]).expand(32, 2)
    batch["keypoints_2d"][..., :2] = cameras.project(batch["keypoints_3d"][..., :3], **focal_and_centre(batch))
    mirrored = mirror_batch(batch, H36M)
    pixels = cameras.project(mirrored["keypoints_3d"][..., :3], **focal_and_centre(mirrored))
    assert torch.allclose(pixels, mirrored["keypoints_2d"][..., :2], atol=1e-3)
    assert torch.equal(mirrored["keypoints_2d"][:, 4, 1], batch["keypoints_2d"][:, 1, 1])  # left hip, right hip


def focal_and_centre(batch):
    return {key: batch["camera"][key] for key in ("focal", "principal_point")}


def test_everything_is_mirrored_and_mirrored_back():
    batch, body = people()
    batch["image"], batch["heatmaps"] = torch.rand(4, 3, 16, 16), torch.rand(4, 17, 8, 8)
    root = body.rest_joints(batch["smpl"]["betas"])[:, 0]
    mirrored = mirror_batch(batch, H36M, root, body)
    again = mirror_batch(mirrored, H36M, root, body)
    assert set(again) == set(mirrored) == set(batch)
    for key in ("image", "heatmaps", "box", "keypoints_2d", "keypoints_3d", "smpl_joints", "camera_translation"):
        assert torch.allclose(again[key], batch[key], atol=1e-4), key
        assert not torch.allclose(mirrored[key], batch[key], atol=1e-4), key
    assert torch.allclose(again["vertices"], batch["vertices"], atol=1e-5)
    for key in ("global_orient", "body_pose", "betas"):
        assert torch.equal(again["smpl"][key], batch["smpl"][key])


def test_the_mirrored_body_is_the_mirror_image_as_far_as_the_body_is_symmetric():
    batch, body = people()
    root = body.rest_joints(batch["smpl"]["betas"])[:, 0]
    mirrored = mirror_batch(batch, H36M, root, body)
    posed = body(**mirrored["smpl"], translation=mirrored["camera_translation"])
    assert torch.allclose(posed.joints[:, 0], mirrored["smpl_joints"][:, 0], atol=1e-5), "the root joint is exact"
    assert (posed.joints - mirrored["smpl_joints"]).norm(dim=-1).max() < ASYMMETRY
    joints = body.joints(**mirrored["smpl"], translation=mirrored["camera_translation"])
    assert (joints - mirrored["keypoints_3d"][..., :3]).norm(dim=-1).max() < ASYMMETRY
    assert torch.equal(mirrored["vertices"], posed.vertices)


def test_rotations_in_a_mirror_are_rotations():
    rotation = roma.rotvec_to_rotmat(torch.randn(5, 3))
    mirror = torch.diag(torch.tensor([-1.0, 1.0, 1.0]))
    assert torch.allclose(mirror_rotations(rotation), mirror @ rotation @ mirror)
    smpl = {
        "global_orient": rotation[0][None],
        "body_pose": torch.eye(3).expand(1, 23, 3, 3).clone(),
        "betas": torch.ones(1, 10),
    }
    smpl["body_pose"][0, 0] = rotation[1]  # the left hip
    mirrored = mirror_smpl(smpl)
    assert torch.allclose(mirrored["body_pose"][0, 1], mirror @ rotation[1] @ mirror), "becomes the right one"
    assert torch.equal(mirrored["body_pose"][0, 0], torch.eye(3))
    short = mirror_smpl({**smpl, "body_pose": smpl["body_pose"][:, :21]})["body_pose"]
    assert torch.equal(short, mirrored["body_pose"][:, :21]), "without the hands"


def test_what_cannot_be_mirrored_is_left_out():
    batch, body = people()
    root = body.rest_joints(batch["smpl"]["betas"])[:, 0]
    assert not {"camera_translation", "vertices"} & set(mirror_batch(batch, H36M))
    assert "vertices" not in mirror_batch(batch, H36M, root)
    del batch["keypoints_3d"]
    assert "keypoints_3d" not in mirror_batch(batch, H36M)
