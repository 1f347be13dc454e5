"""Trainer callbacks and loggers that every run has: its record, moving averages, predictions and pictures.

Configurations name them by this package, `methods.callbacks.WarmupEMA`, so that a file may move without breaking runs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from methods.callbacks.averaging import WarmupEMA
    from methods.callbacks.pictures import ValidationPictures
    from methods.callbacks.predictions import PredictionWriter
    from methods.callbacks.run_record import RunCSVLogger, RunRecord

__all__ = ["PredictionWriter", "RunCSVLogger", "RunRecord", "ValidationPictures", "WarmupEMA"]

_FILES = {
    "PredictionWriter": "predictions",
    "RunCSVLogger": "run_record",
    "RunRecord": "run_record",
    "ValidationPictures": "pictures",
    "WarmupEMA": "averaging",
}


def __getattr__(name: str) -> Any:
    """Imports a callback, and Lightning with it, on first use."""
    if name in _FILES:
        return getattr(import_module(f"methods.callbacks.{_FILES[name]}"), name)
    raise AttributeError(f"module {__name__} has no attribute {name}")
