"""Which parts of a mesh are legs, and which of these nobody saw, so that they can be drawn paler.

Shape letters: V vertices, K joints of the kinematic tree.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

# SMPL's joints whose vertices follow them: of thigh and shank with the foot, left and right; and the joint at whose end
# each is, which has to be seen.
PARTS: tuple[tuple[tuple[int, ...], str], ...] = (
    ((1,), "left_knee"),
    ((4, 7, 10), "left_ankle"),
    ((2,), "right_knee"),
    ((5, 8, 11), "right_ankle"),
)


def parts_of_mesh(skinning_weights: Float[np.ndarray, "V K"]) -> Int[np.ndarray, " V"]:
    """The part of `PARTS` that each vertex belongs to, by the joint that it follows most; -1 for none."""
    follows = skinning_weights.argmax(axis=1)
    parts = np.full(len(follows), -1)
    for number, (joints, _) in enumerate(PARTS):
        parts[np.isin(follows, joints)] = number
    return parts


def unseen_vertices(
    skinning_weights: Float[np.ndarray, "V K"], seen: Bool[np.ndarray, " J"], names: Sequence[str]
) -> Bool[np.ndarray, " V"]:
    """The vertices of the legs that nobody saw.

    Args:
        skinning_weights: of SMPL's 24 joints.
        seen: whether each 2-D joint was seen.
        names: of these joints.
    """
    unseen = np.array([not seen[list(names).index(joint)] for _, joint in PARTS] + [False])
    return unseen[parts_of_mesh(skinning_weights)]
