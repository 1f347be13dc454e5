"""What a simulated detector reports of people whom virtual cameras see.

Shape letters: B samples, F frames of a sample, J joints, N people.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from datamodules.motion.sampled_cameras import CameraRanges, Seen
from noise2pose import keyed_random, skeletons
from noise2pose.keypoints import noise

# Milder than the published errors of crowd images (1, 1): a median of 5 instead of 16 pixels for a tall person.
_ERROR_RATE, _GOOD_RADIUS = 0.4, 0.35
_LONGEST_CLIP = 1 << 16  # frames of a clip whose keys are different from those of other clips
_STREAM = 201  # of keyed_random: this and the next


def simulate_detections(
    pixels: Float[Tensor, "N J 2"],
    seen: Bool[Tensor, "N J"],
    area: Float[Tensor, " N"],
    keys: Int[Tensor, " N"],
    skeleton: str,
    seed: int,
) -> Float[Tensor, "N J 3"]:
    """Exact joints in pixels with the simulated errors that all data modules share; see `noise.detect`."""
    rates: Any = {"error_rate": _ERROR_RATE, "good_radius": _GOOD_RADIUS}
    return noise.detect(pixels, seen, area, keys, skeleton=skeleton, seed=seed, **rates).keypoints


def detect_sampled(
    seen: Seen, keys: Int[Tensor, " B"], ranges: CameraRanges, skeleton: str, seed: int
) -> Float[Tensor, "B F J 3"]:
    """Simulated detections of some samples: pixels and confidence.

    Joints that are not found have confidence 0 and lie where readers of files put them.

    Args:
        seen: the samples.
        keys: of the samples.
        ranges: how often joints are missed, and samples are exact.
        skeleton: joint order.
        seed: which repetition this is.
    """
    pixels = seen.pixels.flatten(0, 1)
    frames = torch.arange(seen.pixels.shape[1], device=keys.device)
    exact = keyed_random.uniform(keys, (), stream=_STREAM + 1, seed=seed) < ranges.exact
    exact = exact.repeat_interleave(len(frames))
    keys = (keys[:, None] * _LONGEST_CLIP + frames).flatten()
    noticed = keyed_random.uniform(keys, (pixels.shape[1],), stream=_STREAM, seed=seed) >= ranges.missing
    found = seen.inside.flatten(0, 1) & noticed
    area = (pixels.amax(dim=1) - pixels.amin(dim=1)).prod(dim=-1).clamp_min(1.0)
    if ranges.exact > 0.0:  # simulating errors is most of the work
        keypoints = torch.cat((pixels, torch.ones_like(pixels[..., :1])), dim=-1) * found[..., None]
        rows = (~exact).nonzero()[:, 0]
        keypoints[rows] = simulate_detections(pixels[rows], found[rows], area[rows], keys[rows], skeleton, seed)
    else:
        keypoints = simulate_detections(pixels, found, area, keys, skeleton, seed)
    return skeletons.place_hidden(keypoints, skeleton).view(*seen.pixels.shape[:-1], 3)
