import pytest
import torch

from methods.base import PoseMethod
from methods.inference.lifting import lift
from noise2pose import cameras
from noise2pose.errors import InputError


class Echo(PoseMethod):
    """Answers the screen coordinates that it was given, and numbers the windows by their first frame."""

    def __init__(self, num_frames):
        super().__init__()
        self.num_frames = num_frames
        self.windows = []

    def forward(self, batch):
        points, camera = batch["keypoints_2d"], batch["camera"]
        assert points.ndim == (3 if self.num_frames == 1 else 4)
        self.windows += batch["sample_id"]
        middle = (slice(None), *(None,) * (points.ndim - 2))
        rays = (points[..., :2] - camera["principal_point"][middle]) / camera["focal"][middle]
        joints = torch.cat((rays, points[..., 2:]), dim=-1)
        return {"joints_3d": joints, "uncertainty": points[..., 2], "hypotheses": torch.stack((joints, joints + 1))}


def clip(number):
    points = 100.0 * torch.randn(number, 17, 3, generator=torch.Generator().manual_seed(0))
    points[..., 2] = torch.arange(number)[:, None]  # the confidence tells the frame
    return points, [f"frame_{i}" for i in range(number)]


@pytest.mark.parametrize(
    ("frames", "number", "windows"),
    [(1, 3, [0, 1, 2]), (4, 8, [0, 4]), (4, 10, [0, 4, 6]), (4, 5, [0, 1]), (4, 4, [0]), (4, 3, [0]), (4, 1, [0])],
)
def test_every_frame_is_answered_once_and_in_order(frames, number, windows):
    points, names = clip(number)
    method = Echo(frames)
    lifted = lift(method, points, names)
    assert method.windows == [f"frame_{i}" for i in windows]
    assert lifted.joints_3d.shape == (number, 17, 3)
    assert lifted.uncertainty is not None and torch.equal(lifted.uncertainty, points[..., 2])
    assert lifted.hypotheses is not None and lifted.hypotheses.shape == (number, 2, 17, 3)
    assert torch.equal(lifted.hypotheses[:, 0], lifted.joints_3d)
    assert torch.equal(lifted.joints_3d[..., 2], points[..., 2])


def test_the_answer_does_not_depend_on_where_and_how_large_the_person_is():
    points, names = clip(2)
    moved = torch.cat((3.0 * points[..., :2] + 700.0, points[..., 2:]), dim=-1)
    near, far = (lift(Echo(1), keypoints, names).joints_3d for keypoints in (points, moved))
    assert torch.allclose(near, far, atol=1e-5)
    half = 0.5 / (2.2 * cameras.VIRTUAL_FOCAL)
    assert near[..., :2].abs().amax() == pytest.approx(half, rel=1e-4), "the box takes 1 / 2.2 of the image"


def test_a_window_has_one_virtual_image():
    points, names = clip(4)
    lifted = lift(Echo(4), points, names).joints_3d[..., :2]
    assert lifted.flatten(0, 1).amax(dim=0).add(lifted.flatten(0, 1).amin(dim=0)).abs().max() < 1e-6
    moved, given = lifted[1:] - lifted[:-1], points[1:, :, :2] - points[:-1, :, :2]
    assert torch.allclose(moved / given, (moved / given)[0, 0, 0], rtol=1e-2), "one scale, one corner"


def test_a_person_without_size_is_refused():
    points, names = clip(2)
    points[1, :, :2] = 5.0
    with pytest.raises(InputError, match="frame_1: all joints lie at one point"):
        lift(Echo(1), points, names)


def test_a_method_without_uncertainty():
    method = Echo(1)
    method.forward = lambda batch: {"joints_3d": batch["keypoints_2d"]}
    lifted = lift(method, *clip(3))
    assert lifted.uncertainty is None and lifted.hypotheses is None
