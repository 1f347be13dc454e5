"""The trained models that come with the project do what their cards say."""

import json
import sys

import numpy as np
import pytest
import torch
import yaml

from datamodules.rendered_people import RenderedPeople
from datamodules.synthetic_motion import SyntheticMotion
from methods.checkpoints import load_method
from methods.diffannot import DiffAnnot
from methods.diffpose import DiffPose
from methods.fmpose import FMPose
from methods.hmr import HMR
from methods.inference.lifting import lift
from methods.model_folders import CARD, WEIGHTS, shipped_models
from noise2pose import skeletons
from noise2pose.files import ASSETS, sha256
from noise2pose.metrics.functional import mpjpe, pa_mpjpe
from scripts.predict import main

MODELS = shipped_models()
NAMES = sorted(MODELS)
BODIES = [name for name in NAMES if load_method(name).body is not None]
LIFTERS = [name for name in NAMES if name not in BODIES]
H36M, COCO = skeletons.get("h36m_17"), skeletons.get("coco_17")


@pytest.fixture(scope="module")
def people():
    """People whom no checkpoint has seen: synthetic motion, exact projections."""
    samples = SyntheticMotion(clips_per_activity=1, keypoints_2d="gt", eval_stride=1).load("test")
    chosen = slice(0, 54)  # one view of one clip
    return samples["keypoints_2d"][chosen], samples["keypoints_3d"][chosen, :, :3]


def as_coco(keypoints):
    """COCO's joints from Human3.6M's; the face is between chin and crown."""
    coco = np.zeros((len(keypoints), 17, 3), dtype=np.float32)
    face = 0.6 * keypoints[:, H36M.index("chin")] + 0.4 * keypoints[:, H36M.index("head_top")]
    for number, joint in enumerate(COCO.joints):
        coco[:, number] = keypoints[:, H36M.index(joint)] if joint in H36M.joints else face
    return coco


def test_there_are_models_for_frames_clips_and_bodies():
    assert set(LIFTERS) == {"diffpose-people", "diffpose-people-27", "fmpose-people"}
    assert set(BODIES) == {"hmr-people", "diffannot-people"}


@pytest.mark.parametrize("name", NAMES)
def test_each_is_small_and_has_a_card(name):
    weights = MODELS[name] / WEIGHTS
    assert weights.stat().st_size < 10e6
    card = (MODELS[name] / CARD).read_text()
    for said in ("mocap.cs.cmu.edu", "NSF EIA-0196217", "scripts/train.py", "scripts/export.py", "Protocol", "commit"):
        assert said in card
    head = yaml.safe_load(card.split("---\n")[1])
    assert head["license"] == "apache-2.0" and head["library_name"] == "noise2pose" and "cmu_mocap" in head["datasets"]
    assert {"mpjpe", "pa_mpjpe"} <= set(head["metrics"]) and head["tags"]
    assert sha256(weights) in card and '| training data | "free for use in research projects"' in card


@pytest.mark.parametrize("name", NAMES)
def test_each_outlives_a_move_of_its_methods_files(name, monkeypatch):
    for kind in (DiffAnnot, DiffPose, FMPose, HMR):
        package, old = sys.modules[kind.__module__.rpartition(".")[0]], kind.__module__
        monkeypatch.setattr(package, kind.__name__, kind)
        monkeypatch.setattr(kind, "__module__", f"{old}_moved")
        monkeypatch.setitem(sys.modules, f"{old}_moved", sys.modules[old])
        monkeypatch.setitem(sys.modules, old, None)
    assert load_method(name).trained_on == "synthetic"


@pytest.mark.parametrize("name", NAMES)
def test_each_knows_the_2d_keypoints_that_it_was_trained_on(name):
    assert load_method(name).trained_on == "synthetic"


@pytest.mark.parametrize("name", LIFTERS)
def test_it_lifts_people_of_another_data_set(name, people):
    keypoints, target = people
    method = load_method(name)
    lifted = lift(method, keypoints)
    error = 1000.0 * mpjpe(lifted.joints_3d, target - target[:, :1]).mean()
    still = 1000.0 * mpjpe(torch.zeros_like(target), target - target[:, :1]).mean()
    assert error < 0.5 * still and error < 250.0


@pytest.mark.parametrize("name", LIFTERS)
def test_hidden_joints_are_less_certain(name, people, tmp_path):
    keypoints = as_coco(people[0].numpy())
    np.savez(tmp_path / "seen.npz", keypoints=keypoints)
    hidden = [COCO.index(joint) for joint in ("left_wrist", "right_ankle")]
    keypoints[:, hidden] = 0.0
    (tmp_path / "hidden.json").write_text(
        json.dumps([{"image_id": i, "keypoints": pose.reshape(-1).tolist()} for i, pose in enumerate(keypoints)])
    )
    spreads = []
    for source in ("seen.npz", "hidden.json"):
        command = ["--checkpoint", name, str(tmp_path / source), "--output", str(tmp_path / source[:4])]
        assert main([*command, "--max_pictures", "0"]) == 0
        poses = np.load(tmp_path / source[:4] / "poses.npz")
        bones = [
            np.linalg.norm(poses["joints_3d"][:, child] - poses["joints_3d"][:, parent], axis=-1).mean()
            for parent, child in H36M.edges
        ]
        assert 0.03 < min(bones) and max(bones) < 0.7
        spreads.append(poses["uncertainty"][:, [H36M.index("left_wrist"), H36M.index("right_ankle")]].mean())
    assert 0 < spreads[0] < spreads[1]


@pytest.mark.parametrize("name", BODIES)
def test_it_poses_bodies_of_people_whom_it_has_not_seen(name):
    people = RenderedPeople(images=False, num_people=800).load("test")
    method = load_method(name)
    with torch.no_grad():
        answer = method(people)["joints_3d"]
    target = people["keypoints_3d"][..., :3]
    error = 1000.0 * pa_mpjpe(answer, target).mean()
    rest = method.body.joints(torch.eye(3), torch.eye(3).expand(23, 3, 3), torch.zeros(10))
    assert error < 75.0 and error < 0.5 * 1000.0 * pa_mpjpe(rest.expand_as(target), target).mean()


@pytest.mark.parametrize("keypoints_2d, at_most", [("gt", 0.97), ("synthetic", 1.02)])
def test_the_annotator_is_better_than_its_front_end_on_exact_joints_and_as_good_on_detected_ones(keypoints_2d, at_most):
    people = RenderedPeople(images=False, num_people=800, keypoints_2d=keypoints_2d).load("test")
    target = people["keypoints_3d"][..., :3]
    with torch.no_grad():
        first, refined = (load_method(name)(people)["joints_3d"] for name in ("hmr-people", "diffannot-people"))
    assert pa_mpjpe(refined, target).mean() < at_most * pa_mpjpe(first, target).mean()


def test_the_example_of_the_readme(tmp_path):
    photo = ASSETS / "photos" / "astronaut.jpg"
    keypoints = photo.with_name("astronaut_keypoints.json")
    command = ["--checkpoint", "diffannot-people", str(photo), "--keypoints", str(keypoints)]
    assert main([*command, "--output", str(tmp_path)]) == 0
    (found,) = json.loads((tmp_path / "annotations.json").read_text())["annotations"]
    assert found["suspect"] and found["suspect_reasons"] == "the legs were not seen and are made up"  # a portrait
    assert found["reprojection_after"] <= found["reprojection_before"]  # detected joints hardly pull
    assert found["reprojection_after"] < 0.08 * found["bbox"][2]
    assert (tmp_path / "astronaut.png").stat().st_size > 100_000
