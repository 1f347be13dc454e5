"""Metrics of 3-D pose: pure functions in `functional`, and a `torchmetrics.Metric` of each, which reports mm or %."""

from noise2pose.metrics.calibration import Calibration
from noise2pose.metrics.pose_errors import AUC, MPJPE, MPJPE2D, MPJVE, NMPJPE, PAMPJPE, PCK, PVE

__all__ = ["AUC", "MPJPE", "MPJPE2D", "MPJVE", "NMPJPE", "PAMPJPE", "PCK", "PVE", "Calibration"]
