"""Published recipes by the names that options take: how training images are varied, and how boxes become crops."""

from typing import Literal, NamedTuple, get_args

from noise2pose.errors import InputError
from noise2pose.images.augmentation import Augmentation
from noise2pose.images.crops import BOX_SCALE

RuleName = Literal["keypoints", "mask", "detector", "dpmesh"]

AUGMENTATIONS = {
    "none": Augmentation(),
    # MMHuman3D's HMR turns six of ten samples; SPIN, from which it has its settings, leaves six of ten as they are.
    "hmr": Augmentation(scale=0.25, rotation=30.0, rotation_probability=0.6, flip=0.5, gain=0.4),
    "spin": Augmentation(scale=0.25, rotation=30.0, rotation_probability=0.4, flip=0.5, gain=0.4),
    # The release's second loader; there the rectangle is often lost by a mistake in its bounds.
    "dpmesh": Augmentation(
        scale=0.25, rotation=30.0, rotation_probability=0.6, flip=0.5, gain=0.2, occluder_probability=1.0
    ),
}


class BoxRule(NamedTuple):
    """How a tight box becomes the square that is cropped; exactly one such rule is ever applied.

    Attributes:
        scale: as of `noise2pose.images.crops.square_box`.
        margin: as there.
    """

    scale: float
    margin: float | None = None


_BOX_RULES: dict[str, BoxRule] = {
    "keypoints": BoxRule(BOX_SCALE),  # extent of the keypoints; SPIN and MMHuman3D on 3DPW and MPI-INF-3DHP
    "mask": BoxRule(0.9),  # box of the person's mask; SPIN and MMHuman3D on Human3.6M
    "detector": BoxRule(1.25),  # box of a person detector; HRNet, and MMHuman3D's demo
    "dpmesh": BoxRule(1.1, 1.2),  # extent of the detected keypoints; DPMesh and 3DCrowdNet in tests
}


def box_rule(name: str) -> BoxRule:
    """The rule of that name.

    Raises:
        InputError: if there is none; the known names are listed.
    """
    if name not in _BOX_RULES:
        raise InputError(f"unknown box rule {name}; known are {', '.join(get_args(RuleName))}")
    return _BOX_RULES[name]
