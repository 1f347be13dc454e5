import io
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from noise2pose import skeletons
from noise2pose.bodies import BodyModel
from noise2pose.rendering.figures import overview_figure, prediction_figure
from noise2pose.rendering.skeletons import LEFT, MIDDLE, RIGHT, draw_skeleton_2d, draw_skeleton_3d

SKELETON = skeletons.get("h36m_17")


def pose(seed=0):
    joints = np.random.default_rng(seed).normal(scale=0.3, size=(17, 3))
    return joints - joints[0]


def keypoints(confidence=1.0):
    return np.concatenate((500 + 200 * pose()[:, :2], np.full((17, 1), confidence)), axis=1)


def axes(projection=None) -> Any:
    figure = Figure(figsize=(3, 3), dpi=80)
    FigureCanvasAgg(figure)
    return figure.add_subplot(projection=projection)


def segments(ax):
    return {to_hex(lines.get_color()[0]).upper(): lines.get_segments() for lines in ax.collections}


def pixels(figure):
    file = io.BytesIO()
    figure.savefig(file, format="rgba", dpi=50)
    return np.frombuffer(file.getvalue(), np.uint8).reshape(-1, 4)


def test_left_right_and_middle_have_their_colours():
    ax = axes()
    points = keypoints()
    draw_skeleton_2d(ax, points, SKELETON)
    drawn = segments(ax)
    assert sum(map(len, drawn.values())) == len(SKELETON.edges)
    hip, knee = SKELETON.index("left_hip"), SKELETON.index("left_knee")
    assert any(np.allclose(line, points[[hip, knee], :2]) for line in drawn[LEFT])
    assert len(drawn[LEFT]) == len(drawn[RIGHT]) == 6 and len(drawn[MIDDLE]) == 4


def test_the_image_has_y_down_and_holds_the_person():
    ax = axes()
    draw_skeleton_2d(ax, keypoints(), SKELETON, image_size=(1000, 1000))
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    points = keypoints()
    assert left < points[:, 0].min() and points[:, 0].max() < right
    assert top < points[:, 1].min() and points[:, 1].max() < bottom
    assert right - left == pytest.approx(bottom - top)


@pytest.mark.parametrize("missing", [0.0, np.nan])
def test_undetected_joints_and_their_limbs_are_left_out(missing):
    ax, points = axes(), keypoints()
    knee = SKELETON.index("left_knee")
    points[knee, 2] = missing
    points[knee, :2] = 1e6  # would blow up the frame
    draw_skeleton_2d(ax, points, SKELETON)
    assert sum(map(len, segments(ax).values())) == len(SKELETON.edges) - 2
    assert ax.get_xlim()[1] < 1e4


def test_nobody_detected_is_an_empty_picture():
    draw_skeleton_2d(axes(), keypoints(confidence=0.0), SKELETON, image_size=(1000, 1000))


def test_the_person_stands_upright_on_equal_axes():
    ax = axes("3d")
    joints = pose()
    draw_skeleton_3d(ax, joints, SKELETON)
    lengths = [high - low for low, high in (ax.get_xlim(), ax.get_ylim(), ax.get_zlim())]
    assert np.ptp(lengths) < 1e-9
    ax.figure.canvas.draw()
    from mpl_toolkits.mplot3d import proj3d

    def screen(x, y, z):
        """Where a point of the camera frame lands on the paper, y up."""
        return np.array(proj3d.proj_transform(x, z, -y, ax.get_proj())[:2])

    origin = screen(0, 0, 0)
    assert screen(0, -0.1, 0)[1] > origin[1], "up in the world is up on the paper"
    assert screen(0.1, 0, 0)[0] > origin[0], "right of the camera is right on the paper"


def test_discs_have_the_radius_of_the_uncertainty_and_face_the_viewer():
    figure = prediction_figure(keypoints(), pose(), SKELETON, uncertainty=np.full(17, 0.1))
    panels: list[Any] = figure.axes
    ax = panels[1]
    FigureCanvasAgg(figure).draw()
    from mpl_toolkits.mplot3d import proj3d

    (discs,) = (drawn for drawn in ax.collections if type(drawn).__name__ == "Poly3DCollection")
    azimuth = np.radians(ax.azim)
    x, _, _ = proj3d.proj_transform(
        *np.array([[0.0, -np.sin(azimuth)], [0.0, np.cos(azimuth)], [0, 0]]) * 0.2, ax.get_proj()
    )
    sizes = np.array([np.ptp(path.vertices, axis=0) for path in discs.get_paths()])
    assert sizes.shape == (17, 2)
    assert np.allclose(sizes, abs(x[1] - x[0]), rtol=1e-2), "0.2 metres across on the paper, and round"


def test_the_caption_names_the_most_uncertain_joints():
    uncertainty = np.full(17, 0.01)
    uncertainty[[3, 13, 16]] = 0.05, 0.2, 0.1
    figure = prediction_figure(keypoints(), pose(), SKELETON, uncertainty)
    (caption,) = (text.get_text() for text in figure.texts)
    assert "on average 2.9 cm, most at left wrist 20.0, right wrist 10.0, right ankle 5.0 cm" in caption
    with pytest.raises(ValueError, match=r"uncertainty of shape \(16,\)"):
        prediction_figure(keypoints(), pose(), SKELETON, uncertainty[1:])


@pytest.mark.parametrize("shape", [(16, 3), (17, 4), (2, 17, 3)])
def test_a_pose_that_does_not_fit_is_refused(shape):
    with pytest.raises(ValueError, match=r"expected \(17, 3\)"):
        draw_skeleton_3d(axes("3d"), np.zeros(shape), SKELETON)


def test_importing_loads_neither_matplotlib_nor_torch():
    code = "import sys, noise2pose.rendering; sys.exit(bool({'matplotlib', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_every_stage_has_its_panel_and_the_body_lies_where_it_projects():
    body, skeleton = BodyModel.load("free"), skeletons.get("h36m_17")
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
