"""The answer and the hypotheses of a pose, from what the diffusion drew.

Shape letters: N hypotheses, B batch, J joints.
"""

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from methods.diffpose import initialisation
from methods.diffpose.variants import Samples
from methods.lifting import centred
from noise2pose.batch import PoseBatch
from noise2pose.metrics import hypotheses

Aggregation = Literal["mean", "reprojection"]


def centred_hypotheses(
    samples: Samples, root: int, spread_factor: Float[Tensor, ""] | float = 1.0
) -> Float[Tensor, "N B J 3"]:
    """Root-relative hypotheses, moved so that their mean is the answer: the chain serves their spread alone.

    Args:
        samples: of the diffusion.
        root: root joint.
        spread_factor: by which their deviations from the answer are multiplied.
    """
    poses = centred(samples.hypotheses, root)
    return centred(samples.answer, root) + spread_factor * (poses - poses.mean(dim=0))


def aggregate(
    poses: Float[Tensor, "N B J 3"],
    frames: PoseBatch,
    pose: Float[Tensor, "B J 3"],
    aggregation: Aggregation,
    root: int,
) -> Float[Tensor, "B J 3"]:
    """One root-relative answer from hypotheses.

    Args:
        poses: root-relative hypotheses, metres.
        frames: with `keypoints_2d` and `camera`.
        pose: of the context encoder, from which the distance of the person is estimated.
        aggregation: `mean`, or a mean of each joint weighted by its `reprojection` error.
        root: root joint.
    """
    if aggregation == "mean":
        return poses.mean(dim=0)
    blur = initialisation.detection_blur(frames["keypoints_2d"][..., 2], initialisation.pixels_per_metre(frames, pose))
    camera = frames["camera"]
    answer = hypotheses.average_by_reprojection(
        poses, frames["keypoints_2d"], camera["focal"], camera["principal_point"], blur
    )
    return centred(answer, root)
