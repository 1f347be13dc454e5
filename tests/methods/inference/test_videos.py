import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from methods.inference import Annotator, Lifter, bodies, inputs
from methods.inference.inputs import default_model, read_poses
from noise2pose.annotation.writer import read_annotations
from noise2pose.errors import InputError
from noise2pose.keypoints.files import read_keypoints
from noise2pose.tracking import identities
from scripts.predict import main
from tests import body_method
from tests.body_method import save
from tests.films import BLUE, GREEN, RED, SeesColors, picture, use_colors, write_film
from tests.methods.inference.test_lifting import Echo

CROP = torch.zeros(3, 224, 224)
sys.modules["methods.fake"] = body_method  # checkpoints name only classes of methods
# Two people walk towards each other and do not meet; the red one is not detected in frames 10 to 12.
FILM = [picture(*([(RED, frame)] if frame not in (10, 11, 12) else []), (GREEN, 130 - frame)) for frame in range(30)]


@pytest.fixture
def film(tmp_path, monkeypatch):
    use_colors(monkeypatch, tmp_path)
    return write_film(tmp_path / "clip.mp4", FILM)


def lifter(frames=4):
    lifter = Lifter("diffpose-people-27")
    vars(lifter.model)["method"] = Echo(frames)  # instead of loading it
    return lifter


def test_each_person_of_a_video_is_a_clip(film, tmp_path):
    pytest.importorskip("trackers")
    with pytest.raises(InputError, match=r"are of one frame, .* say --track \(track=True\) to find out"):
        lifter().predict(film)
    poses = lifter().predict(film, track=True)
    assert len(poses) == 60 and set(poses.people) == {"1", "2"} and set(poses.clips) == {0, 1}
    assert poses.people == [person for _ in range(30) for person in ("1", "2")]
    filled = [row for row in range(60) if not poses.valid[row].any()]
    assert [(poses.people[row], poses.frames[row]) for row in filled] == [("1", 10), ("1", 11), ("1", 12)]
    middle = poses.keypoints_2d[[2 * 9, 2 * 11, 2 * 13], :, :2]
    assert np.allclose(middle[1], (middle[0] + middle[2]) / 2, atol=1e-3)
    assert "2 tracked people" in poses.about and "3 poses filled in gaps of up to 0.5 s" in poses.about
    assert "2 clips at 25 frames a second" in poses.about and poses.times[2] == pytest.approx(0.04, abs=1e-3)
    poses.save(tmp_path / "out", pictures=0)
    with np.load(tmp_path / "out" / "poses.npz") as file:
        assert file["people"].tolist() == poses.people and file["clips"].tolist() == poses.clips
        assert np.allclose(file["times"], poses.times) and file["fps"] == 25.0
        assert file["observed"].any(axis=1).sum() == 57
    split = lifter().predict(film, track=True, max_gap=0.05)
    assert len(split) == 57 and set(split.clips) == {0, 1, 2} and "1 longer gap not filled" in split.about


def test_a_stated_rate_replaces_the_times_of_the_video(film):
    pytest.importorskip("trackers")
    slow = lifter().predict(film, track=True, fps=100.0)
    assert slow.times == [] and slow.fps == 100.0 and "2 clips at 100 frames a second" in slow.about


def test_keypoints_of_several_people_without_identities_can_be_tracked(film, tmp_path):
    pytest.importorskip("trackers")
    detected = read_poses(film)
    entries = [
        {"image_id": f"frame_{frame:03d}.jpg", "keypoints": points.flatten().tolist()}
        for points, frame in zip(detected.points, detected.frames, strict=True)
    ]
    (tmp_path / "file.json").write_text(json.dumps(entries))
    (tmp_path / "other.json").write_text(json.dumps([*reversed(entries)]))
    with pytest.raises(InputError, match="say --track"):
        lifter().predict(tmp_path / "file.json", fps=25)
    poses, other = (lifter().predict(tmp_path / name, fps=25, track=True) for name in ("file.json", "other.json"))
    assert len(poses) == 60 and set(poses.people) == {"1", "2"}
    for key in ("joints_3d", "keypoints_2d", "people", "frames", "names"):
        assert np.array_equal(getattr(poses, key), getattr(other, key)), "the order in a file moves nobody"


def test_photographs_are_detected_and_lifted(tmp_path, monkeypatch):
    from PIL import Image

    use_colors(monkeypatch, tmp_path)
    (tmp_path / "photos").mkdir()
    for name, people in (("a", [(RED, 10)]), ("b", []), ("c", [(GREEN, 10), (BLUE, 90)])):
        Image.fromarray(picture(*people)).save(tmp_path / "photos" / f"{name}.png")
    poses = lifter(1).predict(tmp_path / "photos")
    assert poses.names == ["a", "c", "c#2"] and "nobody found in 1 image" in poses.about
    assert poses.people == [None] * 3 and poses.clips == [-1] * 3 or len(set(poses.clips)) == 3


@pytest.mark.parametrize("kind", ["image", "keypoints"])
def test_annotators_take_videos(film, tmp_path, kind, monkeypatch):
    pytest.importorskip("trackers")
    checkpoint = str(save(tmp_path / "fake.ckpt", input=kind))
    crops = []
    monkeypatch.setattr(bodies.crops, "crop", lambda pixels, box: crops.append(pixels.mean(axis=(0, 1))) or CROP)
    people = Annotator(checkpoint, batch_size=7).predict(film, track=True)
    assert len(people) == 60 and len(crops) == (60 if kind == "image" else 0), "frames are decoded if they are needed"
    assert people.arrays["people"].tolist() == ["1", "2"] * 30
    assert people.arrays["frames"].tolist() == [frame for frame in range(30) for _ in range(2)]
    assert people.arrays["times"][2] == pytest.approx(0.04, abs=1e-3)
    filled = ~people.valid.any(axis=1)
    assert filled.sum() == 3 and all("not seen: put between" in people.suspect_reasons[i] for i in filled.nonzero()[0])
    assert not people.arrays["observed"][filled].any() and people.suspect[filled].all()
    written = people.save(tmp_path / "out", pictures=0)
    content = json.loads((tmp_path / "out" / "annotations.json").read_text())["annotations"]
    assert [(entry["track_id"], entry["frame_id"]) for entry in content[:4]] == [("1", 0), ("2", 0), ("1", 1), ("2", 1)]
    again = read_keypoints(written[1])
    assert again.people[:2] == ["1", "2"] and again.frames[:4] == [0, 0, 1, 1]


def test_a_finished_set_of_a_video_is_only_drawn(film, tmp_path, capsys):
    pytest.importorskip("trackers")
    pytest.importorskip("noise2pose.rendering.meshes")
    checkpoint = str(save(tmp_path / "fake.ckpt"))
    arguments = ["--checkpoint", checkpoint, str(film), "--track", "--output", str(tmp_path / "out")]
    assert main([*arguments, "--max_pictures", "0"]) == 0
    first, calls = capsys.readouterr().out, SeesColors.calls
    assert main([*arguments, "--max_pictures", "2"]) == 0
    assert SeesColors.calls == calls == 32
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == ["clip_000000.png", "clip_000029#2.png"]
    assert first.split("; wrote")[0] == capsys.readouterr().out.split("; wrote")[0], "the summary is the same"
    assert "2 identities by OC-SORT" in first and len(read_annotations(tmp_path / "out")["names"]) == 60


def test_the_default_model_fits_the_input(film):
    pytest.importorskip("trackers")
    several = read_poses(film)
    assert default_model(several) == "diffpose-people" and default_model(None) == "diffannot-people"
    assert default_model(read_poses(film, track=True)) == "diffpose-people-27"
    alone = replace(several, **several.rows([0]))
    assert default_model(alone) == "diffpose-people"


def test_the_command_says_what_it_took_and_how_long(film, tmp_path, capsys, monkeypatch):
    pytest.importorskip("trackers")
    monkeypatch.setattr("methods.inference.model.TrainedModel.method", Echo(4))
    arguments = [str(tmp_path / "c*.mp4"), "--track", "--max_pictures", "2", "--output", str(tmp_path / "out")]
    assert main([*arguments, "--profile"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("diffpose-people-27, taken because no --checkpoint was given: ")
    assert [line.split()[0] for line in said.splitlines()[1:]] == [
        "stage",
        "decode",
        "detect",
        "track",
        "lift",
        "write",
    ]
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["clip_000000.png", "clip_000029#2.png", "detections", "poses.npz"]


def test_what_cannot_work_is_refused_before_anything_is_detected(film, tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("")
    (tmp_path / "keypoints.npz").write_bytes(b"")
    for arguments, message in (
        (("--output", tmp_path / "file" / "out"), "is a file, expected a folder"),
        (("--output", tmp_path / "out", "--track", "--max_gap", -1), "--max_gap is -1"),
        (("--output", tmp_path / "out", "--focal", 100), "without a focal length"),
        (("--output", tmp_path / "out", "--checkpoint", "no-such-model"), "no model named"),
    ):
        assert main([str(film), *map(str, arguments)]) == 2
        said = capsys.readouterr().err
        assert message in said and said.count("\n") == 1
    monkeypatch.setattr(identities.importlib.util, "find_spec", lambda name: None)
    assert main([str(film), "--track", "--output", str(tmp_path / "out")]) == 2
    assert "needs the package trackers: pip install -e '.[tracking]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists() and SeesColors.calls == 0
    assert inputs.as_paths([]) is None
