"""Bodies seen by a camera that is turned to the person, and turned back."""

import pytest
import roma
import torch

from methods.facing import limbs, towards_person, turned_back
from methods.hmr import HMR
from noise2pose import cameras, skeletons
from noise2pose.bodies import BodyModel
from tests.tiny import TinyPeople

SKELETON = skeletons.get("h36m_17")
BODY = BodyModel.load("free")


def people():
    """Bodies anywhere in the image."""
    batch = TinyPeople(image_size=1).load("val")
    aside = roma.rotvec_to_rotmat(torch.tensor([0.2, -0.3, 0.0]))
    joints = batch["keypoints_3d"][..., :3] @ aside.mT
    camera = batch["camera"]
    pixels = cameras.project(joints, camera["focal"], camera["principal_point"])
    batch["keypoints_3d"] = torch.cat((joints, torch.ones_like(joints[..., :1])), dim=-1)
    batch["keypoints_2d"] = torch.cat((pixels, torch.ones_like(pixels[..., :1])), dim=-1)
    batch["smpl"]["global_orient"] = aside @ batch["smpl"]["global_orient"]
    return batch


def test_labels_of_the_turned_camera_agree_and_the_person_fills_the_box():
    batch, rotation = towards_person(people(), SKELETON, "limbs")
    assert rotation is not None
    joints, camera = BODY.joints(**batch["smpl"]), batch["camera"]
    truth = batch["keypoints_3d"][..., :3]
    assert torch.allclose(joints - joints[:, :1], truth - truth[:, :1], atol=1e-5)
    pixels = cameras.project(truth, camera["focal"], camera["principal_point"])
    assert torch.allclose(pixels, batch["keypoints_2d"][..., :2], atol=0.01)
    assert (batch["keypoints_2d"][..., 2] == limbs(people()["keypoints_2d"], SKELETON)[..., 2]).all()
    assert batch["keypoints_2d"][..., 2].sum() == 12 * 32
    seen = pixels[:, batch["keypoints_2d"][0, :, 2] > 0]
    low, high = seen.amin(dim=1), seen.amax(dim=1)
    assert torch.allclose(batch["box"][:, :2], (low + high) / 2.0, atol=0.01)
    assert torch.allclose(batch["box"][:, 2], (high - low).amax(dim=-1), atol=0.01)
    off = (batch["box"][:, :2] - camera["principal_point"]).norm(dim=-1) / camera["focal"][:, 0]
    assert off.max() < 0.02, "the camera looks at the person"


def test_an_answer_turned_back_is_the_same_body_in_the_same_place():
    original = people()
    batch, rotation = towards_person(original, SKELETON, "limbs")
    smpl, root = batch["smpl"], BODY.rest_joints(batch["smpl"]["betas"])[:, 0]
    translation = batch["keypoints_3d"][:, 0, :3] - BODY.joints(**smpl)[:, 0]
    joints = BODY.joints(**smpl)
    answer = turned_back(
        {
            "joints_3d": joints - joints[:, :1],
            "vertices": BODY(**smpl).vertices - joints[:, :1],
            "smpl": smpl,
            "camera_translation": translation,
        },
        rotation,
        root,
    )
    posed = BODY.joints(**answer["smpl"], translation=answer["camera_translation"])
    assert torch.allclose(posed, original["keypoints_3d"][..., :3], atol=1e-4)
    assert torch.allclose(answer["joints_3d"], posed - posed[:, :1], atol=1e-4)
    vertices = BODY(**answer["smpl"]).vertices - BODY.joints(**answer["smpl"])[:, :1]
    assert torch.allclose(answer["vertices"], vertices, atol=1e-4)


def test_where_a_person_stands_and_what_is_no_limb_do_not_matter_to_hmr():
    torch.manual_seed(0)
    method = HMR(input="keypoints", normalisation="limbs", width=32, hidden=32).eval()
    batch = people()
    with torch.no_grad():
        before = method(batch)
        others = limbs(batch["keypoints_2d"], SKELETON)[0, :, 2] == 0
        batch["keypoints_2d"][:, others, :2] += 100.0
        assert torch.equal(method(batch)["joints_3d"], before["joints_3d"])
        turn = roma.rotvec_to_rotmat(torch.tensor([0.0, 0.2, 0.0]))
        camera = batch["camera"]
        moved = batch["keypoints_3d"][..., :3] @ turn.mT
        pixels = cameras.project(moved, camera["focal"], camera["principal_point"])
        batch["keypoints_2d"] = torch.cat((pixels, torch.ones_like(pixels[..., :1])), dim=-1)
        after = method(batch)
    apart = (after["smpl"]["body_pose"] - before["smpl"]["body_pose"]).abs().max()
    assert apart < 0.02, "but for the roll of the turned camera"


def test_a_person_without_limbs_has_a_box_all_the_same():
    batch = people()
    batch["keypoints_2d"][:5, :, 2] = 0.0
    facing, _ = towards_person(batch, SKELETON, "limbs")
    assert facing["box"].isfinite().all() and (facing["box"][:, 2] >= 1.0).all()
    assert facing["keypoints_2d"].isfinite().all()


def test_images_are_not_turned():
    same, rotation = towards_person(people(), SKELETON, "box")
    assert rotation is None and torch.equal(same["keypoints_2d"], people()["keypoints_2d"])
    with pytest.raises(Exception, match="model.normalisation limbs is for keypoints"):
        HMR(input="image", backbone="efficientnet_lite0", normalisation="limbs")
