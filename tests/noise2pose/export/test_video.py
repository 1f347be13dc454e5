import av
import numpy as np
import pytest

from noise2pose.errors import InputError
from noise2pose.export.video import write_mp4
from tests.noise2pose.export.motions import FPS, H36M, body_motion, joint_motion


def read(path):
    with av.open(str(path)) as film:
        stream = film.streams.video[0]
        assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt == "yuv420p"
        return [(float(frame.pts * frame.time_base), frame.to_ndarray(format="rgb24")) for frame in film.decode(stream)]


def grey(count, start=0):
    return ((number / FPS, np.full((320, 240, 3), 90, np.uint8)) for number in range(start, start + count))


def test_a_film_has_the_frames_and_the_rate_of_the_video_and_shows_who_is_there(tmp_path):
    motion = body_motion(4, frames=np.arange(2, 6))
    write_mp4(tmp_path / "a.mp4", [motion], grey(8))
    film = read(tmp_path / "a.mp4")
    assert len(film) == 8
    assert [time for time, _ in film] == pytest.approx([number / FPS for number in range(8)], abs=1e-4)
    assert film[0][1].shape == (320, 240 + 240, 3)  # the image, and a panel of three quarters of its height
    for number, (_, picture) in enumerate(film):
        source, side = picture[:, :240].astype(int), picture[:, 240:].astype(int)
        shown = 2 <= number < 6
        assert (np.abs(source - 90).max() > 60) == shown  # the body and the 2-D joints
        assert (side[60:].std(axis=2).max() > 10) == shown  # the blue body, below the caption
    colored = film[3][1][:, :240].astype(int)
    rows, columns = np.nonzero(np.abs(colored - 90).max(axis=2) > 60)
    assert motion.keypoints_2d is not None
    low, high = motion.keypoints_2d[1, :, :2].min(axis=0), motion.keypoints_2d[1, :, :2].max(axis=0)
    assert np.abs([columns.min() - low[0], columns.max() - high[0]]).max() < 15  # and it lies on its joints
    assert np.abs([rows.min() - low[1], rows.max() - high[1]]).max() < 25


def test_skeletons_stand_upright_with_their_sides_in_their_colours(tmp_path):
    motion = joint_motion(3, level=np.eye(3), uncertainty=None, hypotheses=None)
    write_mp4(tmp_path / "a.mp4", [motion])
    film = read(tmp_path / "a.mp4")
    assert len(film) == 3 and film[0][1].shape == (320, 240 + 2 * 240, 3)
    oblique = film[0][1][40:, 240:480].astype(int)
    red, blue = oblique[..., 0] - oblique[..., 2] > 80, oblique[..., 2] - oblique[..., 0] > 80
    assert red.any() and blue.any()
    # this person faces the camera: the right side (vermilion) is on the left of the picture
    facing = motion.joints[0, H36M.index("left_hip"), 0] > motion.joints[0, H36M.index("right_hip"), 0]
    assert facing and np.nonzero(red)[1].mean() < np.nonzero(blue)[1].mean()


def test_times_that_are_not_regular_stay_as_they_are(tmp_path):
    times = np.array([0.0, 0.05, 0.2])
    images = ((time, np.full((64, 48, 3), 90, np.uint8)) for time in times)
    write_mp4(tmp_path / "a.mp4", [joint_motion(3, seconds=times)], images)
    assert [time for time, _ in read(tmp_path / "a.mp4")] == pytest.approx(times.tolist(), abs=1e-4)


def test_frames_are_drawn_one_by_one_and_a_broken_source_leaves_no_film(tmp_path):
    alive = []

    def source():
        for number in range(40):
            alive.append(number)
            if number == 30:
                raise InputError("the video is broken")
            yield number / FPS, np.full((64, 48, 3), 90, np.uint8)

    with pytest.raises(InputError, match="the video is broken"):
        write_mp4(tmp_path / "a.mp4", [joint_motion(2)], source())
    assert alive == list(range(31)) and not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="the video has no frames"):
        write_mp4(tmp_path / "a.mp4", [joint_motion(2)], iter(()))
    with pytest.raises(InputError, match="nobody to draw"):
        write_mp4(tmp_path / "a.mp4", [])
    assert not list(tmp_path.iterdir())
