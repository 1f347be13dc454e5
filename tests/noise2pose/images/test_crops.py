import numpy as np
import pytest
import torch
from beartype import beartype
from jaxtyping import jaxtyped

from datamodules.prepared.recipes import box_rule
from noise2pose.errors import InputError
from noise2pose.images import crops

crop = jaxtyped(typechecker=beartype)(crops.crop)
box_of_keypoints = jaxtyped(typechecker=beartype)(crops.box_of_keypoints)
square_box = jaxtyped(typechecker=beartype)(crops.square_box)
joints_in_box = jaxtyped(typechecker=beartype)(crops.joints_in_box)


def naive_crop(image, box, size):
    """Pixel by pixel, on a picture in a sea of black."""
    centre_x, centre_y, side = box.tolist()
    reach = max(side / size, 1.0)
    result = np.zeros((3, size, size))
    for row in range(size):
        for column in range(size):
            y = centre_y + ((row + 0.5) / size - 0.5) * side
            x = centre_x + ((column + 0.5) / size - 0.5) * side
            total, value = 0.0, np.zeros(3)
            for i in range(int(y - reach) - 2, int(y + reach) + 3):
                for j in range(int(x - reach) - 2, int(x + reach) + 3):
                    weight = max(0.0, 1.0 - abs(y - i - 0.5) / reach) * max(0.0, 1.0 - abs(x - j - 0.5) / reach)
                    total += weight
                    if 0 <= i < image.shape[0] and 0 <= j < image.shape[1]:
                        value += weight * image[i, j] / 255.0
            result[:, row, column] = value / total
    return result


@pytest.mark.parametrize("box", [(10.0, 8.0, 6.0), (3.2, 4.1, 9.7), (10.5, 7.5, 40.0), (-2.0, 17.0, 8.0)])
def test_crop_is_the_naive_one(box):
    image = np.random.default_rng(0).integers(0, 256, (16, 21, 3), dtype=np.uint8)
    found = crop(image, torch.tensor(box), size=7)
    assert np.allclose(found, naive_crop(image, torch.tensor(box), 7), atol=1e-6)
    assert torch.allclose(crop(torch.from_numpy(image) / 255.0, torch.tensor(box), size=7), found, atol=1e-6)


def test_a_box_can_be_much_larger_than_the_picture():
    image = np.full((16, 21, 3), 255, dtype=np.uint8)
    found = crop(image, torch.tensor([10.0, 8.0, 1e7]), size=8)
    assert found.isfinite().all() and 0.0 < found.sum() < 1e-6


def test_a_crop_of_the_same_size_is_the_picture():
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    assert torch.equal(
        crop(image, torch.tensor([4.0, 4.0, 8.0]), size=8), torch.from_numpy(image).permute(2, 0, 1) / 255
    )


def test_outside_is_black_and_fine_stripes_become_grey():
    image = np.full((40, 40, 3), 255, dtype=np.uint8)
    assert not crop(image, torch.tensor([100.0, -90.0, 20.0]), size=4).any()
    image[:, ::2] = 0
    assert torch.allclose(crop(image, torch.tensor([20.0, 20.0, 20.0]), size=4), torch.tensor(0.5), atol=0.02)
    with pytest.raises(ValueError, match="side 0"):
        crop(image, torch.zeros(3))


def test_boxes_hold_the_visible_joints():
    keypoints = torch.tensor([[[10.0, 20.0, 1.0], [30.0, 30.0, 0.1], [500.0, 0.0, 0.0]], [[1.0, 1.0, 0.0]] * 3])
    assert box_of_keypoints(keypoints).tolist() == [[20.0, 25.0, pytest.approx(24.0)], [0.0, 0.0, 0.0]]
    assert box_of_keypoints(keypoints[0], scale=2.0)[2] == 40.0
    unseen = torch.tensor([[100.0, 200.0, 1.0], [150.0, 250.0, 0.5], [float("nan"), 0.0, 0.0]])
    assert torch.allclose(box_of_keypoints(unseen), torch.tensor([125.0, 225.0, 60.0]))


def test_joints_in_the_box():
    keypoints = torch.tensor([[[100.0, 200.0, 1.0], [150.0, 250.0, 0.5], [float("nan"), 0.0, 0.0]]])
    expected = torch.tensor([[[0.0, 0.0, 1.0], [1.0, 1.0, 0.5], [0.0, 0.0, 0.0]]])
    assert torch.equal(joints_in_box(keypoints, torch.tensor([[100.0, 200.0, 100.0]])), expected)
    nobody = torch.tensor([[3.0, 4.0, 0.0]])
    assert not joints_in_box(nobody, box_of_keypoints(nobody)).any(), "of a pose without visible joints nothing is said"


def test_a_box_rule_has_one_scale():
    bounds, size = (
        torch.tensor([[100.0, 200.0, 300.0, 600.0], [-50.0, 0.0, 50.0, 40.0]]),
        torch.tensor([[640.0, 480.0]]),
    )
    for rule, scale in (("keypoints", 1.2), ("mask", 0.9), ("detector", 1.25)):
        expected = torch.tensor([[200.0, 400.0, 400.0 * scale], [0.0, 20.0, 100.0 * scale]])
        assert torch.allclose(square_box(bounds, *box_rule(rule)), expected)
        assert torch.allclose(square_box(bounds[0], *box_rule(rule), size[0]), expected[0])
    # 80 .. 320 and 160 .. 480, which is the border; -60 .. 60 becomes 0 .. 60, and -4 .. 44 becomes 0 .. 44.
    expected = torch.tensor([[200.0, 320.0, 352.0], [30.0, 22.0, 66.0]])
    assert torch.allclose(square_box(bounds, *box_rule("dpmesh"), size.expand(2, 2)), expected)
    outside = square_box(torch.tensor([700.0, 10.0, 800.0, 10.0]), *box_rule("dpmesh"), size[0])
    assert outside[2] == 0.0, "nothing is left of it"


def test_box_rules_are_checked():
    with pytest.raises(InputError, match="unknown box rule tight; known are keypoints, mask"):
        box_rule("tight")
    with pytest.raises(ValueError, match="image_size"):
        square_box(torch.zeros(4), *box_rule("dpmesh"))
