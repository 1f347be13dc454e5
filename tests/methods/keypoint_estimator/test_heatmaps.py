import lightning as L
import pytest
import torch

from methods.keypoint_estimator import KeypointEstimator
from methods.keypoint_estimator.heatmaps import HeatmapHead, heatmap_loss, keypoints_of
from noise2pose import skeletons
from noise2pose.errors import InputError
from noise2pose.images.mirroring import mirror_batch
from noise2pose.keypoints.heatmaps import heatmaps
from tests.tiny import TinyPeople


def places(number=4):
    inside = 0.1 + 0.8 * torch.rand(number, 17, 2, generator=torch.Generator().manual_seed(0))
    return torch.cat((inside, torch.ones(number, 17, 1)), dim=-1)


def logits_at(true, side=24, sigma=1.0):
    return heatmaps(true[..., :2] * side - 0.5, (side, side), sigma).clamp_min(1e-9).log()


def test_keypoints_come_back_from_the_maps_they_made():
    true = places()
    maps = logits_at(true).flatten(-2).softmax(dim=-1).view(4, 17, 24, 24)
    found = keypoints_of(maps)
    assert (found[..., :2] - true[..., :2]).abs().max() < 0.15 / 24  # a fraction of a cell
    assert ((found[..., 2] > 0.5) & (found[..., 2] <= 1.0)).all()
    flat = keypoints_of(torch.full((1, 17, 24, 24), 1.0 / 24**2))
    assert (flat[..., 2] < 0.02).all()


def test_perfect_maps_have_no_loss_and_others_have_more():
    true = places()
    entropy, distance = heatmap_loss(logits_at(true), true, 1.0)
    assert entropy < 1e-3 and distance < 0.05
    for wrong in (true.roll(1, dims=0), true[:, list(skeletons.get("coco_17").flip_order)], true + 0.2):
        worse, farther = heatmap_loss(logits_at(wrong), true, 1.0)
        assert worse > 1.0 and farther > 1.0


def test_joints_outside_the_crop_or_without_confidence_do_not_count():
    true = places()
    logits = torch.randn(4, 17, 24, 24, generator=torch.Generator().manual_seed(1)).requires_grad_()
    true[0, 3, 2], true[1, 4, 0], true[2, 5, :2] = 0.0, 1.3, torch.nan
    counted = torch.ones(4, 17, dtype=torch.bool)
    counted[0, 3] = counted[1, 4] = counted[2, 5] = False
    entropy, distance = heatmap_loss(logits, true, 1.0)
    (entropy + distance).backward()
    assert logits.grad.isfinite().all() and not logits.grad[~counted].any() and logits.grad[counted].any()
    logits = logits.detach()
    each = [heatmap_loss(logits[b : b + 1, j : j + 1], true[b : b + 1, j : j + 1], 1.0) for b, j in counted.nonzero()]
    entropy, distance = float(entropy.detach()), float(distance.detach())
    assert entropy == pytest.approx(float(torch.stack([e for e, _ in each]).mean()), rel=1e-4)
    assert distance == pytest.approx(float(torch.stack([d for _, d in each]).mean()), rel=1e-4)


def test_maps_have_a_quarter_of_the_side():
    head = HeatmapHead((24, 40, 112, 320), 16, 17)
    sizes = zip((24, 40, 112, 320), (25, 13, 7, 4), strict=True)
    assert head([torch.rand(2, width, side, side) for width, side in sizes]).shape == (2, 17, 25, 25)


def make(**options):
    L.seed_everything(0, verbose=False)
    return KeypointEstimator(**{"skeleton": "h36m_17", "channels": 16, **options})


def test_answers_are_pixels_of_the_whole_image():
    method, batch = make().eval(), TinyPeople().load("val")
    found = method(batch)["keypoints_2d"]
    moved = {**batch, "box": batch["box"] * torch.tensor([1.0, 1.0, 2.0]) + torch.tensor([30.0, -20.0, 0.0])}
    again = method(moved)["keypoints_2d"]
    centre = batch["box"][:, None, :2]
    expected = 2.0 * (found[..., :2] - centre) + centre + torch.tensor([30.0, -20.0])
    assert torch.allclose(again[..., :2], expected, atol=1e-2)


def test_with_flip_test_a_mirrored_person_has_the_mirrored_keypoints():
    method, batch = make(flip_test=True).eval(), TinyPeople().load("val")
    batch.pop("vertices", None)
    skeleton = skeletons.get("h36m_17")
    mirrored = mirror_batch(batch, skeleton)
    found, other = method(batch)["keypoints_2d"], method(mirrored)["keypoints_2d"]
    back = other[:, list(skeleton.flip_order)]
    width = batch["camera"]["image_size"][:, :1]
    assert torch.allclose(found[..., 0], width - back[..., 0], atol=0.05)
    assert torch.allclose(found[..., 1:], back[..., 1:], atol=0.05)
    plain = make().eval()(batch)["keypoints_2d"]
    assert not torch.allclose(plain, found, atol=0.05)


def test_large_images_are_shrunk_and_images_are_needed():
    method, batch = make(image_size=16).eval(), TinyPeople(image_size=32).load("val")
    halved = torch.nn.functional.avg_pool2d(batch["image"], 2)
    assert torch.allclose(method(batch)["keypoints_2d"], method({**batch, "image": halved})["keypoints_2d"], atol=1e-2)
    del batch["image"]
    with pytest.raises(InputError, match="takes images"):
        method(batch)
