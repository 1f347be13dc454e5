"""A batch of clips as a batch of their frames, which the diffusion takes one by one.

Shape letters: B batch, F frames.
"""

import torch
from jaxtyping import Int
from torch import Tensor

from noise2pose import keyed_random
from noise2pose.batch import PoseBatch

_LONGEST = 1 << 16  # frames of a clip whose keys do not collide with another clip's


def as_frames(batch: PoseBatch, num_frames: int) -> PoseBatch:
    """Keypoints, heat-maps and cameras of B F frames, clip after clip; a batch of single frames comes back as it is."""
    if num_frames == 1:
        return batch
    frames: PoseBatch = {
        "keypoints_2d": batch["keypoints_2d"].flatten(0, 1),
        "camera": {key: value.repeat_interleave(num_frames, dim=0) for key, value in batch["camera"].items()},  # pyright: ignore
    }
    for key in ("keypoints_3d", "heatmaps", "box"):
        if key in batch:
            frames[key] = batch[key].flatten(0, 1)
    return frames


def frame_keys(batch: PoseBatch, num_frames: int, device: torch.device) -> Int[Tensor, " BF"]:
    """Keys of `noise2pose.keyed_random`, one for each frame of the batch."""
    keys = keyed_random.keys_of(batch["sample_id"], device=device)
    if num_frames == 1:
        return keys
    return (keys[:, None] * _LONGEST + torch.arange(num_frames, device=device)).flatten()
