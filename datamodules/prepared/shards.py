"""Samples in shards (`noise2pose.shards`): in which order an epoch takes them, so that each shard is read once.

Shape letters: N samples.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from datamodules.base import EpochOrder
from noise2pose.errors import InputError
from noise2pose.shards import shard_path


class ShardOrder(EpochOrder):
    """An epoch that reads each shard once: shards in random order, and samples shuffled among those read together.

    Args:
        shards: of each sample, in order.
        batch_size, shuffle, seed, rank, world_size: as of `EpochOrder`. Of a shuffled epoch every process has one part
            in a row, so that two processes open at most one shard both.
        buffer: samples among which the order is shuffled.
    """

    def __init__(
        self, shards: Int[np.ndarray, " N"], batch_size: int, *, shuffle: bool, buffer: int, **options: int
    ) -> None:
        super().__init__(len(shards), batch_size, shuffle=shuffle, **options)
        self.shards = torch.from_numpy(np.ascontiguousarray(shards))
        self.buffer = buffer

    def order(self) -> Tensor:
        if not self.shuffle:
            return super().order()
        generator = self.generator()
        numbers, of = self.shards.unique(return_inverse=True)
        return torch.randperm(len(numbers), generator=generator)[of].argsort(stable=True)

    def __iter__(self) -> Iterator[Tensor]:
        if not self.shuffle:
            yield from super().__iter__()
            return
        count = len(self) * self.batch_size
        part = self.order()[self.rank * count : (self.rank + 1) * count]
        random = np.random.default_rng((self.seed, self.epoch, self.rank))
        yield from _shuffled(part, self.buffer, random).split(self.batch_size)


def _shuffled(order: Tensor, buffer: int, random: np.random.Generator) -> Tensor:
    """The order with each place taken by one of the next `buffer` that are left."""
    waiting = order.numpy().copy()
    for place in range(len(waiting)):
        other = place + int(random.integers(min(buffer, len(waiting) - place)))
        waiting[place], waiting[other] = waiting[other], waiting[place]
    return torch.from_numpy(waiting)


def sample_files(folder: Path, listed: Int[np.ndarray, "N 2"], wanted: list[int]) -> Iterator[dict[str, bytes]]:
    """The files of the wanted samples in their order; each shard is read once, when the first of its samples is due.

    Args:
        folder: of the shards.
        listed: shard and number of every sample.
        wanted: positions in `listed`; what is read before it is wanted waits in memory.

    Raises:
        InputError: if a sample is missing, or the package `webdataset` is.
    """
    try:
        from webdataset.compat import WebDataset
    except ImportError:
        raise InputError("generated people are read with webdataset: pip install -e '.[generation]'") from None
    numbers = {int(sample): position for position, sample in enumerate(listed[:, 1].tolist())}
    needed = set(wanted)
    waiting: dict[int, dict[str, bytes]] = {}
    shards = dict.fromkeys(int(listed[position, 0]) for position in wanted)
    paths = [str(shard_path(folder, shard)) for shard in shards]
    options: dict[str, Any] = {"shardshuffle": False, "nodesplitter": None, "workersplitter": None}
    stream: Any = WebDataset(paths, empty_check=False, **options) if paths else ()
    reader = iter(stream)
    for position in wanted:
        while position not in waiting:
            sample = next(reader, None)
            if sample is None:
                path = shard_path(folder, int(listed[position, 0]))
                raise InputError(
                    f"{path}: sample {listed[position, 1]} is in its list but not in the shard; export it again"
                )
            place = numbers.get(int(sample["__key__"]))
            if place in needed:
                waiting[place] = {key: value for key, value in sample.items() if not key.startswith("__")}
        yield waiting.pop(position)
