"""Writes prepared folders: what publishers ship, in parts that several processes read and an interruption keeps."""

from datamodules.preparation.engine import Expected, Part, Plan, prepare
from datamodules.preparation.joining import Rows, concatenate

__all__ = ["Expected", "Part", "Plan", "Rows", "concatenate", "prepare"]
