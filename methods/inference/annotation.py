"""Annotates people in images and videos, or of keypoints alone, with a trained method that answers with a body."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from methods.base import PoseMethod
from methods.inference.bodies import annotate_people
from methods.inference.feet import lock_feet as hold_feet
from methods.inference.inputs import FPS, as_paths
from methods.inference.levels import level_bodies
from methods.inference.model import TrainedModel
from methods.inference.results import Annotations, as_folder
from methods.inference.smoothing import clips_of, settle_bodies
from methods.model_folders import weights_sha256
from noise2pose.annotation.detections import detector_files
from noise2pose.annotation.people import Skipped, Subjects, Tracking, detect_people, find_subjects
from noise2pose.annotation.writer import (
    AnnotationWriter,
    Part,
    Settle,
    fingerprint,
    join_parts,
    read_about,
    read_annotations,
    read_skipped,
)
from noise2pose.bodies import BodyModel
from noise2pose.errors import InputError
from noise2pose.images.photographs import Photograph
from noise2pose.images.sources import Sources, find_sources
from noise2pose.images.video import FramesByNumber, Video, frame_of
from noise2pose.keypoints.arrays import Keypoints, frame_rate
from noise2pose.keypoints.files import as_keypoints
from noise2pose.motion.filters import Filter, filter_of
from noise2pose.progress import progress
from noise2pose.rendering.levelling import check_pitch
from noise2pose.tracking.gaps import MAX_GAP


class Annotator:
    """A trained method that answers with the bodies of people.

    Args:
        model: a shipped name such as `diffannot-people`, a model folder, or the file of a checkpoint; loaded at the
            first prediction.
        device: cpu, cuda or mps.
        batch_size: people at a time.
        selector: of DiffAnnot, how it chooses its answer: guided, reproj2d, fixed, consistency or none.
        person_detector: .onnx or .tflite that finds people; None for BlazePose's (see docs/photos.md).
        pose_model: .onnx or .tflite that finds joints; None for BlazePose's.

    Raises:
        InputError: if there is no such model, or the batch size is not positive.
    """

    def __init__(
        self,
        model: str | Path | TrainedModel,
        device: str = "cpu",
        batch_size: int = 32,
        selector: str | None = None,
        person_detector: str | Path | None = None,
        pose_model: str | Path | None = None,
    ) -> None:
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}, expected more than 0")
        self.model = model if isinstance(model, TrainedModel) else TrainedModel(model, device, selector)
        self.batch_size = batch_size
        self.models = [None if file is None else Path(file) for file in (person_detector, pose_model)]

    def predict(
        self,
        inputs: Any,
        keypoints: Any = None,
        focal: float | None = None,
        detector: str | Path | None = None,
        output: str | Path | None = None,
        command: str | None = None,
        skeleton: str | None = None,
        camera_pitch: float | None = None,
        track: bool = False,
        max_gap: float = MAX_GAP,
        fps: float | None = None,
        smooth: str = "none",
        level: bool = False,
        lock_feet: bool = False,
    ) -> Annotations:
        """Annotates everybody in some images or videos, or everybody of some keypoints.

        Args:
            inputs: path of an image, of a video, of a folder of them or of a keypoint file; a list of them; what
                `find_sources` found; or keypoints as `Lifter.predict` takes them.
            keypoints: of the people in the images, as a file or a record that names its images, or of one image as an
                array (people, J, 2 or 3); None to detect them.
            focal: focal length in pixels, of all images; None for the EXIF data of each, else its diagonal.
            detector: folder of the 2-D detector; None for `data/detector`.
            output: folder that takes finished parts while the rest is computed, so that the same call after an
                interruption resumes, and then annotations.npz and .json; None to write nothing.
            command: what annotations.json says made them; None for the command line of this process.
            skeleton: of the keypoints, as `Lifter.predict` takes it.
            camera_pitch: degrees that the cameras of all images look down, negative up, for the pictures; None for what
                people who stand tell, else level (see `noise2pose.rendering.levelling`).
            track: whether to find out who is who in the frames of a video.
            max_gap: seconds without detection in which poses are put between those that were seen, when people are
                tracked; these poses have no observed joint and are suspect.
            fps: frames of the video in a second, for `max_gap` and `smooth`; None for what the source says.
            smooth: how the motion of each person is smoothed: none, butterworth:HZ or one_euro:HZ (docs/video.md).
            level: whether the answer has the bodies in a levelled frame, too (`noise2pose.annotation.layout`).
            lock_feet: whether to hold the feet of people in a video where they rest (`noise2pose.motion.feet`).

        Raises:
            InputError: if the inputs do not fit the model or each other, or `output` holds other annotations.
        """
        if focal is not None and not 0 < focal < float("inf"):
            raise InputError(f"focal is {focal}, expected more than 0")
        check_pitch(camera_pitch)
        low_pass = filter_of(smooth)
        fps = None if fps is None else frame_rate("keypoints", fps)
        # As the hash of the options has them.
        focal, camera_pitch = (None if number is None else float(number) for number in (focal, camera_pitch))
        folder = None if output is None else as_folder(output)
        sources, keypoints = _sources_and_keypoints(inputs, keypoints, skeleton, folder)
        method = self._method(alone=not sources.images and not sources.videos)
        if keypoints is not None and fps is not None:
            keypoints = replace(keypoints, fps=fps, times=[])
        if lock_feet:
            _check_motion(sources, keypoints, track)
        tracking = Tracking(max_gap, FPS) if track else None
        place = None if detector is None else Path(detector)
        files = detector_files(place, *self.models) if keypoints is None else None
        subjects = find_subjects(sources.images, keypoints, focal, files, sources.videos, tracking)
        keypoints = subjects.keypoints
        made_from = {
            "checkpoint": weights_sha256(self.model.path),
            "options": fingerprint(
                method.title,
                method.hparams,
                focal,
                self.batch_size,
                None if keypoints is None else keypoints.skeleton,
                camera_pitch,
                *([*tracking, fps] if tracking is not None else []),
                *([str(low_pass)] if low_pass is not None else []),
                *(["levelled"] if level else []),
                *(["feet locked"] if lock_feet else []),
            ),
            **subjects.made_from,
        }
        info = {
            "method": method.title,
            "checkpoint": self.model.name,
            "checkpoint_sha256": made_from["checkpoint"],
            "body": method.body_name,
            "gender": method.body.gender if method.body else "neutral",
            "keypoints": files.title if files is not None else _source(keypoints),
            "keypoints_about": "detected" if keypoints is None else keypoints.about(),
            "camera_pitch": camera_pitch,
            "fps": None if keypoints is None else keypoints.fps,
            "command": command or shlex.join(["python", *sys.argv]),
        }
        writer = None if folder is None else AnnotationWriter(folder, info, made_from)
        body, rate = method.body, info["fps"]
        assert body is not None
        wanted = {"low_pass": low_pass, "level": level, "lock": lock_feet, "camera_pitch": camera_pitch}
        settle = partial(_settled, body=body, fps=rate, **wanted)
        arrays, skipped, about, motion = self._annotate(subjects, writer, settle)
        info["keypoints_about"] = about or info["keypoints_about"]
        info |= {"motion": motion} if motion else {}
        photographs = _frames_of(arrays, sources.videos) or subjects.photographs
        return Annotations(arrays, skipped, body, photographs, focal, info, made_from, method.joint_maps, rate)

    def _method(self, alone: bool) -> PoseMethod:
        """The loaded method.

        Raises:
            InputError: if it cannot annotate images, or keypoints that come alone.
        """
        method = self.model.method
        if method.body is None:
            use = f"use Lifter({self.model.name!r})" if alone else "give it a keypoint file, not images"
            raise InputError(f"{method.title} predicts joints from keypoints: {use}")
        if method.needs_ground_truth:
            raise InputError(f"{method.title} chooses with the ground truth, which is unknown here: select guided")
        if alone and method.input == "image":
            raise InputError(f"{method.title} needs images: give it images, and the keypoint file as their keypoints")
        return method

    def _annotate(
        self, subjects: Subjects, writer: AnnotationWriter | None, settle: Settle
    ) -> tuple[dict[str, np.ndarray], Skipped, str, str]:
        """Computes the parts of the set that the writer does not have yet, and settles the whole.

        It also gives what was detected, and how the motion was changed, in words.

        A part is a batch, always of the same people, so that a resumed set has the same numbers to the last bit.
        """
        if writer is not None and writer.finished:
            said = read_about(writer.folder), read_about(writer.folder, "motion")
            return read_annotations(writer.folder), read_skipped(writer.folder), *said
        subjects = detect_people(subjects, None if writer is None else writer.folder)
        if writer is not None and subjects.about:
            writer.info["keypoints_about"] = subjects.about
        people = subjects.people or []
        batches = [people[start : start + self.batch_size] for start in range(0, len(people), self.batch_size)]
        parts: list[Part] = []
        with progress(total=len(people), unit=" people") as bar:
            for number, chosen in enumerate(batches):
                if writer is None:
                    parts.append(annotate_people(self.model.method, chosen))
                elif not writer.has(number):
                    writer.write(number, *annotate_people(self.model.method, chosen))
                bar.update(len(chosen))
        if writer is None:
            joined, skipped = join_parts(parts, subjects.skipped)
            arrays, said = settle(joined)
            return arrays, skipped, subjects.about, said
        writer.finish(len(batches), subjects.skipped, settle)
        said = subjects.about, read_about(writer.folder, "motion")
        return read_annotations(writer.folder), read_skipped(writer.folder), *said


def _settled(
    arrays: dict[str, np.ndarray],
    body: BodyModel,
    fps: float | None,
    low_pass: Filter | None,
    level: bool,
    lock: bool,
    camera_pitch: float | None,
) -> tuple[dict[str, np.ndarray], str]:
    """The arrays of a whole set with one shape for each identity, changed as is wanted, and words on it."""
    arrays, smoothed = settle_bodies(arrays, body, fps, low_pass)
    arrays, locked = hold_feet(arrays, body, fps, camera_pitch) if lock else (arrays, "")
    levelled, said = level_bodies(arrays, body, fps, camera_pitch) if level else ({}, "")
    return {**arrays, **levelled}, "; ".join(filter(None, (smoothed, locked, said)))


def _check_motion(sources: Sources, keypoints: Keypoints | None, track: bool) -> None:
    """Refuses to lock feet where nobody is in motion."""
    moving = sources.videos or (keypoints is not None and not sources.images and (track or clips_of(keypoints)))
    if not moving:
        raise InputError(
            "--lock_feet: it holds feet that rest over the frames of a video, and these are single photos: give a "
            "video, or keypoints whose frames follow each other"
        )


def _source(keypoints: Keypoints | None) -> str:
    """Where 2-D keypoints that were given come from, as annotations.json names it."""
    assert keypoints is not None, "else they are detected"
    return "array" if keypoints.source is None else keypoints.source.name


def _sources_and_keypoints(
    inputs: Any, keypoints: Any, skeleton: str | None, output: Path | None
) -> tuple[Sources, Keypoints | None]:
    """The images or videos, none where keypoints come alone; and the keypoints, where they are given.

    Raises:
        InputError: if either cannot be read, or keypoints are given twice or for a video.
    """
    paths = as_paths(inputs)
    if paths is None and not isinstance(inputs, Sources):
        sources, alone = Sources([], [], None), inputs
    else:
        sources = inputs if isinstance(inputs, Sources) else find_sources(paths or [], output)
        alone = sources.keypoints
    if alone is not None:
        if keypoints is not None:
            raise InputError("keypoints are given twice: `keypoints` is for images")
        return sources, as_keypoints(alone, skeleton)
    if keypoints is None:
        return sources, None
    if sources.videos:
        raise InputError("keypoints are for images: those of a video are detected, or give the keypoint file alone")
    if isinstance(keypoints, str | Path | Keypoints):
        return sources, as_keypoints(keypoints, skeleton)
    if len(sources.images) > 1:
        raise InputError("an array of keypoints belongs to one image: for several give a file or a record")
    found = as_keypoints(keypoints, skeleton)
    return sources, as_keypoints(found, names=[sources.images[0][1].name] * len(found.names))


def _frames_of(arrays: Mapping[str, np.ndarray], videos: Sequence[Video]) -> list[Photograph]:
    """The frames of videos that some annotations are of."""
    frames: dict[str, Photograph] = {}
    for video in videos:
        shared = FramesByNumber(video)
        for name, number in zip(arrays["file_names"].tolist(), arrays["frames"].tolist(), strict=True):
            if name == video.frame_name(number) and name not in frames:
                frames[name] = frame_of(shared, number)
    return list(frames.values())
