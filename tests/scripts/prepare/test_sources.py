"""Where the source comes from: downloads that stop, damaged archives, and files that are something else."""

import http.server
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.datamodules.acclaim import amc
from tests.places import ROOT
from tests.scripts.prepare.cmu import BROKEN, arrays, folder_of, prepare


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
