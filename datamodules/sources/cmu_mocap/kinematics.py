"""Motion of an ASF skeleton: rotations from channels, resampling, forward kinematics.

Shape letters: F frames, B bones (the root first).
"""

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from datamodules.sources.cmu_mocap.asf_amc import Array, Skeleton


def channel_rotations(skeleton: Skeleton, motion: dict[str, Array]) -> list[Rotation]:
    """Rotation M of each of B bones, F rotations each; the identity for a bone without channels.

    Args:
        skeleton: of the subject.
        motion: of `asf_amc.parse_amc`.
    """
    rotations = []
    for bone in skeleton.bones:
        axes = "".join(axis for axis in bone.order if "r" + axis in bone.channels)
        columns = [bone.channels.index("r" + axis) for axis in axes]
        # Lower-case letters are fixed axes to SciPy, the first letter turned about first: "xyz" is Rz Ry Rx.
        angles = motion[bone.name][:, columns] if axes else np.zeros((len(motion["root"]), 1))
        rotations.append(Rotation.from_euler(axes or "x", angles))
    return rotations


def root_position(skeleton: Skeleton, motion: dict[str, Array]) -> Array:
    """(F, 3) metres, in the y-up world of the file."""
    columns = [skeleton.bones[0].channels.index(channel) for channel in ("tx", "ty", "tz")]
    return skeleton.position + motion["root"][:, columns]


def resample(
    rotations: list[Rotation], position: Array, source_fps: float, target_fps: float
) -> tuple[list[Rotation], Array]:
    """Rotations by spherical and positions by linear interpolation, so that bones keep their length.

    Args:
        rotations: local ones of B bones, F each.
        position: (F, 3) of the root.
        source_fps: of both.
        target_fps: of the result; its first frame is the source's first, its last not after the source's last.
    """
    frames = np.arange(len(position))
    if len(frames) == 1:  # between which there is nothing to interpolate
        return rotations, position
    count = int(frames[-1] * target_fps / source_fps + 1e-9) + 1
    time = np.minimum(np.arange(count) * (source_fps / target_fps), frames[-1])
    moved = np.stack([np.interp(time, frames, coordinate) for coordinate in position.T], axis=-1)
    return [Slerp(frames, rotation)(time) for rotation in rotations], moved


def forward_kinematics(skeleton: Skeleton, rotations: list[Rotation], position: Array) -> tuple[list[Rotation], Array]:
    """Global rotation of every bone and the position of its end.

    Args:
        skeleton: of the subject.
        rotations: M of B bones, F each.
        position: (F, 3) of the root, metres.

    Returns:
        Global rotations of B bones, F each, the identity in the rest pose, and ends (F, B, 3) in metres; the root's end
        is the root.
    """
    turned: list[Rotation] = []
    ends = np.empty((len(position), len(skeleton.bones), 3))
    for number, bone in enumerate(skeleton.bones):
        own = bone.axis * rotations[number] * bone.axis.inv()
        if bone.parent < 0:
            turned.append(own)
            ends[:, number] = position
        else:
            turned.append(turned[bone.parent] * own)
            ends[:, number] = ends[:, bone.parent] + turned[number].apply(bone.offset)
    return turned, ends
