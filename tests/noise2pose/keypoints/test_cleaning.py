import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from noise2pose import skeletons
from noise2pose.errors import InputError
from noise2pose.keypoints import cleaning
from noise2pose.keypoints.arrays import from_array
from tests.noise2pose.keypoints.walker import coco_walker, walker

WRISTS = [skeletons.get("coco_17").index(f"{side}_wrist") for side in ("left", "right")]


@pytest.mark.parametrize("confidence", [None, 0.0, 0.37, 0.5, 1.0])
@pytest.mark.parametrize("mark", [0.0, -1.0, np.nan])
def test_a_joint_without_a_position_is_no_evidence(mark, confidence):
    points = coco_walker(4)
    points[:, WRISTS, :2] = mark
    if confidence is None:
        found = from_array("array", points[..., :2])
    else:
        points[:, WRISTS, 2] = confidence
        found = from_array("array", points)
    assert (found.points[:, WRISTS] == 0.0).all() and (found.points[..., 2] > 0).sum() == 4 * 15
    assert ("8 joints at (0, 0), (-1, -1) or without a position" in found.about()) == (confidence != 0.0)


@settings(max_examples=20, deadline=None)
@given(joint=st.integers(0, 16), seed=st.integers(0, 99), place=st.floats(-900, 900))
def test_confidence_0_is_the_same_as_leaving_the_joint_out(joint, seed, place):
    points = coco_walker(3, seed)
    left_out = points.copy()
    points[:, joint] = [place, place, 0.0]
    left_out[:, joint] = 0.0
    ways = [from_array("array", given).points for given in (points, left_out)]
    inputs = [skeletons.to_input(given, "coco_17", "h36m_17") for given in ways]
    assert torch.equal(*inputs)


def test_a_joint_at_the_origin_counts_where_the_person_stands_around_it():
    points = coco_walker(2)
    points[..., :2] -= points[:, 11:12, :2].copy()  # relative to a hip
    found = from_array("array", points)
    assert (found.points[..., 2] > 0).all() and "(0, 0)" not in found.about()


def test_joints_far_outside_are_no_evidence():
    points = coco_walker(2)
    points[0, WRISTS[0], :2] = [90000.0, 10.0]
    assert from_array("array", points).points[0, WRISTS[0], 2] == 0.0, "of any other joint's"
    points[0, WRISTS[0], :2] = [1100.0, 300.0]
    assert from_array("array", points).points[0, WRISTS[0], 2] > 0.0
    found = from_array("array", points, image_size=(1000, 1000))
    assert found.points[0, WRISTS[0], 2] == 0.0 and "1 joint outside the image" in found.about()
    details = np.concatenate((points[:1], np.full((1, 116, 3), [500.0, 200.0, 0.9])), axis=1)
    assert (from_array("array", details).points[0, 1:17, 2] > 0).all(), "many points of a face are not the body"


def test_confidences_of_every_scale():
    for third, labelled, expected in (
        ([0.0, 1.0, 2.0], False, [0.0, 0.5, 1.0]),
        ([0.0, 1.0, 1.0], True, [0.0, 0.5, 0.5]),
        ([0.0, 1.0, 1.0], False, [0.0, 1.0, 1.0]),
        ([5.0, 92.0, 100.0], False, [0.05, 0.92, 1.0]),
        ([1.3, -1.0, np.nan], False, [1.0, 0.0, 0.0]),
    ):
        given = np.array(third)[None, :, None]
        assert cleaning.confidence("a", given, labelled)[0, :, 0].tolist() == pytest.approx(expected)
    with pytest.raises(InputError, match="a: the third numbers .* 640, which are no confidences: leave them out"):
        cleaning.confidence("a", np.array([[[640.0]]]), False)


@pytest.mark.parametrize("size", [None, (1000, 800)])
@pytest.mark.parametrize("mark", [(-10, -10), (-100, -100), (1, 1), (0.5, 0.5), (0, 800), (1000, 800), (0, None)])
def test_points_that_stand_for_missing_joints_are_no_evidence(mark, size):
    points = coco_walker(6)
    for axis, coordinate in enumerate(mark):
        if coordinate is not None:
            points[:, WRISTS, axis] = coordinate
    found = from_array("array", points, image_size=size)
    assert (found.points[:, WRISTS] == 0.0).all() and (found.points[..., 2] > 0).sum() == 6 * 15
    assert "12 joints far from the rest, at a mark such as" in found.about()
    one = coco_walker(6)
    one[:, WRISTS[0]] = points[:, WRISTS[0]]
    assert (from_array("array", one).points[:, WRISTS[0]] == 0.0).all(), "of one joint in most poses"


def test_joints_that_touch_or_stand_still_are_evidence():
    touching = coco_walker(6).round()
    touching[:, WRISTS] = touching[:, WRISTS[:1]] - [0.0, 300.0, 0.0]  # above the head
    standing = np.repeat(coco_walker(1), 6, axis=0)
    standing[:, WRISTS, :2] = [[700.0, 300.0], [300.0, 300.0]]
    tiny = (coco_walker(6) / [40.0, 40.0, 1.0]).round(1).round()
    tiny[..., 2] = 0.9
    for points in (tiny, touching, standing, touching - [500.0, 500.0, 0.0]):
        assert (from_array("array", points).points[..., 2] > 0).all()


def test_joints_of_a_confidence_below_a_tenth_are_no_evidence():
    points = coco_walker(4)
    points[:, WRISTS] = [100.0, 700.0, 0.05]
    found = from_array("array", points)
    assert (found.points[:, WRISTS] == 0.0).all() and "8 joints of a confidence below 0.1 taken as" in found.about()
    points[..., 2] = 0.05
    with pytest.raises(InputError, match="every confidence is below 0.1: leave the third number out"):
        from_array("array", points)


def test_the_size_of_other_images_and_percentages_are_told():
    points = coco_walker(4)
    assert "most joints are outside images of 300 x 200" in from_array("array", points, image_size=(300, 200)).about()
    found = from_array("array", points * [0.1, 0.1, 1.0], image_size=(1000, 1000))
    assert "percentages are multiplied by width / 100" in found.about()
    assert from_array("array", points, "coco_17", image_size=(1000, 800)).notes == ()


def test_16_joints_in_the_order_of_human36m_are_not_mpiis():
    points = np.delete(walker(4), skeletons.get("h36m_17").index("chin"), axis=1)
    with pytest.raises(InputError, match="look like h36m_16: say --skeleton h36m_16 if .*: pelvis, right_hip"):
        from_array("array", points)
    assert from_array("array", points, "h36m_16").notes == ()
    with pytest.raises(InputError, match="h36m_17 has 17: h36m_16 or mpii_16 has 16"):
        from_array("array", points, "h36m_17")


@pytest.mark.parametrize("skeleton", ["h36m_17", "mpi_inf_3dhp_17"])
def test_another_order_is_not_read_as_cocos(skeleton):
    points = skeletons.convert(torch.from_numpy(walker(5)), "h36m_17", skeleton, has_confidence=True).numpy()
    with pytest.raises(InputError, match=f"not in the order of coco_17: they look like {skeleton}: .*--skeleton"):
        from_array("array", points)
    assert from_array("array", points, skeleton).skeleton == skeleton
    stated = from_array("array", points, "coco_17")
    assert "look like" in stated.about(), "somebody who says it is told"
    assert from_array("array", coco_walker(5)).notes == ("the order of the joints is assumed",)


def test_joints_that_were_filled_in_with_another_are_no_evidence():
    """Halpe-136 made from 17 joints: the rest is at the nose."""
    coco = coco_walker(4)
    coco[..., :2] += 0.25  # not whole pixels
    halpe = np.repeat(coco[:, :1], 136, axis=1)
    halpe[:, :17] = coco
    cleaned, count = cleaning.without_filled(torch.from_numpy(halpe))
    assert count == 4 * 119
    assert (cleaned[:, :17] == torch.from_numpy(coco)).all() and (cleaned[:, 17:] == 0).all()
    whole = torch.from_numpy(halpe.round())  # may be people who are a few pixels tall
    assert cleaning.without_filled(whole)[1] == 0


def test_two_joints_at_one_point_are_both_evidence():
    points = torch.from_numpy(coco_walker(2))
    points[:, 5] = points[:, 6]
    assert cleaning.without_filled(points)[1] == 0
