import pytest
import torch

from datamodules.prepared.data import AUGMENTATIONS
from noise2pose import cameras, keyed_random, skeletons
from noise2pose.batch import Variation
from noise2pose.errors import InputError
from noise2pose.images.augmentation import Augmentation, draw, image_matrix, occlude, vary
from noise2pose.images.crops import move_points
from noise2pose.images.mirroring import mirror_batch
from tests.known_people import ASYMMETRY, people

H36M = skeletons.get("h36m_17")
SPATIAL = ("keypoints_2d", "keypoints_3d", "smpl_joints", "camera_translation", "box", "vertices")


def nothing(count=4, **changed):
    kept = {
        "angle": torch.zeros(count),
        "flip": torch.zeros(count, dtype=torch.bool),
        "scale": torch.ones(count),
        "shift": torch.zeros(count, 2),
        "gain": torch.ones(count, 3),
        "occluder": torch.zeros(count, 4),
        "texture": torch.zeros(count, 2),
    }
    return Variation(**{**kept, **changed})


def degrees(*angles):
    return torch.tensor(angles) * torch.pi / 180.0


def assert_same(found, expected, atol=2e-4):
    for key in SPATIAL:
        # Pixels have the rounding of float32 numbers in the hundreds.
        tolerance = 1e-3 if key in ("keypoints_2d", "box") else atol
        assert torch.allclose(found[key], expected[key], atol=tolerance), key
    for group in ("smpl", "camera"):
        for key, value in expected[group].items():
            assert torch.allclose(found[group][key], value, atol=1e-4), key


def test_nothing_happens_without_variation():
    batch, body = people()
    assert_same(vary(batch, nothing(), H36M, body=body), batch, atol=1e-6)


def test_turning_by_30_and_back_restores_everything():
    batch, body = people()
    turned = vary(batch, nothing(angle=degrees(30.0, 30.0, -30.0, 75.0)), H36M, body=body)
    for key in SPATIAL:
        assert not torch.allclose(turned[key], batch[key], atol=1e-2), key
    assert_same(vary(turned, nothing(angle=-degrees(30.0, 30.0, -30.0, 75.0)), H36M, body=body), batch)


def test_flipping_twice_is_the_identity():
    batch, body = people()
    flip = nothing(flip=torch.tensor([True, False, True, True]))
    flipped = vary(batch, flip, H36M, body=body)
    root = body.rest_joints(batch["smpl"]["betas"])[:, 0]
    mirrored = mirror_batch(batch, H36M, root, body)
    assert torch.equal(flipped["keypoints_2d"][0], mirrored["keypoints_2d"][0])
    assert torch.allclose(flipped["keypoints_2d"][1], batch["keypoints_2d"][1])
    assert_same(vary(flipped, flip, H36M, body=body), batch)


@pytest.mark.parametrize("flipped", [False, True])
def test_2d_3d_smpl_and_mesh_stay_consistent(flipped):
    batch, body = people()
    variation = draw(keyed_random.keys_of(batch["sample_id"]), Augmentation(0.25, 30.0, 1.0, float(flipped), shift=0.1))
    varied = vary(batch, variation, H36M, body=body)
    camera = varied["camera"]
    pixels = cameras.project(varied["keypoints_3d"][..., :3], camera["focal"], camera["principal_point"])
    assert torch.allclose(pixels, varied["keypoints_2d"][..., :2], atol=2e-2)
    joints = body.joints(**varied["smpl"], translation=varied["camera_translation"])
    errors = (joints - varied["keypoints_3d"][..., :3]).norm(dim=-1)
    assert errors.max() < (ASYMMETRY if flipped else 1e-5)
    posed = body(**varied["smpl"], translation=varied["camera_translation"])
    assert torch.allclose(posed.vertices, varied["vertices"], atol=1e-5)
    assert torch.allclose(posed.joints[:, 0], varied["smpl_joints"][:, 0], atol=1e-5)
    assert (posed.joints - varied["smpl_joints"]).norm(dim=-1).max() < (ASYMMETRY if flipped else 1e-5)
    # And the joints lie where the picture's pixels go.
    moved = move_points(batch["keypoints_2d"], image_matrix(batch["camera"], variation))
    order = list(H36M.flip_order) if flipped else slice(None)
    assert torch.allclose(moved[:, order], varied["keypoints_2d"], atol=1e-3)
    where, before = varied["box"], batch["box"]
    assert torch.allclose(where[:, 2], before[:, 2] * variation.scale)
    middle = move_points(before[:, None], image_matrix(batch["camera"], variation))[:, 0, :2]
    assert torch.allclose(where[:, :2] - variation.shift * where[:, 2:], middle, atol=1e-3)


def test_bodies_of_their_own_are_told_by_their_roots():
    batch, body = people()
    variation = nothing(angle=degrees(10.0, 20.0, 30.0, 40.0), flip=torch.tensor([True, False, True, False]))
    root = body.rest_joints(batch["smpl"]["betas"])[:, 0]
    varied, expected = vary(batch, variation, H36M, rest_root=root), vary(batch, variation, H36M, body=body)
    assert torch.equal(varied["camera_translation"], expected["camera_translation"])
    assert "vertices" not in varied, "their mirror images cannot be had"
    with pytest.raises(ValueError, match="rest_root"):
        vary(batch, variation, H36M)
    with pytest.raises(ValueError, match="image"):
        vary({**batch, "image": torch.zeros(4, 3, 8, 8)}, variation, H36M, body=body)


def test_frames_of_a_clip_vary_alike():
    batch, _ = people()
    clip = {key: torch.stack((batch[key], batch[key] + 1.0), dim=1) for key in ("keypoints_2d", "keypoints_3d")}
    clip["camera"] = batch["camera"]
    variation = nothing(angle=degrees(10.0, 20.0, 30.0, 40.0), flip=torch.tensor([True, False, True, False]))
    varied = vary(clip, variation, H36M)
    for frame in range(2):
        alone = vary({**clip, **{k: clip[k][:, frame] for k in ("keypoints_2d", "keypoints_3d")}}, variation, H36M)
        for key in ("keypoints_2d", "keypoints_3d"):
            assert torch.allclose(varied[key][:, frame], alone[key], atol=1e-4)


def test_draws_belong_to_sample_and_epoch():
    keys, settings = keyed_random.keys_of([f"sample_{i}" for i in range(10_000)]), AUGMENTATIONS["dpmesh"]
    drawn = draw(keys, settings, seed=3, epoch=5)
    few = draw(keys[7:9], settings, seed=3, epoch=5)
    assert all(torch.equal(part[7:9], other) for part, other in zip(drawn, few, strict=True))
    assert not torch.equal(draw(keys, settings, seed=3, epoch=6).angle, drawn.angle)
    assert not torch.equal(draw(keys, settings, seed=4, epoch=5).angle, drawn.angle)


def test_draws_are_those_of_the_papers():
    keys = keyed_random.keys_of([f"sample_{i}" for i in range(20_000)])
    for name, turned in (("spin", 0.4), ("hmr", 0.6), ("dpmesh", 0.6)):
        drawn = draw(keys, AUGMENTATIONS[name])
        degrees_ = drawn.angle * 180.0 / torch.pi
        assert (drawn.angle != 0).float().mean() == pytest.approx(turned, abs=0.02)
        assert degrees_.abs().max() == pytest.approx(60.0) and 20.0 < degrees_[drawn.angle != 0].std() < 30.0
        assert drawn.flip.float().mean() == pytest.approx(0.5, abs=0.02)
        assert drawn.scale.min() == pytest.approx(0.75) and drawn.scale.max() == pytest.approx(1.25)
        gain = 0.2 if name == "dpmesh" else 0.4
        assert drawn.gain.min() > 1.0 - gain and drawn.gain.max() < 1.0 + gain and drawn.gain.std() > gain / 2
        assert not drawn.shift.any()
    assert not draw(keys, AUGMENTATIONS["spin"]).occluder.any()
    left, top, right, bottom = draw(keys, AUGMENTATIONS["dpmesh"]).occluder.unbind(dim=-1)
    area, aspect = (right - left) * (bottom - top), (bottom - top) / (right - left)
    assert 0.0 <= area.min() and area.max() <= 0.3 and area.mean() == pytest.approx(0.15, abs=0.01)
    assert 0.49 < aspect.min() and aspect.max() < 2.01 and left.min() >= 0 and bottom.max() <= 1.0
    none = draw(keys, AUGMENTATIONS["none"])
    assert all(torch.equal(found, kept) for found, kept in zip(none[:6], nothing(20_000)[:6], strict=True))
    assert draw(keys, Augmentation(shift=0.1)).shift.abs().max() == pytest.approx(0.1, abs=1e-3)


def test_settings_are_checked():
    with pytest.raises(InputError, match="augment.flip is 1.5, expected 0 to 1"):
        Augmentation(flip=1.5)
    with pytest.raises(InputError, match="augment.occluder_area is -1"):
        Augmentation(occluder_area=-1)


def test_occluders_hide_joints_and_pixels():
    batch, body = people()
    batch["box"][:, 2] *= 3.0  # all joints are in it
    occluder = torch.tensor([0.0, 0.0, 1.0, 0.5]).expand(4, 4).clone()
    occluder[1] = 0.0
    variation = nothing(occluder=occluder)
    varied = vary(batch, variation, H36M, body=body)
    upper = varied["keypoints_2d"][..., 1] < varied["box"][:, None, 1]
    assert torch.equal(varied["keypoints_2d"][..., 2], (~upper).float().index_fill(0, torch.tensor([1]), 1.0))
    assert torch.allclose(varied["keypoints_2d"][..., :2], batch["keypoints_2d"][..., :2])
    image = occlude(torch.zeros(4, 3, 32, 32), variation)
    assert not image[:, :, 16:].any() and not image[1].any()
    assert image[0, :, :16].std() > 0.2 and image.max() <= 1.0, "noise"
    elsewhere = occlude(torch.zeros(4, 3, 32, 32), variation._replace(texture=torch.full((4, 2), 0.7)))
    assert not torch.equal(elsewhere[0], image[0])
