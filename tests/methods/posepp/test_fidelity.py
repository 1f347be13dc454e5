"""The measure of how well a generator follows its maps, on images whose answer is known."""

import pytest
import torch

from methods.posepp.images import fidelity
from methods.posepp.images.diffusion import Maps, Sampling
from methods.posepp.images.fidelity import condition_fidelity, silhouette_iou, train_segmenter


def blobs(number, seed, side=16):
    """Bright discs on dark noise, and where they are."""
    random = torch.Generator().manual_seed(seed)
    centre = 4.0 + (side - 8) * torch.rand(number, 2, 1, 1, generator=random)
    row, column = torch.meshgrid(torch.arange(side) + 0.5, torch.arange(side) + 0.5, indexing="ij")
    masks = (row - centre[:, 0]).square() + (column - centre[:, 1]).square() < 9.0
    images = 0.3 * torch.rand(number, 3, side, side, generator=random) + 0.5 * masks[:, None]
    return images, masks


def test_iou():
    found = torch.tensor([[[1, 1, 0]], [[0, 0, 0]], [[1, 0, 0]]]).bool()
    asked = torch.tensor([[[0, 1, 1]], [[0, 0, 0]], [[0, 0, 1]]]).bool()
    assert silhouette_iou(found, asked).tolist() == pytest.approx([1 / 3, 1.0, 0.0])


def test_the_segmenter_finds_what_it_was_shown_and_is_the_same_for_a_seed():
    before = torch.get_rng_state()
    segmenter = train_segmenter(*blobs(200, 0), steps=60)
    assert torch.equal(before, torch.get_rng_state())
    images, masks = blobs(40, 1)
    assert silhouette_iou(segmenter.find(images), masks).mean() > 0.9
    short = [train_segmenter(*blobs(20, 0), steps=2, seed=seed)(images) for seed in (3, 3, 4)]
    assert torch.equal(short[0], short[1]) and not torch.equal(short[0], short[2])


def test_following_a_map_is_told_from_ignoring_it(monkeypatch):
    """A generator that follows depth where it is shown and else draws the first person."""
    images, masks = blobs(12, 2)
    segmenter = train_segmenter(*blobs(200, 0), steps=60)

    def draw(denoiser, maps, seeds, sampling):
        return images if sampling.scales[0] else images[:1].expand(len(images), -1, -1, -1)

    monkeypatch.setattr(fidelity, "draw_images", draw)
    maps = Maps(masks[:, None].float(), torch.zeros(12, 3, 16, 16))
    rows, drawn = condition_fidelity(torch.nn.Identity(), segmenter, maps, list(range(12)), Sampling(2))
    assert rows["both"]["iou"] > 0.85 > rows["both"]["iou_null"] + 0.3
    assert rows["depth"] == rows["both"]
    for state in ("keypoints", "neither"):
        assert rows[state]["iou"] == pytest.approx(rows[state]["iou_null"], abs=0.1)
    assert set(drawn) == set(rows) == {"both", "depth", "keypoints", "neither"}
