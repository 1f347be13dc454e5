"""The occlusion subsets of 3DPW: which people of the whole data set make them up.

OC (people behind objects) and PC (people behind people) were chosen by Zhang et al. (CVPR 2020) and Sun et al. (ROMP,
ICCV 2021); issue 60 of Arthur151/ROMP lists them. OC takes every number of each recording there, and both lists run
through the training, validation and test sequences alike, so whoever trained on 3DPW has seen most of them. Crowd is
3DCrowdNet's (Choi et al., CVPR 2022): two sequences of the validation split.

Shape letters: N people.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int

from datamodules.sources.common.files import find_file

SUBSETS = ("oc", "pc", "crowd")
SPLITS = ("train", "validation", "test")  # as the authors call them
COUNTS = {"oc": 20_243, "pc": 2_218, "crowd": 1_923}  # people, as JOTR and DPMesh report them
FILES = {"oc": "3DPW_oc.json", "pc": "3DPW_pc.json", "crowd": "3DPW_validation_crowd_hhrnet_result.json"}
_OC = {
    *("courtyard_backpack", "courtyard_basketball", "courtyard_bodyScannerMotions", "courtyard_box", "courtyard_golf"),
    *("courtyard_jacket", "courtyard_laceShoe", "downtown_stairs", "flat_guitar", "flat_packBags", "outdoors_climbing"),
    *("outdoors_crosscountry", "outdoors_fencing", "outdoors_freestyle", "outdoors_golf", "outdoors_parcours"),
    "outdoors_slalom",
}
_PC = {  # first frame, and the one behind the last
    "courtyard_basketball_00": (200, 280),
    "courtyard_captureSelfies_00": (500, 600),
    "courtyard_dancing_00": (60, 370),
    "courtyard_dancing_01": (60, 270),
    "courtyard_hug_00": (100, 500),
    "downtown_bus_00": (1620, 1900),
}
CROWD = ("courtyard_dancing_00", "courtyard_hug_00")


def splits_of(subset: str) -> tuple[str, ...]:
    """The splits that a subset takes people from."""
    return ("validation",) if subset == "crowd" else SPLITS


def members(
    subset: str, video: str, frames: Int[np.ndarray, " N"], detected: Bool[np.ndarray, " N"]
) -> Bool[np.ndarray, " N"]:
    """Which people of a recording are in a subset, among those whose frames count.

    Args:
        subset: one of `SUBSETS`.
        video: name of the recording, such as "downtown_bus_00".
        frames: counted from 0.
        detected: whether the authors' 2-D joints are there, without which ROMP leaves people out of PC.
    """
    if subset == "oc":
        return np.full(len(frames), video.rsplit("_", 1)[0] in _OC)
    if subset == "crowd":
        return np.full(len(frames), video in CROWD)
    first, behind = _PC.get(video, (0, 0))
    return (frames >= first) & (frames < behind) & detected


def subset_files(source: Path) -> dict[str, tuple[Path, ...]]:
    """The community's annotation files of each subset, as far as they are there."""
    names: dict[str, tuple[str, ...]] = {subset: (name,) for subset, name in FILES.items()}
    names["crowd"] = ("3DPW_latest_validation.json", *names["crowd"])
    found = {subset: [find_file(source, name) for name in files] for subset, files in names.items()}
    return {subset: tuple(path for path in paths if path is not None) for subset, paths in found.items() if all(paths)}
