"""The 2-D keypoints of a call: read from files and arrays, or detected in images and videos; and the default model."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from noise2pose.annotation.detections import detector_files, keypoints_of_images, video_detector
from noise2pose.errors import InputError
from noise2pose.images.sources import Sources, find_sources
from noise2pose.keypoints.arrays import Keypoints, frame_rate
from noise2pose.keypoints.detectors.finder import DetectorFiles
from noise2pose.keypoints.files import as_keypoints, in_pixels
from noise2pose.keypoints.tracks import tracks
from noise2pose.keypoints.videos import FOLDER, detect_in_videos
from noise2pose.timing import stage
from noise2pose.tracking.gaps import with_identities
from noise2pose.tracking.identities import check_installed

FPS = 50.0  # frames a second of the clips that methods are trained on: those of Human3.6M and of the motion here
# The shipped models that are taken where none is named.
BODIES_OF_IMAGES = "diffannot-people"
JOINTS_OF_CLIPS = "diffpose-people-27"
JOINTS_OF_POSES = "diffpose-people"


def default_model(read: Keypoints | None) -> str:
    """The shipped model for some inputs.

    Args:
        read: keypoints of a file or a video; None for images.
    """
    if read is None:
        return BODIES_OF_IMAGES
    try:
        return JOINTS_OF_CLIPS if any(len(track.rows) > 1 for track in tracks(read, FPS)) else JOINTS_OF_POSES
    except InputError:  # several people in a frame, and nothing says who is who
        return JOINTS_OF_POSES


def as_paths(given: Any) -> list[str | Path] | None:
    """The paths that were given, None where an array or a record was."""
    listed = [given] if isinstance(given, str | Path) else given
    is_paths = isinstance(listed, list | tuple) and listed and all(isinstance(path, str | Path) for path in listed)
    return list(listed) if is_paths else None


def read_poses(
    given: Any,
    skeleton: str | None = None,
    image_size: Any = None,
    names: Any = None,
    fps: float | None = None,
    track: bool = False,
    max_gap: float = 0.5,
    detector: str | Path | None = None,
    output: Path | None = None,
    person_detector: str | Path | None = None,
    pose_model: str | Path | None = None,
) -> Keypoints:
    """The poses of some inputs, in pixels.

    Args:
        given: as of `Lifter.predict`; or what `find_sources` found.
        skeleton, image_size, names: as of `as_keypoints`, for files and arrays of keypoints.
        fps: frames of the video in a second; None for what it says itself.
        track: whether to find out who is who.
        max_gap: seconds without detection that are filled then.
        detector: folder of the 2-D detector; None for `data/detector`.
        person_detector, pose_model: models that find people and joints; None for those of `detector`.
        output: folder that keeps what was detected, so that the same call resumes; None to keep nothing.

    Raises:
        InputError: if the inputs cannot be read, nobody is found, or nobody can be tracked.
    """
    fps = None if fps is None else frame_rate("keypoints", fps)  # before anything is detected
    if track:
        check_installed()  # before detection, which takes long
    paths = as_paths(given)
    if paths is None and not isinstance(given, Sources):
        if isinstance(given, np.ndarray) and given.dtype == np.uint8 and given.ndim >= 3:
            raise InputError("an image as an array: save it as a file, or give keypoints (poses, joints, 2 or 3)")
        read = as_keypoints(given, skeleton, image_size, names)
    else:
        sources = given if isinstance(given, Sources) else find_sources(paths or [], output)
        if sources.keypoints is not None:
            read = as_keypoints(sources.keypoints, skeleton, image_size, names)
        else:
            if skeleton is not None or image_size is not None or names is not None:
                raise InputError("skeleton, image_size and names are for keypoints: images and videos have their own")
            files = [None if file is None else Path(file) for file in (detector, person_detector, pose_model)]
            read = _detected(sources, detector_files(*files), output)
            read = replace(read, notes=(*read.notes, *sources.notes))
    read = in_pixels(read)
    if read.relative:
        raise InputError(
            f"{read.source}: coordinates are shares of the image: give its width and height with --image_size"
        )
    if fps is not None:
        read = replace(read, fps=fps, times=[])
    if not track:
        return read
    with stage("track"):
        return with_identities(read, max_gap, FPS)


def _detected(sources: Sources, models: DetectorFiles, output: Path | None) -> Keypoints:
    if sources.videos:
        return detect_in_videos(sources.videos, video_detector(models), None if output is None else output / FOLDER)
    return keypoints_of_images(sources.images, models, None if output is None else output / "detections.json")[0]
