import json

import numpy as np
import pytest

from noise2pose.annotation.detections import detector_files, video_detector
from noise2pose.errors import InputError
from noise2pose.images.video import open_video
from noise2pose.keypoints.videos import detect_in_video, detect_in_videos
from tests.films import BLUE, GREEN, RED, SeesColors, picture, use_colors, write_film

FILM = [picture((RED, 4 * frame), *([(GREEN, 120)] if frame > 5 else [])) for frame in range(12)]


@pytest.fixture
def detector(tmp_path, monkeypatch):
    use_colors(monkeypatch, tmp_path)
    return video_detector(detector_files())


@pytest.fixture
def video(tmp_path):
    return open_video(write_film(tmp_path / "clip.mp4", FILM))


def test_the_people_of_each_frame(video, detector):
    read = detect_in_videos([video], detector)
    assert len(read.points) == 12 + 6 and read.skeleton == "coco_17" and read.fps == 25.0
    assert read.images[0] == "clip.mp4/clip_000000" and read.names[:2] == ["clip_000000", "clip_000001"]
    assert read.names[-2:] == ["clip_000011", "clip_000011#2"] and read.frames[-2:] == [11, 11]
    assert read.times == pytest.approx([frame * 0.04 for frame in read.frames], abs=1e-3)
    assert "people in 12 of 12 frames" in read.notes and read.people == [None] * 18
    first, last = read.points[0], read.points[11 + 5]
    assert (last[:, :2] - first[:, :2]).mean(dim=0).tolist() == pytest.approx([44.0, 0.0], abs=1.5), "the red one walks"


def test_joints_of_reduced_frames_are_in_pixels_of_the_video(video, detector, monkeypatch):
    whole = detect_in_videos([video], detector)
    monkeypatch.setattr("noise2pose.keypoints.videos.LONGEST", 80)
    reduced = detect_in_videos([video], detector)
    assert np.abs((whole.points - reduced.points).numpy()).max() < 4


@pytest.mark.parametrize("kept", [0, 1, 2, 7, 13, 14])
def test_a_killed_process_goes_on_and_ends_with_the_same_file(tmp_path, video, detector, kept):
    whole = detect_in_video(video, detector, tmp_path / "whole" / "clip.jsonl")
    content = (tmp_path / "whole" / "clip.jsonl").read_bytes()
    lines = content.splitlines(keepends=True)
    assert len(lines) == 1 + 12 + 1
    killed = tmp_path / "killed" / "clip.jsonl"
    killed.parent.mkdir()
    killed.write_bytes(b"".join(lines[:kept]) + (lines[kept][:9] if kept < 14 else b""))
    SeesColors.calls = 0
    found = detect_in_video(video, detector, killed)
    assert killed.read_bytes() == content and SeesColors.calls == 12 - min(max(kept - 1, 0), 12) + (kept < 2)
    assert found.times == whole.times
    assert all(np.array_equal(a, b) for a, b in zip(found.people, whole.people, strict=True))


def test_what_other_models_or_another_video_gave_is_not_used(tmp_path, video, detector):
    file = tmp_path / "clip.jsonl"
    detect_in_video(video, detector, file)
    content = file.read_bytes()
    detect_in_video(open_video(write_film(tmp_path / "clip.mp4", FILM[:3])), detector, file)
    assert len(file.read_text().splitlines()) == 1 + 3 + 1
    detect_in_video(video := open_video(write_film(tmp_path / "clip.mp4", FILM)), detector, file)
    assert file.read_bytes() == content
    SeesColors.calls = 0
    detect_in_video(video, detector._replace(models=["another"]), file)
    assert SeesColors.calls == 13 and json.loads(file.read_text().splitlines()[0])["models"] == ["another"]


def test_people_of_whom_little_is_seen_are_left_out_and_told(video, detector):
    def half_hidden(image, tiled):
        joints = SeesColors()(image).joints
        joints[1:, 2:, 2] = 0.0
        return joints, ["somebody at 1 2 3 4: under 24 pixels"]

    read = detect_in_videos([video], detector._replace(load=lambda: half_hidden))
    assert len(read.points) == 12 and "6 people left out, of whom fewer than 3 joints are seen" in read.notes
    assert "left out: 12 under 24 pixels" in read.notes


def test_tiles_are_used_from_one_second_to_the_next_where_they_show_more_people(tmp_path, detector):
    film = [picture((RED, 4 * frame), *([(BLUE, 100)] if 3 <= frame < 12 else [])) for frame in range(20)]
    video = open_video(write_film(tmp_path / "few.mp4", film, milliseconds=200))
    found = detect_in_video(video, detector, tmp_path / "whole.jsonl")
    assert [len(people) for people in found.people] == [1] * 5 + [2] * 7 + [1] * 8
    assert SeesColors.calls == 20 + 4
    content = (tmp_path / "whole.jsonl").read_bytes()
    tiled = [json.loads(line)["tiled"] for line in content.splitlines()[1:-1]]
    assert tiled == [False] * 5 + [True] * 10 + [False] * 5
    for kept in (5, 8, 16):  # the state goes on too
        (tmp_path / "killed.jsonl").write_bytes(b"".join(content.splitlines(keepends=True)[:kept]))
        detect_in_video(video, detector, tmp_path / "killed.jsonl")
        assert (tmp_path / "killed.jsonl").read_bytes() == content


def test_nobody_and_a_folder_in_use(tmp_path, video, detector):
    empty = open_video(write_film(tmp_path / "empty.mp4", [picture()] * 3))
    with pytest.raises(InputError, match="empty.mp4: nobody was found in 3 frames"):
        detect_in_videos([empty], detector)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file"):
        detect_in_videos([video], detector, tmp_path / "file" / "detections")


def test_two_videos_are_told_apart(tmp_path, detector):
    for folder, count in (("a", 3), ("b", 4)):
        (tmp_path / folder).mkdir()
        write_film(tmp_path / folder / "clip.mp4", FILM[:count])
    videos = [open_video(tmp_path / folder / "clip.mp4", f"{folder}/clip.mp4") for folder in "ab"]
    read = detect_in_videos(videos, detector, tmp_path / "out")
    names = [f"{folder}/clip.mp4/clip_00000{frame}" for folder, count in (("a", 3), ("b", 4)) for frame in range(count)]
    assert read.names == names
    assert sorted(file.name for file in (tmp_path / "out").glob("*.jsonl")) == ["00_clip.jsonl", "01_clip.jsonl"]
