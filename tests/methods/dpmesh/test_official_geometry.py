"""The release's boxes, crops and alignment are those of the suite."""

import torch

from datamodules.prepared.rows import BOX_RULES
from noise2pose.images import crops
from noise2pose.metrics import functional
from tests.parity.procedural import read_fixture
from tests.parity.tolerances import assert_close
from tests.places import PARITY


def tensors():
    data, _ = read_fixture(PARITY / "dpmesh_geometry.safetensors")
    return {key: torch.as_tensor(value) for key, value in data.items()}


def test_the_square_around_the_joints():
    data = tensors()
    keypoints = torch.cat((data["input/keypoints"], data["input/valid"][..., None]), dim=-1)
    tight = crops.box_of_keypoints(keypoints, 1.0)
    seen = data["input/valid"][..., None] > 0
    low = torch.where(seen, data["input/keypoints"], torch.inf).amin(dim=1)
    high = torch.where(seen, data["input/keypoints"], -torch.inf).amax(dim=1)
    assert_close(tight[:, :2], (low + high) / 2.0, 1e-5)
    widened = data["output/kp_bbox_xywh"]
    assert_close((high - low) * 1.2, widened[:, 2:], 1e-5)
    square = data["output/crop_bbox_xywh"]
    expected = torch.cat((square[:, :2] + square[:, 2:] / 2.0, square[:, 2:3]), dim=-1)
    size = data["input/image_width_height"].expand(5, 2)
    ours = crops.square_box(torch.cat((low, high), dim=-1), *BOX_RULES["dpmesh"], size)
    # The release takes the last pixel of a box for its end, as if w pixels reached over w - 1.
    assert_close(ours - torch.tensor([0.5, 0.5, 1.1]), expected, 1e-5)


def test_the_crop():
    data = tensors()
    square = data["output/crop_bbox_xywh"]
    box = torch.cat((square[:, :2] + square[:, 2:] / 2.0, square[:, 2:3]), dim=-1)
    assert_close(crops.crop_matrix(box, 256), data["output/affine"], 1e-4)
    assert_close(crops.invert(data["output/affine_s12_r25"]), data["output/affine_s12_r25_inverse"], 1e-4)


def test_procrustes():
    data = tensors()
    a, b = data["input/A"], data["input/B"]
    assert_close(functional.pa_mpjpe(a, b), (data["output/procrustes_A_to_B"] - b).norm(dim=-1).mean(dim=-1), 1e-5)
