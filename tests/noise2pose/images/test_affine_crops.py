import cv2
import numpy as np
import pytest
import torch
from beartype import beartype
from jaxtyping import jaxtyped

from noise2pose.images import crops
from noise2pose.images import crops as affine_crops

sample = jaxtyped(typechecker=beartype)(affine_crops.sample)
compose = jaxtyped(typechecker=beartype)(affine_crops.compose)
invert = jaxtyped(typechecker=beartype)(affine_crops.invert)
move_points = jaxtyped(typechecker=beartype)(affine_crops.move_points)
crop_matrix = jaxtyped(typechecker=beartype)(affine_crops.crop_matrix)


def patches(*pictures):
    pixels = torch.cat([torch.from_numpy(picture).flatten() for picture in pictures])
    return pixels, [picture.shape[:2] for picture in pictures]


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


def naive_sample(picture, matrix, size):
    result = np.zeros((3, size, size))
    for row in range(size):
        for column in range(size):
            x, y = matrix @ (column + 0.5, row + 0.5, 1.0) - 0.5
            for i in (int(np.floor(y)), int(np.floor(y)) + 1):
                for j in (int(np.floor(x)), int(np.floor(x)) + 1):
                    if 0 <= i < picture.shape[0] and 0 <= j < picture.shape[1]:
                        result[:, row, column] += (1 - abs(y - i)) * (1 - abs(x - j)) * picture[i, j] / 255.0
    return result


def test_patches_of_all_sizes_are_sampled_as_pixel_by_pixel():
    pictures = noise(16, 21), noise(9, 30, seed=1), noise(1, 1, seed=2)
    matrix = torch.tensor(
        [
            [[1.3, -0.4, 3.0], [0.4, 1.3, -2.0]],
            [[-0.6, 0.0, 9.0], [0.0, 0.7, 0.5]],
            [[0.2, 0.0, -0.5], [0.0, 0.2, -0.5]],
        ]
    )
    found = sample(*patches(*pictures), matrix, size=9)
    for crop, picture, mapping in zip(found, pictures, matrix.numpy(), strict=True):
        assert np.allclose(crop, naive_sample(picture, mapping, 9), atol=1e-5)


def test_colours_are_multiplied_and_end_at_white():
    grey = np.full((4, 4, 3), 102, dtype=np.uint8)
    gain = torch.tensor([[1.0, 0.5, 4.0]])
    found = sample(*patches(grey), torch.eye(3)[None, :2], size=4, gain=gain)
    assert torch.allclose(found, torch.tensor([0.4, 0.2, 1.0])[:, None, None].expand(1, 3, 4, 4))


def test_enlarging_is_the_crop_of_the_rest_of_the_project():
    picture, box = noise(30, 40), torch.tensor([20.0, 12.0, 17.0])
    found = sample(*patches(picture), invert(crop_matrix(box, 24))[None], size=24)[0]
    assert torch.allclose(found, crops.crop(picture, box, size=24), atol=1e-5)


def test_it_is_the_warp_of_opencv():
    picture = cv2.GaussianBlur(noise(120, 160), (0, 0), 2.0)
    angle = 0.4
    matrix = np.array([[np.cos(angle), -np.sin(angle), 40.0], [np.sin(angle), np.cos(angle), -15.0]]) * 1.4
    # OpenCV's pixels have their centres at whole numbers.
    theirs = matrix.copy()
    theirs[:, 2] += matrix[:, :2].sum(axis=1) / 2.0 - 0.5
    expected = cv2.warpAffine(picture, theirs, (96, 96), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    found = 255.0 * sample(*patches(picture), torch.from_numpy(matrix)[None].float(), size=96)[0].permute(1, 2, 0)
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
