"""One batch of the batches of several data sets.

Shape letters: B samples of a part.
"""

from collections.abc import Sequence
from itertools import repeat
from typing import Any

import torch
from torch import Tensor

from noise2pose.batch import PoseBatch
from noise2pose.crops import box_of_keypoints
from noise2pose.errors import InputError

_IDENTITIES = ("global_orient", "body_pose")


def join(parts: Sequence[PoseBatch]) -> PoseBatch:
    """One batch of several, which may have different keys.

    What a part lacks is filled in so that nothing is learnt from it: validity, confidence and `has_smpl` are 0,
    rotations are the identity; boxes are those around the joints. Vertices, of bodies that may differ, are left out.

    Args:
        parts: of the same skeleton.

    Raises:
        InputError: if some have pictures and others not, or their joints or clips differ in number.
    """
    with_pictures = sum("image" in part for part in parts)
    if with_pictures not in (0, len(parts)):
        raise InputError("data.datasets: some have pictures and others have none; set `images` alike in all of them")
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
    """What stands where a data set has nothing."""
    shape = (number, *example.shape[1:])
    if key in _IDENTITIES:
        return torch.eye(3, dtype=example.dtype, device=example.device).expand(shape)
    return torch.zeros(shape, dtype=example.dtype, device=example.device)
