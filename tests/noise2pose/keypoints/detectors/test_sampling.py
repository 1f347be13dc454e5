"""Parts of images for a network, and the way back from its pixels."""

import numpy as np
import pytest
import torch

from noise2pose.keypoints.detectors.sampling import Window, around, cut, letterbox, part_of


def spot(width, height, x, y, side):
    image = np.zeros((height, width, 3), np.uint8)
    image[y : y + side, x : x + side] = 255
    return image


def brightest(pixels):
    """Centre of mass of the bright pixels."""
    values = pixels[..., 0].astype(float)
    rows, columns = np.indices(values.shape) + 0.5
    return torch.tensor([(values * columns).sum(), (values * rows).sum()]) / values.sum()


@pytest.mark.parametrize("size", [(64, 48), (48, 64), (37, 53)])
@pytest.mark.parametrize("image_size", [(200, 120), (120, 200), (31, 90), (640, 479)])
@pytest.mark.parametrize("centred", [True, False])
def test_a_letterbox_is_undone_to_a_pixel(size, image_size, centred):
    width, height = image_size
    x, y, side = int(0.6 * width), int(0.2 * height), max(width, height) // 8
    window = letterbox(width, height, size, centred)
    pixels = cut(spot(width, height, x, y, side), window, 0)
    assert pixels.shape == (size[1], size[0], 3)
    assert (window.in_image(brightest(pixels)) - torch.tensor([x + side / 2, y + side / 2])).abs().max() < 0.5
    assert window.extent[0] / size[0] == pytest.approx(float(window.extent[1] / size[1]))  # nothing is stretched
    if not centred:
        assert pixels[0, 0, 0] == 0 and (window.corner == 0).all()


def test_the_padding_has_its_grey_value():
    pixels = cut(np.full((50, 100, 3), 200, np.uint8), letterbox(100, 50, (64, 64)), 114)
    assert (pixels[:15] == 114).all() and (pixels[-15:] == 114).all() and (pixels[17:47] == 200).all()
    below = cut(np.full((50, 100, 3), 200, np.uint8), letterbox(100, 50, (64, 64), centred=False), 114)
    assert (below[:31] == 200).all() and (below[33:] == 114).all()


def test_shrinking_averages_and_an_exact_window_copies():
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    window = Window(torch.tensor([16.0, 8.0]), torch.tensor([32.0, 24.0]), (32, 24))
    assert np.array_equal(cut(image, window, 0), image[8:32, 16:48])
    checks = np.zeros((64, 64, 3), np.uint8)
    checks[::2, ::2] = checks[1::2, 1::2] = 200
    small = cut(checks, letterbox(64, 64, (8, 8)), 0)
    assert np.abs(small[1:-1, 1:-1].astype(int) - 100).max() <= 2


def test_a_window_may_reach_over_the_border_or_lie_outside():
    image = np.full((40, 40, 3), 90, np.uint8)
    window = Window(torch.tensor([-20.0, 10.0]), torch.tensor([40.0, 20.0]), (40, 20))
    pixels = cut(image, window, 7)
    assert (pixels[:, :20] == 7).all() and (pixels[:, 20:] == 90).all()
    outside = Window(torch.tensor([100.0, 100.0]), torch.tensor([40.0, 20.0]), (40, 20))
    assert (cut(image, outside, 7) == 7).all()


def test_a_box_gets_the_shape_of_the_input_and_a_margin():
    window = around(torch.tensor([10.0, 20.0, 50.0, 120.0]), 1.25, (96, 128))
    assert window.extent.tolist() == pytest.approx([93.75, 125.0])
    assert (window.corner + window.extent / 2).tolist() == pytest.approx([30.0, 70.0])
    assert window.in_image(torch.tensor([48.0, 64.0])).tolist() == pytest.approx([30.0, 70.0])
    wide = around(torch.tensor([0.0, 0.0, 100.0, 10.0]), 1.0, (96, 128))
    assert wide.extent.tolist() == pytest.approx([100.0, 100.0 * 128 / 96])


def test_the_part_of_a_person_hides_the_neighbours():
    image = np.arange(100 * 80, dtype=np.uint16).astype(np.uint8).reshape(80, 100, 1).repeat(3, axis=2)
    part, corner = part_of(image, torch.tensor([20.0, 10.0, 40.0, 50.0]), 0.1)
    assert corner.tolist() == [18.0, 6.0] and np.array_equal(part, image[6:54, 18:42])
    part, corner = part_of(image, torch.tensor([-30.0, 70.0, 5.0, 200.0]), 0.1)
    assert corner.tolist() == [0.0, 57.0] and np.array_equal(part, image[57:, :9])
    part, _ = part_of(image, torch.tensor([300.0, 300.0, 310.0, 310.0]), 0.1)
    assert part.size  # nothing of it is in the image, and nothing breaks


def test_a_large_image_costs_no_more_than_the_window():
    """Of a photo of 33 megapixels only the window is touched."""
    image = np.lib.stride_tricks.as_strided(np.zeros(3, np.uint8), (4320, 7680, 3), (0, 0, 1))
    pixels = cut(image, Window(torch.tensor([3000.0, 2000.0]), torch.tensor([448.0, 448.0]), (224, 224)), 114)
    assert not pixels.any() and pixels.shape == (224, 224, 3)
