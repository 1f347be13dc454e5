import contextlib
import hashlib
import http.server
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from datamodules.cmu_mocap import CMUMocap
from datamodules.preparation import engine
from datamodules.sources.cmu_mocap.files import usable_segments
from noise2pose.errors import InputError
from scripts.prepare import main
from tests.datamodules import acclaim
from tests.datamodules.acclaim import amc, asf
from tests.places import ROOT, SHARED

CMU = SHARED / "data" / "cmu_mocap"
BROKEN = amc().replace("\nhead ", "\nhead x ", 1)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Two subjects and five clips in the layout of the official archive, one of them broken."""
    path = tmp_path_factory.mktemp("archive") / "allasfamc.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for subject in ("01", "02"):
            file.writestr(f"all_asfamc/subjects/{subject}/{subject}.asf", asf())
        for number in range(1, 4):
            file.writestr(f"all_asfamc/subjects/01/01_{number:02d}.amc", amc(seed=number))
        file.writestr("all_asfamc/subjects/02/02_01.amc", amc(frames=600, seed=9))
        file.writestr("all_asfamc/subjects/02/02_02.amc", BROKEN)
        file.writestr("__MACOSX/all_asfamc/subjects/01/._01_01.amc", "not a motion")
    return path


@pytest.fixture(scope="module")
def prepared(archive, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared") / "out"
    return folder, prepare("--source", archive, "--output", folder, status=1)  # one clip is broken


def command(*arguments):
    script = [sys.executable, str(ROOT / "scripts" / "prepare.py"), "cmu_mocap"]
    return [*script, *map(str, arguments), "--num_workers", "0"]


def prepare(*arguments, status=0):
    """What the command prints, in this process."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            found = main(command(*arguments)[2:])
        except SystemExit as ended:  # --help
            found = ended.code
    assert found == status, printed.getvalue()
    return printed.getvalue()


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def arrays(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.npy")}


def folder_of(path, motions, skeleton=None):
    """A source folder with one subject."""
    path.mkdir(parents=True)
    (path / "01.asf").write_text(skeleton or asf())
    for number, motion in enumerate(motions, start=1):
        (path / f"01_{number:02d}.amc").write_text(motion)
    return path


def test_the_folder_says_what_it_holds(prepared):
    out, printed = prepared
    columns = {"joints_world": (17, 3), "poses": (24, 3), "translation_world": (3,)}
    manifest = json.loads((out / "dataset.json").read_text())
    assert manifest["counts"]["clips"] == 4 and manifest["facts"]["fps"] == 50
    clips = manifest["sequences"]
    assert [clip["name"] for clip in clips] == ["01_01", "01_02", "01_03", "02_01"]
    assert [clip["action"] for clip in clips[:2]] == ["forward jumps, turn", "playground climb"]
    assert clips[3]["source_frames"] == 600 and clips[3]["source_sha256"] == (
        hashlib.sha256(amc(frames=600, seed=9).encode()).hexdigest()
    )
    stops = [0, *(clip["stop"] for clip in clips)]
    assert [clip["start"] for clip in clips] == stops[:-1] == [0, 100, 200, 300]
    for name, shape in columns.items():
        array = np.load(out / f"{name}.npy", mmap_mode="r")
        assert array.dtype == np.float32 and array.shape == (stops[-1], *shape)
    for text in ("free for use in research projects", "NSF EIA-0196217"):
        assert text in (out / "LICENSE.txt").read_text() and text in printed and text in manifest["licence"]
    joints = np.load(out / "joints_world.npy")
    assert joints[:, 10, 2].mean() > joints[:, 3, 2].mean() + 1.0  # z up: the head above the feet


def test_the_data_module_reads_the_folder(prepared):
    names = {split: [clip.name for clip in CMUMocap(str(prepared[0])).clips(split)] for split in ("train", "test")}
    assert names == {"train": ["01_01", "01_02", "01_03"], "test": ["02_01"]}


def test_a_malformed_clip_is_named_in_the_manifest_and_on_the_screen(prepared):
    out, printed = prepared
    ((name, reason),) = json.loads((out / "dataset.json").read_text())["skipped"]
    assert name == "02_02"
    assert re.match(r"all_asfamc/subjects/02/02_02.amc, line \d+: head: found 'x .*', expected 3 numbers", reason)
    assert f"skipped: {reason}" in printed


@pytest.mark.parametrize(
    "skeleton, motion, reason",
    [
        (asf().replace("lfemur", "lthigh"), amc().replace("lfemur", "lthigh"), "01.asf: has no bone lfemur"),
        (asf()[:900], amc(), "01.asf: no bones in section :hierarchy"),
        (asf(), amc(frames=40), "01_01.amc: no 25 frames in a row are usable, of 17 at 50 fps"),
        (asf(), amc(frames=1), "01_01.amc: no 25 frames in a row are usable, of 1 at 50 fps"),
        (asf(), re.sub(r"(?m)^root \S+", "root 1e300", amc()), "01_01.amc: its numbers are too large"),
    ],
)
def test_what_shows_only_after_parsing_is_skipped_too(tmp_path, skeleton, motion, reason):
    with pytest.raises(InputError, match=f"nothing could be prepared; .*{reason}"):
        acclaim.prepare(folder_of(tmp_path / "in", [motion], skeleton), tmp_path / "out")


def test_tracking_errors_are_cut_out():
    joints = np.zeros((200, 17, 3))
    joints[:, :, 0] = np.arange(200)[:, None] * 0.27  # 13.5 m/s
    assert usable_segments(joints) == [(0, 200)]
    joints[60:, 3] += 0.5  # between frames 59 and 60
    joints[190:, 3] += 0.5
    assert usable_segments(joints) == [(0, 56), (64, 186)]
    joints[20:, 3] += 0.5
    assert usable_segments(joints) == [(24, 56), (64, 186)]
    assert usable_segments(joints[:24]) == []


def test_a_cut_clip_becomes_segments(tmp_path):
    lines = amc(frames=600).split("\n")
    for number, line in enumerate(lines):
        if line.startswith("root") and int(lines[number - 1]) > 300:
            lines[number] = re.sub(r"^root (\S+)", lambda match: f"root {float(match[1]) + 30}", line)
    manifest = acclaim.prepare(folder_of(tmp_path / "in", ["\n".join(lines)]), tmp_path / "out")
    frames = np.load(tmp_path / "out" / "frame.npy")
    segments = [(c["name"], c["start"], c["stop"], frames[c["start"]]) for c in manifest["sequences"]]
    assert segments == [("01_01#0", 0, 121, 0), ("01_01#1", 121, 242, 129)]
    assert manifest["counts"] == {"clips": 1, "segments": 2, "frames cut as tracking errors": 8}
    joints = np.load(tmp_path / "out" / "joints_world.npy")
    whole = acclaim.prepare(folder_of(tmp_path / "b", [amc(frames=600)]), tmp_path / "whole")
    assert whole["counts"]["frames cut as tracking errors"] == 0
    assert np.array_equal(joints[:121], np.load(tmp_path / "whole" / "joints_world.npy")[:121])


def test_a_folder_is_read_like_the_archive_and_a_second_run_changes_nothing(archive, prepared, tmp_path):
    with zipfile.ZipFile(archive) as file:
        file.extractall(tmp_path / "unpacked")
    (tmp_path / "unpacked" / "all_asfamc" / "subjects" / "02" / "02_02.amc").unlink()
    prepare("--source", tmp_path / "unpacked", "--output", tmp_path / "out")
    assert arrays(prepared[0]) == arrays(tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    prepare("--source", tmp_path / "unpacked", "--output", tmp_path / "out")
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}


def test_a_changed_source_or_frame_rate_is_converted_again(tmp_path):
    source, out = folder_of(tmp_path / "in", [amc(), BROKEN]), tmp_path / "out"
    assert acclaim.prepare(source, out)["counts"]["clips"] == 1
    (source / "01_02.amc").write_text(amc(seed=2))
    assert acclaim.prepare(source, out)["counts"]["clips"] == 2
    assert acclaim.prepare(source, out, source_fps=60.0)["rows"] == 400


class _Killed(BaseException):
    """Stands for the end of the process: nothing may catch it."""


@pytest.mark.parametrize("step", range(12))
def test_stopped_before_any_file_is_put_in_place_it_ends_in_the_same_folder(tmp_path, monkeypatch, step):
    source = folder_of(tmp_path / "in", [amc(seed=1), BROKEN, amc(seed=2), amc(seed=3)])
    acclaim.prepare(source, tmp_path / "whole")
    steps, replace, cut = iter(range(100)), os.replace, tmp_path / "cut"

    def replace_or_stop(*names):
        if next(steps) == step:
            raise _Killed
        replace(*names)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", replace_or_stop)
        if step < 11:  # three parts, five columns, names of no picture, licence, manifest
            with pytest.raises(_Killed):
                acclaim.prepare(source, cut)
            assert not (cut / "dataset.json").exists()
        else:
            patched.setattr(engine.shutil, "rmtree", lambda path: None)
            acclaim.prepare(source, cut)
            assert (cut / ".parts").exists()
    acclaim.prepare(source, cut)
    assert contents(cut) == contents(tmp_path / "whole")


@pytest.mark.slow
def test_killed_anywhere_it_ends_in_the_same_folder(tmp_path):
    source = folder_of(tmp_path / "in", [amc(frames=900, seed=number) for number in range(12)])
    prepare("--source", source, "--output", tmp_path / "whole")
    cut = tmp_path / "cut"
    for parts in (1, 2, 5, 9, 12):
        process = subprocess.Popen(
            command("--source", source, "--output", cut), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while process.poll() is None and len(list(cut.glob(".parts/*.npz"))) < parts:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        killed = process.wait() == -signal.SIGKILL
        assert (killed and not (cut / "dataset.json").exists()) or parts >= 9  # it may end before the kill
    prepare("--source", source, "--output", cut)
    assert contents(cut) == contents(tmp_path / "whole")


class _Server(http.server.BaseHTTPRequestHandler):
    """Serves one file, knows `Range: bytes=N-`, and can hang up half-way."""

    content = b""
    hang_up_after: int | None = None
    ranges = True

    def do_GET(self):
        asked = self.headers.get("Range") if self.ranges else None
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        if self.path != "/allasfamc.zip":
            self.send_error(404)
        elif start and start >= len(self.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(self.content)}")
            self.end_headers()
        else:
            body = self.content[start:]
            self.send_response(206 if asked else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: self.hang_up_after])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(archive, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    handler = type("Handler", (_Server,), {"content": archive.read_bytes()})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield handler, f"http://127.0.0.1:{running.server_port}/allasfamc.zip"
        running.shutdown()


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_goes_on_where_it_stopped(archive, prepared, server, tmp_path, ranges):
    handler, url = server
    handler.hang_up_after, handler.ranges = 1000, ranges
    arguments = ("--download", "--url", url, "--output", tmp_path / "cmu")
    assert "the same command continues where this one stopped" in prepare(*arguments, status=2)
    partial = tmp_path / "allasfamc.zip.partial"
    assert partial.stat().st_size == 1000 and not (tmp_path / "cmu").exists()
    handler.hang_up_after = None
    prepare(*arguments, status=1)
    assert (tmp_path / "allasfamc.zip").read_bytes() == archive.read_bytes() and not partial.exists()
    assert arrays(tmp_path / "cmu") == arrays(prepared[0])


def test_a_partial_download_that_is_whole_is_used_and_one_that_does_not_fit_is_dropped(archive, server, tmp_path):
    partial, arguments = tmp_path / "allasfamc.zip.partial", ("--download", "--url", server[1])
    partial.write_bytes(archive.read_bytes() + b"more")
    assert "run again to fetch all of it" in prepare(*arguments, "--output", tmp_path / "cmu", status=2)
    assert not partial.exists()
    partial.write_bytes(archive.read_bytes())
    prepare(*arguments, "--output", tmp_path / "cmu", status=1)
    assert (tmp_path / "cmu" / "dataset.json").exists()


def test_a_failed_download_keeps_what_is_there(server, tmp_path):
    partial = tmp_path / "allasfamc.zip.partial"
    partial.write_bytes(b"the beginning")
    message = prepare("--download", "--url", server[1] + "s", "--output", tmp_path / "cmu", status=2)
    assert "404" in message and partial.read_bytes() == b"the beginning"


def test_a_useless_source_is_named_and_nothing_is_written(archive, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("broken.zip").write_bytes(archive.read_bytes()[:5000])
    Path("page.zip").write_bytes(b"<html>moved</html>")
    Path("empty").mkdir()
    folder_of(Path("hopeless"), [BROKEN, ""])
    folder_of(Path("twice/a"), [amc()])
    folder_of(Path("twice/b"), [amc()])
    for arguments, message in (
        ([], "add --download to fetch http://mocap.cs.cmu.edu/allasfamc.zip, or --source ZIP_OR_FOLDER"),
        (["--source", "nowhere.zip"], "nowhere.zip does not exist"),
        (["--source", "broken.zip"], "broken.zip is not a zip archive, or truncated"),
        (["--source", "page.zip"], "page.zip is not a zip archive, or truncated"),
        (["--source", "empty"], "empty: holds no motions"),
        (["--source", "twice"], "twice: holds clip 01_01 twice, as a/01_01.amc and b/01_01.amc"),
        (["--source", "hopeless", "--source_fps", "0"], "--source_fps is 0.0, expected more than 0"),
    ):
        printed = prepare(*arguments, "--output", "out", status=2)
        assert message in printed, printed
        assert not Path("out").exists(), arguments
    assert "broken.zip is a file" in prepare("--source", "hopeless", "--output", "broken.zip", status=2)
    assert "nothing could be prepared; 01_01.amc, line" in prepare("--source", "hopeless", "--output", "out", status=2)


def test_a_damaged_part_of_the_archive_is_skipped(archive, prepared, tmp_path):
    whole = archive.read_bytes()
    (tmp_path / "damaged.zip").write_bytes(whole[:20000] + bytes(500) + whole[20500:])
    printed = prepare("--source", tmp_path / "damaged.zip", "--output", tmp_path / "out", status=1)
    assert "01_01.amc is damaged" in printed
    assert [clip["name"] for clip in json.loads((tmp_path / "out" / "dataset.json").read_text())["sequences"]] == [
        "01_02",
        "01_03",
        "02_01",
    ]


def test_help_teaches_and_needs_no_torch():
    code = "import sys, scripts.prepare as p\ntry: p.main(['--help'])\nfinally: sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL).returncode == 0
    printed, page = prepare("--help"), "http://mocap.cs.cmu.edu/allasfamc.zip"
    for text in ("joints_world.npy", page, "free for use in research", "exit status"):
        assert text in printed


@pytest.mark.slow
@pytest.mark.skipif(not CMU.exists(), reason="the CMU files are not here")
def test_the_real_files_are_prepared_whole_and_cut_where_the_tracking_fails(tmp_path):
    manifest = acclaim.prepare(CMU / "all_asfamc_subjects_01-03.zip", tmp_path / "out")
    assert manifest["counts"]["clips"] == 28 and not manifest["skipped"]
    clips = {clip["name"]: clip for clip in manifest["sequences"]}
    with np.load(CMU / "cmu_motion_50fps.npz") as other:
        for name, action, start, stop in zip(
            *(other[key][:30].tolist() for key in ("clip_name", "clip_action", "clip_start", "clip_end")), strict=True
        ):
            assert clips[name]["action"] == action
            assert abs(clips[name]["stop"] - clips[name]["start"] - (stop - start)) <= 1, name
