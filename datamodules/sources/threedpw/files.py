"""Where the files of 3DPW are, and which of them are read."""

import argparse
from pathlib import Path

from datamodules.preparation import Expected, Part, Plan
from datamodules.sources.common.files import find_file, folder_with
from datamodules.sources.threedpw import PAGE, community
from datamodules.sources.threedpw import sequences as threedpw_sequences
from datamodules.sources.threedpw.community import COUNTS, SPLITS, SUBSETS, subset_files
from noise2pose.errors import InputError

DESCRIPTION = f"""3D Poses in the Wild: people outdoors filmed with a phone, body parameters from inertial sensors.

  noise2pose prepare threedpw --source 3DPW --output data/threedpw

what goes in: a folder with
  sequenceFiles/{{train,validation,test}}/SEQUENCE.pkl      as downloaded (24, 12 and 24 sequences)
  imageFiles/SEQUENCE/image_00000.jpg                     as downloaded; without the folder, there are no images
and, or instead of the pickles, the annotations of 3DCrowdNet, JOTR and DPMesh with OpenPose's joints:
  3DPW_latest_{{train,validation,test}}.json                the same people
  3DPW_oc.json, 3DPW_pc.json                              the occlusion subsets
  3DPW_validation_crowd_hhrnet_result.json                HigherHRNet's joints of the Crowd subset
Splits are read from the pickles if they are there (--layout publisher), or else from 3DPW_latest_*.json. The files of
the subsets are read whenever they are there, with the joints that the published numbers were made with. Without them
the subsets are picked out of the splits by the published names and frames.

what comes out: one row for each person in each frame: body parameters with the root turned into the camera frame,
gender, camera, 2-D joints and box. Ground-truth joints are not stored: they come from the body of each gender, see
`scripts/prepare.py body`.

licence: non-commercial research; ask for the data at {PAGE}
"""
_LICENCE = f"3DPW: non-commercial scientific research, no redistribution; {PAGE}"
_JSON = "3DPW_latest_{}.json"
_NUMBER_OF_SEQUENCES = {"train": 24, "validation": 12, "test": 24}
_TEST_PEOPLE = 35_515


def add_options(parser: argparse.ArgumentParser) -> None:
    """What only this data set needs."""
    parser.add_argument(
        "--layout",
        choices=["publisher", "community"],
        help="where the splits come from: the pickles, or 3DPW_latest_*.json (default: the pickles if they are there)",
    )


def plan(source: Path, output: Path, options: argparse.Namespace) -> Plan:
    """A part for each pickle, or for each annotation file of the community.

    Raises:
        InputError: if this is not 3DPW.
    """
    # Each is looked for on its own: 3DCrowdNet has imageFiles/ beside a folder data/ with the annotations.
    pickled = folder_with(source, [f"sequenceFiles/{split}/*.pkl" for split in SPLITS])
    annotations = {split: found for split in SPLITS if (found := find_file(source, _JSON.format(split)))}
    given = subset_files(source)
    if pickled is None and not annotations and not given:
        raise InputError(
            f"{source} is not 3DPW: found neither sequenceFiles/{{train,validation,test}}/*.pkl nor 3DPW_latest_*.json"
        )
    skipped: list[tuple[str, str]] = []
    above = folder_with(source, ["imageFiles/"])
    root, has_images = above or source, above is not None
    if not has_images:
        skipped.append(("imageFiles", f"not in {source}: prepared without images"))
    count = tuple(subset for subset in SUBSETS if subset not in given)
    folders = {split: pickled / "sequenceFiles" / split for split in SPLITS if pickled}
    # macOS leaves files like ._downtown_bar_00.pkl beside those that it unpacks.
    sequences = {split: sorted(folders[split].glob("[!.]*.pkl")) if pickled else [] for split in SPLITS}
    layout = getattr(options, "layout", None) or ("publisher" if any(sequences.values()) else "community")
    parts = []
    for split in SPLITS:
        if layout == "publisher":
            parts += [
                Part(f"{split}_{path.stem}", threedpw_sequences.read, (path, root, split, has_images, count), (path,))
                for path in sequences[split]
            ]
            if not sequences[split]:
                skipped.append((f"sequenceFiles/{split}", "no pickle in it"))
        elif split in annotations:
            path = annotations[split]
            parts.append(Part(split, community.read, (path, root, split, has_images, count), (path,)))
    for subset, files in given.items():
        arguments = (files[0], root, subset, has_images, (), *files[1:])
        parts.append(Part(subset, community.read, arguments, files))
    if not parts:
        raise InputError(f"{source}: nothing to read with --layout {layout}")
    expected = [Expected("test: people", _TEST_PEOPLE), *(Expected(f"{s}: people", COUNTS[s]) for s in SUBSETS)]
    if layout == "publisher":
        expected += [Expected(f"{split}: sequences", number) for split, number in _NUMBER_OF_SEQUENCES.items()]
    facts = {
        "skeletons": {"keypoints_2d_detected": "openpose_18", "smpl_joints": "smpl_24"},
        "detector": "OpenPose; HigherHRNet for `crowd` of its JSON file",
        "fps": 30,
        "box_rule": "keypoints",
        "layout": layout,
        "subsets": {subset: "file" if subset in given else "names and frames" for subset in SUBSETS},
        "bounds": {
            "pickles": "detected joints with confidence above 0, else the projected 24 joints",
            "json": f"detected joints with confidence above {community.MIN_CONFIDENCE}, else `bbox`",
        },
        "smpl_joints": "SMPL's 24 joints as published in jointPositions; not the joints that errors are measured in",
        "translation": "of the body in the camera frame; rows of pickles have `translation_world` and `extrinsics` "
        "(R, t) instead: R (translation_world + J0) + t - J0, J0 the root joint of the person's body in the rest pose",
    }
    return Plan("threedpw", _LICENCE, facts, root if has_images else None, parts, expected, skipped)
