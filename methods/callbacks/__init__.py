"""Trainer callbacks and loggers that every run has: its record, moving averages, predictions and pictures.

Configurations name them by this package, `methods.callbacks.WarmupEMA`, so that a file may move without breaking runs.
"""

from methods.callbacks.averaging import WarmupEMA
from methods.callbacks.curve import RunCSVLogger
from methods.callbacks.outputs import PredictionWriter, ValidationPictures
from methods.callbacks.run_record import RunRecord
from methods.callbacks.wandb_logger import RunWandbLogger

__all__ = ["PredictionWriter", "RunCSVLogger", "RunRecord", "RunWandbLogger", "ValidationPictures", "WarmupEMA"]
