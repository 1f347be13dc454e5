"""Samples of a split chosen by their positions, and moved to a device."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

_Tree = TypeVar("_Tree")


def taken_from(take: Callable[[Tensor], _Tree], kept: Tensor, index: Tensor) -> _Tree:
    """The samples at positions among those that are kept."""
    return take(kept[index])


def select(samples: _Tree, index: Tensor) -> _Tree:
    """The samples at the positions `index` (int64, CPU), in every tensor and list of a nested dictionary."""
    tree: Any = samples
    if isinstance(tree, dict):
        chosen: Any = {key: select(value, index) for key, value in tree.items()}
    elif isinstance(tree, Tensor):
        chosen = tree.index_select(0, index.to(tree.device))
    else:
        chosen = [tree[i] for i in index.tolist()]
    return chosen


def move(samples: _Tree, device: torch.device) -> _Tree:
    """The nested dictionary with every tensor on `device`."""
    tree: Any = samples
    if isinstance(tree, dict):
        moved: Any = {key: move(value, device) for key, value in tree.items()}
    else:
        moved = tree.to(device) if isinstance(tree, Tensor) else tree
    return moved
