import numpy as np
import pytest

from noise2pose.errors import InputError
from noise2pose.viewing.scene import IMAGES, MOST_HYPOTHESES, build_scene
from tests.noise2pose.export.motions import body_motion, body_places, joint_motion, places


def test_people_of_a_video_share_its_moments():
    early, late = body_motion(5).rows([0, 1, 3]), body_motion(5, seed=2, name="carl").rows([3, 4])
    (timeline,) = build_scene([early, late]).timelines
    assert timeline.frames.tolist() == [0, 1, 3, 4] and timeline.moving and timeline.step == 1
    first, second = timeline.people
    assert np.abs(first.joints[:3] - places(early)).max() < 1e-4 and np.isnan(first.joints[3]).all()
    assert np.isnan(second.joints[:2]).all() and np.abs(second.joints[2:] - places(late)).max() < 1e-4
    assert first.color != second.color and np.allclose(first.confidence[:3], 0.9)
    mesh = second.vertices(2)
    assert mesh is not None and np.abs(mesh - body_places(late)[0][0]).max() < 1e-4
    assert second.vertices(0) is None and first.ellipsoids is None and first.hypotheses is None


def test_ellipsoids_have_the_variance_of_the_uncertainty():
    noise = np.random.default_rng(0).normal(size=(3, 20, 17, 3)) * [0.01, 0.05, 0.02]
    motion = joint_motion(3)
    hypotheses = motion.joints[:, None] + noise
    spread = np.sqrt(hypotheses.var(axis=1, ddof=1).sum(axis=-1))
    (timeline,) = build_scene([joint_motion(3, hypotheses=hypotheses, uncertainty=spread)]).timelines
    (person,) = timeline.people
    assert person.ellipsoids is not None and person.hypotheses is not None
    assert person.hypotheses.shape == (3, MOST_HYPOTHESES, 17, 3)
    turned = hypotheses @ motion.to_y_up.T
    for joint in (0, 9):
        covariance = person.ellipsoids[1, joint] @ person.ellipsoids[1, joint].T
        assert np.allclose(covariance, np.cov(turned[1, :, joint].T), rtol=1e-3, atol=1e-7)
    spheres = build_scene([joint_motion(3)]).timelines[0].people[0].ellipsoids  # of three hypotheses
    assert spheres is not None and np.allclose(spheres[0, 4], 0.03 / np.sqrt(3.0) * np.eye(3))


def test_single_poses_are_one_timeline_of_images():
    motions = [
        joint_motion(1, name=name, video=video) for name, video in (("a", "a.jpg"), ("a#2", "a.jpg"), ("b", "b"))
    ]
    moving, images = build_scene([*motions, joint_motion(2)]).timelines
    assert moving.name == "clip.mp4" and images.name == IMAGES and not images.moving
    assert images.sources == ["a.jpg", "b"] and [person.name for person in images.people] == ["person 1", "person 2"]
    assert np.isnan(images.people[1].joints[1]).all() and images.label(1) == "b"
    apart = np.linalg.norm(images.people[0].joints[0, 0] - images.people[1].joints[0, 0])
    assert apart > 1.0  # people without a place stand side by side


def test_long_timelines_are_thinned_evenly():
    (timeline,) = build_scene([joint_motion(23)], most_moments=10).timelines
    assert timeline.step == 3 and timeline.frames.tolist() == list(range(0, 23, 3))
    with pytest.raises(InputError, match="nobody to show"):
        build_scene([])
