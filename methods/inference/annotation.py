"""Annotates people in images, or of keypoints alone, with a trained method that answers with a body.

Shape letters: B batch.
"""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from methods.base import PoseMethod
from methods.inference.model import SAMPLE, TrainedModel
from methods.inference.results import Annotations, as_folder
from methods.model_folders import weights_sha256
from noise2pose.annotation.detections import detector_files
from noise2pose.annotation.layout import annotate_batch
from noise2pose.annotation.people import Person, Skipped, Subjects, detect_people, find_subjects
from noise2pose.annotation.suspicion import disagreement_with_mirror, disagreement_with_noise
from noise2pose.annotation.writer import (
    AnnotationWriter,
    Part,
    fingerprint,
    join_parts,
    read_annotations,
    read_skipped,
)
from noise2pose.batch import PoseBatch
from noise2pose.errors import InputError
from noise2pose.images import crops
from noise2pose.images.photographs import Photograph, find_images, read_image
from noise2pose.keypoints.arrays import Keypoints
from noise2pose.keypoints.files import as_keypoints, is_keypoint_file
from noise2pose.rendering.levelling import check_pitch


class Annotator:
    """A trained method that answers with the bodies of people.

    Args:
        model: a shipped name such as `diffannot-keypoints`, a model folder, or the file of a checkpoint; loaded at the
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
    ) -> Annotations:
        """Annotates everybody in some images, or everybody of some keypoints.

        Args:
            inputs: path of an image, of a folder of images or of a keypoint file; a list of images and folders; or
                keypoints as `Lifter.predict` takes them.
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

        Raises:
            InputError: if the inputs do not fit the model or each other, or `output` holds other annotations.
        """
        if focal is not None and not 0 < focal < float("inf"):
            raise InputError(f"focal is {focal}, expected more than 0")
        check_pitch(camera_pitch)
        # As the hash of the options has them.
        focal, camera_pitch = (None if number is None else float(number) for number in (focal, camera_pitch))
        folder = None if output is None else as_folder(output)
        images, keypoints = _images_and_keypoints(inputs, keypoints, skeleton)
        method = self._method(alone=not images)
        folder_of_detector = None if detector is None else Path(detector)
        files = detector_files(folder_of_detector, *self.models) if keypoints is None else None
        subjects = find_subjects(images, keypoints, focal, files)
        made_from = {
            "checkpoint": weights_sha256(self.model.path),
            "options": fingerprint(
                method.title,
                method.hparams,
                focal,
                self.batch_size,
                None if keypoints is None else keypoints.skeleton,
                camera_pitch,
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
            "command": command or shlex.join(["python", *sys.argv]),
        }
        writer = None if folder is None else AnnotationWriter(folder, info, made_from)
        arrays, skipped = self._annotate(subjects, writer)
        assert method.body is not None
        return Annotations(
            arrays, skipped, method.body, subjects.photographs, focal, info, made_from, method.joint_maps
        )

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

    def _annotate(self, subjects: Subjects, writer: AnnotationWriter | None) -> tuple[dict[str, np.ndarray], Skipped]:
        """Computes the parts of the set that the writer does not have yet.

        A part is a batch, always of the same people, so that a resumed set has the same numbers to the last bit.
        """
        if writer is not None and writer.finished:
            return read_annotations(writer.folder), read_skipped(writer.folder)
        subjects = detect_people(subjects, None if writer is None else writer.folder / "detections.json")
        people = subjects.people or []
        batches = [people[start : start + self.batch_size] for start in range(0, len(people), self.batch_size)]
        parts: list[Part] = []
        with tqdm(total=len(people), unit=" people", disable=None) as bar:
            for number, chosen in enumerate(batches):
                if writer is None:
                    parts.append(annotate_people(self.model.method, chosen))
                elif not writer.has(number):
                    writer.write(number, *annotate_people(self.model.method, chosen))
                bar.update(len(chosen))
        if writer is None:
            return join_parts(parts, subjects.skipped)
        writer.finish(len(batches), subjects.skipped)
        return read_annotations(writer.folder), read_skipped(writer.folder)


def _source(keypoints: Keypoints | None) -> str:
    """Where 2-D keypoints that were given come from, as annotations.json names it."""
    assert keypoints is not None, "else they are detected"
    return "array" if keypoints.source is None else keypoints.source.name


def _images_and_keypoints(
    inputs: Any, keypoints: Any, skeleton: str | None
) -> tuple[list[tuple[str, Path]], Keypoints | None]:
    """The images by name, none where keypoints come alone; and the keypoints, where they are given.

    Raises:
        InputError: if either cannot be read, or keypoints are given twice.
    """
    paths = [inputs] if isinstance(inputs, str | Path) else inputs
    if isinstance(paths, list | tuple) and paths and all(isinstance(path, str | Path) for path in paths):
        paths = [Path(path) for path in paths]
        if len(paths) > 1 or not is_keypoint_file(paths[0]):
            images = find_images(paths)
            if keypoints is None:
                return images, None
            if isinstance(keypoints, str | Path | Keypoints):
                return images, as_keypoints(keypoints, skeleton)
            if len(images) > 1:
                raise InputError("an array of keypoints belongs to one image: for several give a file or a record")
            found = as_keypoints(keypoints, skeleton)
            return images, as_keypoints(found, names=[images[0][1].name] * len(found.names))
        inputs = paths[0]
    if keypoints is not None:
        raise InputError("keypoints are given twice: `keypoints` is for images")
    return [], as_keypoints(inputs, skeleton)


@torch.no_grad()
def annotate_people(method: PoseMethod, chosen: Sequence[Person]) -> Part:
    """One batch: annotations of those whose images can be read, and what is left out with the reason.

    Args:
        method: in evaluation mode, with a body.
        chosen: all with images, or all without.
    """
    assert method.body is not None, "only methods with a body annotate"
    found, images, skipped = [], [], []
    read: dict[str, np.ndarray | InputError] = {}  # people of one image follow one another
    for person in chosen:
        if person.photograph is not None:
            if person.file_name not in read:
                read = {person.file_name: _read(person.photograph)}
            pixels = read[person.file_name]
            if isinstance(pixels, InputError):
                skipped.append((person.file_name, str(pixels)))
                continue
            images.append(crops.crop(pixels, crops.box_of_keypoints(person.keypoints)))
        found.append(person)
    if not found:
        return None, list(dict.fromkeys(skipped))
    keypoints = torch.stack([person.keypoints for person in found])
    corner = torch.stack([torch.zeros(2) if person.corner is None else person.corner for person in found])
    batch = _batch(found, _moved(keypoints, -corner), images, method.device)
    prediction = method(batch)
    others = (method, batch, prediction, method.body)
    mirrored, noisy = disagreement_with_mirror(*others), disagreement_with_noise(*others)
    size_known = torch.tensor([person.corner is None for person in found], device=method.device)
    camera = batch["camera"]
    corner = corner.to(method.device)
    in_image: PoseBatch = {  # the same in the pixels of the keypoints
        "keypoints_2d": keypoints.to(method.device),
        "box": torch.cat((batch["box"][:, :2] + corner, batch["box"][:, 2:]), dim=-1),
        "camera": {
            "focal": camera["focal"],
            "principal_point": camera["principal_point"] + corner,
            "image_size": torch.where(size_known[:, None], camera["image_size"], 0.0),
        },
        "sample_id": [person.name for person in found],
    }
    names = [person.file_name for person in found]
    arrays = annotate_batch(in_image, prediction, method.body, names, mirrored, noisy)
    return arrays, list(dict.fromkeys(skipped))


def _batch(
    people: Sequence[Person], keypoints: Float[Tensor, "B 17 3"], images: Sequence[Tensor], device: torch.device
) -> PoseBatch:
    size = torch.tensor([person.size for person in people], dtype=torch.float32, device=device)
    focal = torch.tensor([person.focal for person in people], dtype=torch.float32, device=device)
    keypoints = keypoints.to(device)
    batch: PoseBatch = {
        "keypoints_2d": keypoints,
        "box": crops.box_of_keypoints(keypoints),
        "camera": {"focal": focal[:, None].expand(-1, 2), "principal_point": size / 2.0, "image_size": size},
        "sample_id": [SAMPLE] * len(people),
    }
    if images:
        batch["image"] = torch.stack(list(images)).to(device)
    return batch


def _read(photograph: Photograph) -> np.ndarray | InputError:
    try:
        return read_image(photograph.path)
    except InputError as error:
        return error


def _moved(keypoints: Float[Tensor, "B J 3"], by: Float[Tensor, "B 2"]) -> Float[Tensor, "B J 3"]:
    return torch.cat((keypoints[..., :2] + by[:, None], keypoints[..., 2:]), dim=-1)
