import os
from fractions import Fraction

import numpy as np
import pytest

from noise2pose.errors import InputError
from noise2pose.images.video import FramesByNumber, VideoReader, frame_of, open_video
from tests.films import BLUE, RED, picture, write_film, write_sound
from tests.places import SHARED

FILM = [picture((RED, 10 * frame)) for frame in range(6)]
UNEVEN = [0, 40, 80, 300, 340, 1000]


@pytest.mark.parametrize(
    ("name", "codec", "times"),
    [("a.mp4", "mpeg4", UNEVEN), ("a.mov", "mpeg4", UNEVEN), ("a.mkv", "mpeg4", UNEVEN), ("a.gif", "gif", UNEVEN),
     ("a.avi", "mpeg4", 40)],
)  # fmt: skip
def test_frames_come_in_order_at_their_times(tmp_path, name, codec, times):
    video = open_video(write_film(tmp_path / name, FILM, times, codec=codec))
    reader = VideoReader(video)
    frames = list(reader)
    expected = UNEVEN if times is UNEVEN else [40 * frame for frame in range(6)]
    assert [round(1000 * frame.time) for frame in frames] == expected and reader.notes == []
    assert [frame.number for frame in frames] == list(range(6)) and video.size == (160, 96)
    for frame, image in zip(frames, FILM, strict=True):
        assert frame.pixels.shape == image.shape and frame.pixels.dtype == np.uint8
        assert np.abs(frame.pixels.astype(int) - image).mean() < 8
    assert [frame.number for frame in VideoReader(video, first=4)] == [4, 5]


@pytest.mark.parametrize("rotation", [90, -90, 180])
def test_a_rotation_flag_is_respected(tmp_path, rotation):
    video = open_video(write_film(tmp_path / "turned.mp4", FILM, rotation=rotation))
    shown = next(iter(VideoReader(video))).pixels
    turned = np.rot90(FILM[0], rotation // 90)
    assert shown.shape == turned.shape == (video.size[1], video.size[0], 3)
    assert np.abs(shown.astype(int) - turned).mean() < 8


def test_pixels_that_are_not_square_are_stretched(tmp_path):
    video = open_video(write_film(tmp_path / "wide.mp4", FILM, aspect=Fraction(2, 1)))
    assert video.size == (320, 96)
    shown = next(iter(VideoReader(video))).pixels
    assert shown.shape == (96, 320, 3) and (shown[50, :46, 0] > 150).all() and (shown[50, 52:, 0] < 60).all()


def test_frames_by_number(tmp_path):
    video = open_video(write_film(tmp_path / "a.mp4", FILM))
    frames = FramesByNumber(video)
    for number in (2, 3, 5, 1, 1):
        assert np.abs(frames[number].astype(int) - FILM[number]).mean() < 8
    with pytest.raises(InputError, match="a.mp4 has no frame 6"):
        frames[6]
    image = frame_of(frames, 4)
    assert image.file_name == "a.mp4/a_000004" and image.size == (160, 96) and image.focal is None
    assert np.array_equal(image.pixels(), frames[4])


def test_large_frames_can_be_reduced(tmp_path):
    reader = VideoReader(open_video(write_film(tmp_path / "a.mp4", FILM)), longest=80)
    assert reader.scale == 0.5 and next(iter(reader)).pixels.shape == (48, 80, 3)


def test_one_frame_and_many_a_second(tmp_path):
    one = open_video(write_film(tmp_path / "one.mp4", FILM[:1]))
    assert [frame.time for frame in VideoReader(one)] == [0.0]
    fast = open_video(write_film(tmp_path / "fast.mp4", FILM * 4, [round(1000 * frame / 240) for frame in range(24)]))
    assert [frame.time for frame in VideoReader(fast)] == pytest.approx([frame / 240 for frame in range(24)], abs=1e-3)


def test_what_can_be_read_of_a_damaged_video_is_read_and_told(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (40, 96, 160, 3), dtype=np.uint8)
    path = write_film(tmp_path / "a.mkv", list(noise))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    reader = VideoReader(open_video(path))
    assert 5 < len(list(reader)) < 35
    assert len(reader.notes) == 1 and "a.mkv is cut off or damaged" in reader.notes[0]


def test_what_is_no_video_is_refused_in_one_line(tmp_path):
    whole = write_film(tmp_path / "a.mp4", FILM)
    half = tmp_path / "half.mp4"
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("no video")
    write_sound(tmp_path / "sound.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    for name, message in (
        ("none.mp4", "none.mp4 does not exist"),
        ("half.mp4", r"cannot be read as a video \(the end of the file is missing\)"),
        ("empty.mp4", "the file is empty"),
        ("text.mp4", "cannot be read as a video"),
        ("sound.mp4", "holds no pictures, only audio"),
        ("pipe.mp4", "is no file: a pipe or a device"),
    ):
        with pytest.raises(InputError, match=message) as error:
            open_video(tmp_path / name)
        assert "\n" not in str(error.value) and name in str(error.value)


@pytest.mark.skipif(not (SHARED / "data" / "media").is_dir(), reason="needs the shared videos")
def test_a_film_of_a_phone():
    video = open_video(SHARED / "data" / "media" / "tfjs_pose_squats.mp4")
    assert video.size == (720, 1280) and video.num_frames == 65 and video.fps == 5.0
    assert sum(1 for _ in VideoReader(video, longest=64)) == 65


def test_the_colours_are_not_exchanged(tmp_path):
    video = open_video(write_film(tmp_path / "a.mp4", [picture((BLUE, 10))]))
    assert next(iter(VideoReader(video))).pixels[50, 20].argmax() == 2
