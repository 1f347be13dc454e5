"""Motion of an ASF skeleton: rotations from channels, resampling, forward kinematics.

Shape letters: F frames, B bones (the root first).
"""

import numpy as np

from datamodules.sources.cmu_mocap import quaternions
from datamodules.sources.cmu_mocap.asf_amc import Skeleton
from datamodules.sources.cmu_mocap.quaternions import Array


def channel_rotations(skeleton: Skeleton, motion: dict[str, Array]) -> Array:
    """(F, B, 4) quaternions (w, x, y, z) of every bone's rotation M; the identity for a bone without channels.

    Args:
        skeleton: of the subject.
        motion: of `asf_amc.parse_amc`.
    """
    result = np.zeros((len(motion["root"]), len(skeleton.bones), 4))
    result[..., 0] = 1.0
    for number, bone in enumerate(skeleton.bones):
        axes = "".join(axis for axis in bone.order if "r" + axis in bone.channels)
        columns = [bone.channels.index("r" + axis) for axis in axes]
        if axes:
            result[:, number] = quaternions.from_euler(motion[bone.name][:, columns], axes)
    return result


def root_position(skeleton: Skeleton, motion: dict[str, Array]) -> Array:
    """(F, 3) metres, in the y-up world of the file."""
    columns = [skeleton.bones[0].channels.index(channel) for channel in ("tx", "ty", "tz")]
    return skeleton.position + motion["root"][:, columns]


def resample(rotations: Array, position: Array, source_fps: float, target_fps: float) -> tuple[Array, Array]:
    """Rotations by spherical and positions by linear interpolation, so that bones keep their length.

    Args:
        rotations: (F, B, 4) local rotations.
        position: (F, 3) of the root.
        source_fps: of both.
        target_fps: of the result; its first frame is the source's first, its last not after the source's last.
    """
    last = len(position) - 1
    count = int(last * target_fps / source_fps + 1e-9) + 1
    time = np.arange(count) * (source_fps / target_fps)
    before = np.minimum((time + 1e-9).astype(int), last)
    after = np.minimum(before + 1, last)
    share = np.clip(time - before, 0.0, 1.0)[:, None]
    turned = quaternions.slerp(rotations[before], rotations[after], share)
    return turned, (1.0 - share) * position[before] + share * position[after]


def forward_kinematics(skeleton: Skeleton, rotations: Array, position: Array) -> tuple[Array, Array]:
    """Global rotation of every bone and the position of its end.

    Args:
        skeleton: of the subject.
        rotations: (F, B, 4) quaternions M.
        position: (F, 3) of the root, metres.

    Returns:
        Quaternions (F, B, 4), identity in the rest pose, and ends (F, B, 3) in metres; the root's end is the root.
    """
    turned, ends = np.empty_like(rotations), np.empty((*rotations.shape[:2], 3))
    for number, bone in enumerate(skeleton.bones):
        own = quaternions.multiply(
            bone.axis, quaternions.multiply(rotations[:, number], quaternions.conjugate(bone.axis))
        )
        if bone.parent < 0:
            turned[:, number], ends[:, number] = own, position
        else:
            turned[:, number] = quaternions.multiply(turned[:, bone.parent], own)
            ends[:, number] = ends[:, bone.parent] + quaternions.rotate(turned[:, number], bone.offset)
    return turned, ends
