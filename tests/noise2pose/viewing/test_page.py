import json
import re
import shutil
import subprocess
from base64 import b64decode
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from noise2pose.viewing import page as pages
from noise2pose.viewing.page import page, write_page
from noise2pose.viewing.scene import build_scene
from tests.noise2pose.export.motions import body_motion, body_places, joint_motion, places

MILLIMETRE = 0.001
CHROMIUM = Path("/usr/bin/chromium")
BAD = "</script><script>document.title='taken'</script><img src=x onerror=alert(1)>"


def scene_of(text):
    (found,) = re.findall(r'<script type="application/json" id="scene">(.*?)</script>', text, flags=re.DOTALL)
    return json.loads(found)


def array(packed):
    numbers = np.frombuffer(b64decode(packed["data"]), dtype="<u2").reshape(packed["shape"]).astype(np.float64)
    return np.where(numbers == 65535, np.nan, packed["low"] + packed["step"] * numbers)


def test_a_page_gives_the_people_back(tmp_path):
    lifted, body = joint_motion(4), body_motion(3, video="b.mp4").rows([0, 2])
    write_page(tmp_path / "a.html", [lifted, body])
    first, second = scene_of((tmp_path / "a.html").read_text())["timelines"]
    (berta,), (anna,) = first["people"], second["people"]
    assert np.abs(array(berta["joints"]) - places(lifted)).max() < MILLIMETRE
    assert np.abs(array(berta["points"]) - lifted.keypoints_2d[..., :2]).max() < 0.1
    assert lifted.hypotheses is not None
    ghosts = lifted.hypotheses @ lifted.to_y_up.T
    assert np.abs(array(berta["hypotheses"]) - ghosts).max() < MILLIMETRE
    assert np.allclose(array(berta["ellipsoids"])[..., [0, 3, 5]], 0.03 / np.sqrt(3.0), atol=1e-5)
    assert np.abs(array(anna["joints"]) - places(body)).max() < MILLIMETRE
    assert np.abs(array(anna["meshes"]["1"]) - body_places(body)[0][1]).max() < MILLIMETRE
    assert second["labels"][1].startswith("frame 2, ") and "origin: the camera" in second["notes"]


def test_the_same_people_give_the_same_bytes_and_nothing_is_fetched(tmp_path):
    for name in ("a", "b"):
        write_page(tmp_path / f"{name}.html", [joint_motion(2)], lambda _: iter([(0.0, np.zeros((4, 6, 3), np.uint8))]))
    text = (tmp_path / "a.html").read_text()
    assert text == (tmp_path / "b.html").read_text()
    assert "default-src 'none'" in text and "http://" not in text and "https://" not in text


def test_names_cannot_become_html():
    text = page(build_scene([joint_motion(2, name=BAD, video=BAD)]), title=BAD)
    assert BAD not in text and "<img" not in text and text.count("<script") == 2
    assert scene_of(text)["timelines"][0]["people"][0]["name"] == BAD


def test_meshes_and_images_are_spread_over_the_moments(monkeypatch):
    monkeypatch.setattr(pages, "MOST_MESHES", 3)
    monkeypatch.setattr(pages, "MOST_IMAGES", 2)
    frames = [(number / 30.0, np.full((900, 1200, 3), 20 * number, dtype=np.uint8)) for number in range(9)]
    motion = body_motion(9).rows(slice(2, 9))
    (timeline,) = scene_of(page(build_scene([motion]), lambda name: iter(frames) if name == "clip.mp4" else None))[
        "timelines"
    ]
    assert list(timeline["people"][0]["meshes"]) == ["0", "3", "6"] and list(timeline["images"]) == ["0", "4"]
    image = Image.open(BytesIO(b64decode(timeline["images"]["4"])))
    assert image.size == (480, 360) and abs(int(np.asarray(image).mean()) - 120) < 3  # of frame 6
    notes = "; ".join(timeline["notes"])
    assert "1 in 3 moments" in notes and "2 images for 7 moments" in notes


@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium")
def test_the_page_draws_in_a_browser(tmp_path):
    """The script runs to its end, draws, and takes names as text; its state is read from the document."""
    keypoints = joint_motion(2).keypoints_2d.copy()
    keypoints[:, 3, 2] = 0.0
    people = [replace(joint_motion(2, keypoints_2d=keypoints), name=BAD), joint_motion(2, name="carl")]
    write_page(tmp_path / "a.html", people)
    command = [shutil.which("chromium") or str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--window-size=390,800", (tmp_path / "a.html").as_uri()]
    document = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    assert re.search(r'<p id="moment" role="status">frame 0, 0.00 s · 2 people · squares of 0.5 m</p>', document)
    people_part = document.partition('id="people"')[2].partition("</section>")[0]
    assert people_part.count("<label>") == 2 and "&lt;/script&gt;" in people_part and "<img" not in people_part
    assert "<title>clip.mp4</title>" in document and re.search(r'<canvas id="image"[^>]* height="1280"', document)
