"""FMPose3D: flow matching for monocular 3-D pose estimation (CVPR 2026). See README.md in this folder."""

from methods.fmpose.module import FMPose

__all__ = ["FMPose"]
