import hashlib
import http.server
import json
import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import roma
import torch
from tests.datamodules.acclaim import amc, asf

from noise2pose.bodies import BodyModel

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data" / "cmu_mocap"


@pytest.fixture
def archive(tmp_path):
    """Two subjects and five clips in the layout of the official archive, one of them broken."""
    path = tmp_path / "allasfamc.zip"
    with zipfile.ZipFile(path, "w") as file:
        for subject in ("01", "02"):
            file.writestr(f"all_asfamc/subjects/{subject}/{subject}.asf", asf())
        for number in range(1, 4):
            file.writestr(f"all_asfamc/subjects/01/01_{number:02d}.amc", amc(seed=number))
        file.writestr("all_asfamc/subjects/02/02_01.amc", amc(frames=600, seed=9))
        file.writestr("all_asfamc/subjects/02/02_02.amc", amc().replace("\nhead ", "\nhead x ", 1))
    return path


def prepare(*arguments, status=0):
    command = [sys.executable, str(ROOT / "scripts" / "prepare.py"), "cmu_mocap", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


def digest(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_the_folder_says_what_it_holds(archive, tmp_path):
    printed = prepare("--source", archive, "--output", tmp_path / "out")
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {
        *("joints_3d.npy", "rotations.npy", "translation.npy"),
        *("manifest.json", "LICENSE.txt"),
    }
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["counts"]["clips"] == 4 and manifest["counts"]["subjects"] == 2
    assert [clip["name"] for clip in manifest["clips"]] == ["01_01", "01_02", "01_03", "02_01"]
    assert "NSF EIA-0196217" in manifest["licence"].replace("\n", " ")
    reason = manifest["rejected"][0]["reason"]
    assert "02_02.amc, line" in reason and "head has 4 numbers, expected 3" in reason and reason in printed
    joints = np.load(out / "joints_3d.npy", mmap_mode="r")
    assert joints.shape == (manifest["counts"]["frames"], 17, 3) and joints.dtype == np.float32
    assert manifest["clips"][-1]["stop"] == len(joints)
    for name, about in manifest["files"].items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == about["sha256"]
    assert joints[:, 10, 2].mean() > joints[:, 3, 2].mean() + 1.0  # z up: the head above the feet


def test_body_rotations_turn_the_limbs_as_the_joints_say(archive, tmp_path):
    prepare("--source", archive, "--output", tmp_path / "out")
    joints = torch.from_numpy(np.load(tmp_path / "out" / "joints_3d.npy"))
    rotations = roma.rotvec_to_rotmat(torch.from_numpy(np.load(tmp_path / "out" / "rotations.npy")))
    body = BodyModel.free_body()
    posed = body.joints(
        rotations[:, 0],
        rotations[:, 1:],
        torch.zeros(len(joints), 10),
        torch.zeros(len(joints), 3),
        regressor="smpl_24",
    )
    for (start, end), (a, b) in {(1, 4): (4, 5), (5, 8): (2, 3), (16, 18): (11, 12), (19, 21): (15, 16)}.items():
        limb, bone = posed[:, end] - posed[:, start], joints[:, b] - joints[:, a]
        assert (torch.cosine_similarity(limb, bone, dim=-1) > 0.9999).all()


def test_a_folder_is_read_like_the_archive_and_a_second_run_changes_nothing(archive, tmp_path):
    with zipfile.ZipFile(archive) as file:
        file.extractall(tmp_path / "unpacked")
    prepare("--source", archive, "--output", tmp_path / "a")
    prepare("--source", tmp_path / "unpacked", "--output", tmp_path / "b")
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "a").iterdir()}
    prepare("--source", archive, "--output", tmp_path / "a")
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "a").iterdir()}


@pytest.mark.slow
def test_killed_anywhere_it_ends_in_the_same_folder(tmp_path):
    source = tmp_path / "source" / "01"
    source.mkdir(parents=True)
    (source / "01.asf").write_text(asf())
    for number in range(12):
        (source / f"01_{number:02d}.amc").write_text(amc(frames=1200, seed=number))
    prepare("--source", tmp_path / "source", "--output", tmp_path / "whole")
    command = [sys.executable, str(ROOT / "scripts" / "prepare.py"), "cmu_mocap", "--source", str(tmp_path / "source")]
    for kills in (2, 7):
        process = subprocess.Popen(
            [*command, "--output", str(tmp_path / "cut")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while process.poll() is None and len(list((tmp_path / "cut").glob(".parts/*.json"))) < kills:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "cut" / "manifest.json").exists()
    prepare("--source", tmp_path / "source", "--output", tmp_path / "cut")
    assert digest(tmp_path / "whole") == digest(tmp_path / "cut")


class _Ranges(http.server.SimpleHTTPRequestHandler):
    """A file server that understands `Range: bytes=N-` and can hang up half-way."""

    content = b""
    hang_up_after: int | None = None

    def do_GET(self):
        asked = self.headers.get("Range")
        start = int(asked.split("=")[1].rstrip("-")) if asked else 0
        body = self.content[start:]
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.hang_up_after])

    def log_message(self, *_):
        pass


def test_a_download_goes_on_where_it_stopped(archive, tmp_path):
    _Ranges.content, _Ranges.hang_up_after = archive.read_bytes(), 1000
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Ranges)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/allasfamc.zip"
    try:
        message = prepare("--download", "--url", url, "--output", tmp_path / "out", status=2)
        assert "goes on where this one stopped" in message
        partial = tmp_path / "out" / "allasfamc.zip.partial"
        assert partial.stat().st_size == 1000
        _Ranges.hang_up_after = None
        prepare("--download", "--url", url, "--output", tmp_path / "out")
    finally:
        server.shutdown()
    assert (tmp_path / "out" / "allasfamc.zip").read_bytes() == archive.read_bytes() and not partial.exists()
    assert (tmp_path / "out" / "manifest.json").is_file()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((), "give --source ZIP_OR_FOLDER, or --download"),
        (("--source", "nowhere.zip"), "nowhere.zip does not exist"),
        (("--source", "broken.zip"), "broken.zip: not a zip archive, or truncated"),
        (("--source", "empty"), "empty holds no NN_MM.amc files"),
        (("--source", "hopeless"), "none of its 1 clips could be converted"),
    ],
)
def test_a_useless_source_is_named_and_nothing_is_written(archive, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.zip").write_bytes(archive.read_bytes()[:5000])
    (tmp_path / "empty").mkdir()
    (tmp_path / "hopeless").mkdir()
    (tmp_path / "hopeless" / "07_01.amc").write_text(amc())
    output = prepare(*arguments, "--output", "out", status=2)
    assert message in output and "Traceback" not in output
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="the CMU files are not here")
def test_the_real_files_agree_with_an_independent_conversion(tmp_path):
    prepare("--source", SHARED / "all_asfamc_subjects_01-03.zip", "--output", tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["counts"]["clips"] == 28 and manifest["counts"]["rejected"] == 0
    joints = np.load(tmp_path / "joints_3d.npy", mmap_mode="r")
    with np.load(SHARED / "cmu_motion_50fps.npz") as other:
        names, compared = other["clip_name"].tolist(), 0
        for clip in manifest["clips"]:
            if clip["name"] in names and "#" not in clip["name"]:
                start, stop = (int(other[key][names.index(clip["name"])]) for key in ("clip_start", "clip_end"))
                mine = np.array(joints[clip["start"] : clip["stop"]])
                theirs = other["pos3d_rootrel_mm"][start:stop].astype(np.float32) / 1000.0
                count = min(len(mine), len(theirs))
                if abs(len(mine) - len(theirs)) > 1:  # the other conversion cut frames here
                    continue
                compared += 1
                error = np.linalg.norm(mine[:count] - mine[:count, :1] - theirs[:count], axis=-1)
                assert error.mean() < 0.001, clip["name"]
    assert compared >= 24
