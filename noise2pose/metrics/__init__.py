"""Metrics of 3-D pose: pure functions in `functional`, and a `torchmetrics.Metric` of each, which reports mm or %."""

from noise2pose.metrics.auc import AUC
from noise2pose.metrics.calibration import Calibration
from noise2pose.metrics.mpjpe import MPJPE
from noise2pose.metrics.mpjpe_2d import MPJPE2D
from noise2pose.metrics.mpjve import MPJVE
from noise2pose.metrics.n_mpjpe import NMPJPE
from noise2pose.metrics.pa_mpjpe import PAMPJPE
from noise2pose.metrics.pck import PCK
from noise2pose.metrics.pve import PVE

__all__ = ["AUC", "MPJPE", "MPJPE2D", "MPJVE", "NMPJPE", "PAMPJPE", "PCK", "PVE", "Calibration"]
