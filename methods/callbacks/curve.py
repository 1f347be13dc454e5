"""`metrics.csv` of a run: every value that its training logs."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.loggers.logger import rank_zero_experiment
from lightning.pytorch.utilities import rank_zero_only

from noise2pose.files import write_bytes


class RunCSVLogger(CSVLogger):
    """`metrics.csv` in the run's folder. Rows are written in training only, and are kept when the run is resumed.

    Args:
        save_dir: the run's folder.
    """

    def __init__(self, save_dir: str) -> None:
        super().__init__(save_dir, name="", version="")
        self._training = False

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        if self._experiment is None:
            self._experiment = _AppendingWriter(self.save_dir)
        return self._experiment

    @rank_zero_only
    def begin(self, step: int) -> None:
        """Starts writing at a training step; rows of an interrupted part of the run from there on are dropped."""
        self.experiment.truncate(step)
        self._training = True

    @rank_zero_only
    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        if self._training:
            super().log_metrics(metrics, step)

    def log_hyperparams(self, params: Any = None) -> None:
        """Nothing: config.yaml beside the curve holds them."""

    @rank_zero_only
    def save(self) -> None:
        if self._training:
            super().save()


class _AppendingWriter(ExperimentWriter):
    """Appends to an existing file, which Lightning's writer would delete; a killed process leaves its rows whole."""

    def __init__(self, folder: str) -> None:
        # Without Lightning's, which makes the folder: also a command that is refused would leave one.
        self.hparams: dict[str, Any] = {}
        self.metrics: list[dict[str, float]] = []
        self.metrics_keys: list[str] = []
        self.metrics_file_path = str(Path(folder) / self.NAME_METRICS_FILE)

    def save(self) -> None:
        if not self.metrics:
            return
        path, rows = Path(self.metrics_file_path), self.metrics
        if self._record_new_keys() or not path.is_file():
            self._rewrite([*_rows_of(path), *rows])
        else:
            with path.open("ab", buffering=0) as file:  # in one call of the system, which is not cut
                file.write(self._text(rows))
        self.metrics = []

    def truncate(self, step: int) -> None:
        path = Path(self.metrics_file_path)
        kept = [row for row in _rows_of(path) if (row.get("step") or "").isdigit() and int(row["step"]) < step]
        if kept:
            self.metrics_keys = list(kept[0])
            self._rewrite(kept)
        else:
            path.unlink(missing_ok=True)

    def _rewrite(self, rows: Iterable[dict[str, Any]]) -> None:
        header = self._text([dict(zip(self.metrics_keys, self.metrics_keys, strict=True))])
        write_bytes(Path(self.metrics_file_path), header + self._text(rows))

    def _text(self, rows: Iterable[dict[str, Any]]) -> bytes:
        text = io.StringIO(newline="")
        csv.DictWriter(text, self.metrics_keys).writerows(rows)
        return text.getvalue().encode()


def _rows_of(path: Path) -> list[dict[str, Any]]:
    """The whole rows of a file, which may be missing."""
    text = path.read_bytes().decode() if path.is_file() else ""
    return list(csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1], newline="")))
