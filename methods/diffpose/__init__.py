"""DiffPose: Toward More Reliable 3D Pose Estimation (Gong et al., CVPR 2023). See README.md in this folder."""

from methods.diffpose.context import ContextEncoder
from methods.diffpose.module import DiffPose

__all__ = ["ContextEncoder", "DiffPose"]
