import socket
import sys

import numpy as np
import pytest
from PIL import Image

from methods.inference import Lifter
from noise2pose.viewing.sources import FoundSources
from scripts.view import main
from tests.films import picture, write_film
from tests.noise2pose.keypoints.walker import coco_walker


@pytest.fixture(scope="module")
def lifted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results") / "lifted"
    names = ["a.png", "b"]
    poses = Lifter("diffpose-people").predict(coco_walker(2), names=names, image_size=(1000, 1000))
    poses.save(folder, pictures=0, gif=False)
    return folder


def test_a_page_is_written_with_the_images_that_are_found(tmp_path, lifted, capsys):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    page = tmp_path / "new" / "page.html"
    assert main([str(lifted), "--html", str(page), "--source", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert f"{page}: any web browser opens it" in said
    assert "without the images of b, which were not found: say where they are with --source" in said
    text = page.read_text()
    assert "<title>lifted</title>" in text and text.count("/9j/") == 1  # how JPEG begins in base64


def test_what_is_wrong_is_one_line_and_nothing_is_written(tmp_path, lifted, capsys, monkeypatch):
    def error(*arguments):
        assert main([str(argument) for argument in arguments]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    page = tmp_path / "a.html"
    assert "does not exist" in error(tmp_path / "none", "--html", page)
    assert "holds no poses.npz or annotations.npz, it is empty" in error(tmp_path, "--html", page)
    assert f"--source {tmp_path / 'x'} does not exist" in error(lifted, "--html", page, "--source", tmp_path / "x")
    assert "is a folder, expected the name of a file" in error(lifted, "--html", tmp_path)
    assert "is a file, expected a folder" in error(lifted, "--html", lifted / "poses.npz" / "a.html")
    assert not list(tmp_path.iterdir())
    monkeypatch.setitem(sys.modules, "viser", None)
    assert "pip install -e '.[view]'" in error(lifted)


def test_a_port_in_use_is_refused(lifted, capsys):
    pytest.importorskip("viser")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main([str(lifted), "--port", str(port)]) == 2
    assert capsys.readouterr().err == (
        f"error: --port {port}: is in use on 127.0.0.1; take another, or 0 for any that is free\n"
    )


def test_names_lead_to_videos_and_images_and_nowhere_else(tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    write_film(inside / "clip.mp4", [picture()] * 3)
    Image.new("RGB", (8, 6)).save(tmp_path / "secret.png")
    (inside / "broken.png").write_bytes(b"no image")
    sources = FoundSources([inside])
    frames = sources("clip.mp4")
    assert frames is not None and len(list(frames)) == 3 and list(sources("clip") or ())
    assert FoundSources([inside / "clip.mp4"])("clip.mp4") is not None
    for name in ("../secret.png", str(tmp_path / "secret.png"), "broken.png", "none", ""):
        assert sources(name) is None
    assert sources.missing[:2] == ["../secret.png", str(tmp_path / "secret.png")]
    image = FoundSources([tmp_path])("secret.png")
    assert image is not None and np.asarray(next(image)[1]).shape == (6, 8, 3)
