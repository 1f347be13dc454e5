"""Which video, frame and person each pose of a record belongs to, as outputs name them."""

from pathlib import PurePosixPath
from typing import NamedTuple

from noise2pose.errors import InputError
from noise2pose.keypoints.arrays import Keypoints
from noise2pose.keypoints.images import frame_number
from noise2pose.keypoints.tracks import Track, tracks


class Timeline(NamedTuple):
    """Lists with a value for each pose.

    Attributes:
        videos: name of the video, or of the image of a pose that is in no motion.
        people: name of the person, different for all people of a video.
        frames: position in the video; 0 for a pose that is in no motion.
        fps: frames of the videos in a second; None where nothing is in motion.
    """

    videos: list[str]
    people: list[str]
    frames: list[int]
    fps: float | None


def timeline_of(read: Keypoints, fps: float) -> Timeline:
    """The timeline of a record.

    Somebody without identity is called `person`, with a number where the motion breaks off and another one begins.
    Where nothing says who is who, every pose stands alone, with its own name and that of its image.

    Args:
        read: the poses.
        fps: frames in a second where the source does not say; one frame is then the usual distance of two poses.

    Raises:
        InputError: if times are given, and do not go on from frame to frame.
    """
    videos, people, frames = list(read.images), list(read.names), [0] * len(read.names)
    moving = _moving(read, fps)
    for number, track in enumerate(moving, start=1):
        unknown = "person" if len(moving) == 1 else f"person {number}"
        for row in track.rows:
            image, frame = read.images[row], read.frames[row]
            if frame is None:
                name, frame = frame_number(image)
                videos[row] = name.replace("\0", "").rstrip("_-. ")
            else:
                videos[row] = str(PurePosixPath(image).parent).removeprefix(".")
            assert frame is not None, "the poses of a track have numbers"
            frames[row] = frame
            people[row] = read.people[row] or unknown
    rate = read.fps if moving else None
    if moving and rate is None:
        longest = max(moving, key=lambda track: track.times[-1])
        if not longest.times[-1] > 0.0:
            raise InputError(f"{read.source or 'times'}: all poses are at the same time, though their frames differ")
        rate = (frames[longest.rows[-1]] - frames[longest.rows[0]]) / longest.times[-1]
    return Timeline(videos, people, frames, rate)


def _moving(read: Keypoints, fps: float) -> list[Track]:
    """The tracks with several poses; none where nothing says who is who."""
    try:
        return [track for track in tracks(read, fps) if len(track.rows) > 1]
    except InputError:
        return []
