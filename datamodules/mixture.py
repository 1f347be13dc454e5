"""Several data sets in every batch.

Shape letters: B samples of a part.
"""

from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Any, Literal

import torch
from torch import Tensor

from datamodules.base import BatchLoader, PoseDataModule, ResumableLoader, Split, check_range
from noise2pose.batch import PoseBatch
from noise2pose.errors import InputError
from noise2pose.images.crops import box_of_keypoints
from noise2pose.metrics.protocols import Protocol

_ROTATIONS = ("global_orient", "body_pose")


class Mixture(PoseDataModule):
    """Trains on several data sets at once, each with its share of every batch, and evaluates on each by itself.

    The samples of a data set come in passes, each of which holds every sample once in an order of its own. Which
    samples make up a batch depends on the seed, the step and the number of processes alone, so no two processes share
    one and a resumed run continues where it stopped.

    Args:
        datasets: what is mixed; all with images, or all without.
        weights: share of each data set; by default in proportion to their sizes, within the rule.
        rule: `weights`, or `one_to_one` for as many samples with 3-D ground truth as with 2-D annotations only (JOTR,
            DPMesh), whatever the sizes of the data sets on the two sides.
        epoch_length: samples of an epoch, over all processes. By default those of all data sets together; with
            `one_to_one` twice those of the larger side.
        evaluate_on: names of the data sets to validate and test on, by default all; the first decides which weights are
            the run's best.
        mixed_keypoints_2d: allow testing on other 2-D inputs than those of the training; tables then say so.
        batch_size: training samples of one process; shares are rounded to whole samples of it.
        eval_batch_size: validation, test and prediction samples of one process.
    """

    def __init__(
        self,
        datasets: list[PoseDataModule],
        weights: list[float] | None = None,
        rule: Literal["weights", "one_to_one"] = "weights",
        epoch_length: int | None = None,
        evaluate_on: list[str] | None = None,
        mixed_keypoints_2d: bool = False,
        batch_size: int = 64,
        eval_batch_size: int = 256,
    ) -> None:
        super().__init__(batch_size, eval_batch_size, mixed_keypoints_2d)
        if not datasets:
            raise InputError("data.datasets is empty")
        if weights is not None and (len(weights) != len(datasets) or min(weights) <= 0.0):
            raise InputError(f"data.weights is {weights}, expected {len(datasets)} numbers above 0")
        if epoch_length is not None:
            check_range(1, epoch_length=epoch_length)
        self.datasets = datasets
        self.weights = weights
        self.rule = rule
        self.epoch_length = epoch_length
        names = [dataset.protocols("test")[0].dataset for dataset in datasets]
        unknown = [name for name in evaluate_on or [] if name not in names]
        if unknown:
            raise InputError(f"data.evaluate_on has {', '.join(unknown)}, which is not mixed here: {', '.join(names)}")
        by_name = dict(zip(names, datasets, strict=True))
        self.evaluated = datasets if evaluate_on is None else [by_name[name] for name in evaluate_on]
        for dataset in datasets:
            dataset.eval_batch_size = eval_batch_size

    def prepare_data(self) -> None:
        for dataset in self.datasets:
            dataset.trainer = self.trainer
            dataset.prepare_data()

    def setup(self, stage: str) -> None:
        super().setup(stage)
        for dataset in self.datasets:
            dataset.trainer = self.trainer
            dataset.setup(stage)

    def load(self, split: Split) -> PoseBatch:
        raise InputError("a mixture has no split of its own; load the split of one of its data sets")

    def protocols(self, split: Split) -> list[Protocol]:
        return [protocol for dataset in self.evaluated for protocol in dataset.protocols(split)]

    def training_sources(self) -> set[str]:
        return {source for dataset in self.datasets for source in dataset.training_sources()}

    def training_loader(self) -> "MixtureLoader":
        takes = [dataset.samples("train") for dataset in self.datasets]
        sizes = [number for _, number in takes]
        rank, world_size = self.processes()
        order = MixtureOrder(
            sizes,
            self._counts(sizes),
            self._epoch_length(sizes) // (self.batch_size * world_size),
            seed=self._seed,
            rank=rank,
            world_size=world_size,
        )
        streams = [dataset.streams("train") for dataset in self.datasets]
        return MixtureLoader([take for take, _ in takes], order, streams)

    def val_dataloader(self) -> list[BatchLoader]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return [dataset.val_dataloader() for dataset in self.evaluated]

    def test_dataloader(self) -> list[BatchLoader]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return [dataset.test_dataloader() for dataset in self.evaluated]

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> PoseBatch:
        if isinstance(batch, dict):  # of evaluation
            return self.evaluated[dataloader_idx].on_after_batch_transfer(batch, 0)  # pyright: ignore[reportArgumentType]
        parts = [dataset.finish(part, training=True) for dataset, part in zip(self.datasets, batch, strict=True)]
        return join(parts)

    def _two_dimensional(self) -> list[bool]:
        return [dataset.protocols("train")[0].dimensions == 2 for dataset in self.datasets]

    def _shares(self, sizes: Sequence[int]) -> list[float]:
        """Share of each data set in a batch; they add up to one."""
        weights = self.weights if self.weights is not None else [float(size) for size in sizes]
        if self.rule == "weights":
            return [weight / sum(weights) for weight in weights]
        flat = self._two_dimensional()
        sides = {side: sum(w for w, of in zip(weights, flat, strict=True) if of == side) for side in (False, True)}
        if not all(sides.values()):
            missing = "2-D annotations only" if sides[False] else "3-D ground truth"
            raise InputError(f"data.rule is one_to_one, but no data set has {missing}")
        return [0.5 * weight / sides[of] for weight, of in zip(weights, flat, strict=True)]

    def _counts(self, sizes: Sequence[int]) -> list[int]:
        """Samples of each data set in a batch of one process: shares rounded by largest remainders, at least one."""
        if self.batch_size < len(sizes):
            raise InputError(f"data.batch_size is {self.batch_size}, expected at least one sample of each data set")
        wanted = [share * self.batch_size for share in self._shares(sizes)]
        counts = [max(int(number), 1) for number in wanted]
        while sum(counts) != self.batch_size:
            step = 1 if sum(counts) < self.batch_size else -1
            free = [i for i in range(len(counts)) if counts[i] + step >= 1]
            counts[max(free, key=lambda i: step * (wanted[i] - counts[i]))] += step
        return counts

    def _epoch_length(self, sizes: Sequence[int]) -> int:
        if self.epoch_length is not None:
            return self.epoch_length
        if self.rule == "weights":
            return sum(sizes)
        flat = self._two_dimensional()
        return 2 * max(sum(s for s, of in zip(sizes, flat, strict=True) if of == side) for side in (False, True))


class MixtureOrder:
    """Which samples of each data set make up each training batch of this process.

    Args:
        sizes: samples of each data set.
        counts: of each data set in a batch.
        num_batches: of an epoch in one process; at least one is made.
        seed: of the orders.
        rank: this process.
        world_size: number of processes.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        counts: Sequence[int],
        num_batches: int,
        *,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.sizes, self.counts = list(sizes), list(counts)
        self.batch_size = sum(self.counts)
        self.num_batches = max(num_batches, 1)
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch, also after resuming."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_batches

    def samples(self, dataset: int, first: int = 0) -> Iterator[Tensor]:
        """What each batch of this epoch takes from a data set, without the first ones."""
        size, count = self.sizes[dataset], self.counts[dataset]
        number, order = -1, torch.zeros(0)
        for batch in range(first, self.num_batches):
            # Places in endless passes over the data set, shared out among all batches of the run.
            start = ((self.epoch * self.num_batches + batch) * self.world_size + self.rank) * count
            found = []
            for place in range(start, start + count):
                if place // size != number:
                    number = place // size
                    order = self._pass(dataset, number)
                found.append(order[place % size])
            yield torch.stack(found)

    def _pass(self, dataset: int, number: int) -> Tensor:
        seed = (self.seed * 1_000_003 + 7_919 * dataset + 104_729 * number) % 2**63
        return torch.randperm(self.sizes[dataset], generator=torch.Generator().manual_seed(seed))


class MixtureLoader(ResumableLoader):
    """Iterates over lists of batches, one of each data set, which `Mixture` joins on the device.

    Args:
        takes: of each data set, what gives its samples.
        order: which samples make up each batch.
        streams: of each data set, as in `BatchLoader`.
    """

    def __init__(self, takes: Sequence[Any], order: MixtureOrder, streams: Sequence[Any]) -> None:
        super().__init__(order)
        self.takes, self.streams = takes, streams

    def batches(self, start: int) -> Iterator[list[PoseBatch]]:
        def of(number: int) -> Iterator[PoseBatch]:
            taken = map(self.takes[number], self.sampler.samples(number, start))
            stream = self.streams[number]
            return taken if stream is None else stream(taken, self.sampler.epoch)

        return map(list, zip(*(of(i) for i in range(len(self.takes))), strict=True))


def join(parts: Sequence[PoseBatch]) -> PoseBatch:
    """One batch of several, which may have different keys.

    What a part lacks is filled in so that no loss counts it: validity, confidence and `has_smpl` are 0,
    rotations are the identity; boxes are those around the joints. Vertices, of bodies that may differ, are left out.

    Args:
        parts: of the same skeleton.

    Raises:
        InputError: if some have images and others not, or their joints or clips differ in number.
    """
    with_images = sum("image" in part for part in parts)
    if with_images not in (0, len(parts)):
        raise InputError("data.datasets: some have images and others have none; set `images` alike in all of them")
    shapes = {tuple(part["keypoints_2d"].shape[1:]) for part in parts}
    if len(shapes) > 1:
        raise InputError(f"data.datasets: samples differ in shape: {', '.join(map(str, sorted(shapes)))}")
    for part in parts:
        if "smpl" in part and "has_smpl" not in part:
            part["has_smpl"] = torch.ones(
                len(part["keypoints_2d"]), dtype=torch.bool, device=part["keypoints_2d"].device
            )
        if "box" not in part and part["keypoints_2d"].ndim == 3:  # a box of no size would be a division by zero
            part["box"] = box_of_keypoints(part["keypoints_2d"])
    joined = _join([dict(part) for part in parts], [len(part["keypoints_2d"]) for part in parts])
    joined.pop("vertices", None)
    return joined


def _join(parts: list[dict[str, Any]], sizes: list[int]) -> Any:
    joined: dict[str, Any] = {}
    for key in dict.fromkeys(key for part in parts for key in part):
        example = next(part[key] for part in parts if key in part)
        if isinstance(example, dict):
            joined[key] = _join([part.get(key, {}) for part in parts], sizes)
        elif isinstance(example, Tensor):
            if key == "vertices":
                continue
            joined[key] = torch.cat(
                [part.get(key, _nothing(key, example, n)) for part, n in zip(parts, sizes, strict=True)]
            )
        else:
            joined[key] = [item for part, n in zip(parts, sizes, strict=True) for item in part.get(key, repeat("", n))]
    return joined


def _nothing(key: str, example: Tensor, number: int) -> Tensor:
    """What fills the rows of a data set that lacks a key."""
    shape = (number, *example.shape[1:])
    if key in _ROTATIONS:
        return torch.eye(3, dtype=example.dtype, device=example.device).expand(shape)
    return torch.zeros(shape, dtype=example.dtype, device=example.device)
