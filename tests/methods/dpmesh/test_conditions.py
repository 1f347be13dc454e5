"""Conditions: what the networks see of the joints, and above all what they must not see."""

import pytest
import torch

from methods.dpmesh.conditions import (
    RELEASED,
    Observer,
    checked_box,
    clean_keypoints,
    conditions,
    drop_joints,
    noisy_keypoints,
    released_joints,
)
from noise2pose import skeletons
from noise2pose.errors import InputError
from tests.tiny import TinyPeople

BOX = torch.tensor([[100.0, 80.0, 64.0]])


@pytest.fixture(scope="module")
def people():
    return TinyPeople().load("val")


def one(*keypoints):
    return torch.tensor([keypoints], dtype=torch.float32)


def test_places_are_those_of_the_crop_and_peaks_are_there():
    made = conditions(one((100.0, 80.0, 1.0), (69.0, 49.0, 0.5)), BOX, size=32)
    assert made.present.all() and torch.allclose(made.joints[0, 0], torch.tensor([0.5, 0.5]))
    # The middle of the crop lies between the cells 15 and 16; (69, 49) is the centre of the first cell.
    assert torch.allclose(made.heatmaps[0, 0, 15, 15], made.heatmaps[0, 0, 16, 16]) and made.heatmaps[0, 1, 0, 0] == 1.0


def test_what_is_absent_never_is_a_coordinate():
    missing = (1e6, -3.0, 0.0)
    unsure = (100.0, 80.0, 0.05)
    outside_the_crop = (10.0, 80.0, 1.0)
    outside_the_image = (100.0, 55.0, 1.0)
    broken = (float("nan"), 80.0, 1.0)
    keypoints = one(missing, unsure, outside_the_crop, outside_the_image, broken, (100.0, 80.0, 1.0))
    keypoints[0, 3, 1] = 60.0
    image_size = torch.tensor([[200.0, 59.0]])
    made = conditions(keypoints, BOX, image_size)
    assert not made.present[0].any()  # all that lies below row 59 is outside the image
    assert not made.joints.any() and not made.heatmaps.any()
    made = conditions(keypoints, BOX)
    assert made.present[0].tolist() == [False, False, False, True, False, True]
    moved = keypoints.clone()
    moved[:, [0, 1, 2, 4], :2] = 12345.0
    moved[:, [0, 1], 2] = 0.0
    assert all(torch.equal(a, b) for a, b in zip(made, conditions(moved, BOX), strict=True))


def test_boxes_without_an_area_are_refused_by_name(people):
    small = {**people, "box": people["box"].clone()}
    small["box"][:, 2] = 1.0  # a box of one pixel is a box
    assert torch.equal(checked_box(small), small["box"])
    made = conditions(small["keypoints_2d"], small["box"], small["camera"]["image_size"])
    assert made.heatmaps.isfinite().all()
    for value in (0.0, float("nan")):
        small["box"][3, 2] = value
        with pytest.raises(InputError, match="box of sample val_3 is"):
            checked_box(small)
    nobody = {"keypoints_2d": torch.zeros(2, 17, 3), "sample_id": ["a", "b"]}
    with pytest.raises(InputError, match="box of sample a is"):
        checked_box(nobody)


def test_the_true_joints_come_from_the_best_source_that_there_is(people):
    detected = {**people, "keypoints_2d": people["keypoints_2d"].clone()}
    detected["keypoints_2d"][..., :2] += 20.0
    detected["keypoints_3d"] = people["keypoints_3d"].clone()
    detected["keypoints_3d"][:, 4, 3] = 0.0
    clean = clean_keypoints(detected)
    others = [j for j in range(17) if j != 4]
    assert torch.allclose(clean[:, others], people["keypoints_2d"][:, others], atol=1e-2)
    assert torch.equal(clean[:, 4], detected["keypoints_2d"][:, 4])
    annotated = torch.rand(32, 17, 3)
    assert torch.equal(clean_keypoints({**detected, "keypoints_2d_gt": annotated}), annotated)
    broken = annotated.clone()
    broken[0, 3, 0] = torch.nan
    assert not clean_keypoints({**detected, "keypoints_2d_gt": broken})[0, 3].any(), "not finite is not known"
    del detected["keypoints_3d"]
    assert torch.equal(clean_keypoints(detected), detected["keypoints_2d"])


def test_errors_differ_at_each_step_and_are_reproducible(people):
    hidden = {**people, "keypoints_2d": people["keypoints_2d"].clone()}
    hidden["keypoints_2d"][:, 7, 2] = 0.0
    true, box = clean_keypoints(hidden), checked_box(hidden)
    first, second, again = (noisy_keypoints(true, box, hidden, "h36m_17", step) for step in (3, 4, 3))
    assert torch.equal(first, again) and not torch.equal(first, second)
    assert not first[:, 7].any()  # what is not there is not detected
    away = (first - people["keypoints_2d"])[..., :2].norm(dim=-1)[:, [j for j in range(17) if j != 7]]
    assert 0.0 < away.median() < 0.2 * people["box"][:, 2].median()
    joints = skeletons.get("h36m_17").num_joints
    dropped = drop_joints(torch.ones(1000, joints, 3), 0.1)
    assert 0.08 < 1.0 - dropped[..., 2].mean() < 0.12


def test_an_observation_for_prediction_has_no_ground_truth(people):
    given = {key: people[key] for key in ("image", "box", "camera", "keypoints_2d")}
    observer = Observer(skeletons.get("h36m_17"), 16)
    observed, with_truth = observer.observe(given), observer.observe(people)
    assert torch.equal(observed.image, people["image"]) and torch.equal(observed.box, people["box"])
    assert torch.equal(observed.keypoints, people["keypoints_2d"]) and observed.noisy is None
    assert observed.conditions.heatmaps.shape[-2:] == (16, 16)
    assert all(torch.equal(a, b) for a, b in zip(observed.conditions, with_truth.conditions, strict=True))


def test_a_student_sees_the_keypoints_that_it_is_trained_on_and_a_teacher_true_ones(people):
    batch = {**people, "keypoints_2d": people["keypoints_2d"].clone()}
    batch["keypoints_2d"][..., :2] += 2.0
    settings = {"skeleton": skeletons.get("h36m_17"), "size": 16}
    joints = {}
    for kind in ("clean", "batch", "noisy"):
        observed = Observer(**settings, train_keypoints=kind).observe_training(batch, True, step=3, seed=0)
        joints[kind] = observed.noisy.joints
        assert torch.equal(observed.keypoints, clean_keypoints(batch)) and observed.conditions.present.any()
        true = observed.conditions.joints
        assert torch.equal(joints[kind], true) == (kind == "clean")
    assert torch.equal(joints["batch"], Observer(**settings).observe(batch).conditions.joints)
    assert not torch.equal(joints["noisy"], joints["batch"])
    teacher = Observer(**settings, use_heatmaps=False, image_noise=0.5).observe_training(batch, False, step=3, seed=0)
    assert teacher.noisy is None and torch.equal(teacher.conditions.joints, true)
    assert not teacher.conditions.heatmaps.any() and not torch.equal(teacher.image, batch["image"])


def test_the_conditions_of_the_release_are_made_of_thirty_joints():
    keypoints = torch.zeros(1, 17, 3)
    keypoints[0, :, :2], keypoints[0, :, 2] = 60.0, 1.0
    keypoints[0, 4] = torch.tensor([float("nan"), 0.0, 1.0])
    keypoints[0, 13] = torch.tensor([20.0, 30.0, 0.0])
    joints = released_joints(keypoints, "h36m_17")
    h36m, release = skeletons.get("h36m_17"), skeletons.get(RELEASED)
    assert joints.shape == (1, 30, 3) and joints.isfinite().all()
    lost = {h36m.joints[4], h36m.joints[13], "spine", "chin", "thorax"}
    found = {release.joints[joint] for joint in joints[0, :, 2].nonzero()[:, 0]}
    assert found == set(h36m.joints) - lost | {"neck"}
    assert not joints[0, joints[0, :, 2] == 0].any()
    box = torch.tensor([[60.0, 60.0, 64.0]])
    maps = conditions(joints, box, corners=True).heatmaps
    assert maps[0, 0, 16, 16] == 1.0, "the middle of the crop is where four cells meet"
