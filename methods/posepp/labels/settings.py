"""Settings of the stages detect, filter, refine and head, and their defaults.

Where the paper gives a number it is the default; the README says what was chosen where it gives none.
"""

from dataclasses import dataclass

from noise2pose.errors import InputError

SIMULATED, ESTIMATOR, FILES = "simulated", "estimator", "files"


@dataclass
class Detector:
    """What finds people in generated images.

    Attributes:
        source: `estimator` for a trained `KeypointEstimator`, which looks into the box of the label and finds one
            person; `files` for the pose models that `predict` runs, which look into the whole image; `simulated` for
            errors drawn around the labels, which shows that the stages run and says nothing of the images.
        checkpoint: of the estimator.
        pose_model, person_detector: files for `files`; the second may stay empty if the first finds people itself.
        image_size: side of the crops that the estimator gets, pixels.
    """

    source: str = ESTIMATOR
    checkpoint: str = ""
    pose_model: str = ""
    person_detector: str = ""
    image_size: int = 128

    def files(self) -> dict[str, str]:
        """Files that the source needs, by their keys; empty where none is named."""
        if self.source == SIMULATED:
            return {}
        if self.source == ESTIMATOR:
            return {"detect.checkpoint": self.checkpoint}
        people = {"detect.person_detector": self.person_detector} if self.person_detector else {}
        return {"detect.pose_model": self.pose_model} | people


@dataclass
class Refinement:
    """What moves keypoints to where the image shows them.

    Attributes:
        checkpoint: of a trained `methods.posepp.Refiner`; empty to leave the keypoints where they were projected.
        image_size: side of the crops that it gets, pixels.
    """

    checkpoint: str = ""
    image_size: int = 128

    def files(self) -> dict[str, str]:
        """The checkpoint by its key, if one is named."""
        return {"refine.checkpoint": self.checkpoint} if self.checkpoint else {}


@dataclass
class Filter:
    """What an image must show to be kept.

    Attributes:
        least_ap: of the similarity of the symmetric joints; the paper does not say its threshold.
        mirror_margin: by which the similarity with left and right exchanged may be larger at most.
        ear_test: whether an image is a mirror image too if of the labelled ears one can be seen, and the detector sees
            the other one only: of people seen from the side the joints alone cannot tell.
        face: whether eyes and ears that can be seen are scored with the limbs.
        least_score: detected joints with less confidence do not count.
        least_points: joints that must be there to compare, and that make a detection a person.
        most_people: 1; people of at least three tenths of the labelled person's height count.
    """

    least_ap: float = 0.5
    mirror_margin: float = 0.05
    ear_test: bool = True
    face: bool = True
    least_score: float = 0.3
    least_points: int = 4
    most_people: int = 1


@dataclass
class HeadPose:
    """How heads are turned.

    Attributes:
        steps: of Adam.
        learning_rate: of Adam, radians.
        scale: of the Geman-McClure residual, sides of the face's box: what is farther off counts little more.
        prior: weight of the squared deltas.
        least_score: detected points with less confidence do not count.
        least_points: of the five that must be detected.
        least_residual: of the label, sides of the face's box; a face that fits as well as a detector finds it is kept.
        least_gain: share by which the residual must fall.
        most_degrees: length of both deltas together at most.
    """

    steps: int = 100
    learning_rate: float = 1e-2
    scale: float = 0.5
    prior: float = 1e-2
    least_score: float = 0.3
    least_points: int = 4
    least_residual: float = 0.15
    least_gain: float = 0.2
    most_degrees: float = 60.0


def check(detect: Detector, keep: Filter, refine: Refinement, head: HeadPose) -> None:
    """Refuses settings that are out of range.

    Raises:
        InputError: for the first.
    """
    sources = (ESTIMATOR, FILES, SIMULATED)
    if detect.source not in sources:
        raise InputError(f"detect.source is {detect.source}, expected {', '.join(sources)}")
    for name, value, least, most in (
        ("detect.image_size", detect.image_size, 32, 4096),
        ("refine.image_size", refine.image_size, 32, 4096),
        ("filter.least_ap", keep.least_ap, 0.0, 1.0),
        ("filter.mirror_margin", keep.mirror_margin, 0.0, 1.0),
        ("filter.least_score", keep.least_score, 0.0, 1.0),
        ("filter.least_points", keep.least_points, 1, 16),
        ("filter.most_people", keep.most_people, 1, 100),
        ("head.steps", head.steps, 1, 100_000),
        ("head.learning_rate", head.learning_rate, 1e-6, 1.0),
        ("head.scale", head.scale, 1e-3, 100.0),
        ("head.prior", head.prior, 0.0, 100.0),
        ("head.least_score", head.least_score, 0.0, 1.0),
        ("head.least_points", head.least_points, 1, 5),
        ("head.least_residual", head.least_residual, 0.0, 100.0),
        ("head.least_gain", head.least_gain, 0.0, 1.0),
        ("head.most_degrees", head.most_degrees, 0.0, 180.0),
    ):
        if not least <= value <= most:
            raise InputError(f"{name} is {value}, expected {least:g} to {most:g}")
