"""Section 4.1 of the paper: the uncertain pose distribution H_K that the reverse diffusion starts from.

x and y come from the 2-D detection, z from the context encoder. The paper leaves open how image-plane x and y and a
camera-space z make one state; here a sample is a point on the viewing ray of a sampled image point, at a sampled depth,
so that the state is in metres and errors along the ray stay correlated.

Shape letters: B batch, S samples, J joints.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from noise2pose import cameras, keyed_random
from noise2pose.batch import PoseBatch

_PIXELS, _DEPTHS = 31, 32  # streams of keyed_random
# Standard deviation of a detection in metres on the body, for confidence 1 and for confidence 0. It stands for the
# width of the detector's heat-map, which key-point files do not carry.
_SHARP, _BLURRED = 0.02, 0.17


def sample_uncertain_poses(
    batch: PoseBatch,
    pose: Float[Tensor, "B J 3"],
    depth_spread: Float[Tensor, " J"],
    keys: Int[Tensor, " B"],
    num_samples: int,
    root: int,
) -> Float[Tensor, "B S J 3"]:
    """Samples of H_K.

    Args:
        batch: for its `keypoints_2d` (pixels, confidence) and `camera`.
        pose: root-relative answer of the context encoder, metres.
        depth_spread: standard deviation of the encoder's error in depth, metres per joint.
        keys: (B,) sample keys of `noise2pose.keyed_random`.
        num_samples: S per pose.
        root: root joint.

    Returns:
        Root-relative poses in metres, camera frame.
    """
    pixels, confidence = batch["keypoints_2d"][..., :2], batch["keypoints_2d"][..., 2].clamp(0.0, 1.0)
    focal, principal_point = batch["camera"]["focal"], batch["camera"]["principal_point"]
    # The person's distance, from its size on the image: pixels per metre at the root's depth.
    scale, _ = cameras.fit_weak_perspective(pose, pixels, confidence)
    scale = scale.clamp_min(1e-3 * focal.mean(dim=-1))  # no farther than 1 km
    root_depth = focal.mean(dim=-1) / scale

    shape = (num_samples, pose.shape[-2])
    blur = scale[:, None] * (_SHARP + (_BLURRED - _SHARP) * (1.0 - confidence))  # (B, J) pixels
    jitter = keyed_random.normal(keys, (*shape, 2), stream=_PIXELS).to(pose.dtype)
    rays = (pixels[:, None] + blur[:, None, :, None] * jitter - principal_point[:, None, None]) / focal[:, None, None]
    depth = pose[:, None, :, 2] + depth_spread * keyed_random.normal(keys, shape, stream=_DEPTHS).to(pose.dtype)
    absolute_depth = (root_depth[:, None, None] + depth).clamp_min(0.1)
    samples = torch.cat((rays * absolute_depth[..., None], depth[..., None]), dim=-1)
    return samples - samples[..., root : root + 1, :]
