"""Loaders that resume within an epoch where a killed run stopped."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any


class ResumableLoader:
    """Iterates over the batches of an epoch.

    Lightning asks for `state_dict` when it writes a checkpoint and gives it back when a run is resumed. A run that is
    resumed within an epoch continues with the batch after the last one that was trained on.

    Args:
        order: which samples make up each batch of the epoch that Lightning announced last, `order.epoch`.
    """

    def __init__(self, order: Any) -> None:
        self.sampler = self.batch_sampler = order  # names that Lightning looks for to announce epochs
        self._at = {"epoch": 0, "batches": 0}  # how many batches of an epoch were taken
        self._resumed: dict[str, int] | None = None

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Any]:
        # Of a resumed run, Lightning asks for the iterator before it announces the epoch, and then for the first batch.
        epoch, resumed, self._resumed = self.sampler.epoch, self._resumed, None
        within = resumed is not None and resumed["epoch"] == epoch and resumed["batches"] < len(self)
        self._at = {"epoch": epoch, "batches": resumed["batches"] if resumed is not None and within else 0}
        for batch in self.batches(self._at["batches"]):
            self._at["batches"] += 1
            yield batch

    @abstractmethod
    def batches(self, start: int) -> Iterator[Any]:
        """Batches of the epoch `sampler.epoch`, without the first `start`."""

    def state_dict(self) -> dict[str, int]:
        """The epoch, and how many of its batches were taken."""
        return dict(self._at)

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Resumes there."""
        self._at = self._resumed = dict(state)
