import pytest
import torch
import torch.nn.functional as F

from methods.posepp import Refiner
from methods.posepp.labels.deformable import DeformableAttention, DeformableDecoder, encoded
from methods.posepp.labels.refinement import believable
from noise2pose.keypoints.noise import coco_sigmas
from tests.tiny import TinyPeople


def naive(attention, queries, references, maps):
    """The same attention, one sample after the other."""
    heads, levels, points = attention.shape
    batch, number, channels = queries.shape
    out = torch.zeros(batch, number, channels)
    for b in range(batch):
        for q in range(number):
            offsets = attention.offsets(queries[b, q]).view(heads, levels, points, 2)
            weights = attention.weights(queries[b, q]).view(heads, levels * points).softmax(dim=-1)
            for h in range(heads):
                part = slice(h * channels // heads, (h + 1) * channels // heads)
                for level in range(levels):
                    values = attention.values[level](maps[level][b : b + 1])[:, part]
                    rows, columns = values.shape[-2:]
                    for p in range(points):
                        x = references[b, q, 0] * columns + offsets[h, level, p, 0]
                        y = references[b, q, 1] * rows + offsets[h, level, p, 1]
                        grid = torch.stack((2.0 * x / columns - 1.0, 2.0 * y / rows - 1.0)).view(1, 1, 1, 2)
                        seen = F.grid_sample(values, grid, align_corners=False)[0, :, 0, 0]
                        out[b, q, part] += weights[h, level * points + p] * seen
    return attention.output(out)


@torch.no_grad()
def test_deformable_attention_is_the_naive_loop():
    torch.manual_seed(0)
    attention = DeformableAttention(8, num_levels=2, num_heads=2, num_points=3)
    for layer in (attention.offsets, attention.weights):
        torch.nn.init.normal_(layer.weight, std=0.3)
    queries, references = torch.randn(2, 5, 8), torch.rand(2, 5, 2)
    maps = [torch.randn(2, 8, 6, 9), torch.randn(2, 8, 3, 5)]
    assert torch.allclose(attention(queries, references, maps), naive(attention, queries, references, maps), atol=1e-5)


@torch.no_grad()
def test_an_untrained_decoder_leaves_references_where_they_are():
    decoder = DeformableDecoder((4, 6), num_joints=3, channels=16, num_layers=2)
    references = torch.tensor([[[[0.2, 0.7], [0.5, 0.5], [1.4, -0.3]]]])
    found = decoder([torch.randn(1, 4, 8, 8), torch.randn(1, 6, 4, 4)], references)
    assert len(found) == 2
    assert torch.allclose(found[-1], torch.tensor([[[[0.2, 0.7], [0.5, 0.5], [0.99, 0.01]]]]), atol=1e-5)


@torch.no_grad()
def test_groups_and_images_do_not_see_each_other():
    torch.manual_seed(0)
    decoder = DeformableDecoder((4,), num_joints=3, channels=16, num_layers=2)
    for move in decoder.moves:
        torch.nn.init.normal_(move[2].weight)
    maps, references = [torch.randn(2, 4, 8, 8)], torch.rand(2, 2, 3, 2)
    together = decoder(maps, references)[-1]
    alone = decoder([maps[0][1:]], references[1:, :1])[-1]
    assert torch.allclose(together[1:, :1], alone, atol=1e-5)
    assert not torch.allclose(together[0], together[1], atol=1e-3)


def test_places_that_differ_are_encoded_differently():
    places = torch.rand(50, 2, generator=torch.Generator().manual_seed(0))
    codes = encoded(places)
    assert codes.shape == (50, 64)
    apart = torch.cdist(codes, codes) + 10.0 * torch.eye(50)
    assert apart.min() > 0.05


def test_a_little_training_brings_keypoints_back_to_coloured_points():
    """Joints lie at blobs of a colour of their own, and the references start beside them."""
    torch.manual_seed(0)
    decoder = DeformableDecoder((3,), num_joints=3, channels=32, num_layers=2, num_heads=2)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=3e-3)
    cells = (torch.arange(16) + 0.5) / 16

    def batch(number=32):
        true = 0.2 + 0.6 * torch.rand(number, 3, 2)
        x = (cells - true[..., :1]).square()[:, :, None, :]
        y = (cells - true[..., 1:]).square()[:, :, :, None]
        return [torch.exp(-(x + y) / 0.02)], true, (true + 0.08 * torch.randn_like(true)).clamp(0.05, 0.95)

    for _ in range(150):
        maps, true, start = batch()
        loss = sum((found[:, 0] - true).abs().mean() for found in decoder(maps, start[:, None]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    maps, true, start = batch(64)
    with torch.no_grad():
        found = decoder(maps, start[:, None])[-1][:, 0]
    assert (found - true).norm(dim=-1).mean() < 0.5 * (start - true).norm(dim=-1).mean()


def test_far_moves_and_hidden_joints_keep_their_place():
    labels = torch.cat((100.0 * torch.rand(2, 17, 2), torch.ones(2, 17, 1)), dim=-1)
    labels[0, 3, 2] = 0.0
    area = torch.tensor([1e4, 4e4])
    farthest = 3.0 * 2.0 * coco_sigmas("coco_17").float() * area.sqrt()[:, None]
    step = torch.zeros(2, 17, 2)
    step[..., 0] = 0.9 * farthest
    step[1, 7, 0] = 1.1 * farthest[1, 7]
    step[1, 8] = torch.nan
    found = believable(labels, labels[..., :2] + step, area, labels[..., 2])
    assert found.kept_initial.nonzero().tolist() == [[0, 3], [1, 7], [1, 8]]
    assert torch.equal(found.keypoints[found.kept_initial], labels[found.kept_initial])
    moved = ~found.kept_initial
    assert torch.allclose(found.moved[moved], step[..., 0][moved], rtol=1e-3) and not found.moved[~moved].any()


def test_hidden_joints_of_the_input_start_on_the_person():
    torch.manual_seed(0)
    method, batch = Refiner(skeleton="h36m_17", channels=16, num_layers=1).eval(), TinyPeople().load("val")
    batch["keypoints_2d"][:, 5] = 0.0  # as files have it
    found = method(batch)["keypoints_2d"]
    low, high = (edge(batch["keypoints_2d"][:, 6:, :2], dim=1) for edge in (torch.amin, torch.amax))
    assert ((found[:, 5, :2] >= low) & (found[:, 5, :2] <= high)).all() and not found[:, 5, 2].any()


@pytest.mark.parametrize("outliers", [0, 4])
def test_noisy_references_have_the_spread_that_is_asked_for(outliers):
    torch.manual_seed(0)
    method = Refiner(skeleton="coco_17", channels=16, num_layers=1, groups=50, shift=0.0, outliers=outliers)
    offsets = method._noisy(torch.zeros(20, 17, 2))
    assert offsets.shape == (20, 50, 17, 2)
    expected = ((17 - outliers) * 0.04**2 + outliers * 0.16**2) / 17
    assert float(offsets.square().mean()) == pytest.approx(expected, rel=0.05)
