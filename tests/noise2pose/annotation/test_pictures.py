import numpy as np

from noise2pose import skeletons
from noise2pose.annotation.pictures import _with_joints


def test_a_dot_at_each_visible_joint_in_the_colour_of_its_side():
    skeleton = skeletons.get("h36m_17")
    keypoints = np.zeros((17, 3))
    keypoints[:, 0], keypoints[:, 1], keypoints[:, 2] = 20.0 + 25.0 * np.arange(17), 30.0, 0.4
    hidden = skeleton.index("left_knee")
    keypoints[hidden, 2] = 0.0
    canvas = np.full((60, 480, 3), 255, dtype=np.uint8)
    drawn = _with_joints(canvas, keypoints)
    colors = {name: tuple(drawn[30, 20 + 25 * row]) for row, name in enumerate(skeleton.joints)}
    assert (canvas == 255).all() and colors["left_knee"] == (255, 255, 255)
    assert len({colors["left_hip"], colors["right_hip"], colors["pelvis"]}) == 3
    assert colors["left_hip"] == colors["left_wrist"] and colors["right_hip"] == colors["right_wrist"]
    assert (drawn[:15] == 255).all() and (drawn[45:] == 255).all()
