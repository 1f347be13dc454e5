"""What was detected in images is kept in a file and not detected again."""

import importlib.util
import json

import pytest
import torch
from PIL import Image

from noise2pose.annotation.detections import MODELS, detect_people, model_files
from noise2pose.errors import InputError
from noise2pose.images.photographs import open_image
from noise2pose.keypoints.detectors.finder import DetectorFiles, Found


class FakeFinder:
    """Finds as many people as the height of the image modulo 3, where the first pixel says; leaves out one."""

    calls = 0

    def __init__(self, files, tiled):
        pass

    def __call__(self, image):
        FakeFinder.calls += 1
        people = image.shape[0] % 3
        joints = torch.full((people, 17, 3), float(image[0, 0, 0]) + 1 / 3)
        return Found(joints, torch.zeros(people, 4), torch.ones(people), ["somebody at 1, 2: too small"])


def test_what_was_detected_is_not_detected_again(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    models = [tmp_path / name for name in MODELS]
    with pytest.raises(InputError, match="--keypoints FILE, or fetch the detector once"):
        model_files(tmp_path)
    for model in models:
        model.write_bytes(b"model")
    with pytest.raises(InputError, match="needs ai-edge-litert"):
        model_files(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    photographs = []
    for i in range(4):
        Image.new("RGB", (6, 4 + i), (i, 0, 0)).save(tmp_path / f"{i}.png")
        photographs.append(open_image(f"{i}.png", tmp_path / f"{i}.png"))
    (tmp_path / "2.png").write_bytes(b"")
    cache = tmp_path / "detections.json"
    monkeypatch.setattr("noise2pose.annotation.detections.PeopleFinder", FakeFinder)
    files = DetectorFiles(*model_files(tmp_path))
    found, skipped = detect_people(files, photographs, cache)
    assert [len(found[f"{i}.png"]) for i in (0, 1, 3)] == [1, 2, 1] and skipped[0] == ("2.png", "the file is empty")
    assert skipped[1:] == [(f"{i}.png", "somebody at 1, 2: too small") for i in (0, 1, 3)]
    before = cache.read_bytes()
    again, skipped_again = detect_people(files, photographs, cache)
    assert FakeFinder.calls == 3 and all(torch.equal(again[name], found[name]) for name in found)
    assert skipped_again == skipped
    assert len(json.loads(before)["annotations"]) == 4
    Image.new("RGB", (6, 4), (9, 0, 0)).save(tmp_path / "0.png")
    assert detect_people(files, photographs, cache)[0]["0.png"][0, 0, 0] > 9 and FakeFinder.calls == 4
    models[0].with_suffix(".yaml").write_text("score: 0.4")  # another detector: everything is detected again
    Image.new("RGB", (6, 4), (0, 0, 0)).save(tmp_path / "0.png")
    detect_people(files, photographs, cache)
    assert FakeFinder.calls == 7
    content = json.loads(before)
    assert content["images"][1]["file_name"] == "1.png" and len(content["annotations"][0]["keypoints"]) == 51
