"""Overlapping squares at several scales."""

import numpy as np
import pytest
import torch

from noise2pose.keypoints.detectors.contract import People
from noise2pose.keypoints.detectors.models import ModelPeople
from noise2pose.keypoints.detectors.tiles import cut_off, tiles
from tests.noise2pose.keypoints.detectors.onnx_files import constant


@pytest.mark.parametrize(("width", "height"), [(640, 480), (480, 640), (1920, 300), (512, 512)])
@pytest.mark.parametrize("level", [0, 1, 2])
def test_tiles_cover_the_image_and_overlap(width, height, level):
    squares = tiles(width, height, level)
    side = max(width, height) / 2**level
    assert {square.side for square in squares} == {side} and len(squares) <= 4 ** (level + 1)
    covered = np.zeros((height, width), int)
    for square in squares:
        x, y = (square.centre - side / 2).tolist()
        covered[max(0, round(y)) : round(y + side), max(0, round(x)) : round(x + side)] += 1
    assert covered.min() >= 1 and (level == 0) == (covered.max() == 1)
    # Whoever is smaller than the overlap is whole in one of them.
    generator, small = np.random.default_rng(0), 0.38 * side
    for _ in range(50):
        corner = generator.uniform(0, 1, 2) * np.maximum([width - small, height - small], 0)
        inside = [
            (
                (square.centre.numpy() - side / 2 <= corner + 1e-3)
                & (corner + small <= square.centre.numpy() + side / 2 + 1e-3)
            )
            | (side >= np.array([width, height]))
            for square in squares
        ]
        assert any(each.all() for each in inside)


def test_the_number_of_tiles_does_not_grow_with_the_image():
    assert len(tiles(7680, 4320, 3)) == len(tiles(768, 432, 3)) < 100


def test_who_is_cut_off_by_a_tile_is_told_from_who_is_cut_off_by_the_image():
    square = tiles(640, 480, 1)[0]  # the upper left one, 320 pixels wide
    boxes = torch.tensor([[0.0, 0.0, 50.0, 80.0], [250.0, 100.0, 319.0, 200.0], [100.0, 100.0, 150.0, 318.0]])
    assert cut_off(boxes, square, 640, 480).tolist() == [False, True, True]


class Looker:
    """Stands for a network: finds a person wherever a window of at most some side shows its place."""

    def __init__(self, largest, box):
        self.largest, self.box, self.windows = largest, torch.tensor(box), []

    def __call__(self, image, window):
        self.windows.append(float(window.extent[0]))
        low, high = self.box[:2], self.box[2:]
        inside = (low >= window.corner).all() and (high <= window.corner + window.extent).all()
        if not inside or window.extent[0] > self.largest:
            return People(torch.zeros(0, 4), torch.zeros(0))
        return People(self.box[None], torch.ones(1))


@pytest.fixture
def detector(tmp_path):
    file = constant(tmp_path / "people.onnx", {"dets": [[[0, 0, 0, 0, 0]]]}, (64, 64))
    file.with_suffix(".yaml").write_text("mean: [0, 0, 0]\nstd: [255, 255, 255]\n")
    return ModelPeople(file)


def test_finer_tiles_are_searched_until_people_are_large_enough(detector, monkeypatch):
    image = np.zeros((400, 400, 3), np.uint8)
    for largest, box, expected in (
        (400.0, [10.0, 10.0, 200.0, 300.0], {400}),  # found, and large
        (400.0, [310.0, 310.0, 350.0, 380.0], {400, 200, 100}),  # found, and small: large only in the finest
        (400.0, [310.0, 310.0, 330.0, 330.0], {400, 200, 100}),  # a tile of 50 pixels has fewer than the input
        (200.0, [120.0, 120.0, 220.0, 250.0], {400, 200}),  # not found in the whole image
        (100.0, [310.0, 310.0, 350.0, 380.0], {400, 200}),  # not found twice: nobody is there
    ):
        look = Looker(largest, box)
        monkeypatch.setattr(detector, "_search", look)
        people = detector(image)
        assert {round(each) for each in look.windows} == expected
        assert len(people.boxes) == (largest > 100) and (people.boxes == torch.tensor(box)).all()
    monkeypatch.setattr(detector, "_tiled", False)
    assert not len(detector(image).boxes)
