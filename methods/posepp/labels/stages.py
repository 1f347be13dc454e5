"""The stages that make labels honest: detect, filter, refine and head, each a thin loop over pure functions.

`detect` writes who is found in a generated image, `filter` who is kept and why not, `refine` keypoints that fit the
image, and `head` a head that fits its face.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import roma
import torch
from jaxtyping import Float
from torch import Tensor

from methods.base import PoseMethod
from methods.posepp.images.generation import generated_image
from methods.posepp.labels.filtering import judge
from methods.posepp.labels.head import turn_heads
from methods.posepp.labels.refinement import believable
from methods.posepp.labels.settings import ESTIMATOR, FILES, SIMULATED, Detector, Filter, HeadPose
from methods.posepp.people.body import Body, join_pose, split_pose
from methods.posepp.people.sampling import DETECTOR
from methods.posepp.records import Record, Result, files_of
from noise2pose.batch import PoseBatch
from noise2pose.bodies.coco import NUM_FACE
from noise2pose.errors import InputError
from noise2pose.images.crops import crop
from noise2pose.keypoints.noise import detect as simulate


class Finder(Protocol):
    """Finds the people of images."""

    def __call__(self, records: Sequence[Record]) -> list[Float[Tensor, "P 17 3"]]: ...


class DetectStage:
    """Finds people in generated images.

    Args:
        find: the detector.
    """

    batch = 16

    def __init__(self, find: Finder) -> None:
        self.find = find

    def process(self, records: Sequence[Record]) -> list[Result]:
        found = self.find(records)
        return [
            Result(record.id, files_of({"detections": np.asarray(people, np.float32)}), notes={"people": len(people)})
            for record, people in zip(records, found, strict=True)
        ]


def make_finder(options: Detector, seed: int) -> Finder:
    """The detector of the settings.

    Raises:
        InputError: if its files are not named, missing or of another kind.
    """
    if options.source == SIMULATED:
        return SimulatedFinder(seed)
    if options.source == ESTIMATOR:
        return EstimatorFinder(load_2d(options.checkpoint, "detect.checkpoint"), options.image_size)
    if options.source == FILES:
        return FileFinder(options)
    raise InputError(f"detect.source is {options.source}, expected {ESTIMATOR}, {FILES} or {SIMULATED}")


class SimulatedFinder:
    """One person with a detector's usual errors around the joints of the label that can be seen."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __call__(self, records: Sequence[Record]) -> list[Tensor]:
        labels, areas = _labels(records)
        keys = torch.tensor([record.id for record in records]) * (DETECTOR + 1)
        found = simulate(labels[..., :2], labels[..., 2], areas, keys, error_rate=0.4, good_radius=0.35, seed=self.seed)
        return [people[None] for people in found.keypoints]


class EstimatorFinder:
    """A trained method that finds keypoints in crops, in the box of the label.

    Args:
        method: whose answers are COCO's keypoints.
        image_size: side of the crops.
    """

    def __init__(self, method: PoseMethod, image_size: int) -> None:
        self.method = method
        self.image_size = image_size

    @torch.inference_mode()
    def __call__(self, records: Sequence[Record]) -> list[Tensor]:
        found = self.method(_crops(records, self.image_size))["keypoints_2d"]
        return [people[None].clone() for people in found]


class FileFinder:
    """The pose models of `predict`, in the whole image."""

    def __init__(self, options: Detector) -> None:
        from noise2pose.keypoints.detectors.finder import DetectorFiles, PeopleFinder

        if not options.pose_model:
            raise InputError("detect.pose_model is empty, expected the file of a pose model for detect.source files")
        people = Path(options.person_detector) if options.person_detector else None
        self.find = PeopleFinder(DetectorFiles(people, Path(options.pose_model)), tiled=False)

    def __call__(self, records: Sequence[Record]) -> list[Tensor]:
        return [self.find(generated_image(record)).joints for record in records]


class FilterStage:
    """Leaves out images that do not show the person of their label.

    Args:
        options: of the filter.
    """

    batch = 256

    def __init__(self, options: Filter) -> None:
        self.options = options

    def process(self, records: Sequence[Record]) -> list[Result]:
        labels, areas = _labels(records)
        found = [torch.from_numpy(record.arrays("detect")["detections"]) for record in records]
        results = []
        for record, verdict in zip(records, judge(labels, areas, found, self.options), strict=True):
            numbers = {key: _plain(value) for key, value in verdict._asdict().items()}
            facts = {**numbers, "kept": verdict.kept, "yaw": record.facts("sample")["yaw"]}
            results.append(Result(record.id, files_of(facts=facts), reason=verdict.reason))
        return results


class RefineStage:
    """Moves keypoints to where the image shows them.

    Args:
        method: a trained `Refiner`; None to leave all where they are.
        image_size: side of the crops that it gets.
    """

    batch = 32

    def __init__(self, method: PoseMethod | None, image_size: int) -> None:
        self.method = method
        self.image_size = image_size

    def process(self, records: Sequence[Record]) -> list[Result]:
        labels, areas = _labels(records)
        found = labels[..., :2]
        if self.method is not None:
            batch = _crops(records, self.image_size)
            start = torch.cat((labels[..., :2], torch.ones_like(labels[..., 2:])), dim=-1)  # hidden joints have places
            with torch.inference_mode():
                found = self.method({**batch, "keypoints_2d": start})["keypoints_2d"][..., :2].clone()
        refined = believable(labels, found, areas, labels[..., 2])
        columns = (part.numpy() for part in refined)
        return [
            Result(record.id, files_of({"keypoints_2d": points, "moved": moved, "kept_initial": kept}))
            for record, points, moved, kept in zip(records, *columns, strict=True)
        ]


class HeadStage:
    """Turns heads to the face that the image shows.

    Args:
        options: of the optimisation.
        body: of the samples.
    """

    batch = 256

    def __init__(self, options: HeadPose, body: Body) -> None:
        self.options = options
        self.body = body

    def process(self, records: Sequence[Record]) -> list[Result]:
        people = [_head_of(record) for record in records]
        rotations = roma.rotvec_to_rotmat(_stacked([person.rotvecs for person in people]))
        turned = turn_heads(
            self.body.model,
            rotations,
            _stacked([person.betas for person in people]),
            _stacked([person.translation for person in people]),
            _stacked([person.camera for person in people]),
            _stacked([person.face for person in people]),
            self.options,
        )
        rotvecs = roma.rotmat_to_rotvec(turned.rotations).numpy()
        results = []
        for row, (record, person) in enumerate(zip(records, people, strict=True)):
            accepted = bool(turned.accepted[row])
            pose = split_pose((rotvecs[row] if accepted else person.rotvecs).astype(np.float32))
            about = {
                "accepted": np.array(accepted),
                "skipped": np.array(bool(turned.skipped[row])),
                "residual_before": np.float32(turned.before[row]),
                "residual_after": np.float32(turned.after[row] if accepted else turned.before[row]),
                "degrees": np.float32(turned.degrees[row] if accepted else 0.0),
            }
            results.append(Result(record.id, files_of({**pose, **about}), notes={"head": accepted}))
        return results


class _Head(NamedTuple):
    """What the optimisation of a head needs, as NumPy arrays."""

    rotvecs: np.ndarray
    betas: np.ndarray
    translation: np.ndarray
    camera: np.ndarray
    face: np.ndarray


def _head_of(record: Record) -> _Head:
    sample, person = record.arrays("sample"), record.facts("filter")["person"]
    face = record.arrays("detect")["detections"][person, :NUM_FACE]
    return _Head(join_pose(sample), sample["betas"], sample["transl"], sample["K"], face)


def load_2d(checkpoint: str, key: str) -> PoseMethod:
    """A trained method that finds COCO's keypoints.

    Raises:
        InputError: if none is named, or it answers something else.
    """
    from methods.checkpoints import load_method

    if not checkpoint:
        raise InputError(f"{key} is empty, expected a checkpoint of a method that finds keypoints")
    method = load_method(checkpoint)
    if method.answers != "keypoints_2d" or method.hparams.get("skeleton") != "coco_17":
        raise InputError(f"{key}: {checkpoint} is {method.title}, expected a method that finds COCO's keypoints")
    return method


def _labels(records: Sequence[Record]) -> tuple[Float[Tensor, "N 17 3"], Float[Tensor, " N"]]:
    """Keypoints that can be seen have a third column above 0; areas of the silhouettes, square pixels."""
    rendered = [record.arrays("render") for record in records]
    labels = torch.from_numpy(np.stack([each["keypoints_2d"] for each in rendered]).astype(np.float32))
    return labels, torch.from_numpy(np.stack([each["area"] for each in rendered]).astype(np.float32))


def _crops(records: Sequence[Record], size: int) -> PoseBatch:
    """The boxes of the labels, cut out of the images."""
    boxes = torch.from_numpy(np.stack([record.arrays("render")["box"] for record in records]).astype(np.float32))
    images = [crop(generated_image(record), box, size) for record, box in zip(records, boxes, strict=True)]
    return {"image": torch.stack(images), "box": boxes}


def _stacked(parts: Sequence[np.ndarray]) -> Tensor:
    """Double precision, as the body of the stages is."""
    return torch.from_numpy(np.stack(parts).astype(np.float64))


def _plain(value: Any) -> Any:
    """A number for JSON, which has none that is not a number."""
    return None if isinstance(value, float) and np.isnan(value) else value
