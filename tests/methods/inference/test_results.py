import json
import re
import subprocess
import sys

import numpy as np
import pytest
import roma
import torch

import methods.inference
from methods.inference import Annotator, Lifter
from noise2pose import skeletons
from noise2pose.errors import InputError
from noise2pose.keypoints.files import read_keypoints
from scripts.predict import main
from tests.body_method import save
from tests.methods.inference.test_annotation import photos
from tests.noise2pose.keypoints.walker import coco_walker
from tests.places import ROOT

FILES = ("annotations.npz", "annotations.json", "state.json")


def people():
    points = coco_walker(40)[:3]
    points[1, 9] = 0.0
    return points


def test_the_lines_of_the_readme(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    entries = [{"image_id": i, "keypoints": pose.ravel().tolist()} for i, pose in enumerate(people())]
    (tmp_path / "keypoints.json").write_text(json.dumps(entries))
    (example,) = re.findall(r"```python\n(.*?)```", str(methods.inference.__doc__), flags=re.DOTALL)
    exec(example, {})
    said = capsys.readouterr().out
    assert "(3, 17, 3) ('pelvis'," in said and " m camera: x right, y down, z forward" in said
    command = ["--checkpoint", "diffpose-people", "keypoints.json", "--output", "command"]
    assert main(command) == 0
    names = sorted(path.name for path in (tmp_path / "lifted").iterdir())
    assert names == ["0.png", "1.png", "2.png", "poses.gif", "poses.npz"]
    for name in names[:-1]:
        assert (tmp_path / "lifted" / name).read_bytes() == (tmp_path / "command" / name).read_bytes()
    lifted, by_command = (dict(np.load(tmp_path / folder / "poses.npz")) for folder in ("lifted", "command"))
    assert "keypoints.json" in str(by_command.pop("command")) and lifted.keys() == by_command.keys()
    assert all(np.array_equal(lifted[key], by_command[key]) for key in lifted)


def test_arrays_files_and_records_are_lifted_alike(tmp_path):
    np.savez(tmp_path / "pose.npz", keypoints=people())
    record = read_keypoints(tmp_path / "pose.npz")
    lifter = Lifter("diffpose-people")
    of_array = lifter.predict(people(), image_size=(1000, 1000))
    assert of_array.names == record.names and of_array.image_size is not None and of_array.image_size.shape == (3, 2)
    for given in (tmp_path / "pose.npz", str(tmp_path / "pose.npz"), record, torch.from_numpy(people())):
        assert np.array_equal(lifter.predict(given).joints_3d, of_array.joints_3d)
    wrist = of_array.joint_names.index("left_wrist")
    assert len(of_array) == 3 and not of_array.valid[1, wrist] and of_array.valid.sum() == 3 * 17 - 1
    assert repr(of_array) == (
        "LiftedPoses(joints_3d (3, 17, 3) in m, camera: x right, y down, z forward; relative to the pelvis)"
    )
    written = of_array.save(tmp_path / "out", pictures=0, gif=False)
    assert written == [tmp_path / "out" / "poses.npz"] == list((tmp_path / "out").iterdir())


def test_inputs_that_do_not_fit_are_refused(tmp_path):
    lifter = Lifter("diffpose-people")
    for wrong, message in (
        ({"keypoints": "photo.JPG"}, "photo.JPG does not exist"),
        ({"keypoints": tmp_path}, "no image in this folder"),
        ({"keypoints": np.zeros((9, 9, 3), np.uint8)}, "an image as an array: save it as a file"),
        ({"keypoints": people()[:, :5]}, "array: keypoints has 5 joints"),
        ({"keypoints": people(), "names": ["a"]}, r"array: names has shape \(1,\), expected \(3,\)"),
        ({"keypoints": people(), "image_size": 0}, "array: image_size has shape"),
        ({"keypoints": 0.0 * people()}, "array: no pose has three joints that are seen"),
        ({"keypoints": tmp_path / "none.json"}, "none.json does not exist"),
    ):
        with pytest.raises(InputError, match=message):
            lifter.predict(**wrong)
    with pytest.raises(InputError, match=r"predicts bodies: use Annotator\('hmr-people'\)"):
        Lifter("hmr-people").predict(people())
    with pytest.raises(InputError, match=r"predicts joints from keypoints: use Lifter\('diffpose-people'\)"):
        Annotator("diffpose-people").predict(people())
    with pytest.raises(InputError, match="no model named"):
        Lifter("no-such-name")


def test_an_annotator_answers_in_memory_what_the_command_writes(tmp_path, monkeypatch):
    folder, keypoints = photos(tmp_path, 5)
    (folder / "photo_001.jpg").write_bytes(b"")
    checkpoint = str(save(tmp_path / "fake.ckpt", input="image"))
    before = sorted(tmp_path.rglob("*"))
    annotator = Annotator(checkpoint, batch_size=2)
    found = annotator.predict(folder, keypoints=keypoints)
    assert sorted(tmp_path.rglob("*")) == before
    assert found.names == ["photo_000", "photo_000#2", "photo_002", "photo_003", "photo_003#2", "photo_004"]
    assert found.skipped == [("photo_001.jpg", "the file is empty")]
    assert found.poses.shape == (6, 72) and found.betas.shape == (6, 10) and found.translation.shape == (6, 3)
    back = roma.rotmat_to_rotvec(torch.from_numpy(found.rotations)).flatten(1).numpy()
    assert np.allclose(back, found.poses, atol=1e-5)
    assert found.vertices([0, 5]).shape == (2, len(found.body.template), 3) == (2, *found.vertices(0).shape)
    assert found.valid.all() and found.joint_names == skeletons.get("h36m_17").joints
    assert repr(found).startswith(f"Annotations(6 people, {found.suspect.sum()} suspect, 1 skipped; joints_3d (6, 17,")

    command = ["--checkpoint", checkpoint, str(folder), "--keypoints", str(keypoints), "--batch_size", "2"]
    assert main([*command, "--max_pictures", "1", "--output", str(tmp_path / "command")]) == 0
    monkeypatch.setattr(sys, "argv", ["scripts/predict.py", *command, "--max_pictures", "1"])
    resumed = annotator.predict(folder, keypoints=keypoints, output=tmp_path / "resumed")
    assert all(np.array_equal(resumed.arrays[key], found.arrays[key]) for key in found.arrays)
    annotator.predict(folder, keypoints=keypoints).save(tmp_path / "saved", pictures=1)
    for name in FILES:
        written = [(tmp_path / where / name).read_bytes() for where in ("command", "resumed", "saved")]
        assert written[0] == written[1] == written[2]
    assert found.save(tmp_path / "resumed", pictures=1)[2:] == [tmp_path / "resumed" / "photo_000.png"]
    with pytest.raises(InputError, match="made with other options"):
        annotator.predict(folder, keypoints=keypoints, focal=500).save(tmp_path / "saved")


def test_an_annotator_takes_keypoints_alone(tmp_path):
    checkpoint = save(tmp_path / "fake.ckpt")
    found = Annotator(checkpoint).predict(people())
    assert len(found) == 3 and not found.arrays["image_size"].any() and found.info["keypoints"] == "array"
    with pytest.raises(InputError, match="keypoints are given twice"):
        Annotator(checkpoint).predict(people(), keypoints="more.json")


def test_an_array_of_keypoints_belongs_to_one_image(tmp_path):
    folder, _ = photos(tmp_path, 2, width=400, height=400)
    annotator = Annotator(save(tmp_path / "fake.ckpt"))
    found = annotator.predict(folder / "photo_001.jpg", keypoints=people())
    assert found.names == ["photo_001", "photo_001#2", "photo_001#3"] and set(found.file_names) == {"photo_001.jpg"}
    with pytest.raises(InputError, match="belongs to one image"):
        annotator.predict(folder, keypoints=people())


def test_help_and_the_package_itself_load_no_pytorch():
    code = """
import sys, methods.inference, scripts.predict
try:
    scripts.predict.main(["--help"])
except SystemExit:
    assert not {"torch", "lightning", "numpy"} & set(sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True).returncode == 0
