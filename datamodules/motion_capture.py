"""Several prepared motions as one data set, split by person or by activity, seen by virtual cameras."""

import re
import zlib
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from datamodules.base import BatchLoader, EpochOrder, Split, Take
from datamodules.cmu_mocap import clips_of
from datamodules.motion.cameras import VirtualCameraMotion
from datamodules.motion.frames import Clip
from datamodules.prepared.folder import MANIFEST, PreparedFolder, read_manifest
from noise2pose.batch import PoseBatch
from noise2pose.errors import InputError
from noise2pose.metrics.protocols import Protocol

HoldOut = Literal["people", "activities"]

# Numbers of the people of each publisher who are held out; everybody else is trained on.
PEOPLE: dict[str, dict[Split, tuple[int, ...]]] = {
    "cmu": {"val": (11, 16, 94), "test": (2, 3, 8, 12, 49, 55, 86, 93, 135)},
    "uiprmd": {"val": (4,), "test": (8, 9)},
}
_LISTED = 12  # people whom the protocol names


class MotionCapture(VirtualCameraMotion):
    """Trains on all motions together, validates on them together in the same shares, and tests on each by itself.

    `hold_out: people` tests on people who are in no training clip, in any folder. A folder's own split counts; where
    it has none, the people listed in `PEOPLE` are held out of CMU and UI-PRMD, and of other sources those whom a hash
    of their names chooses (one in ten for validation, two for test). `hold_out: activities` tests on activities that
    are in no training clip, of people who are: one in ten for validation and two for test, by a hash of the activity's
    name before any comma, bracket or dash. Clips without an activity are trained on.

    Args:
        roots: folders written by `scripts/prepare.py`, with commas between them.
        weights: share of each folder in the training samples, with commas between them; by default in proportion to
            their sizes. An epoch has as many samples as the folders together; those of a folder with a greater share
            than its size come several times in an epoch, each time with another camera, and of one with a smaller share
            every epoch has others.
        hold_out: what test clips do not share with training clips.
        cameras: see `VirtualCameraMotion`.
        options: of `VirtualCameraMotion`.
    """

    def __init__(
        self,
        roots: str = "data/cmu_mocap",
        weights: str = "",
        hold_out: HoldOut = "people",
        cameras: Literal["fixed", "sampled"] = "sampled",
        **options: Any,
    ) -> None:
        super().__init__(cameras=cameras, **options)
        if hold_out not in ("people", "activities"):
            raise InputError(f"data.hold_out is {hold_out}, expected people or activities")
        self.roots, self.weights = roots_and_weights(roots, weights)
        self.hold_out: HoldOut = hold_out
        self.dataset = _dataset(hold_out, self.bodies is not None)
        self._options = {"cameras": cameras, **options}

    def prepare_data(self) -> None:
        _ = self.sources  # fail before any process starts, not in each of them

    @cached_property
    def sources(self) -> list["MotionSource"]:
        """The folders; two of one publisher are called after their own names."""
        folders = [open_motion(root) for root in self.roots]
        names = [publisher_of(folder) for folder in folders]
        names = [
            name if names.count(name) == 1 else folder.root.name for name, folder in zip(names, folders, strict=True)
        ]
        if len(set(names)) < len(names):
            raise InputError(f"data.roots: two folders are called {names[0]}; rename one")
        return [
            MotionSource(folder, name, self.hold_out, **self._options)
            for folder, name in zip(folders, names, strict=True)
        ]

    def clips(self, split: Split) -> list[Clip]:
        return [clip for source in self.sources for clip in source.clips(split)]

    def split_in_words(self, split: Split) -> str:
        return "; ".join(source.split_in_words(split) for source in self.sources if source.holds(split))

    def protocols(self, split: Split) -> list[Protocol]:
        if split != "test":
            return super().protocols(split)
        return [protocol for source in self._tested for protocol in source.protocols(split)]

    def take(self, split: Split, device: torch.device) -> tuple[Take, int]:
        take, number = super().take(split, device)
        if split != "val" or not self.weights:
            return take, number
        chosen = _in_shares([source.number(split) for source in self.sources], self.weights)
        return partial(_at, take, chosen), len(chosen)

    def training_loader(self) -> BatchLoader:
        if not self.weights:
            return self._loader("train", shuffle=True)
        take, number = self.samples("train")
        sizes = [source.number("train") for source in self.sources]
        rank, world_size = self.processes()
        order = WeightedOrder(sizes, self.weights, self.batch_size, seed=self._seed, rank=rank, world_size=world_size)
        if self.cameras == "fixed":
            take = partial(_repeated, take, number)
        return BatchLoader(take, order, self.streams("train"))

    def test_dataloader(self) -> list[BatchLoader]:  # pyright: ignore[reportIncompatibleMethodOverride]
        for source in self._tested:
            source.trainer = self.trainer
        return [source.test_dataloader() for source in self._tested]

    @property
    def _tested(self) -> list["MotionSource"]:
        return [source for source in self.sources if source.holds("test")]


class MotionSource(VirtualCameraMotion):
    """One of the folders of `MotionCapture`.

    Args:
        folder: as prepared.
        name: of its publisher, or its own.
        hold_out, options: see `MotionCapture`.
    """

    def __init__(self, folder: PreparedFolder, name: str, hold_out: HoldOut, **options: Any) -> None:
        super().__init__(**options)
        self.folder = folder
        self.name = name
        self.hold_out: HoldOut = hold_out
        self.dataset = f"{_dataset(hold_out, self.bodies is not None)}_{name}"
        split_of = split_by_person if hold_out == "people" else split_by_activity
        publisher = publisher_of(folder)
        if self.column not in folder:
            raise InputError(
                f"data.roots: {folder.root} has no {self.column}, which data.body moves by; prepare it again with this "
                "version into another folder"
            )
        self._sequences: dict[Split, list[dict[str, Any]]] = {"train": [], "val": [], "test": []}
        for sequence in folder.sequences:
            self._sequences[split_of(sequence, publisher)].append(sequence)

    def holds(self, split: Split) -> bool:
        """Whether any clip is in the split."""
        return bool(self._sequences[split])

    def clips(self, split: Split) -> list[Clip]:
        return [
            Clip(f"{self.name}/{name}", subject, action, joints)
            for name, subject, action, joints in clips_of(self.folder, self.column, self._sequences[split])
        ]

    def number(self, split: Split) -> int:
        """Samples of a split; the joints need not be read for that."""
        return self.count([clip["stop"] - clip["start"] for clip in self._sequences[split]], split)

    def split_in_words(self, split: Split) -> str:
        key, what = ("subject", "people") if self.hold_out == "people" else ("action", "activities")
        found = {sequence[key] if key == "subject" else activity_of(sequence) for sequence in self._sequences[split]}
        listed = ", ".join(sorted(found)) if split != "train" and len(found) <= _LISTED else f"{len(found)}"
        return f"{self.name}, {what} {listed}"


class WeightedOrder(EpochOrder):
    """Training batches in which every source has its share.

    The samples of a source that is needed several times in an epoch come in passes. Those of the pass p have the
    numbers of the samples plus p times the number of all samples, so that every number comes once.

    Args:
        sizes: samples of each source; sources follow each other.
        weights: shares of the sources.
        batch_size, seed, rank, world_size: see `EpochOrder`.

    Raises:
        InputError: if a source is empty.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        weights: Sequence[float],
        batch_size: int,
        *,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if not all(sizes):
            raise InputError(f"data.weights: folder {list(sizes).index(0) + 1} of data.roots has no training samples")
        super().__init__(sum(sizes), batch_size, shuffle=True, seed=seed, rank=rank, world_size=world_size)
        self.sizes = list(sizes)
        ends = [round(sum(weights[: n + 1]) / sum(weights) * sum(sizes)) for n in range(len(sizes))]
        self.counts = [end - start for start, end in zip([0, *ends], ends, strict=False)]

    def order(self) -> Tensor:
        generator, first, drawn = self.generator(), 0, []
        for size, count in zip(self.sizes, self.counts, strict=True):
            for number in range(-(-count // size)):
                samples = torch.randperm(size, generator=generator)[: count - number * size]
                drawn.append(samples + first + number * self.num_samples)
            first += size
        everything = torch.cat(drawn)
        return everything[torch.randperm(len(everything), generator=generator)]


def roots_and_weights(roots: str, weights: str) -> tuple[list[Path], list[float]]:
    """The folders, and the weight of each or nothing, of `data.roots` and `data.weights`.

    Raises:
        InputError: if a folder is named twice, or the weights are not one positive number for each.
    """
    folders = [Path(root.strip()) for root in roots.split(",") if root.strip()]
    if not folders or len(set(folders)) < len(folders):
        raise InputError(f"data.roots is {roots!r}, expected different folders with commas between them")
    try:
        numbers = [float(weight) for weight in weights.split(",") if weight.strip()]
    except ValueError:
        numbers = [0.0]
    if numbers and (len(numbers) != len(folders) or not min(numbers) > 0.0):
        raise InputError(
            f"data.weights is {weights!r}, expected {len(folders)} numbers above 0 with commas between them"
        )
    return folders, numbers


def open_motion(root: Path) -> PreparedFolder:
    """A folder of prepared motion of any publisher.

    Raises:
        InputError: if it has not been prepared, or is damaged.
    """
    path = root / MANIFEST
    if not path.is_file():
        raise InputError(
            f"data.roots: {path} does not exist; prepare it with `noise2pose prepare WHAT --source SOURCE --output "
            f"{root}` (`noise2pose prepare --help` lists what there is)"
        )
    return PreparedFolder(root, read_manifest(root)["dataset"])


def clips_of_people(folder: PreparedFolder, split: Split, column: str) -> list[tuple[str, str, str, Tensor]]:
    """Name, subject, action and (F, ...) values of a column of the clips of the people of a split."""
    publisher = publisher_of(folder)
    return clips_of(folder, column, [one for one in folder.sequences if split_by_person(one, publisher) == split])


def split_by_person(sequence: dict[str, Any], publisher: str) -> Split:
    """The folder's own split, the people listed in `PEOPLE`, or a hash of the name."""
    if sequence.get("split"):
        return sequence["split"]
    subject = str(sequence["subject"])
    if publisher in PEOPLE:
        number = int("0" + re.sub(r"\D", "", subject))
        splits: list[Split] = [split for split, people in PEOPLE[publisher].items() if number in people]
        return splits[0] if splits else "train"
    return _by_hash(f"{publisher} {subject}")


def split_by_activity(sequence: dict[str, Any], publisher: str) -> Split:
    """By a hash of the activity; adding clips never moves one of another activity."""
    activity = activity_of(sequence)
    return "train" if activity in ("", "unlisted") else _by_hash(activity)


def activity_of(sequence: dict[str, Any]) -> str:
    """What is done, without how: `sit to stand` of `Sit to stand (non-optimal)`."""
    return re.split(r" \(| - |,", str(sequence["action"]))[0].strip().lower()


def _dataset(hold_out: HoldOut, with_bodies: bool) -> str:
    return f"motion_{hold_out}_bodies" if with_bodies else f"motion_{hold_out}"


def _by_hash(name: str) -> Split:
    number = zlib.crc32(name.encode("utf-8")) % 10
    return "test" if number < 2 else "val" if number == 2 else "train"


def publisher_of(folder: PreparedFolder) -> str:
    """`cmu` or `uiprmd` for clips of theirs, whoever passed them on; otherwise the name of the data set."""
    sources = {str(sequence.get("source", "")).split("-")[0] for sequence in folder.sequences}
    known = sources.pop() if len(sources) == 1 else ""
    return known or folder.manifest["dataset"].removesuffix("_mocap")


def _in_shares(sizes: Sequence[int], weights: Sequence[float]) -> Tensor:
    """As many samples of every source that has any as its share allows all of them, evenly from the whole of it."""
    most = min(size / weight for size, weight in zip(sizes, weights, strict=True) if size)
    chosen, first = [], 0
    for size, weight in zip(sizes, weights, strict=True):
        number = min(round(weight * most), size)
        chosen.append(first + torch.arange(number) * size // max(number, 1))
        first += size
    return torch.cat(chosen)


def _at(take: Take, chosen: Tensor, index: Tensor) -> PoseBatch:
    """Samples of a part of a split."""
    return take(chosen[index])


def _repeated(take: Take, number: int, index: Tensor) -> PoseBatch:
    """The samples of `WeightedOrder`, of a split whose views are fixed and come again as they were."""
    return take(index % number)
