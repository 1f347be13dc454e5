"""Section 4.1 of the paper: the uncertain pose distribution H_K that the reverse diffusion starts from.

x and y come from the detector's heat-maps, or from the detection and its confidence where there are none; z comes from
the context encoder or from the histogram of the training poses, the paper's two ways. The paper does not say how x and
y of the image plane and z of the camera are one state; here a sample is a point on the viewing ray of a sampled image
point, at a sampled depth, so the state is in metres and errors along the ray are correlated.

Shape letters: B batch, S samples, J joints, H bins of the histogram, R rows and C columns of a heat-map.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from noise2pose import cameras, keyed_random
from noise2pose.batch import PoseBatch
from noise2pose.keypoints.heatmaps import sample_heatmaps

_PIXELS, _DEPTHS = 31, 32  # streams of keyed_random
# Standard deviation of a detection in metres on the body, for confidence 1 and for confidence 0. It stands for the
# width of the detector's heat-map, which keypoint files do not contain.
_SHARP, _BLURRED = 0.02, 0.17
_DEPTH_RANGE, _DEPTH_BINS = 1.5, 60  # metres to either side of the root; bins of five centimetres


def sample_uncertain_poses(
    batch: PoseBatch,
    pose: Float[Tensor, "B J 3"],
    depths: Float[Tensor, "B S J"],
    keys: Int[Tensor, " B"],
    root: int,
) -> Float[Tensor, "B S J 3"]:
    """Samples of H_K.

    Args:
        batch: frames with `keypoints_2d` (pixels, confidence), `camera`, and optionally `heatmaps` with `box`.
        pose: root-relative pose of the context encoder, metres, from which the distance of the person is estimated.
        depths: samples of z relative to the root, metres, from `encoder_depths` or `histogram_depths`.
        keys: (B,) sample keys of `noise2pose.keyed_random`.
        root: root joint.

    Returns:
        Root-relative poses in metres, camera frame.
    """
    focal, principal_point = batch["camera"]["focal"], batch["camera"]["principal_point"]
    scale = pixels_per_metre(batch, pose)
    root_depth = focal.mean(dim=-1) / scale
    if "heatmaps" in batch:
        pixels = sample_boxes(batch["heatmaps"], batch["box"], keys, depths.shape[1])
    else:
        jitter = keyed_random.normal(keys, (*depths.shape[1:], 2), stream=_PIXELS).to(pose.dtype)
        blur = detection_blur(batch["keypoints_2d"][..., 2], scale)
        pixels = batch["keypoints_2d"][:, None, :, :2] + blur[:, None, :, None] * jitter
    rays = (pixels - principal_point[:, None, None]) / focal[:, None, None]
    absolute_depth = (root_depth[:, None, None] + depths).clamp_min(0.1)
    samples = torch.cat((rays * absolute_depth[..., None], depths[..., None]), dim=-1)
    return samples - samples[..., root : root + 1, :]


def encoder_depths(
    pose: Float[Tensor, "B J 3"], depth_spread: Float[Tensor, " J"], keys: Int[Tensor, " B"], num_samples: int
) -> Float[Tensor, "B S J"]:
    """z around the context encoder's pose, with the spread of its error in depth (metres, per joint)."""
    noise = keyed_random.normal(keys, (num_samples, pose.shape[-2]), stream=_DEPTHS).to(pose.dtype)
    return pose[:, None, :, 2] + depth_spread * noise


def histogram_depths(
    histogram: Float[Tensor, "J H"], keys: Int[Tensor, " B"], num_samples: int
) -> Float[Tensor, "B S J"]:
    """z from the histogram of the training poses: a bin in proportion to its count, then uniform within the bin."""
    chance, within = keyed_random.uniform(keys, (2, num_samples, len(histogram)), stream=_DEPTHS).unbind(1)
    # With the small constant an empty histogram (before any training) is the uniform distribution.
    cumulative = (histogram + 1e-6).cumsum(dim=-1)
    chance = chance.movedim(-1, 0).flatten(1).contiguous() * cumulative[:, -1:]  # (J, B S)
    chosen = torch.searchsorted(cumulative, chance).clamp_max(_DEPTH_BINS - 1)
    chosen = chosen.unflatten(1, within.shape[:2]).movedim(0, -1)
    return (chosen + within) * (2.0 * _DEPTH_RANGE / _DEPTH_BINS) - _DEPTH_RANGE


def empty_histogram(num_joints: int) -> Float[Tensor, "J H"]:
    """The histogram of training depths before training."""
    return torch.zeros(num_joints, _DEPTH_BINS)


def count_depths(histogram: Float[Tensor, "J H"], depths: Float[Tensor, "B J"], valid: Float[Tensor, "B J"]) -> None:
    """Adds training depths (metres, relative to the root) to the histogram, in place."""
    share = (depths + _DEPTH_RANGE) / (2.0 * _DEPTH_RANGE)
    bins = (share * _DEPTH_BINS).long().clamp(0, _DEPTH_BINS - 1)
    histogram.scatter_add_(1, bins.T, valid.T.to(histogram.dtype))


def pixels_per_metre(batch: PoseBatch, pose: Float[Tensor, "B J 3"]) -> Float[Tensor, " B"]:
    """Scale of the person in the image at the root's depth, estimated from the person's size."""
    keypoints = batch["keypoints_2d"]
    scale, _ = cameras.fit_weak_perspective(pose, keypoints[..., :2], keypoints[..., 2].clamp(0.0, 1.0))
    return torch.maximum(scale, 1e-3 * batch["camera"]["focal"].mean(dim=-1))  # at most 1 km away


def detection_blur(confidence: Float[Tensor, "B J"], scale: Float[Tensor, " B"]) -> Float[Tensor, "B J"]:
    """Standard deviation of each detection in pixels, from its confidence and the person's pixels per metre."""
    return scale[:, None] * (_SHARP + (_BLURRED - _SHARP) * (1.0 - confidence.clamp(0.0, 1.0)))


def sample_boxes(
    maps: Float[Tensor, "B J R C"], box: Float[Tensor, "B 3"], keys: Int[Tensor, " B"], num_samples: int
) -> Float[Tensor, "B S J 2"]:
    """Pixels drawn from heat-maps of R rows and C columns that cover the square `box` of each person."""
    cells = sample_heatmaps(maps, keys, num_samples)
    size = torch.tensor(maps.shape[:-3:-1], dtype=cells.dtype, device=cells.device)  # columns, rows
    share = (cells + 0.5) / size - 0.5
    return box[:, None, None, :2] + box[:, None, None, 2:] * share
