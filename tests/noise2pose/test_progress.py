import io
import sys

from noise2pose import progress as module
from noise2pose.progress import progress


def run(monkeypatch, every):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(module, "EVERY", every)
    with progress(total=3, unit=" frames", desc="people in a.mp4") as bar:
        for _ in range(3):
            bar.update()
    return stream.getvalue()


def test_without_a_terminal_short_work_prints_nothing(monkeypatch):
    assert run(monkeypatch, 10.0) == ""


def test_without_a_terminal_each_state_is_a_line_of_its_own(monkeypatch):
    text = run(monkeypatch, 1e-9)
    assert "\r" not in text and text.endswith("\n")
    assert "people in a.mp4" in text.splitlines()[-1] and "3/3" in text.splitlines()[-1]
