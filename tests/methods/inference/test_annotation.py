import json
import signal
import sys
import time

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image

from methods.callbacks.outputs import PredictionWriter
from noise2pose.annotation.writer import read_annotations
from noise2pose.errors import InputError
from scripts.predict import main
from tests import body_method, forks
from tests.body_method import BodyMethod, save
from tests.noise2pose.keypoints.detectors import onnx_files
from tests.noise2pose.keypoints.walker import coco_walker
from tests.tiny import TinyPoses

sys.modules["methods.fake"] = body_method  # checkpoints name only classes of methods


def photos(folder, number, seed=0, width=96, height=80):
    """Images with two people in every third of them, and COCO annotations of all."""
    rng = np.random.default_rng(seed)
    (folder / "photos").mkdir(parents=True)
    images, people = [], []
    for i in range(number):
        name = f"photo_{i:03d}.jpg"
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(folder / "photos" / name)
        images.append({"id": i, "file_name": name, "width": width, "height": height})
        for _ in range(1 + (i % 3 == 0)):
            points = np.concatenate((rng.uniform(5, 75, (17, 2)), np.full((17, 1), 2.0)), axis=1)
            people.append({"image_id": i, "num_keypoints": 17, "keypoints": points.ravel().tolist()})
    (folder / "keypoints.json").write_text(json.dumps({"images": images, "annotations": people}))
    return folder / "photos", folder / "keypoints.json"


@pytest.fixture(params=["keypoints", "image"])
def checkpoint(request, tmp_path):
    return str(save(tmp_path / "fake.ckpt", input=request.param))


def predict(checkpoint, *arguments, pictures=0):
    given = map(str, ("--checkpoint", checkpoint, "--max_pictures", pictures, "--batch_size", 4, *arguments))
    return main(list(given))


def detectors(folder):
    """Options of a people detector that finds two large people and a tiny one, and a pose network for bright spots."""
    boxes = [[20, 40, 110, 160, 0.9], [200, 40, 290, 160, 0.7], [5, 5, 15, 20, 0.6]]
    people = onnx_files.constant(folder / "people.onnx", {"dets": [boxes]}, (320, 240))
    joints = onnx_files.blob(folder / "joints.onnx")
    for file in (people, joints):
        file.with_suffix(".yaml").write_text("mean: [0, 0, 0]\nstd: [255, 255, 255]\n")
    return "--person_detector", people, "--pose_model", joints


def test_people_are_found_by_any_model_and_the_others_are_told(tmp_path, checkpoint, capsys):
    image = np.zeros((240, 320, 3), np.uint8)
    image[97:103, 62:68] = image[97:103, 242:248] = 255
    Image.fromarray(image).save(tmp_path / "two.png")
    Image.new("RGB", (32, 24)).save(tmp_path / "nobody.png")
    options = detectors(tmp_path)
    given = (tmp_path / "two.png", tmp_path / "nobody.png", *options, "--output", tmp_path / "out")
    assert predict(checkpoint, *given) == 0
    said, aside = capsys.readouterr()
    assert "people annotated: 2" in said and "5 skipped (4 under 24 pixels)" in said
    assert "skipped nobody.png: no person was found in it" in aside
    arrays = read_annotations(tmp_path / "out")
    assert arrays["names"].tolist() == ["two", "two#2"]
    content = json.loads((tmp_path / "out" / "annotations.json").read_text())
    assert content["info"]["keypoints"] == "people.onnx and joints.onnx"
    told = {"file_name": "two.png", "reason": "somebody at 5, 5 (10 x 15 pixels): under 24 pixels"}
    assert told in content["skipped"]
    assert predict(checkpoint, *given) == 0  # finished already
    options[1].with_suffix(".yaml").write_text("mean: [0, 0, 0]\nstd: [255, 255, 255]\nscore: 0.8\n")
    assert predict(checkpoint, *given) == 2
    assert "holds annotations made with other keypoints: delete it" in capsys.readouterr().err


def test_a_wrong_detector_is_one_line_and_nothing_is_written(tmp_path, checkpoint, capsys):
    Image.new("RGB", (32, 24)).save(tmp_path / "nobody.png")
    people, joints = detectors(tmp_path)[1::2]
    text = tmp_path / "text.onnx"
    text.write_text("no model")
    classifier = onnx_files.constant(tmp_path / "classifier.onnx", {"logits": np.zeros((1, 1000))})
    for given, message in (
        (("--person_detector", text, "--pose_model", joints), "text.onnx is not a model that onnxruntime reads"),
        (("--person_detector", people, "--pose_model", classifier), "classifier.onnx answers an image of 64 x 48 with"),
        (("--person_detector", tmp_path / "none.onnx", "--pose_model", joints), "none.onnx does not exist"),
        (("--pose_model", joints, "--detector", tmp_path), "finds no people itself: give --person_detector FILE"),
        (("--person_detector", people, "--detector", tmp_path), "fetch the detector once with `noise2pose prepare"),
    ):
        assert predict(checkpoint, tmp_path / "nobody.png", *given, "--output", tmp_path / "out") == 2
        said = capsys.readouterr().err
        assert message in said and said.count("\n") == 1 and not (tmp_path / "out").exists()
    photos(tmp_path, 1)
    given = (tmp_path / "photos", "--keypoints", tmp_path / "keypoints.json", "--pose_model", joints)
    assert predict(checkpoint, *given, "--output", tmp_path / "out") == 2
    assert "--pose_model: the keypoints are given, in " in capsys.readouterr().err


def test_photos_are_annotated_and_broken_ones_skipped(tmp_path, checkpoint, capsys):
    folder, keypoints = photos(tmp_path, 6)
    whole = (folder / "photo_002.jpg").read_bytes()
    (folder / "photo_001.jpg").write_bytes(b"")
    (folder / "photo_002.jpg").write_bytes(whole[: len(whole) // 2])
    Image.new("RGB", (9, 9)).save(folder / "photo_004.jpg")
    (folder / "deeper").mkdir()
    Image.new("RGB", (96, 80)).save(folder / "deeper" / "nobody.png")
    out = tmp_path / "out"
    assert predict(checkpoint, folder, "--keypoints", keypoints, "--output", out) == 0
    said, aside = capsys.readouterr()
    assert "people annotated: 5" in said and "4 skipped" in said and "of 3 their diagonal" in said
    told = [line for line in aside.splitlines() if line.startswith(("skipped ", "and "))]
    assert [line.split(":")[0] for line in told[:3]] == [
        "skipped deeper/nobody.png",
        "skipped photo_001.jpg",
        "skipped photo_002.jpg",
    ]
    assert "the file is empty" in told[1] and told[3:] == ["and 1 more, see `skipped` in annotations.json"]
    content = json.loads((out / "annotations.json").read_text())
    reasons = {entry["file_name"]: entry["reason"] for entry in content["skipped"]}
    assert list(reasons) == ["deeper/nobody.png", "photo_001.jpg", "photo_002.jpg", "photo_004.jpg"]
    for word, reason in zip(("no person", "empty", "truncated", "9 x 9 pixels"), reasons.values(), strict=True):
        assert word in reason
    assert [image["file_name"] for image in content["images"]] == ["photo_000.jpg", "photo_003.jpg", "photo_005.jpg"]
    arrays = read_annotations(out)
    assert arrays["names"].tolist() == ["photo_000", "photo_000#2", "photo_003", "photo_003#2", "photo_005"]
    assert np.allclose(arrays["camera_focal"], np.hypot(96, 80)) and (arrays["image_size"] == [96, 80]).all()
    assert content["info"]["command"].endswith(str(keypoints)) and "output" not in content["info"]["command"]


def test_a_keypoint_file_alone(tmp_path, capsys):
    _, keypoints = photos(tmp_path, 2)
    content = json.loads(keypoints.read_text())
    content["images"] = []
    keypoints.write_text(json.dumps(content))
    checkpoint = save(tmp_path / "fake.ckpt")
    assert predict(checkpoint, keypoints, "--output", tmp_path / "out") == 0
    arrays = read_annotations(tmp_path / "out")
    assert len(arrays["names"]) == 3 and not arrays["image_size"].any()
    points = arrays["keypoints_2d"][..., :2]  # in the pixels of the file, in the middle of a camera that looks at them
    assert np.allclose(arrays["camera_principal_point"], (points.min(axis=1) + points.max(axis=1)) / 2, atol=1e-3)
    assert np.allclose(arrays["box"][:, :2], arrays["camera_principal_point"], atol=1e-3)
    assert predict(checkpoint, keypoints, "--focal", 100, "--output", tmp_path / "focal") == 2
    assert predict(save(tmp_path / "image.ckpt", input="image"), keypoints, "--output", tmp_path / "image") == 2
    said = capsys.readouterr().err
    assert "says nothing without the size of the images" in said and "needs images" in said
    assert not (tmp_path / "focal").exists() and not (tmp_path / "image").exists()


def test_people_are_drawn_over_their_photo_or_on_white(tmp_path):
    pytest.importorskip("noise2pose.rendering.meshes")
    folder, keypoints = photos(tmp_path, 2)
    checkpoint = save(tmp_path / "fake.ckpt")
    arguments = ("--keypoints", keypoints, "--output", tmp_path / "out")
    assert predict(checkpoint, folder, *arguments, pictures=2) == 0
    found = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    assert found == ["photo_000#2.png", "photo_000.png"]
    picture = np.asarray(Image.open(tmp_path / "out" / "photo_000.png"))
    assert picture.shape == (80, 96 + 96 + 80, 3) and (picture[:, :96] != picture[:, 96:192]).any()
    (tmp_path / "out" / "photo_000.png").unlink()
    assert predict(checkpoint, folder, *arguments, pictures=3) == 0  # of a finished set only pictures are missing
    assert len(list((tmp_path / "out").glob("*.png"))) == 3
    assert predict(checkpoint, keypoints, "--output", tmp_path / "alone", pictures=1) == 0
    white = np.asarray(Image.open(tmp_path / "alone" / "photo_000.png"))
    assert white.shape == (720, 3 * 720, 3) and (white == 255).mean() > 0.5


def test_pictures_from_the_side_are_levelled_and_the_numbers_are_not(tmp_path, capsys):
    _, keypoints = photos(tmp_path, 1)
    checkpoint = save(tmp_path / "fake.ckpt")
    saved, pictures = [], []
    for pitch in ((), ("--camera_pitch", 30)):
        output = tmp_path / f"out{len(saved)}"
        assert predict(checkpoint, keypoints, *pitch, "--output", output, pictures=1) == 0
        with np.load(output / "annotations.npz") as file:
            saved.append(dict(file))
        pictures.append(np.asarray(Image.open(output / "photo_000.png")))
    changed = {
        key
        for key in saved[0]
        if not np.array_equal(saved[0][key], saved[1][key], equal_nan=saved[0][key].dtype.kind == "f")
    }
    assert saved[0].keys() == saved[1].keys() and changed == {"level_rotation", "level"}
    assert "drawn levelled: camera 30 degrees down, as given" in capsys.readouterr().out
    assert np.array_equal(pictures[0][:, :1440], pictures[1][:, :1440])
    columns = [
        np.nonzero((side[60:] < 250).any(axis=(0, 2)))[0] for side in (pictures[0][:, 1440:], pictures[1][:, 1440:])
    ]
    assert np.ptp(columns[1]) > 1.5 * np.ptp(columns[0]), "a body that stands upright before the camera leans"
    person = json.loads((tmp_path / "out1" / "annotations.json").read_text())["annotations"][0]
    assert person["level"] == "camera 30 degrees down, as given"
    assert np.allclose(np.reshape(person["level_rotation"], (3, 3)), saved[1]["level_rotation"][0], atol=1e-5)


def test_ground_truth_is_not_asked_for(tmp_path, capsys, monkeypatch):
    _, keypoints = photos(tmp_path, 1)
    monkeypatch.setattr(BodyMethod, "needs_ground_truth", True)
    assert predict(save(tmp_path / "fake.ckpt"), keypoints, "--output", tmp_path / "out") == 2
    assert "chooses with the ground truth" in capsys.readouterr().err


def test_what_does_not_fit_is_refused(tmp_path, capsys):
    folder, keypoints = photos(tmp_path, 2)
    checkpoint = save(tmp_path / "fake.ckpt")
    (tmp_path / "other.json").write_text(keypoints.read_text().replace("photo_", "other_"))
    detector = ("--detector", tmp_path / "none")
    for arguments, message in (
        ((folder, *detector), "--keypoints FILE, or fetch the detector once with `noise2pose prepare detector"),
        ((folder, "--keypoints", tmp_path / "other.json"), "no pose is of any of the images"),
        ((keypoints, "--keypoints", keypoints), "is a keypoint file itself"),
        ((folder, "--focal", "-1", "--keypoints", keypoints), "focal is -1.0"),
        (("--checkpoint", "diffpose-people", folder, "--keypoints", keypoints), "does not look at images: give it"),
        (("--checkpoint", "diffpose-people", keypoints, "--focal", "100"), "without a focal length"),
    ):
        assert predict(checkpoint, *arguments, "--output", tmp_path / "out") == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "out").exists()


def test_another_set_is_not_overwritten_and_the_same_one_not_repeated(tmp_path, capsys):
    folder, keypoints = photos(tmp_path, 3)
    checkpoint = save(tmp_path / "fake.ckpt")
    arguments = (folder, "--keypoints", keypoints, "--output", tmp_path / "out")
    assert predict(checkpoint, *arguments) == 0
    before = (tmp_path / "out" / "annotations.npz").stat().st_mtime_ns
    assert predict(checkpoint, *arguments) == 0
    assert (tmp_path / "out" / "annotations.npz").stat().st_mtime_ns == before
    assert predict(checkpoint, *arguments, "--focal", 500) == 2
    assert "made with other options" in capsys.readouterr().err


def annotate(arguments):
    """The command in a process that imports this module, and so knows the method."""
    return main(arguments)


@pytest.mark.slow
def test_three_kills_leave_the_same_files_as_none(tmp_path):
    folder, keypoints = photos(tmp_path, 60)
    (folder / "photo_017.jpg").write_bytes(b"")
    (folder / "photo_043.jpg").write_bytes((folder / "photo_043.jpg").read_bytes()[:500])
    checkpoint = save(tmp_path / "fake.ckpt", input="image", seconds=0.05)

    def arguments(output):
        options = ("--keypoints", keypoints, "--output", output, "--batch_size", 4, "--max_pictures", 0)
        return [*map(str, ("--checkpoint", checkpoint, folder, *options))]

    assert main(arguments(tmp_path / "whole")) == 0
    for parts in (3, 8, 13):
        process = forks.start(annotate, arguments(tmp_path / "killed"))
        while len(list(tmp_path.glob("killed/parts/part_*.npz"))) < parts:
            assert process.is_alive()
            time.sleep(0.01)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "annotations.json").exists()
    assert main(arguments(tmp_path / "killed")) == 0
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert names == ["annotations.json", "annotations.npz", "state.json"]
    for name in names:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()
    content = json.loads((tmp_path / "whole" / "annotations.json").read_text())
    assert len(content["images"]) == 58 and len(content["skipped"]) == 2
    assert len(content["annotations"]) == 60 + 20 - 2


class Stop(L.Callback):
    """Interrupts prediction after some batches, as a kill would."""

    def __init__(self, after):
        self.after = after

    def on_predict_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        if batch_idx + 1 == self.after:
            raise RuntimeError("killed")


def run_predict(folder, *callbacks, num_samples=64):
    method = BodyMethod()
    trainer = L.Trainer(
        default_root_dir=folder, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[PredictionWriter(), *callbacks],
    )  # fmt: skip
    trainer.predict(method, datamodule=TinyPoses(num_samples, eval_batch_size=8), return_predictions=False)
    return method.answered


def test_prediction_on_a_data_set_writes_annotations_and_goes_on(tmp_path, capsys):
    assert run_predict(tmp_path / "whole") == 35
    assert "35 annotations" in capsys.readouterr().out
    with pytest.raises(RuntimeError, match="killed"):
        run_predict(tmp_path / "killed", Stop(3))
    assert run_predict(tmp_path / "killed") == 35 - 3 * 8
    assert run_predict(tmp_path / "killed") == 0
    for name in ("annotations.npz", "annotations.json", "state.json"):
        whole, killed = (tmp_path / run / "annotations" / name for run in ("whole", "killed"))
        assert whole.read_bytes() == killed.read_bytes()
    arrays = read_annotations(tmp_path / "whole" / "annotations")
    assert arrays["names"].tolist() == [f"test_{i}" for i in range(35)]
    assert not (tmp_path / "whole" / "predictions.npz").exists()
    with pytest.raises(InputError, match="made with other batches"):
        run_predict(tmp_path / "whole", num_samples=128)


def test_a_body_that_disagrees_with_its_mirror_is_suspect(tmp_path, monkeypatch):
    folder, keypoints = photos(tmp_path, 2)
    checkpoint = save(tmp_path / "fake.ckpt")
    assert predict(checkpoint, folder, "--keypoints", keypoints, "--output", tmp_path / "agree") == 0
    monkeypatch.setattr("methods.inference.bodies.disagreement_with_mirror", lambda *_: torch.tensor([0.3] + [0.0] * 2))
    assert predict(checkpoint, folder, "--keypoints", keypoints, "--output", tmp_path / "apart") == 0
    agree, apart = (read_annotations(tmp_path / name)["suspect_reasons"].tolist() for name in ("agree", "apart"))
    assert "300 mm" in apart[0] and agree[1:] == apart[1:]


def test_a_folder_of_labels_belongs_to_a_folder_of_images(tmp_path):
    folder, _ = photos(tmp_path, 2)
    (tmp_path / "labels").mkdir()
    for t in range(2):
        line = " ".join(map(str, [0, 0.5, 0.5, 1, 1, *(coco_walker(2)[t] / [1000.0, 1000.0, 1.0]).ravel()]))
        (tmp_path / "labels" / f"photo_{t:03d}.txt").write_text(line)
    arguments = (save(tmp_path / "fake.ckpt"), folder, "--keypoints", tmp_path / "labels", "--output", tmp_path / "out")
    assert predict(*arguments) == 0 == predict(*arguments), "and nothing has changed the second time"
    assert read_annotations(tmp_path / "out")["names"].tolist() == ["photo_000", "photo_001"]
