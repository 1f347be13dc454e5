"""One answer from N hypotheses, chosen without ground truth; `noise2pose.metrics.oracle` chooses with it.

Shape letters: N hypotheses, B batch, J joints.
"""

from jaxtyping import Float
from torch import Tensor

from noise2pose import cameras


def average_by_reprojection(
    hypotheses: Float[Tensor, "N B J 3"],
    keypoints: Float[Tensor, "B J 3"],
    focal: Float[Tensor, "B 2"],
    principal_point: Float[Tensor, "B 2"],
    blur: Float[Tensor, "B J"],
) -> Float[Tensor, "B J 3"]:
    """Mean of each joint, weighted by how well the hypotheses project onto the detection.

    Each hypothesis is first put where it fits the detection best as a whole (`cameras.fit_translation`); a joint's
    weight is then the density of its detection under a Gaussian of width `blur` around its projection.

    Args:
        hypotheses: root-relative, metres.
        keypoints: pixels and confidence.
        focal: pixels.
        principal_point: pixels.
        blur: standard deviation of each detection, pixels.
    """
    pixels, confidence = keypoints[..., :2], keypoints[..., 2].clamp_min(0.0)
    translation = cameras.fit_translation(hypotheses, pixels, confidence, focal, principal_point)
    points = hypotheses + translation[..., None, :]
    # A hypothesis behind the camera has no projection; it gets one far from the detection.
    points = points.clone()
    points[..., 2] = points[..., 2].clamp_min(0.1)
    distance = (cameras.project(points, focal, principal_point) - pixels).square().sum(dim=-1)
    weights = (-0.5 * distance / blur.square()).softmax(dim=0)
    return (weights[..., None] * hypotheses).sum(dim=0)


def spread(hypotheses: Float[Tensor, "N *batch J 3"]) -> Float[Tensor, "*batch J"]:
    """Standard deviation of each joint's position, metres: root of the summed variance of x, y and z."""
    return hypotheses.var(dim=0).sum(dim=-1).sqrt()
