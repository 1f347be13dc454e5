import sys
from urllib.request import urlopen

import numpy as np
import pytest

from noise2pose.errors import InputError
from noise2pose.viewing.scene import build_scene
from tests.noise2pose.export.motions import body_motion, joint_motion


def test_viser_is_named_where_it_is_missing(monkeypatch):
    from noise2pose.viewing.live import LiveView

    monkeypatch.setitem(sys.modules, "viser", None)
    with pytest.raises(InputError, match=r"viewing in the browser needs viser: pip install -e '\.\[view\]'"):
        LiveView(build_scene([joint_motion(1)]))


def test_a_server_shows_the_chosen_moment_and_answers():
    pytest.importorskip("viser")
    from noise2pose.viewing.live import LiveView, check_port

    keypoints = joint_motion(4).keypoints_2d.copy()
    keypoints[:, 3, 2] = 0.2
    people = [joint_motion(4, keypoints_2d=keypoints), joint_motion(4, seed=3, name="carl").rows([0, 1])]
    scene = build_scene([*people, body_motion(1, video="a.jpg")])
    image = np.zeros((40, 30, 3), dtype=np.uint8)
    view = LiveView(scene, lambda name: iter([(0.0, image)]) if name == "a.jpg" else None, port=0)
    try:
        assert b"<html" in urlopen(view.address, timeout=10).read()[:500]
        with pytest.raises(InputError, match=r"--port \d+: is in use on 127.0.0.1; take another, or 0"):
            check_port("127.0.0.1", int(view.address.rpartition(":")[2]))

        def shown():
            return {node.name: node for node in view._nodes}

        parts = ("bones", "hypotheses", "uncertainty", "name")
        assert set(shown()) == {f"/people/{number}/{part}" for number in (0, 1) for part in parts}
        assert shown()["/people/0/bones"].points.shape == (16, 2, 3)
        assert shown()["/people/0/uncertainty"].vertices.shape == (17 * 42, 3)
        view._threshold.value = 0.5
        assert shown()["/people/0/bones"].points.shape == (15, 2, 3)  # without the foot
        view._slider.value = 3
        assert not any(name.startswith("/people/1") for name in shown())
        first = scene.timelines[0].people[0]
        assert np.allclose(shown()["/people/0/bones"].points[0, 0], first.joints[3, 0], atol=1e-5)
        view._which.value = view._which.options[1]
        assert set(shown()) == {"/people/0/bones", "/people/0/body"} and view._image.visible
        assert shown()["/people/0/body"].vertices.shape == (6890, 3) and not view._slider.visible
    finally:
        view.stop()
