"""The CMU Panoptic Studio as its toolbox downloads it."""

import argparse
import hashlib
from collections.abc import Iterator
from pathlib import Path

from datamodules.preparation import Part, Plan
from datamodules.sources.panoptic import PAGE
from datamodules.sources.panoptic.frames import FOLDERS, MIN_CONFIDENCE, SKELETON, annotation, find_images
from datamodules.sources.panoptic.rows import read
from noise2pose.errors import InputError

PUBLISHED = ("160422_haggling1", "160422_mafia2", "160422_ultimatum1", "160906_pizza1")
CAMERAS = ("00_16", "00_30")
_LICENCE = (
    "CMU Panoptic Studio Dataset: non-commercial research only, cite its papers; "
    f"{PAGE}, https://github.com/CMU-Perceptual-Computing-Lab/panoptic-toolbox"
)
DESCRIPTION = f"""Prepare sequences of the CMU Panoptic Studio: several people, 3-D joints, calibrated HD cameras.

  noise2pose prepare panoptic --source panoptic-toolbox --output data/panoptic
  noise2pose prepare panoptic --source panoptic-toolbox --output data/panoptic --no_images

what goes in: a folder of sequences as the toolbox's scripts/getData.sh downloads them:
  SEQUENCE/calibration_SEQUENCE.json
  SEQUENCE/hdPose3d_stage1_coco19.tar, or the folder of the same name (19 joints); else hdPose3d_stage1 (15 joints)
  SEQUENCE/hdImgs/00_16/00_16_00000123.jpg (or png) as scripts/extractAll.sh writes them, or hdVideos/hd_00_16.mp4
The published evaluation (Jiang et al., CVPR 2020, taken over by ROMP, BEV, 3DCrowdNet and DPMesh) has the sequences
{", ".join(PUBLISHED)}
and the HD cameras 16 and 30; 160422_mafia2 has 15 joints only. Every other sequence is prepared as well. Which frames
were evaluated is said only by the annotations that Jiang et al. give out: name their folder with --frames. Without it
all annotated frames are taken.

what comes out, in DIR: 19 joints in the camera frame in metres, their projections with lens distortion, boxes,
cameras. A joint counts above a confidence of {MIN_CONFIDENCE};
15 joints fill the same joints of the 19, without the top of the head.
Left out and counted: outliers (negative ids), people without a joint that counts or without one inside the image.
Images stay where they are; if any camera has a video only, those of all cameras are written to DIR/images.

licence: {_LICENCE}
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """What only this data set needs."""
    parser.add_argument(
        "--cameras", default=",".join(CAMERAS), metavar="00_16,...", help="HD cameras (default: %(default)s)"
    )
    parser.add_argument(
        "--frames",
        type=Path,
        metavar="FOLDER",
        help="take the frames listed in FOLDER/SEQUENCE.pkl (annotations of Jiang et al.) or FOLDER/SEQUENCE.txt "
        "(numbers) only",
    )
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take every N-th frame (default: all)")
    parser.add_argument("--no_images", action="store_true", help="prepare joints and cameras without images")


def plan(source: Path, output: Path, options: argparse.Namespace) -> Plan:
    """What there is to read in a folder.

    Raises:
        InputError: if there is no sequence in it, or an option is wrong.
    """
    cameras = [name.strip() for name in options.cameras.split(",") if name.strip()]
    if not cameras or options.every < 1:
        raise InputError(f"--cameras {options.cameras} --every {options.every}: expected names and 1 or more")
    if options.frames is not None and not options.frames.is_dir():
        raise InputError(f"--frames: {options.frames} is no folder")
    skipped: list[tuple[str, str]] = []
    sequences = dict(_sequences(source, skipped))
    if not sequences:
        where = f"; {skipped[0][0]}: {skipped[0][1]}" if skipped else ""
        raise InputError(
            f"{source}: no sequence of the Panoptic Studio here or one folder deeper, "
            f"expected SEQUENCE/calibration_SEQUENCE.json with SEQUENCE/hdPose3d_stage1_coco19.tar{where}"
        )
    views: dict[str, list[tuple[str, str | None]]] = {}  # cameras and their images of each sequence
    for name, folder in sequences.items():
        for camera in cameras:
            found = None if options.no_images else find_images(folder, camera)
            if found is None and not options.no_images:
                missing = f"neither hdImgs/{camera} nor hdVideos/hd_{camera}.mp4; --no_images prepares the joints alone"
                skipped.append((f"{name} {camera}", missing))
            else:
                within = None if found is None else found.relative_to(folder).as_posix()
                views.setdefault(name, []).append((camera, within))
    every = "all annotated" if options.every == 1 else f"every {options.every}"
    # Extracted images can be read where they are, if every camera has them.
    stay = all(within and (sequences[name] / within).is_dir() for name in views for _, within in views[name])
    root = None if options.no_images else source if stay else output / "images"
    return Plan(
        dataset="panoptic",
        licence=_LICENCE,
        facts={
            "skeletons": {"keypoints_2d_gt": SKELETON, "keypoints_3d": SKELETON},
            "box_rule": "keypoints",
            "fps": 29.97,
            "min_confidence": MIN_CONFIDENCE,
            "keypoints_2d_gt": "projected from 3-D with lens distortion",
            "frames": "listed" if options.frames else every,
            "published": {"sequences": list(PUBLISHED), "cameras": list(CAMERAS)},
        },
        image_root=root,
        parts=[
            _part(name, sequences[name], tuple(cameras), root, options.frames, options.every)
            for name, cameras in views.items()
        ],
        expected=[],
        skipped=skipped,
    )


def _sequences(source: Path, skipped: list[tuple[str, str]]) -> Iterator[tuple[str, Path]]:
    """Name and folder of every sequence that has a calibration and annotations."""
    if not source.is_dir():
        raise InputError(f"--source: {source} is no folder")
    taken: dict[str, Path] = {}
    for depth in ("", "*/", "*/*/"):
        for file in sorted(source.glob(f"{depth}calibration_*.json")):
            name = file.stem.removeprefix("calibration_")
            if name in taken:
                skipped.append((str(file.parent), f"sequence {name} is in {taken[name]} as well"))
                continue
            taken[name] = file.parent
            if annotation(file.parent):
                yield name, file.parent
            else:
                skipped.append((name, f"no annotations: none of {', '.join(FOLDERS)}, extracted or .tar"))
        for folder in sorted({path.parent for path in source.glob(f"{depth}hdPose3d_stage1*")}):
            if not any(folder.glob("calibration_*.json")):
                skipped.append((str(folder), f"no calibration_{folder.name}.json"))


def _part(
    name: str,
    folder: Path,
    views: tuple[tuple[str, str | None], ...],
    root: Path | None,
    lists: Path | None,
    every: int,
) -> Part:
    files = [folder / f"calibration_{name}.json"]
    files += [path for path in annotation(folder) if path.is_file()]
    listed = None
    if lists is not None:
        text = lists / f"{name}.txt"
        listed = text if text.exists() else lists / f"{name}.pkl"
        files.append(listed)
    return Part(name, read, (folder, name, views, root, listed, every, _digest(folder)), tuple(files))


def _digest(sequence: Path) -> str:
    """SHA-256 over names and contents of the extracted frames, thousands of small files; empty if there are none."""
    digest, number = hashlib.sha256(), 0
    for folder in filter(Path.is_dir, annotation(sequence)):
        for file in sorted(folder.iterdir()):
            digest.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
            number += 1
    return digest.hexdigest() if number else ""
