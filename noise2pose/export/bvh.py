"""BVH: a skeleton in its rest pose and the rotations of each frame.

Format: https://research.cs.wisc.edu/graphics/Courses/cs-838-1999/Jeff/BVH.html. Files are in centimetres and degrees, y
up, right-handed, as motion capture tools expect. A position channel of the root is its place, so the offset of the root
is zero. Each rotation is about z, then x, then y of the turned joint (Zrotation Xrotation Yrotation).

Shape letters: F frames, K joints of the rig.
"""

import tempfile
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from noise2pose.export import extras
from noise2pose.export.motion import Motion
from noise2pose.export.rig import rig_of
from noise2pose.files import write_bytes

_CENTIMETRES = 100.0
_ORDER = "ZXY"


def write_bvh(path: Path, motion: Motion) -> None:
    """Writes one person, whole or not at all; missing frames are interpolated (`Motion.consecutive`).

    The rest pose is that of the body. Of joints alone it is a T-pose, see `rig.skeleton_rig`.

    Args:
        path: file.
        motion: one person.

    Raises:
        InputError: if pybvh is missing or the file cannot be written.
    """
    pybvh = extras.load("pybvh", "export", "writing BVH")
    nodes = extras.load("pybvh.bvhnode", "export", "writing BVH")
    motion = motion.consecutive()
    rig = rig_of(motion)
    offsets = _CENTIMETRES * rig.offsets
    offsets[0] = 0.0
    angles = Rotation.from_matrix(rig.rotations.reshape(-1, 3, 3)).as_euler(_ORDER)
    angles = np.unwrap(angles.reshape(*rig.rotations.shape[:2], 3), axis=0)  # no leaps between frames
    made, order = {}, _file_order(rig.parents)
    listed = []
    for joint in order:
        parent = made.get(rig.parents[joint])
        kind = nodes.BvhRoot if parent is None else nodes.BvhJoint
        made[joint] = kind(rig.names[joint], offsets[joint], rot_channels=_ORDER, parent=parent)
        listed.append(made[joint])
        if parent is not None:
            parent.children = [*parent.children, made[joint]]
        if joint not in rig.parents:
            end = nodes.BvhEndSite("end", _CENTIMETRES * rig.tips[joint], made[joint])
            made[joint].children = [end]
            listed.append(end)
    written = pybvh.Bvh(listed, _CENTIMETRES * rig.root, angles[:, order], 1.0 / motion.rate, world_up="+y")
    with tempfile.TemporaryDirectory() as folder:  # pybvh takes no other ending
        place = Path(folder) / "motion.bvh"
        pybvh.write_bvh_file(written, place)
        write_bytes(path, place.read_bytes())


def _file_order(parents: tuple[int, ...], joint: int = 0) -> list[int]:
    """The joints as they follow one another in the file: each limb to its end before the next."""
    below = [child for child, parent in enumerate(parents) if parent == joint]
    return [joint, *(found for child in below for found in _file_order(parents, child))]
