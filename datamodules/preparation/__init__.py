"""Writes prepared folders: what publishers ship, in parts that several processes read and an interruption keeps."""

from datamodules.preparation.engine import Expected, Part, Plan, Rows, prepare

__all__ = ["Expected", "Part", "Plan", "Rows", "prepare"]
