"""Pictures of lifted people: a row each, on one scale, whatever is missing."""

import numpy as np

from noise2pose import skeletons
from noise2pose.rendering.lifted import draw_lifted

SKELETON = skeletons.get("h36m_17")


def people(count=2):
    target = np.random.default_rng(0).normal(scale=0.4, size=(count, 17, 3))
    keypoints = np.concatenate([500 + 200 * target[..., :2], np.ones((count, 17, 1))], axis=-1)
    return keypoints, target


def test_each_person_has_a_row_of_three_panels():
    keypoints, target = people()
    picture = draw_lifted(keypoints, target, target, SKELETON)
    assert picture.dtype == np.uint8 and picture.shape[2] == 3
    height = picture.shape[0] - draw_lifted(keypoints[:1], target[:1], target[:1], SKELETON).shape[0]
    panels = np.split(picture[-height:], 3, axis=1)
    assert all((panel < 200).any() for panel in panels), "something is drawn in each"
    assert (panels[1] == panels[2]).all(), "a perfect prediction looks like the truth"


def test_an_error_shows_in_the_prediction_alone():
    keypoints, target = people(1)
    wrong = target.copy()
    wrong[0, SKELETON.index("left_wrist")] *= 0.5
    right, other = (draw_lifted(keypoints, each, target, SKELETON) for each in (target, wrong))
    thirds = [np.split(picture, 3, axis=1) for picture in (right, other)]
    assert (thirds[0][0] == thirds[1][0]).all() and (thirds[0][1] != thirds[1][1]).any()


def test_people_without_keypoints_or_with_broken_answers_are_drawn_as_far_as_known():
    keypoints, target = people(1)
    keypoints[..., 2] = 0.0
    assert draw_lifted(keypoints, np.full_like(target, np.nan), target, SKELETON).shape[1] % 3 == 0
    assert draw_lifted(keypoints, np.full_like(target, np.nan), np.full_like(target, np.nan), SKELETON).any()
