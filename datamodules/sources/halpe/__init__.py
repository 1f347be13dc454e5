"""Halpe-FullBody: its annotation files, and the cleansing of people whose bodies do not fit their keypoints."""

from datamodules.sources.halpe.files import DESCRIPTION, add_options, plan

__all__ = ["DESCRIPTION", "add_options", "plan"]
