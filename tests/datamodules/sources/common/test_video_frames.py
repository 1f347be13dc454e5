"""Frames of videos: numbers, killed runs, short and broken videos."""

import numpy as np
import pytest
from PIL import Image

from datamodules.sources.common import video_frames
from datamodules.sources.common.video_frames import extract_frames, read_header
from noise2pose.errors import InputError
from tests.datamodules.human36m_tree import VIDEO, brightness, write_video


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("first", [0, 7])
def test_frames_are_counted_as_they_are_shown_whatever_their_time_stamps(tmp_path, first):
    write_video(tmp_path / "v.mp4", 12, first)
    assert read_header(tmp_path / "v.mp4") == (12, VIDEO)
    done = extract_frames(tmp_path / "v.mp4", [0, 5, 11], tmp_path / "out")
    assert done == (frozenset({0, 5, 11}), VIDEO, "")
    assert {path.name for path in (tmp_path / "out").glob("*.jpg")} == {"000000.jpg", "000005.jpg", "000011.jpg"}
    for frame in (0, 5, 11):
        with Image.open(tmp_path / "out" / f"{frame:06d}.jpg") as image:
            assert image.size == VIDEO
            assert abs(np.asarray(image).mean() - brightness(frame)) < 4  # neighbours differ by 10


def test_a_killed_run_goes_on_with_the_same_bytes(tmp_path, monkeypatch):
    write_video(tmp_path / "v.mp4", 12)
    whole = extract_frames(tmp_path / "v.mp4", range(0, 12, 2), tmp_path / "whole")
    write, written = video_frames._write_jpeg, []

    def killed(path, pixels):
        if len(written) == 3:
            path.with_name(path.name + ".partial").write_bytes(b"half")
            raise KeyboardInterrupt
        written.append(path.name)
        write(path, pixels)

    monkeypatch.setattr(video_frames, "_write_jpeg", killed)
    with pytest.raises(KeyboardInterrupt):
        extract_frames(tmp_path / "v.mp4", range(0, 12, 2), tmp_path / "killed")
    first = list(written)
    monkeypatch.setattr(
        video_frames, "_write_jpeg", lambda path, pixels: (written.append(path.name), write(path, pixels))
    )
    assert extract_frames(tmp_path / "v.mp4", range(0, 12, 2), tmp_path / "killed") == whole
    assert len(first) == 3 and len(written) == 6 == len(set(written))  # nothing twice
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    monkeypatch.setattr(video_frames, "_decode", None)  # finished: not even opened
    assert extract_frames(tmp_path / "v.mp4", range(0, 12, 2), tmp_path / "killed") == whole


def test_another_video_is_extracted_anew(tmp_path):
    write_video(tmp_path / "v.mp4", 4)
    extract_frames(tmp_path / "v.mp4", [0, 3], tmp_path / "out")
    before = contents(tmp_path / "out")
    write_video(tmp_path / "v.mp4", 4, first=9)
    extract_frames(tmp_path / "v.mp4", [3], tmp_path / "out")
    assert set(contents(tmp_path / "out")) == {"000003.jpg", "video.json"}
    assert contents(tmp_path / "out")["video.json"] != before["video.json"]


def test_short_and_broken_videos_say_why(tmp_path):
    write_video(tmp_path / "v.mp4", 4)
    done = extract_frames(tmp_path / "v.mp4", [0, 3, 6], tmp_path / "out")
    assert done.frames == {0, 3} and done.reason == "ends before frame 6"
    (tmp_path / "broken.mp4").write_bytes((tmp_path / "v.mp4").read_bytes()[:200])
    done = extract_frames(tmp_path / "broken.mp4", [0, 3], tmp_path / "broken")
    assert not done.frames and done.size is None and "cannot be decoded" in done.reason
    with pytest.raises(InputError, match="broken.mp4: cannot be read as a video"):
        read_header(tmp_path / "broken.mp4")
