import cv2
import numpy as np
import pytest
import torch
from beartype import beartype
from jaxtyping import jaxtyped

from datamodules.prepared.rows import BOX_RULES
from noise2pose.images import crops

crop = jaxtyped(typechecker=beartype)(crops.crop)
box_of_keypoints = jaxtyped(typechecker=beartype)(crops.box_of_keypoints)
square_box = jaxtyped(typechecker=beartype)(crops.square_box)
joints_in_box = jaxtyped(typechecker=beartype)(crops.joints_in_box)
sample = jaxtyped(typechecker=beartype)(crops.sample)
compose = jaxtyped(typechecker=beartype)(crops.compose)
invert = jaxtyped(typechecker=beartype)(crops.invert)
move_points = jaxtyped(typechecker=beartype)(crops.move_points)
crop_matrix = jaxtyped(typechecker=beartype)(crops.crop_matrix)


def naive_crop(image, box, size):
    """Pixel by pixel, on an image that is black all around."""
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


def test_a_box_can_be_much_larger_than_the_image():
    image = np.full((16, 21, 3), 255, dtype=np.uint8)
    found = crop(image, torch.tensor([10.0, 8.0, 1e7]), size=8)
    assert found.isfinite().all() and 0.0 < found.sum() < 1e-6


def test_a_crop_of_the_same_size_is_the_image():
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
        assert torch.allclose(square_box(bounds, *BOX_RULES[rule]), expected)
        assert torch.allclose(square_box(bounds[0], *BOX_RULES[rule], size[0]), expected[0])
    # 80 .. 320 and 160 .. 480, which is the border; -60 .. 60 becomes 0 .. 60, and -4 .. 44 becomes 0 .. 44.
    expected = torch.tensor([[200.0, 320.0, 352.0], [30.0, 22.0, 66.0]])
    assert torch.allclose(square_box(bounds, *BOX_RULES["dpmesh"], size.expand(2, 2)), expected)
    outside = square_box(torch.tensor([700.0, 10.0, 800.0, 10.0]), *BOX_RULES["dpmesh"], size[0])
    assert outside[2] == 0.0, "nothing is left of it"


def test_a_margin_needs_the_size_of_the_image():
    with pytest.raises(ValueError, match="image_size"):
        square_box(torch.zeros(4), *BOX_RULES["dpmesh"])


def patches(*images):
    pixels = torch.cat([torch.from_numpy(image).flatten() for image in images])
    return pixels, [image.shape[:2] for image in images]


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_the_matrix_of_a_box_maps_its_corners_and_joints_on_the_crop():
    box = torch.tensor([[100.0, 50.0, 40.0], [3.0, 4.0, 10.0]])
    matrix = crop_matrix(box, 224)
    corners = torch.stack((box[:, :2] - box[:, 2:] / 2, box[:, :2], box[:, :2] + box[:, 2:] / 2), dim=1)
    assert torch.allclose(move_points(corners, matrix), torch.tensor([0.0, 112.0, 224.0])[:, None], atol=1e-3)
    joints = torch.cat((corners, torch.ones(2, 3, 1)), dim=-1)
    assert torch.allclose(
        move_points(joints, matrix)[..., :2] / 112.0 - 1.0, crops.joints_in_box(joints, box)[..., :2], atol=1e-5
    )
    back = compose(invert(matrix), matrix)
    assert torch.allclose(back, torch.eye(3)[:2].expand(2, 2, 3), atol=1e-5)


def naive_sample(image, matrix, size):
    result = np.zeros((3, size, size))
    for row in range(size):
        for column in range(size):
            x, y = matrix @ (column + 0.5, row + 0.5, 1.0) - 0.5
            for i in (int(np.floor(y)), int(np.floor(y)) + 1):
                for j in (int(np.floor(x)), int(np.floor(x)) + 1):
                    if 0 <= i < image.shape[0] and 0 <= j < image.shape[1]:
                        result[:, row, column] += (1 - abs(y - i)) * (1 - abs(x - j)) * image[i, j] / 255.0
    return result


def test_patches_of_all_sizes_are_sampled_as_pixel_by_pixel():
    images = noise(16, 21), noise(9, 30, seed=1), noise(1, 1, seed=2)
    matrix = torch.tensor(
        [
            [[1.3, -0.4, 3.0], [0.4, 1.3, -2.0]],
            [[-0.6, 0.0, 9.0], [0.0, 0.7, 0.5]],
            [[0.2, 0.0, -0.5], [0.0, 0.2, -0.5]],
        ]
    )
    found = sample(*patches(*images), matrix, size=9)
    for crop, image, mapping in zip(found, images, matrix.numpy(), strict=True):
        assert np.allclose(crop, naive_sample(image, mapping, 9), atol=1e-5)


def test_colours_are_multiplied_and_end_at_white():
    grey = np.full((4, 4, 3), 102, dtype=np.uint8)
    gain = torch.tensor([[1.0, 0.5, 4.0]])
    found = sample(*patches(grey), torch.eye(3)[None, :2], size=4, gain=gain)
    assert torch.allclose(found, torch.tensor([0.4, 0.2, 1.0])[:, None, None].expand(1, 3, 4, 4))


def test_enlarging_is_the_crop_of_the_rest_of_the_project():
    image, box = noise(30, 40), torch.tensor([20.0, 12.0, 17.0])
    found = sample(*patches(image), invert(crop_matrix(box, 24))[None], size=24)[0]
    assert torch.allclose(found, crops.crop(image, box, size=24), atol=1e-5)


def test_it_is_the_warp_of_opencv():
    image = cv2.GaussianBlur(noise(120, 160), (0, 0), 2.0)
    angle = 0.4
    matrix = np.array([[np.cos(angle), -np.sin(angle), 40.0], [np.sin(angle), np.cos(angle), -15.0]]) * 1.4
    # OpenCV's pixels have their centres at whole numbers.
    theirs = matrix.copy()
    theirs[:, 2] += matrix[:, :2].sum(axis=1) / 2.0 - 0.5
    expected = cv2.warpAffine(image, theirs, (96, 96), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    found = 255.0 * sample(*patches(image), torch.from_numpy(matrix)[None].float(), size=96)[0].permute(1, 2, 0)
    difference = np.abs(found.numpy() - expected)
    inside = expected.min(axis=2) > 0
    assert inside.mean() > 0.5 and difference[inside].max() < 2.0 and difference.mean() < 0.5


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_samples_the_same():
    pixels, sizes = patches(noise(40, 50), noise(33, 20, seed=1))
    matrix = torch.tensor([[[1.1, -0.3, 3.0], [0.3, 1.1, -2.0]], [[0.6, 0.0, 2.0], [0.0, 0.7, 0.5]]])
    on_gpu = sample(pixels.cuda(), sizes, matrix.cuda(), size=32)
    assert torch.allclose(on_gpu.cpu(), sample(pixels, sizes, matrix, size=32), atol=1e-4)
