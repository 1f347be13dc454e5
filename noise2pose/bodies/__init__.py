"""Parametric bodies: the model that is posed, its files, and the conversion of published ones."""

from noise2pose.bodies.model import BodyModel

__all__ = ["BodyModel"]
