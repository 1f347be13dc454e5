"""Mirror images of people: to train on twice the poses, and to average the predictions for both.

Shape letters: J joints, P joints with a rotation.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from noise2pose import skeletons
from noise2pose.batch import PoseBatch, Smpl
from noise2pose.bodies import BodyModel
from noise2pose.skeletons import Skeleton

_LEFT_OUT = ("patches", "variation", "vertices", "camera_translation")  # they need more than the batch holds


def mirror_pose(pose: Float[Tensor, "*batch J 3"], skeleton: Skeleton) -> Float[Tensor, "*batch J 3"]:
    """The pose in a mirror: x changes its sign, left and right joints change places. Its own inverse."""
    return pose[..., skeleton.flip_order, :] * pose.new_tensor([-1.0, 1.0, 1.0])


def mirror_rotations(rotations: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3 3"]:
    """M R M with M = diag(-1, 1, 1): the rotation in a mirror. Its own inverse."""
    signs = rotations.new_tensor([-1.0, 1.0, 1.0])
    return rotations * signs[:, None] * signs


def mirror_smpl(smpl: Smpl) -> Smpl:
    """The body in a mirror: every rotation is mirrored, left and right joints change theirs; betas stay.

    Exact for rotations. The meshes are mirror images of each other as far as the body of these betas is symmetric.
    """
    order = [joint - 1 for joint in skeletons.get("smpl_24").flip_order[1 : 1 + smpl["body_pose"].shape[-3]]]
    return {
        **smpl,
        "global_orient": mirror_rotations(smpl["global_orient"]),
        "body_pose": mirror_rotations(smpl["body_pose"][..., order, :, :]),
    }


def mirror_batch(
    batch: PoseBatch,
    skeleton: Skeleton,
    rest_root: Float[Tensor, "B 3"] | None = None,
    body: BodyModel | None = None,
) -> PoseBatch:
    """A batch after mirroring every image about its vertical middle line. Its own inverse.

    Args:
        batch: has `camera` and `keypoints_2d`; everything else in the image or in space is mirrored too. Left out are
            `patches` and `variation`, `camera_translation` without `rest_root`, and `vertices` without `body`, because
            no order of vertices mirrors a mesh.
        skeleton: of the joints.
        rest_root: root joint of each body in the rest pose, about which `smpl` rotates it, metres.
        body: of `smpl`; needed for `vertices` only, together with `rest_root`.
    """
    order, camera = list(skeleton.flip_order), batch["camera"]
    width, centre = camera["image_size"][:, 0], camera["principal_point"]
    keypoints = batch["keypoints_2d"][..., order, :]
    x = width.view(-1, *[1] * (keypoints.ndim - 2)) - keypoints[..., 0]
    mirrored: PoseBatch = {
        **{key: value for key, value in batch.items() if key not in _LEFT_OUT},  # pyright: ignore
        "keypoints_2d": _with_x(keypoints, x),
        "camera": {**camera, "principal_point": _with_x(centre, width - centre[:, 0])},
    }
    if "keypoints_2d_gt" in batch:
        exact = batch["keypoints_2d_gt"][..., order, :]
        mirrored["keypoints_2d_gt"] = _with_x(exact, width.view(-1, *[1] * (exact.ndim - 2)) - exact[..., 0])
    if "keypoints_3d" in batch:
        joints = batch["keypoints_3d"][..., order, :]
        mirrored["keypoints_3d"] = _with_x(joints, -joints[..., 0])
    if "smpl_joints" in batch:
        joints = batch["smpl_joints"][..., list(skeletons.get("smpl_24").flip_order), :]
        mirrored["smpl_joints"] = _with_x(joints, -joints[..., 0])
    if "box" in batch:
        mirrored["box"] = _with_x(batch["box"], width - batch["box"][:, 0])
    if "image" in batch:
        mirrored["image"] = batch["image"].flip(-1)
    if "heatmaps" in batch:
        mirrored["heatmaps"] = batch["heatmaps"][:, order].flip(-1)
    if "smpl" in batch:
        mirrored["smpl"] = smpl = mirror_smpl(batch["smpl"])
        if "camera_translation" in batch and rest_root is not None:
            root = rest_root + batch["camera_translation"]
            mirrored["camera_translation"] = translation = _with_x(root, -root[:, 0]) - rest_root
            if "vertices" in batch and body is not None:
                mirrored["vertices"] = body(**smpl, translation=translation).vertices
    return mirrored


def _with_x(points: Tensor, x: Tensor) -> Tensor:
    return torch.cat((x[..., None], points[..., 1:]), dim=-1)
