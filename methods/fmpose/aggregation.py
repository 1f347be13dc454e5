"""One pose from N hypotheses by reprojection, as FMPose3D's posterior expectation aggregation (RPEA) does it.

For each joint, the hypotheses that project nearest to its detection are averaged, with weights that fall with the
distance. A projection needs the position of the person in the camera frame, which nobody knows at test: the release
takes the true one (`true_root`, an oracle), a deployable answer fits it to the detections (`fitted_root`).

Shape letters: N hypotheses, B batch, J joints.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from noise2pose import cameras
from noise2pose.batch import PoseBatch
from noise2pose.errors import InputError

_NEAREST_DEPTH = 0.1  # metres; a joint behind the camera has no projection, and gets one far from its detection


def fitted_root(hypotheses: Float[Tensor, "N B J 3"], batch: PoseBatch) -> Float[Tensor, "N B 3"]:
    """Position of each hypothesis that fits the viewing rays of the detections best, in weighted least squares.

    Args:
        hypotheses: root-relative, metres.
        batch: frames with `keypoints_2d` (pixels, confidence) and `camera`.
    """
    keypoints, camera = batch["keypoints_2d"], batch["camera"]
    return cameras.fit_translation(
        hypotheses, keypoints[..., :2], keypoints[..., 2].clamp_min(0.0), camera["focal"], camera["principal_point"]
    )


def true_root(batch: PoseBatch, root: int) -> Float[Tensor, "B 3"]:
    """The true position of the person, as in the released evaluation; never deployable.

    Raises:
        InputError: if the batch has no ground truth.
    """
    if "keypoints_3d" not in batch:
        raise InputError(
            "model.aggregation is oracle, which needs ground truth: set it to mean or reprojection, "
            "or give predict --selector reprojection"
        )
    return batch["keypoints_3d"][:, root, :3]


def screen_distance(
    hypotheses: Float[Tensor, "N B J 3"], root: Float[Tensor, "*N B 3"], batch: PoseBatch
) -> Float[Tensor, "N B J"]:
    """Distance of each projected joint from its detection in screen coordinates, where the image is 2 wide.

    Args:
        hypotheses: root-relative, metres.
        root: their positions in the camera frame.
        batch: frames with `keypoints_2d` and `camera`, whose distortion is not modelled.
    """
    camera = batch["camera"]
    points = hypotheses + root[..., None, :]
    points = torch.cat((points[..., :2], points[..., 2:].clamp_min(_NEAREST_DEPTH)), dim=-1)
    pixels = cameras.project(points, camera["focal"], camera["principal_point"])
    return (pixels - batch["keypoints_2d"][..., :2]).norm(dim=-1) * (2.0 / camera["image_size"][:, :1])


def average_nearest(
    hypotheses: Float[Tensor, "N B J 3"],
    distance: Float[Tensor, "N B J"],
    counted: Bool[Tensor, "B J"],
    num_nearest: int,
    temperature: float,
) -> Float[Tensor, "B J 3"]:
    """Mean of each joint over its nearest hypotheses, with weights softmax(-distance / temperature).

    Args:
        hypotheses: root-relative, metres.
        distance: of each joint from its detection.
        counted: joints whose detection says something; the others get the mean of all hypotheses.
        num_nearest: hypotheses that are averaged; all, if there are no more.
        temperature: in units of the distance.
    """
    farthest = distance.sort(dim=0).values[min(num_nearest, len(distance)) - 1]
    scores = torch.where(distance <= farthest, -distance / temperature, -torch.inf)
    weights = torch.where(counted, scores.softmax(dim=0), 1.0 / len(hypotheses))
    return (weights[..., None] * hypotheses).sum(dim=0)
