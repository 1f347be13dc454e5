"""Joint centres from the 39 skin markers of Vicon's Plug-in Gait.

Nobody's joint widths are published, so those of the average adult are used; centres are good to 1 or 2 cm. Hips are
those of the regression of Harrington et al. (J. Biomechanics 2007), knees and ankles those of the chord function of
Plug-in Gait (Davis et al., Human Movement Science 1991; Kadaba et al., J. Orthopaedic Research 1990).

Shape letters: F frames, K markers.
"""

import numpy as np
from jaxtyping import Float

MARKERS = (
    *("LFHD", "RFHD", "LBHD", "RBHD", "C7", "T10", "CLAV", "STRN", "RBAK"),
    *("LSHO", "LUPA", "LELB", "LFRM", "LWRA", "LWRB", "LFIN", "RSHO", "RUPA", "RELB", "RFRM", "RWRA", "RWRB", "RFIN"),
    *("LASI", "RASI", "LPSI", "RPSI"),
    *("LTHI", "LKNE", "LTIB", "LANK", "LHEE", "LTOE", "RTHI", "RKNE", "RTIB", "RANK", "RHEE", "RTOE"),
)
MAX_GAP = 50  # frames without a marker that are bridged: half a second
# From the centre of a marker on the skin to the centre of the joint: half the joint's width and the marker's radius.
_KNEE, _ANKLE, _ELBOW, _SHOULDER = 0.060, 0.043, 0.040, 0.047
_NECK = (-0.026, 0.0, -0.068)  # the chin of the skeleton, from the middle of the head: forwards, left, up
Points = np.ndarray  # (F, 3)


def joints_of_markers(markers: Float[np.ndarray, "F K 3"]) -> Float[np.ndarray, "F 17 3"]:
    """Human3.6M-17 joints.

    The first joint is the middle of the four markers of the pelvis, 8 to 10 cm above the middle of the hips; the head
    top is the middle of the head's markers, like the end of CMU's head.

    Args:
        markers: metres, z up, in the order of `MARKERS`; NaN where a marker is missing.

    Returns:
        Metres in the same world; NaN where a marker is missing for more than `MAX_GAP` frames.
    """
    filled = bridge_gaps(markers)
    at = {name: filled[:, number] for number, name in enumerate(MARKERS)}
    head = (at["LFHD"] + at["RFHD"] + at["LBHD"] + at["RBHD"]) / 4.0
    head_frame = _frame(
        at["LFHD"] + at["RFHD"] - at["LBHD"] - at["RBHD"], at["LFHD"] + at["LBHD"] - at["RFHD"] - at["RBHD"]
    )
    thorax, spine = (at["C7"] + at["CLAV"]) / 2.0, (at["T10"] + at["STRN"]) / 2.0
    up = _unit(thorax - spine)
    joints = {
        "pelvis": (at["LASI"] + at["RASI"] + at["LPSI"] + at["RPSI"]) / 4.0,
        "spine": spine,
        "thorax": thorax,
        "chin": head + head_frame @ np.array(_NECK),
        "head_top": head,
    }
    hips = _hips(at)
    for side, hip, sign in (("L", hips[0], 1.0), ("R", hips[1], -1.0)):
        knee = _chord(hip, at[f"{side}KNE"], at[f"{side}THI"], _KNEE)
        ankle = _chord(knee, at[f"{side}ANK"], at[f"{side}TIB"], _ANKLE)
        shoulder = at[f"{side}SHO"] - _SHOULDER * up
        wrist = (at[f"{side}WRA"] + at[f"{side}WRB"]) / 2.0
        elbow = _elbow(shoulder, at[f"{side}ELB"], wrist, at[f"{side}UPA"], sign)
        joints |= {
            f"{side}{name}": place
            for name, place in zip(_LIMBS, (hip, knee, ankle, shoulder, elbow, wrist), strict=True)
        }
    return np.stack([joints[name] for name in _ORDER], axis=1)


_LIMBS = ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")
_ORDER = (
    *("pelvis", "Rhip", "Rknee", "Rankle", "Lhip", "Lknee", "Lankle", "spine", "thorax", "chin", "head_top"),
    *("Lshoulder", "Lelbow", "Lwrist", "Rshoulder", "Relbow", "Rwrist"),
)


def bridge_gaps(markers: Float[np.ndarray, "F K 3"], longest: int = MAX_GAP) -> Float[np.ndarray, "F K 3"]:
    """Linear interpolation in time where a marker is NaN for at most `longest` frames between two frames with it."""
    filled = markers.copy()
    frames = np.arange(len(markers))
    for number in range(markers.shape[1]):
        there = np.flatnonzero(np.isfinite(markers[:, number]).all(axis=-1))
        for before, after in zip(there[:-1], there[1:], strict=True):
            if 1 < after - before <= longest + 1:
                share = (frames[before + 1 : after, None] - before) / (after - before)
                filled[before + 1 : after, number] = (1 - share) * markers[before, number] + share * markers[
                    after, number
                ]
    return filled


def _hips(at: dict[str, Points]) -> tuple[Points, Points]:
    """Left and right hip; the size of the pelvis is its median over the clip, so that it stays rigid."""
    front, back = (at["LASI"] + at["RASI"]) / 2.0, (at["LPSI"] + at["RPSI"]) / 2.0
    across = at["LASI"] - at["RASI"]
    width = float(np.nanmedian(np.linalg.norm(across, axis=-1)))
    depth = float(np.nanmedian(np.linalg.norm(front - back, axis=-1)))
    frame = _frame(front - back, across)
    forwards, up, left = -0.24 * depth - 0.0099, -0.30 * width - 0.0109, 0.33 * width + 0.0073
    return front + frame @ np.array([forwards, left, up]), front + frame @ np.array([forwards, -left, up])


def _chord(above: Points, marker: Points, wand: Points, offset: float) -> Points:
    """The joint below a joint: `offset` inwards of its marker, at a right angle to the bone, in the plane of the wand.

    Args:
        above: centre of the joint at the bone's upper end.
        marker: on the outer side of the joint.
        wand: marker on the outer side of the bone.
        offset: from the marker to the centre.
    """
    bone = above - marker
    length = np.linalg.norm(bone, axis=-1, keepdims=True)
    bone = bone / length
    outwards = wand - marker
    inwards = -_unit(outwards - _dot(outwards, bone) * bone)
    along = offset / length
    return marker + offset * (along * bone + np.sqrt(np.clip(1.0 - along**2, 0.0, 1.0)) * inwards)


def _elbow(shoulder: Points, marker: Points, wrist: Points, wand: Points, sign: float) -> Points:
    """Inwards of its marker along the axis that the elbow bends about, which is unknown when the arm is straight.

    The axis is weighted by the sine of the bend, and what the upper arm's wand says with a constant.
    """
    upper, lower = _unit(marker - shoulder), _unit(wrist - marker)
    outwards = wand - marker
    outwards = _unit(outwards - _dot(outwards, upper) * upper)
    inwards = sign * np.cross(upper, lower) - 0.25 * outwards
    inwards = inwards - _dot(inwards, upper) * upper
    return marker + _ELBOW * _unit(inwards)


def _frame(forwards: Points, left: Points) -> np.ndarray:
    """(F, 3, 3) rotations whose columns are forwards, left (exactly) and up."""
    y = _unit(left)
    x = _unit(forwards - _dot(forwards, y) * y)
    return np.stack([x, y, np.cross(x, y)], axis=-1)


def _unit(vectors: Points) -> Points:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _dot(a: Points, b: Points) -> np.ndarray:  # (F, 1)
    return (a * b).sum(axis=-1, keepdims=True)
