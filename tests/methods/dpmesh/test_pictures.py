"""The joint maps of DPMesh (heat-maps and attention), and the pictures that show them."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.base import select
from methods.dpmesh import DPMesh
from scripts.predict import main
from tests.tiny import TinyPeople


def make(**options) -> DPMesh:
    torch.manual_seed(0)
    return DPMesh(**{"backbone": "diffusion", "pose_head": "rot6d", "lora_rank": 2, **options}).eval()


def batch_of(number=2):
    return select(TinyPeople().load("val"), torch.arange(number))


def test_heat_maps_and_attention_are_those_of_the_answer():
    method, batch = make(maps="8-16-32"), batch_of()
    batch["keypoints_2d"][0, 3, 2] = 0.0
    with torch.no_grad():
        before = method(batch)["joints_3d"]
        found = method.joint_maps(batch)
        assert torch.equal(before, method(batch)["joints_3d"])
        observed = method.observer.observe(batch)
        levels = method.network.levels(observed.image, observed.conditions)
    assert {key: value.shape[-1] for key, value in found.maps.items()} == {
        "heatmaps": 16, "attention_8": 4, "attention_16": 8, "attention_32": 16,
    }  # fmt: skip
    assert found.skeleton == "h36m_17" and not found.present[0, 3] and found.present[1].all()
    assert not found.maps["heatmaps"][0, 3].any() and found.maps["heatmaps"][1].amax(dim=(-2, -1)).min() > 0.5
    for side, level in zip((8, 16, 32), levels, strict=True):
        attention = found.maps[f"attention_{side}"]
        assert torch.equal(attention, level[:, -17:])
        assert torch.allclose(attention.sum(dim=1), torch.ones(()), atol=1e-5), "shared out among the joints"
        assert attention[0, 3].max() < 1e-6


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"heatmaps": False}, {"attention_8", "attention_16"}),
        ({"context": "none"}, {"heatmaps"}),
        ({"heatmaps": False, "context": "none"}, set()),
        ({"backbone": "transformer"}, {"heatmaps"}),
        ({"backbone": "resnet50", "heatmaps": False}, set()),
    ],
)
def test_what_a_variant_is_not_told_has_no_map(options, expected):
    assert set(make(**options).joint_maps(batch_of()).maps) == expected


def test_the_release_has_maps_of_its_own_joints():
    found = make(release=True, context="linear30").joint_maps(batch_of())
    assert found.skeleton == "dpmesh_30" and found.maps["attention_16"].shape[1] == found.present.shape[1] == 30


def test_maps_are_those_of_the_network_that_answers():
    method, batch = make(nkr="mse", teacher_epochs=1), batch_of()
    with torch.no_grad():
        for name, parameter in method.named_parameters():
            if name.startswith("teacher.features.context."):
                parameter.mul_(2.0)
        of_teacher = method.joint_maps(batch).maps["attention_16"]
        method.student_steps += 1
        of_student = method.joint_maps(batch).maps["attention_16"]
    assert not torch.equal(of_teacher, of_student)


def test_predicted_people_are_drawn_with_their_maps(tmp_path):
    method = make()
    checkpoint = {"state_dict": method.state_dict(), "hyper_parameters": dict(method.hparams)}
    torch.save({**checkpoint, "class_path": "methods.dpmesh.DPMesh"}, tmp_path / "a.ckpt")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (80, 96, 3), dtype=np.uint8)).save(tmp_path / "photo.png")
    points = np.concatenate((rng.uniform(5, 75, (17, 2)), np.full((17, 1), 2.0)), axis=1)
    people = [{"image_id": 0, "num_keypoints": 17, "keypoints": points.ravel().tolist()}]
    images = [{"id": 0, "file_name": "photo.png", "width": 96, "height": 80}]
    (tmp_path / "keypoints.json").write_text(json.dumps({"images": images, "annotations": people}))
    out = tmp_path / "out"
    given = ("--checkpoint", tmp_path / "a.ckpt", tmp_path / "photo.png", "--keypoints", tmp_path / "keypoints.json")
    command = [*map(str, given), "--output", str(out)]
    assert main(command) == 0
    picture = np.asarray(Image.open(out / "photo.png"))
    assert picture.shape == (80, 96 + 96 + 80 + 3 * 80, 3), "photo, body, side, heat-maps, two levels of attention"
    before = (out / "photo.png").read_bytes()
    (out / "photo.png").unlink()  # as if the process had been killed before the picture
    assert main(command) == 0
    assert (out / "photo.png").read_bytes() == before
