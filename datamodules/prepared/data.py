"""Data modules over prepared folders: `scripts/prepare.py` wrote them, and one class reads them all."""

from abc import abstractmethod
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from datamodules.base import PoseDataModule, Split, Stream, Take, batch_of, check_range, move
from datamodules.motion.cameras import SKELETON
from datamodules.motion.windows import Windows
from datamodules.prepared.folder import PreparedFolder
from datamodules.prepared.images import ImageReader, Request
from datamodules.prepared.rows import Keypoints2D, PreparedRows, RuleName
from noise2pose import keyed_random, skeletons
from noise2pose.batch import PoseBatch
from noise2pose.errors import InputError
from noise2pose.images.augmentation import Augmentation, draw, vary

# How published recipes vary training images.
AUGMENTATIONS = {
    "none": Augmentation(),
    # MMHuman3D's HMR turns six of ten samples; SPIN, from which it has its settings, leaves six of ten as they are.
    "hmr": Augmentation(scale=0.25, rotation=30.0, rotation_probability=0.6, flip=0.5, gain=0.4),
    "spin": Augmentation(scale=0.25, rotation=30.0, rotation_probability=0.4, flip=0.5, gain=0.4),
    # The release's second loader; there the rectangle is often lost by a mistake in its bounds.
    "dpmesh": Augmentation(
        scale=0.25, rotation=30.0, rotation_probability=0.6, flip=0.5, gain=0.2, occluder_probability=1.0
    ),
}


class PreparedData(PoseDataModule):
    """A data set in a prepared folder, as single frames, clips or people in images.

    A data set says what is in a split and what its numbers mean: `dataset`, `in_split` and `protocols`.

    Args:
        root: folder written by `scripts/prepare.py`; by default `data/` and the name of the data set.
        keypoints_2d: 2-D input: `gt` as annotated or projected, `detected` by the detector whose file was given when
            the data set was prepared, `synthetic` for `gt` with simulated detection errors.
        test_keypoints_2d: another 2-D input for validation and test.
        mixed_keypoints_2d: allow training on one 2-D input and testing on another; tables then say so.
        noise_seed: of simulated detection errors; methods compared with each other must share it.
        num_frames: 1 for single frames. Otherwise a sample is a window of so many consecutive frames.
        train_stride: every how many frames of a sequence one is taken, or a window starts, for training.
        eval_stride: every how many frames one is taken for validation and test; windows cover every frame once.
        memory_map: read every batch from the files instead of keeping whole splits in the memory of the device.
        images: whether batches have the images of people; they are read in threads.
        image_size: side of the crops, pixels.
        picture_root: folder of the images, if they moved after the data set was prepared.
        plain_bilinear: crop as `cv2.warpAffine` does, which published numbers were made with, instead of averaging
            where images shrink.
        num_workers: threads that read images.
        augment: what happens to training samples: one of `AUGMENTATIONS`, or settings.
        box_rule: how large the boxes are, see `datamodules.prepared.rows.BOX_RULES`; by default as the data set is
            published.
        batch_size, eval_batch_size: see `PoseDataModule`.
    """

    dataset: str = ""
    box_rules: RuleName = "keypoints"
    keypoints_3d: str = "keypoints_3d"  # column of the ground truth
    names_training: bool = True  # whether training batches say whose they are; costs millions of frames seconds and GBs

    def __init__(
        self,
        root: str | None = None,
        keypoints_2d: Keypoints2D = "gt",
        test_keypoints_2d: Keypoints2D | None = None,
        mixed_keypoints_2d: bool = False,
        noise_seed: int = 0,
        num_frames: int = 1,
        train_stride: int = 1,
        eval_stride: int = 1,
        memory_map: bool = False,
        images: bool = False,
        image_size: int = 224,
        picture_root: str | None = None,
        plain_bilinear: bool = False,
        num_workers: int = 2,
        augment: Literal["none", "hmr", "spin", "dpmesh"] | Augmentation = "none",
        box_rule: RuleName | None = None,
        batch_size: int = 256,
        eval_batch_size: int = 1024,
    ) -> None:
        super().__init__(batch_size, eval_batch_size, mixed_keypoints_2d)
        self.root = Path(root) if root is not None else Path("data") / self.dataset
        self.sources: dict[Split, Keypoints2D] = dict.fromkeys(("train", "val", "test"), keypoints_2d)
        if test_keypoints_2d is not None:
            self.sources["val"] = self.sources["test"] = test_keypoints_2d
        if self.sources["test"] != keypoints_2d and not mixed_keypoints_2d:
            raise InputError(
                f"data.keypoints_2d is {keypoints_2d} and data.test_keypoints_2d {test_keypoints_2d}: numbers of mixed "
                "2-D inputs are easily mistaken for others; allow them with data.mixed_keypoints_2d true"
            )
        check_range(1, num_frames=num_frames, train_stride=train_stride, eval_stride=eval_stride, image_size=image_size)
        self.noise_seed = noise_seed
        self.num_frames = num_frames
        self.strides: dict[Split, int] = {"train": train_stride, "val": eval_stride, "test": eval_stride}
        self.memory_map = memory_map
        self.images = images
        self.picture_root = picture_root
        self.reader = ImageReader(num_workers, size=image_size, plain_bilinear=plain_bilinear)
        self.augment = AUGMENTATIONS[augment] if isinstance(augment, str) else augment
        self.box_rule: RuleName = box_rule or self.box_rules
        self._folder: PreparedFolder | None = None

    @abstractmethod
    def in_split(self, sequence: dict[str, Any], split: Split) -> bool:
        """Whether a sequence of the manifest belongs to a split."""

    def keeps(self, folder: PreparedFolder, rows: np.ndarray, split: Split) -> np.ndarray:
        """Which rows of a split count, (N,) bool: all, unless a data set overrides it. The others only fill clips."""
        return np.ones(len(rows), dtype=bool)

    def complete(self, batch: PoseBatch, rows: np.ndarray) -> PoseBatch:
        """Adds to a batch what the folder does not hold: nothing, unless a data set overrides it."""
        return batch

    def rest_root(self, batch: PoseBatch) -> Tensor | None:
        """Root joint of each sample's body in the rest pose, (B, 3) metres; None without bodies."""
        return None

    def thinned(self, split: Split) -> str:
        """What a protocol says of a split of which not every frame is taken; empty if all are."""
        stride = self.strides[split] if self.num_frames == 1 else 1
        return "" if stride == 1 else f"; every {stride} frames only"

    def prepare_data(self) -> None:
        folder = self.folder()  # fail before any process starts, not in each of them
        if self.images:
            folder.image_root(self.picture_root)

    def folder(self) -> PreparedFolder:
        """The prepared folder, opened once."""
        if self._folder is None:
            self._folder = PreparedFolder(self.root, self.dataset)
        return self._folder

    def rows(self, split: Split) -> PreparedRows:
        """The rows of a split in order: every `stride`-th of each sequence, or all of them for clips."""
        folder = self.folder()
        stride = self.strides[split] if self.num_frames == 1 else 1
        extents = [(s["start"], s["stop"]) for s in folder.sequences if self.in_split(s, split)]
        if not extents:
            raise InputError(f"{folder.root}: {self.dataset} has no sequence for {split} here")
        rows = np.concatenate([np.arange(start, stop, stride) for start, stop in extents])
        kept = self.keeps(folder, rows, split)
        if self.num_frames == 1:
            kept &= np.asarray(folder.column("valid")[rows]) if "valid" in folder else True
            kept &= np.asarray(folder.column("picture")[rows]) >= 0 if self.images else True
            rows = rows[kept]
        if not len(rows) or not kept.any():
            raise InputError(f"{folder.root}: no row of {split} is left")
        named = split != "train" or self.names_training or self.images or self.augment != AUGMENTATIONS["none"]
        counted = None if self.num_frames == 1 else kept
        choices = (self.sources[split], self.keypoints_3d, self.box_rule, self.noise_seed)
        return PreparedRows(folder, rows, *choices, self.complete, named, with_images=self.images, counted=counted)

    def load(self, split: Split) -> PoseBatch:
        take, number = self.take(split, torch.device("cpu"))
        return take(torch.arange(number))

    def take(self, split: Split, device: torch.device) -> tuple[Take, int]:
        rows = self.rows(split)
        if self.images:  # what reads the images needs the boxes
            device = torch.device("cpu")
        take: Take = rows.take if self.memory_map else partial(batch_of, move(rows.whole(), device))
        if self.num_frames == 1:
            return take, len(rows)
        stride = self.strides["train"] if split == "train" else self.num_frames
        sequence = rows.columns["sequence"][rows.rows]
        lengths = np.diff(np.flatnonzero(np.diff(sequence, prepend=-1, append=-1))).tolist()
        windows = Windows(lengths, self.num_frames, stride)
        windows.drop_empty(torch.from_numpy(rows.counted[rows.rows]))
        return partial(windows.take, take_frames=take), len(windows)

    def streams(self, split: Split) -> Stream | None:
        varies = split == "train" and self.augment != AUGMENTATIONS["none"]
        return partial(self._stream, varies) if self.images or varies else None

    def _stream(self, varies: bool, batches: Iterator[PoseBatch], epoch: int) -> Iterator[PoseBatch]:
        """Adds images, and what augmentation will do."""

        def requests() -> Iterator[Request]:
            root = self.folder().image_root(self.picture_root) if self.images else Path()
            for batch in batches:
                keys = keyed_random.keys_of(batch["sample_id"])
                variation = draw(keys, self.augment, seed=self._seed, epoch=epoch) if varies else None
                yield Request(batch, [root / name for name in batch.get("file_name", [])], variation)

        if self.images:
            yield from self.reader.read(requests())
        else:
            for request in requests():
                assert request.variation is not None, "without images there is nothing else to add"
                yield {**request.batch, "variation": request.variation}

    def finish(self, batch: PoseBatch, training: bool) -> PoseBatch:
        rest_root = self.rest_root(batch) if "variation" in batch else None
        if "variation" in batch and rest_root is None:
            batch.pop("camera_translation", None)  # it cannot follow the image without the body
        skeleton = skeletons.get(SKELETON)
        if "patches" in batch:
            return self.reader.finish(batch, skeleton, rest_root=rest_root)
        if "variation" in batch:
            return vary(batch, batch.pop("variation"), skeleton, rest_root=rest_root)
        return batch
