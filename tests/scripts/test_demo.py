import json

import pytest
from PIL import Image

from noise2pose.keypoints.files import read_keypoints
from scripts import demo


@pytest.mark.slow
def test_the_picture_of_the_readme_is_drawn_by_the_demo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where the rendered images are kept
    assert demo.main(["--picture", str(tmp_path / "overview.png")]) == 0
    with Image.open(tmp_path / "overview.png") as drawn, Image.open(demo.ROOT / "docs" / "overview.png") as shown:
        assert drawn.size == shown.size and drawn.format == "PNG"


def test_the_walker_of_the_demo_is_a_clip_of_one_person(tmp_path):
    demo.write_walk(tmp_path / "walk.npz")
    read = read_keypoints(tmp_path / "walk.npz")
    assert (read.skeleton, read.fps, set(read.people)) == (demo.SKELETON, demo.CLIP_RATE, {"walker"})
    assert read.frames == list(range(demo.CLIP_FRAMES)) and len(read.points) == demo.CLIP_FRAMES
    ankles = read.points[:, [3, 6], :2]
    assert (ankles[:, 0] - ankles[:, 1]).norm(dim=-1).max() > 20.0, "strides, in pixels"


def test_a_training_that_is_cut_by_time_says_so(tmp_path, monkeypatch, capsys):
    commands = []

    def run(*command, **environment):
        commands.append(command)
        (tmp_path / "runs" / "one").mkdir(parents=True, exist_ok=True)
        (tmp_path / "runs" / "one" / "fit.json").write_text(json.dumps({"seconds": seconds, "steps": 7}))

    monkeypatch.setattr(demo, "ROOT", tmp_path)
    monkeypatch.setattr(demo, "run", run)
    for seconds, cut in ((61.0, True), (12.0, False)):
        spent, said = demo.train_and_test("one", "context", "synthetic", 5, 60.0, [])
        assert spent == seconds and bool(said) is cut
        assert ("one was cut after 61 s, with 7 steps of its 5 epochs" in capsys.readouterr().out) is cut
    assert commands[0][commands[0].index("--trainer.max_time") + 1] == "00:00:01:00"
    assert [command[1] for command in commands] == ["fit", "test", "fit", "test"]
