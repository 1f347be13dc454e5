"""CLIFF: Carrying Location Information in Full Frames (Li et al., ECCV 2022). See README.md in this folder."""

from methods.cliff.module import CLIFF

__all__ = ["CLIFF"]
