import pytest
import roma
import torch

from datamodules.sources.human36m.cameras import H36M_INTRINSICS
from noise2pose import cameras
from tests.parity.procedural import read_fixture
from tests.parity.tolerances import assert_close
from tests.places import PARITY


def fixture(name):
    tensors, _ = read_fixture(PARITY / f"{name}.safetensors")
    return {key: torch.as_tensor(value) for key, value in tensors.items()}


def test_human36m_cameras_are_videopose3ds():
    t = fixture("diffpose_camera")
    rotation = roma.unitquat_to_rotmat(t["input/quaternion"].roll(-1, dims=-1)).mT
    translation = -(rotation @ t["input/translation"][..., None])[..., 0]
    seen = cameras.world_to_camera(t["input/world"], rotation, translation)
    assert_close(seen, t["output/camera"], 1e-5)
    screen = cameras.project_distorted(t["output/camera"], t["input/intrinsics"])
    assert_close(screen, t["output/projected"], 1e-5)
    linear = torch.cat((t["input/intrinsics"][:, :4], torch.zeros(6, 5)), dim=-1)
    assert_close(cameras.project_distorted(t["output/camera"], linear), t["output/projected_linear"], 1e-5)
    size = t["input/width_height"].double()
    assert_close(cameras.from_screen(t["output/projected"].double(), size), t["output/pixels"], 1e-5)
    assert_close(cameras.to_screen(t["output/pixels"], size), t["output/screen"], 1e-5)


def test_crop_cameras_are_hmrs():
    t = fixture("hmr_geometry")
    seen = t["input/points"] + t["output/translation"][:, None]
    pixels = cameras.project(seen, torch.full((4, 2), 5000.0), torch.full((4, 2), 112.0))
    assert_close(pixels, t["output/perspective_crop_px"], 1e-5)
    box = torch.cat((t["input/center"], t["input/scale"][:, None]), dim=-1)
    full = cameras.crop_to_full_translation(t["input/cam"], box, t["input/full_hw"].flip(-1), t["input/focal_full"])
    assert_close(full, t["output/cam_crop2full"], 1e-5)


@pytest.mark.parametrize("number", range(4))
def test_a_camera_without_distortion_is_a_pinhole(number):
    real = H36M_INTRINSICS[number]
    pinhole = cameras.Intrinsics(real.name, real.size, real.focal, real.principal_point)
    points = torch.randn(5, 17, 3) * 0.5 + torch.tensor([0.0, 0.0, 5.0])
    screen = cameras.project_distorted(points, pinhole.normalised())
    pixels = cameras.project(points, torch.tensor(real.focal), torch.tensor(real.principal_point))
    assert torch.allclose(cameras.from_screen(screen, torch.tensor(real.size)), pixels, atol=2e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_look_at_puts_the_target_ahead_and_up_upwards(dtype):
    position = torch.tensor([3.0, -2.0, 1.5], dtype=dtype)
    target = torch.tensor([0.0, 1.0, 1.0], dtype=dtype)
    up = torch.tensor([0.0, 0.0, 1.0], dtype=dtype)
    rotation, translation = cameras.look_at(position, target, up)
    assert torch.allclose(rotation @ rotation.T, torch.eye(3, dtype=dtype), atol=1e-6)
    assert torch.linalg.det(rotation) > 0
    seen = cameras.world_to_camera(torch.stack((target, target + 0.1 * up)), rotation, translation)
    assert torch.allclose(seen[0, :2], torch.zeros(2, dtype=dtype), atol=1e-6) and seen[0, 2] > 0
    assert seen[1, 1] < seen[0, 1]  # y points down


def test_weak_perspective_recovers_scale_and_translation():
    points = torch.randn(6, 17, 3, dtype=torch.float64)
    pixels = 240.0 * points[..., :2] + torch.tensor([500.0, 410.0], dtype=torch.float64)
    weights = torch.rand(6, 17, dtype=torch.float64)
    wrong = pixels.clone()
    wrong[:, 3] += 1000.0
    weights[:, 3] = 0.0
    scale, translation = cameras.fit_weak_perspective(points, wrong, weights)
    assert torch.allclose(scale, torch.full_like(scale, 240.0))
    assert torch.allclose(translation, torch.tensor([500.0, 410.0], dtype=torch.float64).expand(6, 2))
    scale, translation = cameras.fit_weak_perspective(torch.ones(17, 3), torch.ones(17, 2), torch.ones(17))
    assert scale == 0 and translation.isfinite().all()


def test_translation_is_the_least_squares_of_the_published_function():
    t = fixture("hmr_geometry")
    points, pixels, weights = (t[key].double() for key in ("input/points", "output/perspective_crop_px", "input/conf"))
    focal, centre = torch.full((4, 2), 5000.0).double(), torch.full((4, 2), 112.0).double()
    found = cameras.fit_translation(points, pixels, weights, focal, centre)
    assert_close(found, t["output/estimate_translation"], 1e-5)
