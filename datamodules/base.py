"""Whole-tensor data modules: a split is a `PoseBatch` of all its samples, and batches are cut from it on the device."""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any, Literal

import lightning as L
import torch
from torch import Tensor

from datamodules.samples import move, select, taken_from
from noise2pose.batch import PoseBatch
from noise2pose.errors import InputError
from noise2pose.metrics.protocols import Protocol

Split = Literal["train", "val", "test"]


class EpochOrder:
    """Which samples make up each batch of this process.

    Training shuffles all samples in each epoch, gives every process equally many and drops the incomplete last batch.
    Evaluation keeps the order and deals whole batches to the processes, so that no sample is padded, repeated or lost
    and a batch does not depend on the number of processes.

    Args:
        num_samples: in the split.
        batch_size: of one process.
        shuffle: training order if true, evaluation order otherwise.
        seed: of the shuffling.
        rank: this process.
        world_size: number of processes.

    Raises:
        InputError: if there are fewer samples than the processes need.
    """

    def __init__(
        self, num_samples: int, batch_size: int, *, shuffle: bool, seed: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        if num_samples < world_size:
            raise InputError(f"a split of {num_samples} samples cannot be shared by {world_size} processes")
        # No process may be left without a batch: it would miss the exchange of the metrics.
        self.batch_size = min(batch_size, num_samples // world_size)
        self.num_samples = num_samples
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch, also after resuming."""
        self.epoch = epoch

    def __len__(self) -> int:
        if self.shuffle:
            return self.num_samples // (self.batch_size * self.world_size)
        num_batches = -(-self.num_samples // self.batch_size)
        return len(range(self.rank, num_batches, self.world_size))

    def order(self) -> Tensor:
        """The samples of this epoch, over all processes."""
        if not self.shuffle:
            return torch.arange(self.num_samples)
        return torch.randperm(self.num_samples, generator=self.generator())

    def generator(self) -> torch.Generator:
        """Of this epoch, the same in every process."""
        return torch.Generator().manual_seed((self.seed * 1_000_003 + self.epoch) % 2**63)

    def __iter__(self) -> Iterator[Tensor]:
        order = self.order()
        for batch in range(len(self)):
            start = (batch * self.world_size + self.rank) * self.batch_size
            yield order[start : start + self.batch_size]


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


Take = Callable[[Tensor], PoseBatch]  # the samples at some positions of a split
Stream = Callable[[Iterator[PoseBatch], int], Iterator[PoseBatch]]  # batches of an epoch with more in them


class BatchLoader(ResumableLoader):
    """Cuts batches from a split. Not a `DataLoader`: there is nothing to collate and nothing to wait for.

    Args:
        take: gives the samples at some positions.
        sampler: which samples make up each batch.
        stream: adds to batches what takes time to read, given the number of the epoch.
    """

    def __init__(
        self,
        take: Take,
        sampler: EpochOrder,
        stream: Stream | None = None,
    ) -> None:
        super().__init__(sampler)
        self.take = take
        self.stream = stream

    def batches(self, start: int) -> Iterator[PoseBatch]:
        batches = map(self.take, islice(self.sampler, start, None))
        return batches if self.stream is None else self.stream(batches, self.sampler.epoch)


def batch_of(samples: PoseBatch, index: Tensor) -> PoseBatch:
    """The samples at the positions `index`, as `select`, with images in [0, 1], which may lie on disk as bytes."""
    batch = select(samples, index)
    if "image" in batch and batch["image"].dtype == torch.uint8:
        batch["image"] = batch["image"].float() / 255.0
    return batch


def check_range(least: float, largest: float = math.inf, **options: float) -> None:
    """Refuses options of a data module that are out of range, before anything is loaded.

    Raises:
        InputError: for the first.
    """
    for name, value in options.items():
        if not least <= value <= largest:
            expected = f"at least {least}" if largest == math.inf else f"{least} to {largest}"
            raise InputError(f"data.{name} is {value}, expected {expected}")


def check_keypoints(samples: PoseBatch, source: str, num_joints: int) -> None:
    """Refuses a split that no method could use.

    Args:
        samples: all samples of the split.
        source: file or key, for the message.
        num_joints: of the skeleton that the data module promises.

    Raises:
        InputError: if there is no sample, another number of joints, or a value that is not finite.
    """
    for key in ("keypoints_2d", "keypoints_3d"):
        values: Tensor = samples[key]
        if values.shape[0] == 0:
            raise InputError(f"{source}: no samples in {key}")
        if values.shape[-2] != num_joints:
            raise InputError(f"{source}: {key} has {values.shape[-2]} joints, expected {num_joints}")
        if not values.isfinite().all():
            sample = int((~values.isfinite()).flatten(1).any(dim=1).nonzero()[0])
            raise InputError(f"{source}: {key} of sample {sample} holds NaN or infinity")


class PoseDataModule(L.LightningDataModule):
    """A data set with one evaluation set.

    A data set writes `load` and `protocols`; splits are loaded once, when they are first needed.

    Args:
        batch_size: training samples of one process.
        eval_batch_size: validation, test and prediction samples of one process.
        mixed_keypoints_2d: whether a method may be tested on another source of 2-D keypoints than it was trained on,
            which its protocol then says.
        train_share: of the training samples that are trained on, at random; smaller shares are parts of larger ones.
    """

    def __init__(
        self,
        batch_size: int = 256,
        eval_batch_size: int = 1024,
        mixed_keypoints_2d: bool = False,
        train_share: float = 1.0,
    ) -> None:
        super().__init__()
        check_range(1, batch_size=batch_size, eval_batch_size=eval_batch_size)
        check_range(0, 1, train_share=train_share)
        self.train_share = train_share
        self.mixed_keypoints_2d = mixed_keypoints_2d
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self._seed = 0
        self._samples: dict[Split, tuple[Take, int]] = {}
        self._train_loader: ResumableLoader | None = None
        self._resumed: dict[str, int] | None = None

    def setup(self, stage: str) -> None:
        self._seed = torch.initial_seed()  # of the run; it decides the order of training samples

    @abstractmethod
    def load(self, split: Split) -> PoseBatch:
        """All samples of a split, in main memory."""

    @abstractmethod
    def protocols(self, split: Split) -> list[Protocol]:
        """What the numbers of each evaluation set mean, in the order of the loaders."""

    def training_sources(self) -> set[str]:
        """Where the 2-D keypoints of the training come from."""
        return {protocol.keypoints_2d for protocol in self.protocols("train")}

    def train_dataloader(self) -> ResumableLoader:
        self._train_loader = self.training_loader()
        if self._resumed is not None:
            self._train_loader.load_state_dict(self._resumed)
        return self._train_loader

    def training_loader(self) -> ResumableLoader:
        """The loader of the training batches."""
        return self._loader("train", shuffle=True)

    def state_dict(self) -> dict[str, int]:
        """How far the training is in its epoch. Lightning restores the states of loaders too late."""
        return {} if self._train_loader is None else self._train_loader.state_dict()

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self._resumed = state_dict

    def val_dataloader(self) -> BatchLoader:
        return self._loader("val", shuffle=False)

    def test_dataloader(self) -> BatchLoader:
        return self._loader("test", shuffle=False)

    def predict_dataloader(self) -> BatchLoader:
        return self.test_dataloader()

    def _loader(self, split: Split, shuffle: bool) -> BatchLoader:
        take, number = self.samples(split)
        size = self.batch_size if shuffle else self.eval_batch_size
        rank, world_size = self.processes()
        order = EpochOrder(number, size, shuffle=shuffle, seed=self._seed, rank=rank, world_size=world_size)
        return BatchLoader(take, order, self.streams(split))

    def processes(self) -> tuple[int, int]:
        """This process, and the number of processes."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def samples(self, split: Split) -> tuple[Take, int]:
        """A function that gives samples of a split, prepared once, and their number."""
        if split not in self._samples:
            device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
            take, number = self.take(split, device)
            if split == "train" and self.train_share < 1.0:
                order = torch.randperm(number, generator=torch.Generator().manual_seed(0))
                kept = order[: max(1, round(self.train_share * number))].sort().values
                take, number = partial(taken_from, take, kept), len(kept)
            self._samples[split] = take, number
        return self._samples[split]

    def take(self, split: Split, device: torch.device) -> tuple[Take, int]:
        """A function that gives samples of a split, which may lie on a device, and their number."""
        samples = self.load(split)
        # Images stay where they are, mapped from a file: they are too many for the memory of a GPU.
        images = {"image": samples.pop("image")} if "image" in samples else {}
        samples = {**move(samples, device), **images}  # pyright: ignore[reportAssignmentType]
        return partial(batch_of, samples), len(samples["keypoints_2d"])  # pyright: ignore[reportArgumentType]

    def streams(self, split: Split) -> Stream | None:
        """What adds images to the batches of a split as they are needed; None for a data set without images."""
        return None

    def finish(self, batch: PoseBatch, training: bool) -> PoseBatch:
        """Completes a batch on the device of the method."""
        return batch

    def on_after_batch_transfer(self, batch: PoseBatch, dataloader_idx: int) -> PoseBatch:
        return self.finish(batch, training=self.trainer is not None and self.trainer.training)
