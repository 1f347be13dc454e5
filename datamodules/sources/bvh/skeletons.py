"""Which joints of a BVH skeleton are those of Human3.6M-17.

A joint of a map is a name, or several with commas between them of which the first that is there counts. Names are
compared without case, signs and the prefixes of exporters: `mixamorig:LeftUpLeg` is `leftupleg`.
"""

import json
import re
from pathlib import Path

from noise2pose import skeletons
from noise2pose.errors import InputError

JOINTS = skeletons.get("h36m_17").joints
HEAD_TOP = "head_top"  # may be missing: many skeletons end with the joint of the head
CMU = "cmu"


def _family(limbs: str, spine: str, pelvis: str = "hips", head_top: str = "head.end") -> dict[str, str]:
    """A map of both sides.

    Args:
        limbs: names of hip, knee, ankle, shoulder, elbow and wrist, with {side} for left and {s} for l.
        spine, pelvis, head_top: names of these joints; thorax and chin are the joints of the neck and the head.
    """
    joints = {"pelvis": pelvis, "spine": spine, "thorax": "neck", "chin": "head", "head_top": head_top}
    for side in ("left", "right"):
        for joint, name in zip(("hip", "knee", "ankle", "shoulder", "elbow", "wrist"), limbs.split(), strict=True):
            joints[f"{side}_{joint}"] = name.format(side=side, s=side[0])
    return joints


_MOTIONBUILDER = "{side}upleg {side}leg {side}foot {side}arm {side}forearm {side}hand"
# The first family whose joints are all there is taken.
FAMILIES: dict[str, dict[str, str]] = {
    # Common conversion of CMU's database, with the joints of its ASF files; the pelvis lies as in `cmu_mocap`.
    CMU: _family(_MOTIONBUILDER, spine="spine1"),
    # Poser and Daz, also the "daz-friendly" conversion of CMU.
    "daz": _family("{s}thigh {s}shin {s}foot {s}shldr {s}forearm {s}hand", spine="chest", pelvis="hip"),
    # 3ds Max Biped.
    "biped": _family("{s}thigh {s}calf {s}foot {s}upperarm {s}forearm {s}hand", spine="spine1,spine", pelvis="pelvis"),
    # Bandai-Namco Research motion data set.
    "bandai_namco": _family("upperleg{s} lowerleg{s} foot{s} upperarm{s} lowerarm{s} hand{s}", spine="chest"),
    # 100STYLE, and others with the names of the first BVH files.
    "100style": _family(
        "{side}hip {side}knee {side}ankle {side}shoulder {side}elbow {side}wrist", spine="chest2,chest"
    ),
    # Rokoko Studio.
    "rokoko": _family(
        "{side}thigh {side}shin {side}foot {side}arm {side}forearm {side}hand", spine="spine2,spine1,spine"
    ),
    # Names of MotionBuilder: Mixamo, LAFAN1 (Ubisoft), ACCAD, SFU, Truebones and many more.
    "motionbuilder": _family(_MOTIONBUILDER, spine="spine1,spine,chest", head_top="headtopend,headend,head.end"),
}
_MARKS = {CMU: ("lhipjoint", "lowerback", "neck1")}  # joints that only this family has


def plain(name: str) -> str:
    """A name as maps are compared: `mixamorig:LeftUpLeg` is `leftupleg`, `Bip01 L Thigh` is `lthigh`."""
    bare, dot, end = name.rpartition(".end")
    base = re.sub(r"^(.*:|mixamorig\d*_?|character\d+_|bip\d+[ _]|joint_)", "", (bare if dot else end).casefold())
    return re.sub(r"[^a-z0-9]", "", base) + (".end" if dot else "")


def find(names: list[str], given: dict[str, str] | None, file: str) -> tuple[str, dict[str, int]]:
    """The skeleton's name, and the index in `names` of each Human3.6M-17 joint; the head top may be missing.

    Args:
        names: of the file's joints.
        given: joint map of the user, if there is one.
        file: for the message.

    Raises:
        InputError: if the skeleton is none of those known, or the given map does not fit.
    """
    places: dict[str, int] = {}
    for number, name in enumerate(names):
        places.setdefault(plain(name), number)
    for family, joints in ({"joint map": given} if given else FAMILIES).items():
        found = {joint: _first(name, places) for joint, name in joints.items()}
        marked = all(mark in places for mark in _MARKS.get(family, ()))
        missing = [joint for joint, place in found.items() if place is None and joint != HEAD_TOP]
        if marked and not missing:
            return family, {joint: place for joint, place in found.items() if place is not None}
        if given:
            raise InputError(f"{file}: has no {given[missing[0]]}, which the joint map has for {missing[0]}")
    shown = ", ".join(names[:6])
    raise InputError(
        f"{file}: is of no known skeleton ({shown}, ...): say with --joint_map FILE.json which joint is which"
    )


def _first(wanted: str, places: dict[str, int]) -> int | None:
    return next((places[plain(name)] for name in wanted.split(",") if plain(name) in places), None)


def read_map(path: Path) -> dict[str, str]:
    """A joint map: a JSON object of Human3.6M-17 joints and names of the file's joints.

    Raises:
        InputError: if it is something else, or a joint other than the head top is missing.
    """
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"--joint_map: {path} cannot be read ({error})") from error
    if not isinstance(given, dict) or not all(isinstance(name, str) for name in given.values()):
        raise InputError(f"--joint_map: {path} is no JSON object of joints and names")
    unknown, missing = set(given) - set(JOINTS), set(JOINTS) - set(given) - {HEAD_TOP}
    if unknown or missing:
        what = f"{sorted(unknown)[0]} is no joint" if unknown else f"{sorted(missing)[0]} is missing"
        raise InputError(f"--joint_map: {path}: {what}; joints are {', '.join(JOINTS)}")
    return given
