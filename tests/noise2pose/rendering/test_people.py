"""What pictures of people show, and what they leave out."""

import numpy as np
import pytest
import roma
import torch
from beartype import beartype
from jaxtyping import jaxtyped
from PIL import ImageColor

from noise2pose import skeletons
from noise2pose.batch import JointMaps, PoseBatch, Prediction
from noise2pose.bodies import BodyModel
from noise2pose.rendering.people import captioned, draw_people, map_panels
from noise2pose.rendering.skeletons import LEFT, MIDDLE, RIGHT

SKELETON = skeletons.get("h36m_17")
SIDE = 120
STEP = SIDE + 4
WHITE = torch.ones(3, 24, 24)


def joint_maps(kind="heatmaps", cells=12, people=1):
    """Everybody told of every joint, and maps yet to be filled."""
    return JointMaps("h36m_17", torch.ones(people, 17).bool(), {kind: torch.zeros(people, 17, cells, cells)})


def middle_of(panel, row, column, cells=12):
    """Colour of the middle of a cell."""
    return panel[int((row + 0.5) * len(panel) / cells), int((column + 0.5) * len(panel) / cells)].astype(int)


@pytest.mark.parametrize(
    ("joint", "color"), [("left_wrist", LEFT), ("right_knee", RIGHT), ("pelvis", MIDDLE), ("left_hip", LEFT)]
)
def test_a_heat_map_has_the_colour_of_its_side_where_it_peaks(joint, color):
    found = joint_maps()
    found.maps["heatmaps"][0, SKELETON.index(joint), 7, 4] = 1.0
    (panel,) = map_panels(WHITE, found, 0, SIDE)
    assert panel.shape == (SIDE, SIDE, 3) and panel.dtype == np.uint8
    assert np.abs(middle_of(panel, 7, 4) - ImageColor.getrgb(color)).max() < 60
    assert (middle_of(panel, 10, 10) == 255).all()


def test_joints_that_the_method_was_not_told_of_are_not_drawn():
    found = joint_maps("attention_16")
    found.maps["attention_16"][0, :2, 7, 4] = 0.9
    found.present[:] = False
    (panel,) = map_panels(WHITE, found, 0, SIDE)
    assert (panel[12:] == 255).all()
    assert map_panels(WHITE, None, 0, SIDE) == []


def test_attention_is_seen_however_weak_it_is_and_a_flat_one_is_not():
    found = joint_maps("attention_16", cells=4)
    maps = found.maps["attention_16"][0]
    maps[:] = 1.0 / 17.0
    (flat,) = map_panels(WHITE, found, 0, SIDE)
    assert (flat[12:] == 255).all()
    left, right = SKELETON.index("left_hip"), SKELETON.index("right_hip")
    maps[left, 1, 1] += 2e-3
    maps[right, 2, 2] += 1e-3
    (panel,) = map_panels(WHITE, found, 0, SIDE)
    strong, weak = (middle_of(panel, cell, cell, cells=4) for cell in (1, 2))
    assert np.abs(strong - ImageColor.getrgb(LEFT)).max() < 60
    assert weak[0] > weak[2] + 40, "orange, half as strong"
    assert weak.min() > strong.min() + 50


def people(number=2):
    """A body that faces the camera, in the middle of its crop."""
    body = BodyModel.load("free")
    orient = roma.rotvec_to_rotmat(torch.tensor([torch.pi, 0.0, 0.0])).expand(number, 3, 3)
    batch: PoseBatch = {
        "image": torch.zeros(number, 3, 40, 40),
        "box": torch.tensor([300.0, 200.0, 240.0]).expand(number, 3),
        "camera": {"focal": torch.full((number, 2), 500.0), "principal_point": torch.tensor([[320.0, 240.0]] * number)},
        "sample_id": [f"person_{row}" for row in range(number)],
    }
    prediction: Prediction = {
        "smpl": {
            "global_orient": orient,
            "body_pose": torch.eye(3).expand(number, 23, 3, 3),
            "betas": torch.zeros(number, 10),
        },
        "camera_translation": torch.tensor([[-0.2, -0.2, 5.0]] * number),
    }
    return batch, prediction, body


def panel_of(picture, row, column):
    return picture[row * STEP : row * STEP + SIDE, column * STEP : column * STEP + SIDE]


def test_a_row_for_each_person_with_a_body_where_its_camera_sees_it():
    batch, prediction, body = people()
    found = joint_maps(people=2)
    picture = draw_people(batch, prediction, body, found, SIDE)
    assert picture.shape == (2 * STEP - 4, 4 * STEP - 4, 3)
    assert (panel_of(picture, 0, 0)[14:] == 0).all(), "the crop"
    assert draw_people(batch, prediction, body, None, SIDE).shape == (2 * STEP - 4, 3 * STEP - 4, 3)
    rows, columns = np.nonzero(panel_of(picture, 0, 2)[14:].any(axis=-1))
    assert abs(columns.mean() - SIDE / 2) < 3, "320 - 0.2 / 5 * 500 is the middle of the box"
    assert rows.max() - rows.min() > 0.5 * SIDE
    assert (panel_of(picture, 0, 3) < 250).any() and (panel_of(picture, 1, 3) < 250).any()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_a_body_that_is_not_finite_is_left_out(value):
    batch, prediction, body = people()
    prediction["smpl"]["betas"][0, 0] = value
    picture = draw_people(batch, prediction, body, joint_maps(people=2), SIDE)
    assert (panel_of(picture, 0, 2) == 255).all() and (panel_of(picture, 0, 3) == 255).all()
    assert (panel_of(picture, 1, 2) != 255).any() and (panel_of(picture, 1, 3) != 255).any()
    prediction["smpl"]["betas"][:] = value
    assert draw_people(batch, prediction, body, None, SIDE).shape == (2 * STEP - 4, SIDE, 3)


def test_a_body_behind_the_camera_and_one_without_camera():
    batch, prediction, body = people(1)
    prediction["camera_translation"][:, 2] = -5.0
    picture = draw_people(batch, prediction, body, None, SIDE)
    assert (panel_of(picture, 0, 1)[14:] == 0).all() and (panel_of(picture, 0, 2) < 250).any()
    del batch["camera"]
    assert draw_people(batch, prediction, body, None, SIDE).shape == (SIDE, SIDE, 3)


def test_shapes_are_what_they_are_said_to_be():
    checked = jaxtyped(typechecker=beartype)
    batch, _, _ = people()
    assert len(checked(map_panels)(batch["image"][0], joint_maps(), 0, 50)) == 1
    assert checked(captioned)(np.zeros((50, 50, 3), dtype=np.uint8), 40 * "long").max() == 255
