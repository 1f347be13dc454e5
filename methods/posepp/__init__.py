"""Pose++ (2024): labelled people from a controlled diffusion model. See README.md in this folder."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from methods.posepp.labels.refinement import Refiner
    from methods.posepp.module import Generator

__all__ = ["Generator", "Refiner"]
_MODULES = {"Generator": "methods.posepp.module", "Refiner": "methods.posepp.labels.refinement"}


def __getattr__(name: str) -> Any:
    # Both import Lightning, which takes seconds and which the stages without a network need not wait for.
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__} has no attribute {name}")
