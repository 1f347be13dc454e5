"""Motion of an ASF skeleton: channel rotations, resampling, forward kinematics.

A bone's global rotation is parent * C * M * C^-1, with C from the skeleton's `axis` and M from the motion's channels;
in the rest pose all are the identity.

Shape letters: F frames, B bones (the root first).
"""

import numpy as np

from datamodules.asf_amc import Array, Skeleton


def rotations(skeleton: Skeleton, motion: dict[str, Array]) -> Array:
    """Quaternions (w, x, y, z) of every bone's channel rotation M.

    Returns:
        (F, B, 4), unit, without sign jumps from frame to frame.
    """
    frames = len(next(iter(motion.values())))
    result = np.zeros((frames, len(skeleton.bones), 4))
    result[..., 0] = 1.0
    for number, bone in enumerate(skeleton.bones):
        turning = [i for i, channel in enumerate(bone.channels) if channel[0] == "r"]
        if bone.name not in motion or not turning:
            continue
        quaternion = np.zeros((frames, 4))
        quaternion[:, 0] = 1.0
        for i in turning:
            angle = motion[bone.name][:, i]
            angle = (np.radians(angle) if skeleton.degrees else angle) / 2.0
            turn = np.zeros((frames, 4))
            turn[:, 0], turn[:, 1 + "xyz".index(bone.channels[i][1])] = np.cos(angle), np.sin(angle)
            quaternion = _multiply(turn, quaternion)
        flips = np.cumprod(np.where((quaternion[1:] * quaternion[:-1]).sum(-1) < 0, -1.0, 1.0))
        quaternion[1:] *= flips[:, None]
        result[:, number] = quaternion
    return result


def root_position(skeleton: Skeleton, motion: dict[str, Array]) -> Array:
    """(F, 3) metres."""
    channels = skeleton.bones[0].channels
    columns = [channels.index(channel) for channel in ("tx", "ty", "tz")]
    return motion["root"][:, columns] * skeleton.metres_per_unit


def resample(quaternions: Array, position: Array, source_fps: float, target_fps: float) -> tuple[Array, Array]:
    """Rotations by spherical and positions by linear interpolation, so that bones keep their length.

    Args:
        quaternions: (F, B, 4) from `rotations`.
        position: (F, 3).
        source_fps: of both.
        target_fps: of the result; its first frame is the source's first.
    """
    count = int((len(position) - 1) * target_fps / source_fps + 1e-9) + 1
    time = np.arange(count) * (source_fps / target_fps)
    before = np.minimum(time.astype(int), len(position) - 1)
    after = np.minimum(before + 1, len(position) - 1)
    share = (time - before)[:, None]
    start, end = quaternions[before], quaternions[after]
    angle = np.arccos(np.clip((start * end).sum(-1, keepdims=True), -1.0, 1.0))
    small = angle < 1e-6
    sine = np.where(small, 1.0, np.sin(angle))
    weight = share[:, None]
    left = np.where(small, 1.0 - weight, np.sin((1.0 - weight) * angle) / sine)
    right = np.where(small, weight, np.sin(weight * angle) / sine)
    turned = left * start + right * end
    turned /= np.linalg.norm(turned, axis=-1, keepdims=True)
    return turned, (1.0 - share) * position[before] + share * position[after]


def forward_kinematics(skeleton: Skeleton, quaternions: Array, position: Array) -> tuple[Array, Array]:
    """Global rotation of every bone and the position of its end.

    Args:
        quaternions: (F, B, 4) channel rotations.
        position: (F, 3) of the root, metres.

    Returns:
        Rotations (F, B, 3, 3), identity in the rest pose, and ends (F, B, 3) in metres; the root's end is the root.
    """
    local = _to_matrix(quaternions)
    turned, ends = np.empty_like(local), np.empty(local.shape[:2] + (3,))
    for number, bone in enumerate(skeleton.bones):
        own = bone.axis @ local[:, number] @ bone.axis.T
        if bone.parent < 0:
            turned[:, number], ends[:, number] = own, position
        else:
            turned[:, number] = turned[:, bone.parent] @ own
            ends[:, number] = ends[:, bone.parent] + turned[:, number] @ bone.offset
    return turned, ends


def _multiply(left: Array, right: Array) -> Array:
    w, v = left[..., :1], left[..., 1:]
    s, u = right[..., :1], right[..., 1:]
    return np.concatenate((w * s - (v * u).sum(-1, keepdims=True), w * u + s * v + np.cross(v, u)), axis=-1)


def _to_matrix(quaternion: Array) -> Array:
    w, x, y, z = np.moveaxis(quaternion, -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
