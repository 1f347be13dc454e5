"""Skeletons by the names that files give their joints, such as COCO's categories and MMPose's data sets."""

import re
from collections.abc import Sequence

from noise2pose import skeletons
from noise2pose.errors import InputError

# What a number of joints is taken for where nothing names them; other numbers have several meanings.
_SKELETON_OF = {
    **{15: "jhmdb_15", 16: "mpii_16", 17: "coco_17", 18: "openpose_18", 25: "openpose_25", 26: "halpe_26"},
    **{133: "coco_wholebody_133", 136: "halpe_136"},
}
_LIMBS = [
    f"{side}_{joint}" for side in ("left", "right") for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
]
# Names of the same points elsewhere. Human3.6M's joint of the neck and the nose lies at the chin.
_SYNONYMS = {
    **{"root": "pelvis", "hip": "pelvis", "mid_hip": "pelvis", "midhip": "pelvis", "hip_center": "pelvis"},
    **{"neck_nose": "chin", "neck_base": "chin", "nose_neck": "chin"},
    **{"head_bottom": "upper_neck", "top_head": "head_top", "top_of_head": "head_top", "headtop": "head_top"},
    **{"belly": "spine", "mid_spine": "spine", "torso": "spine"},
}
_PARTS = {"sho": "shoulder", "elb": "elbow", "wri": "wrist", "kne": "knee", "ank": "ankle"}  # of PoseTrack and others
_PARTS |= {part: part for part in ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")}
_FOOT = {f"{side}_foot": f"{side}_ankle" for side in ("left", "right")}  # Human3.6M's where no ankle is named


def skeleton_of(title: str, entry: str, joints: int, stated: str | None) -> tuple[str, tuple[str, ...]]:
    """The name of a skeleton, as stated or else by its number of joints, and what was assumed.

    Raises:
        InputError: if the skeleton is unknown or has another number of joints, or a number of joints says nothing.
    """
    if stated is None and joints not in _SKELETON_OF:
        same = [name for name, skeleton in skeletons.SKELETONS.items() if skeleton.num_joints == joints]
        known = ", ".join(f"{number} ({name})" for number, name in _SKELETON_OF.items())
        choices = f"which may be {' or '.join(same)}: name the skeleton with --skeleton"
        if not same:
            choices = f"expected {known}; of MediaPipe's 33 keep those that {_SKELETON_OF[17]} has, in its order"
        raise InputError(f"{title}: {entry} has {joints} joints, {choices}")
    try:
        expected = skeletons.get(stated or _SKELETON_OF[joints])
    except InputError as error:
        raise InputError(f"{title}: skeleton: {error}") from error
    if joints != expected.num_joints:
        same = [name for name, skeleton in skeletons.SKELETONS.items() if skeleton.num_joints == joints]
        hint = f": {' or '.join(same)} has {joints}" if same else ""
        raise InputError(f"{title}: {entry} has {joints} joints, but {expected.name} has {expected.num_joints}{hint}")
    return expected.name, ("the order of the joints is assumed",) if stated is None else ()


def skeleton_of_names(names: Sequence[str]) -> tuple[str, list[int]]:
    """The skeleton that has most of some named joints.

    Args:
        names: of the joints in the order of the file, in any common spelling (`left_hip`, `LHip`, `Left Hip`).

    Returns:
        The skeleton, and for each of its joints the position in the file, -1 where the file lacks it.

    Raises:
        InputError: if a limb of a person is not among the names, as those of an animal are not; the message says only
            which.
    """
    known = [_plain(name) for name in names]
    if not any(name.endswith("_ankle") for name in known):
        known = [_FOOT.get(name, name) for name in known]
    missing = [joint for joint in _LIMBS if joint not in known]
    if missing:
        raise InputError(f"its joints are not those of a person: {', '.join(missing)} missing")
    if "chin" in known and "head" in known and "head_top" not in known:  # of Human3.6M's names
        known[known.index("head")] = "head_top"

    def overlap(name: str) -> tuple[int, int]:
        joints = skeletons.get(name).joints
        return len(set(joints) & set(known)), -len(joints)

    best = max(skeletons.SKELETONS, key=overlap)
    return best, [known.index(joint) if joint in known else -1 for joint in skeletons.get(best).joints]


def unknown_names(names: Sequence[str]) -> list[str]:
    """Those of some names that are no joint of any skeleton, as they are spelled."""
    every = {joint for skeleton in skeletons.SKELETONS.values() for joint in skeleton.joints}
    return [str(name) for name in names if not {_plain(name), _FOOT.get(_plain(name))} & every]


def _plain(name: str) -> str:
    """`left_hip` from `LHip`, `Left Hip`, `l-hip`, `hip_left` `leftHip` or `lhip`."""
    words = re.sub(r"([a-z])([A-Z])|([A-Z])([A-Z][a-z])", r"\1\3 \2\4", str(name))
    words = re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")
    for side in ("left", "right"):
        if words in (side, side[0]):
            break
        words = re.sub(rf"^{side[0]}_|^{side}(?=[a-z])", f"{side}_", words)
        if words.endswith((f"_{side}", f"_{side[0]}")):
            words = f"{side}_{words.rsplit('_', 1)[0]}"
        if words[:1] == side[0] and words[1:] in _PARTS:
            words = f"{side}_{words[1:]}"
        if (part := words.removeprefix(f"{side}_")) != words:
            words = f"{side}_{_PARTS.get(part, part)}"
    return _SYNONYMS.get(words, words)
