import numpy as np
import torch

from noise2pose import skeletons
from noise2pose.bodies import BodyModel
from noise2pose.rendering.overview import overview_figure


def test_every_stage_has_its_panel_and_the_body_lies_where_it_projects():
    body, skeleton = BodyModel.free_body(), skeletons.get("h36m_17")
    facing = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    pose = (facing, torch.eye(3).expand(23, 3, 3), torch.zeros(10), torch.tensor([0.0, 0.0, 4.0]))
    joints = body.joints(*pose, regressor="h36m_17").numpy()
    focal, centre = np.full(2, 120.0), np.full(2, 48.0)
    keypoints = np.concatenate((joints[:, :2] / joints[:, 2:] * focal + centre, np.ones((17, 1))), axis=1)
    image = np.full((96, 96, 3), 200, dtype=np.uint8)
    figure = overview_figure(
        image, keypoints, joints - joints[:1], np.full(17, 0.05), body(*pose).vertices.numpy(), body.faces.numpy(),
        focal, centre, skeleton,
    )  # fmt: skip
    assert len(figure.axes) == 5
    original, pale, over = (figure.axes[column].get_images()[0].get_array() for column in (0, 1, 3))
    assert np.array_equal(original, image) and (pale > image).all()
    changed = np.argwhere((over != image).any(axis=-1))[:, ::-1]
    low, high = changed.min(axis=0), changed.max(axis=0)
    assert (low <= keypoints[:, :2].min(axis=0) + 1).all() and (high >= keypoints[:, :2].max(axis=0) - 1).all()
    assert 0.05 < len(changed) / image[..., 0].size < 0.5
