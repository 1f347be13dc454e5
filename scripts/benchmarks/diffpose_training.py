"""Rows of `scripts.benchmarks.diffpose` about training: batches from whole tensors, cameras drawn for each sample."""

import copy
import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from datamodules.base import BatchLoader
from datamodules.synthetic_motion import SyntheticMotion
from methods.diffpose import official
from methods.diffpose.context import Network, build_encoder, encoder_loss
from methods.diffpose.denoisers import GraphLifter
from methods.lifting import Normalisation, PointLoss, towards_person
from noise2pose import skeletons
from noise2pose.batch import PoseBatch
from scripts.benchmarks.measure import Comparison, Prepared, Side

_BATCH_SIZE = 1024  # the release's
_SHIPPED_BATCH = 512  # of diffpose-people
_NUM_WORKERS = 2  # of the DataLoader that training is compared with


def training_epoch(quick: bool, width: int, num_blocks: int, at_least: float | None) -> Comparison:
    """One epoch of the context encoder: batches cut from whole tensors against samples collated by workers."""

    def prepare() -> Prepared:
        module = SyntheticMotion(clips_per_activity=1 if quick else 6, batch_size=_BATCH_SIZE)
        module.setup("fit")
        ours = module.train_dataloader()
        assert isinstance(ours, BatchLoader)
        theirs = DataLoader(
            _SampleDataset(module.load("train")), _BATCH_SIZE, shuffle=True, drop_last=True, num_workers=_NUM_WORKERS
        )
        torch.manual_seed(0)
        network = GraphLifter(width, num_blocks, 2, 0.25, skeletons.get(official.SKELETON).parents)
        samples = len(ours) * _BATCH_SIZE
        return Prepared(
            Side(_training(network, ours), samples),
            Side(_training(network, theirs), samples),
            {"batches": len(ours)},
            "" if len(ours) == len(theirs) else "epochs of different length",
        )

    return Comparison(
        name=f"training epoch, width {width}, {num_blocks} block{'s' if num_blocks > 1 else ''}",
        setting=f"context encoder with 2 heads on synthetic motion, batch {_BATCH_SIZE}, Adam",
        against=f"the same loop over a DataLoader of single samples, {_NUM_WORKERS} workers",
        at_least=at_least,
        unit="sample",
        prepare=prepare,
    )


def sampled_cameras(quick: bool) -> Comparison:
    """One epoch of the context encoder on cameras that are drawn for each sample, against views that stay the same."""

    def prepare() -> Prepared:
        loaders = []
        for cameras, stride in (("sampled", 5), ("fixed", 20)):  # the four fixed cameras make four samples of a frame
            module = SyntheticMotion(
                clips_per_activity=1 if quick else 4, cameras=cameras, train_stride=stride, batch_size=_SHIPPED_BATCH
            )
            module.setup("fit")
            loaders.append(module.train_dataloader())
        torch.manual_seed(0)
        network = build_encoder("residual", 48, 2, 8, 0.0, 1, False, skeletons.get(official.SKELETON), "limbs")
        ours, theirs = (
            Side(_training(network, loader, "limbs", "distance"), len(loader) * _SHIPPED_BATCH) for loader in loaders
        )
        return Prepared(ours, theirs, {"our_batches": len(loaders[0]), "their_batches": len(loaders[1])})

    return Comparison(
        name="training on sampled cameras",
        setting=f"context encoder of diffpose-people (residual, width 48, 2 blocks) on synthetic motion, batch "
        f"{_SHIPPED_BATCH}, Adam; camera, proportions and detection errors anew for every sample and epoch",
        against="the same on views and detections that were made once and lie in memory",
        at_least=0.87,  # 15 % more time for a step
        unit="sample",
        prepare=prepare,
        repeats=7,
    )


class _SampleDataset(Dataset):
    """The samples of a split one by one, as data sets are usually written."""

    def __init__(self, samples: PoseBatch) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples["keypoints_2d"])

    def __getitem__(self, index: int) -> Any:
        return _at(self.samples, index)


def _at(tree: Any, index: int) -> Any:
    return {key: _at(value, index) for key, value in tree.items()} if isinstance(tree, dict) else tree[index]


def _training(
    network: Network,
    batches: BatchLoader | DataLoader,
    normalisation: Normalisation = "screen",
    kind: PointLoss = "squared",
) -> Callable[[], None]:
    """Trains a copy of a network, one epoch a call."""
    network = copy.deepcopy(network)
    skeleton, epochs = skeletons.get(official.SKELETON), itertools.count()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)

    def run() -> None:
        if isinstance(batches, BatchLoader):
            batches.sampler.set_epoch(next(epochs))
        for batch in batches:
            batch, _ = towards_person(batch, skeleton, normalisation)
            loss = encoder_loss(network, batch, skeleton, 1, normalisation, kind)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return run
