import torch

from noise2pose import cameras, skeletons
from noise2pose.mirroring import mirror_batch, mirror_pose
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


def test_what_cannot_be_mirrored_is_left_out():
    batch = TinyPoses().load("val")
    batch["box"] = torch.zeros(32, 3)
    assert "box" not in mirror_batch(batch, H36M)
    del batch["keypoints_3d"]
    assert "keypoints_3d" not in mirror_batch(batch, H36M)
