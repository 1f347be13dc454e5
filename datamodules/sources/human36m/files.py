"""Human3.6M in any of its layouts: the official download, VideoPose3D's files, or the JSON files of 3DCrowdNet."""

import argparse
import sys
from pathlib import Path
from typing import Any

from datamodules.preparation import Plan
from datamodules.sources.common.files import folder_with
from datamodules.sources.human36m import PAGE, community, official, videopose3d
from datamodules.sources.human36m.cameras import FRONTAL
from datamodules.sources.human36m.sequences import DATASET, EXPECTED, FPS, JOINTS_OF_32, LEFT_OUT
from noise2pose.errors import InputError

LICENCE = (
    f"Human3.6M: for academic use only, not to be passed on; register at {PAGE}. "
    "Files made from it by others (VideoPose3D, 3DCrowdNet) are under the same terms."
)
DESCRIPTION = f"""Convert Human3.6M, in whichever of three layouts you hold it, to a folder for training and evaluation.

  noise2pose prepare human36m --source DIR --output data/human36m

what goes in, recognised from what is in DIR or one level deeper:
  videopose3d  data_3d_h36m.npz, and data_2d_h36m_gt.npz and data_2d_h36m_DETECTOR.npz if you have them. What lifting
               methods use. Without the gt file 2-D joints are projected with the published cameras and distortion.
  json         annotations/Human36M_subject{{S}}_{{data,camera,joint_3d,smpl_param}}.json and images/, of 3DMPPE and
               3DCrowdNet: every image with joints and fitted (neutral) SMPL parameters.
  official     S*/MyPoseFeatures/{{D3_Positions_mono,D2_Positions}}/*.cdf, and S*/MySegmentsMat/ground_truth_bb/*.mat,
               S*/Videos/*.mp4 and metadata.xml if you have them. Frames of the videos are extracted once.
If several are there the first of this list is taken, unless --layout says otherwise; prepare each into its own folder.

what comes out, in DIR: columns as npy files (joints in metres in the camera frame and in pixels, 17 of the 32, right
side first), images/ if videos were given, and dataset.json with counts, facts, checksums and what was skipped.

As in all papers S11's first "Directions" is left out; subjects 1, 5, 6, 7, 8 are for training and 9, 11 for test;
TakingPhoto and WalkingDog are called Photo and WalkDog.

licence: for academic use only, not to be passed on, and neither is what comes out; register at
{PAGE}
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """What only this data set needs."""
    parser.add_argument("--layout", choices=list(_LAYOUTS), help="which files to take (default: what is there)")
    parser.add_argument(
        "--detector",
        metavar="NAME",
        help="videopose3d: take data_2d_h36m_NAME.npz (default: cpn_ft_h36m_dbb, or the only)",
    )
    parser.add_argument(
        "--stride",
        type=int,
        metavar="N",
        help="official, json: keep every N-th frame (default: 5 if videos are extracted, else 1)",
    )
    parser.add_argument("--no_images", action="store_true", help="official: extract no images; json: do not use them")


def plan(source: Path, output: Path, options: argparse.Namespace) -> Plan:
    """What there is to read.

    Raises:
        InputError: if no layout is recognised, or the chosen one is not there.
    """
    if not source.is_dir():
        raise InputError(f"--source: {source} is not a folder")
    if options.stride is not None and options.stride < 1:
        raise InputError(f"--stride is {options.stride}, expected 1 or more")
    found = {name: folder for name, look in _LAYOUTS.items() if (folder := look(source)) is not None}
    if options.layout is not None and options.layout not in found:
        raise InputError(
            f"--layout {options.layout}: {source} has none of its files; it has {', '.join(found) or 'none'}"
        )
    if not found:
        world = ", only D3_Positions, which are in the world" if any(source.glob("**/D3_Positions")) else ""
        raise InputError(
            f"--source: {source} is not Human3.6M; looked in it and one level deeper for data_3d_h36m.npz, "
            f"Human36M_subject*_data.json and S*/{official.POSITIONS_3D}/*.cdf{world}"
        )
    layout = options.layout or next(iter(found))
    if len(found) > 1 and options.layout is None:
        others = " or ".join(name for name in found if name != layout)
        print(f"{source}: taking the files of {layout}; --layout {others} takes the others", file=sys.stderr)
    if layout != "videopose3d" and options.detector is not None:
        raise InputError(f"--detector {options.detector}: the layout {layout} has no detections, only videopose3d has")
    if layout == "videopose3d" and options.stride not in (None, 1):
        raise InputError(f"--stride {options.stride}: the files of videopose3d are kept whole; use data.train_stride")
    root: Path | None = None
    folder = found[layout]
    if layout == "videopose3d":
        parts, facts, skipped = videopose3d.plan_parts(folder, options.detector)
    elif layout == "official":
        parts, facts, skipped = official.plan_parts(folder, output, options.stride, not options.no_images)
        root = output / "images" if facts["pictures"] != "none" else None
    else:
        parts, facts, skipped, root = community.plan_parts(folder, options.stride or 1, not options.no_images)
    if not parts:
        reasons = "; ".join(f"{file}: {reason}" for file, reason in skipped[:3])
        raise InputError(f"--source: {folder} has no sequence that can be prepared ({reasons or 'it is empty'})")
    common: dict[str, Any] = {
        "layout": layout,
        "fps": FPS,
        "joints_of_32": JOINTS_OF_32,
        "frontal_camera": FRONTAL,
        "left_out_as_published": LEFT_OUT,
    }
    return Plan(DATASET, LICENCE, {**common, **facts}, root, parts, EXPECTED, skipped)


# The folder that has the files of a layout, or None.
_LAYOUTS = {
    "videopose3d": lambda source: folder_with(source, [videopose3d.POSITIONS]),
    "json": community.find,
    "official": lambda source: source if official.find(source, official.POSITIONS_3D) else None,
}
