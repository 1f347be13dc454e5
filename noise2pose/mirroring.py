"""Mirror images of people: for training on twice the poses, and for averaging the answers to both.

Shape letters: J joints.
"""

from jaxtyping import Float
from torch import Tensor

from noise2pose.batch import PoseBatch
from noise2pose.skeletons import Skeleton


def mirror_pose(pose: Float[Tensor, "*batch J 3"], skeleton: Skeleton) -> Float[Tensor, "*batch J 3"]:
    """The pose in a mirror: x changes its sign, left and right joints change places. Its own inverse."""
    return pose[..., skeleton.flip_order, :] * pose.new_tensor([-1.0, 1.0, 1.0])


def mirror_batch(batch: PoseBatch, skeleton: Skeleton) -> PoseBatch:
    """The joints and the camera of a batch after mirroring every image in its vertical middle line.

    Args:
        batch: `keypoints_2d`, `camera` and, if it is there, `keypoints_3d` are mirrored; `image`, `smpl`, `box` and
            `heatmaps` would have to be as well and are left out; the rest is kept.
        skeleton: of the joints.
    """
    order = list(skeleton.flip_order)
    camera, keypoints = batch["camera"], batch["keypoints_2d"][..., order, :]
    width = camera["image_size"][:, 0]
    x = width.view(-1, *[1] * (keypoints.ndim - 2)) - keypoints[..., 0]
    centre = camera["principal_point"]
    mirrored: PoseBatch = {
        **{key: value for key, value in batch.items() if key not in ("image", "smpl", "box", "heatmaps")},  # pyright: ignore
        "keypoints_2d": _with_x(keypoints, x),
        "camera": {**camera, "principal_point": _with_x(centre, width - centre[:, 0])},
    }
    if "keypoints_3d" in batch:
        joints = batch["keypoints_3d"][..., order, :]
        mirrored["keypoints_3d"] = _with_x(joints, -joints[..., 0])
    return mirrored


def _with_x(points: Tensor, x: Tensor) -> Tensor:
    points = points.clone()
    points[..., 0] = x
    return points
