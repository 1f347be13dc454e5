import math

import numpy as np
import pytest
import torch
from PIL import Image

from noise2pose.annotation.detections import MODELS, model_files
from noise2pose.keypoints.detectors.blazepose import (
    BlazeJoints,
    BlazePeople,
    anchors,
    body_boxes,
    decode,
    refine,
    region_of,
)
from noise2pose.keypoints.detectors.contract import People, Region
from noise2pose.keypoints.detectors.sampling import turned_crop
from noise2pose.keypoints.files import read_keypoints
from tests.places import ROOT

PHOTOS = ROOT / "noise2pose" / "assets" / "photos"


def test_anchors_are_the_detectors():
    centres = anchors()
    assert centres.shape == (2254, 2) and torch.equal(centres[0], centres[1])
    assert torch.allclose(centres[2], torch.tensor([12.0, 4.0]) / 224)  # the next cell to the right, of 8 pixels
    assert torch.allclose(centres[-1], torch.full((2,), 1 - 16 / 224))


def test_detections_that_overlap_are_one_person():
    values, logits = torch.zeros(4, 12), torch.tensor([1.0, 3.0, 2.0, -1.0])
    values[:, 2:4] = 22.4  # boxes of a tenth
    values[:, 5] = torch.tensor([1.0, 2.0, 4.0, 8.0]) * 22.4
    centres = torch.tensor([[0.2, 0.2], [0.8, 0.8], [0.81, 0.8], [0.5, 0.5]])
    first, second = decode(values, logits, centres).points
    weights = torch.tensor([3.0, 2.0]).sigmoid()
    expected = (weights * torch.tensor([1.0, 1.2])).sum() / weights.sum()
    assert first[0, 1].item() == pytest.approx(expected.item()) and first[0, 0] > 0.8
    assert torch.allclose(second[0], torch.tensor([0.2, 0.3]))
    assert len(decode(values, torch.full((4,), -1.0), centres).points) == 0


def test_a_region_turns_a_leaning_person_upright():
    points = torch.tensor([[50.0, 60.0], [90.0, 20.0]])  # up and to the right
    region = region_of(points)
    assert region.angle == pytest.approx(math.pi / 4) and region.side == pytest.approx(2.5 * math.hypot(40, 40))
    image = np.zeros((100, 140, 3), dtype=np.uint8)
    image[19:22, 89:92] = 255
    found = turned_crop(image, region, 100, "zeros")[0]
    row, column = divmod(int(found.argmax()), 100)
    assert abs(column - 50) <= 1 and abs(row - 10) <= 1  # straight above the middle, two fifths of the side away


def test_an_upright_region_of_the_same_size_is_the_picture():
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    region = Region(torch.tensor([4.0, 4.0]), 8.0, 0.0)
    expected = torch.from_numpy(image).permute(2, 0, 1) / 255
    assert torch.allclose(turned_crop(image, region, 8, "zeros"), expected, atol=1e-5)
    large = Region(torch.tensor([4.0, 4.0]), 16.0, 0.0)
    corner = [turned_crop(image, large, 16, outside)[:, 0, 0] for outside in ("zeros", "border")]
    assert not corner[0].any() and torch.allclose(corner[1], expected[:, 0, 0])


def test_the_box_of_a_body_is_slender_and_ends_at_the_border():
    points = torch.tensor([[[100.0, 120.0], [100.0, 40.0]], [[60.0, 100.0], [160.0, 100.0]]])  # one stands, one lies
    standing, lying = body_boxes(points, 200, 150)
    assert standing.tolist() == pytest.approx([56.0, 40.0, 144.0, 150.0])
    assert lying.tolist() == pytest.approx([0.0, 45.0, 160.0, 150.0])


def test_heatmaps_refine_where_they_are_sure():
    heatmaps = torch.full((3, 64, 64), -50.0)
    heatmaps[0, 10, 21] = heatmaps[0, 10, 22] = 5.0
    heatmaps[1, 10, 21] = -1.0
    places = torch.tensor([[20.4, 10.2], [20.4, 10.2], [-3.0, 90.0]]) / 64
    assert torch.allclose(refine(places, heatmaps) * 64, torch.tensor([[21.5, 10.0], [20.4, 10.2], [-3.0, 90.0]]))


def test_the_shipped_keypoints_are_read():
    read = read_keypoints(PHOTOS / "astronaut_keypoints.json")
    assert read.names == ["astronaut"] and read.skeleton == "coco_17"
    assert not read.points[0, 11:, 2].any() and (read.points[0, :7, 2] > 0.9).all()  # neither hips nor legs


# What the publisher's own pipeline (mediapipe 0.10.21) finds in the shipped photo: nose, eyes, ears, shoulders.
PUBLISHED = [
    [223.4, 131.0], [248.3, 115.2], [205.8, 107.5], [266.0, 124.6], [189.5, 111.8], [305.8, 256.7], [115.8, 234.9],
]  # fmt: skip


def test_the_shipped_photo_gives_the_published_joints():
    pytest.importorskip("ai_edge_litert")
    folder = ROOT / "data" / "detector"
    if not all((folder / name).is_file() for name in MODELS):
        pytest.skip(f"no models in {folder}: python scripts/prepare.py detector --output data/detector")
    image = np.array(Image.open(PHOTOS / "astronaut.jpg"))
    detector, landmarks = model_files(folder)
    people = BlazeJoints(landmarks)(image, BlazePeople(detector, tiled=False)(image)).joints
    assert len(people) == 1
    # One pixel of the network's input is five of the photo.
    distance = (people[0, :7, :2] - torch.tensor(PUBLISHED)).norm(dim=1)
    assert distance.mean() < 2.5 and distance.max() < 7.5
    in_box = BlazeJoints(landmarks)(image, People(torch.tensor([[60.0, 0.0, 400.0, 512.0]]), torch.ones(1))).joints
    # A box of half a body says little about its hips: the face is found again, the shoulders of the suit are not.
    assert (in_box[0, :5, :2] - people[0, :5, :2]).norm(dim=1).max() < 12
    shipped = read_keypoints(PHOTOS / "astronaut_keypoints.json").points[0]
    assert torch.allclose(people[0], shipped, atol=0.5)
