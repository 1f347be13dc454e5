"""What data modules yield and what methods answer: the only agreement between the two sides.

A method asks for the keys that it needs; a data module omits those that it has no data for.

Shape letters: B batch, F frames (clips only), J joints, K joints of maps, N hypotheses, V vertices.
"""

from typing import NamedTuple, TypedDict

from torch import Tensor


class Smpl(TypedDict, total=False):
    """SMPL parameters as rotation matrices, which every body of `noise2pose.bodies` takes."""

    global_orient: Tensor  # (B, 3, 3)
    body_pose: Tensor  # (B, 23, 3, 3)
    betas: Tensor  # (B, 10)


class Camera(TypedDict, total=False):
    """Pinhole intrinsics of each sample, in pixels."""

    focal: Tensor  # (B, 2)
    principal_point: Tensor  # (B, 2)
    image_size: Tensor  # (B, 2) width, height


class Variation(NamedTuple):
    """What augmentation does to each sample; see `noise2pose.images.augmentation`.

    The whole image is turned about its principal point and then mirrored; its square `box` is then resized and moved,
    and the occluding rectangle lies in the crop of that box.
    """

    angle: Tensor  # (B,) radians about the camera's z axis, that is clockwise on the screen
    flip: Tensor  # (B,) bool
    scale: Tensor  # (B,) of the box's side
    shift: Tensor  # (B, 2) of the box's centre, in sides of the resized box
    gain: Tensor  # (B, 3) of red, green and blue
    occluder: Tensor  # (B, 4) left, top, right and bottom in sides of the box; all 0 for none
    texture: Tensor  # (B, 2) in (0, 1): which part of the noise the occluder shows


class Patches(TypedDict, total=False):
    """The part of each image that its crop needs, as the loader reads it; patches differ in size."""

    pixels: Tensor  # (P,) uint8: RGB of one patch after the other, each row by row
    sizes: list[tuple[int, int]]  # B heights and widths; not a tensor, because reading them would wait for the device
    matrix: Tensor  # (B, 2, 3) from pixels of the crop to those of the patch


class PoseBatch(TypedDict, total=False):
    """One batch of people. `[F]` is there for clips only."""

    image: Tensor  # (B, 3, S, S) RGB in [0, 1]: the square `box` of the whole image, resized
    keypoints_2d: Tensor  # (B, [F], J, 3) pixels and confidence
    keypoints_2d_gt: Tensor  # as above: annotated keypoints to evaluate on, if `keypoints_2d` holds others
    keypoints_3d: Tensor  # (B, [F], J, 4) metres in the camera frame (not root-relative) and validity 0/1
    smpl: Smpl
    has_smpl: Tensor  # (B,) bool
    vertices: Tensor  # (B, V, 3) metres in the camera frame: ground truth of each person's own body; where has_smpl
    gender: Tensor  # (B,) int64, of the true body: 0 neutral, 1 male, 2 female
    smpl_joints: Tensor  # (B, 24, 3) metres in the camera frame: SMPL's joints of the same; where has_smpl
    rest_basis: (
        Tensor  # (B, V, 3, 11) metres: mesh of each person's own body in the rest pose, and of each shape coefficient
    )
    camera_translation: Tensor  # (B, 3) metres; the body in the camera frame is that of `smpl` plus this
    camera: Camera
    box: Tensor  # (B, 3) centre x, centre y and side, pixels
    patches: Patches  # from which `image` is made on the device
    variation: Variation  # not yet applied to labels and `image`
    heatmaps: Tensor  # (B, J, H, W) of a 2-D detector over the square `box`, not negative, in any scale
    sample_id: list[str]
    file_name: list[str]  # of the image, in the folder of all images
    subject: list[str]
    action: list[str]
    sequence: list[str]  # recording of each sample


class Refinement(TypedDict, total=False):
    """How a method that refines another's answer changed it."""

    step: Tensor  # (B,) int64, denoising steps of the answer; 0 where the first answer was kept
    reprojection_before: Tensor  # (B,) as in `noise2pose.annotation.layout`, pixels
    reprojection_after: Tensor  # (B,)


class JointMaps(NamedTuple):
    """Maps of joints over the square `box` of each image: where a method was told they are, and where it attended."""

    skeleton: str  # of the joints, a name in `noise2pose.skeletons`; not always that of the batch
    present: Tensor  # (B, K) bool: joints whose place the method was given
    maps: dict[str, Tensor]  # (B, K, s, s) not negative, by kind: `heatmaps`, `attention_8`, ...


class Prediction(TypedDict, total=False):
    """One pose per sample, deployable: nothing in it was chosen with ground truth.

    A method that finds keypoints in images answers `keypoints_2d` alone.

    Vertices and joints of a body in the camera frame of the whole image are those of `smpl` plus `camera_translation`,
    which is SMPL's `trans`.
    """

    keypoints_2d: Tensor  # (B, J, 3) pixels of the whole image, and confidence in [0, 1]
    joints_3d: Tensor  # (B, [F], J, 3) metres, relative to the root joint of the skeleton
    vertices: Tensor  # (B, V, 3) metres, relative to the same joint
    smpl: Smpl
    camera_translation: Tensor  # (B, 3) metres
    refinement: Refinement
    hypotheses: Tensor  # (N, B, [F], J, 3) metres
    uncertainty: Tensor  # (B, [F], J) metres, one standard deviation of the joint's position
