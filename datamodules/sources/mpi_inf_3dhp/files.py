"""Which files of MPI-INF-3DHP are in a folder, and what there is to read of them."""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from datamodules.preparation import Expected, Part, Plan
from datamodules.sources.mpi_inf_3dhp import PAGE
from datamodules.sources.mpi_inf_3dhp.official import link, read_test
from datamodules.sources.mpi_inf_3dhp.recordings import RECORDINGS, name_missing, plan_recordings
from datamodules.sources.mpi_inf_3dhp.rows import read_npz
from noise2pose.errors import InputError

CAMERAS = (0, 1, 2, 4, 5, 6, 7, 8)  # at chest height; the others look down
_TEST = ("TS1", "TS2", "TS3", "TS4", "TS5", "TS6")
_COLUMNS = ("keypoints_2d_gt", "keypoints_3d", "keypoints_3d_univ")
_DEPTH = 3  # the test set's archive has its folder twice
_LICENCE = f"""MPI-INF-3DHP: for scientific research only, not to be passed on; {PAGE}
cite Mehta et al., Monocular 3D Human Pose Estimation In The Wild Using Improved CNN Supervision, 3DV 2017"""

DESCRIPTION = f"""Prepare MPI-INF-3DHP: eight people seen by fourteen cameras, and the test set of six sequences.

  noise2pose prepare mpi_inf_3dhp --source mpi_inf_3dhp --output data/mpi_inf_3dhp
  noise2pose prepare mpi_inf_3dhp --source p-stmo/dataset --annotation univ_annot3 --output data/3dhp_univ

what goes in, in DIR or up to three folders deeper; --layout decides where a split is there twice:
  official    S1/Seq1 ... S8/Seq2 with annot.mat, camera.calibration and imageSequence/video_N.avi (images that were
              extracted before are taken instead: imageFrames/video_N/frame_000001.jpg), and
              TS1 ... TS6 with annot_data.mat and imageSequence/img_000001.jpg
  npz         data_train_3dhp.npz, data_test_3dhp.npz of P-STMO or (_ori) of D3DP; no images

what comes out, in DIR: joints in pixels and in metres (annot3 and univ_annot3, camera frame) of every frame, and
dataset.json. Videos are decoded once, every --stride'th frame into DIR/images (JPEG, quality 95); the room that they
take is printed and checked first. Other images stay where they are.

Cameras of the training set are those of camera.calibration. Those of the test set are in no file: a pinhole is fitted
to annot2 and annot3, and dataset.json says how well it fits (projection_rms, pixels).

P-STMO's files hold the rescaled skeleton (univ_annot3), D3DP's the one that was measured (annot3). Numbers on one are
not comparable with those on the other, and nothing in a file says which it is: a name that ends in _ori is taken
for annot3; for others say it with --annotation, or the data module will ask.

licence:
{_LICENCE}
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """What only this data set needs."""
    parser.add_argument(
        "--cameras", default=",".join(map(str, CAMERAS)), metavar="N,N,...",
        help="of the training set (default: %(default)s, those that the field uses)",
    )  # fmt: skip
    parser.add_argument(
        "--stride", type=int, default=10, help="every so many training frames have an image (default: %(default)s)"
    )
    parser.add_argument("--no_images", action="store_true", help="joints only; no video is decoded")
    parser.add_argument(
        "--layout",
        choices=["auto", "official", "npz"],
        default="auto",
        help="which files count where both are there (default: auto, the official ones first)",
    )
    parser.add_argument(
        "--annotation", choices=["annot3", "univ_annot3"], help="what the 3-D joints of the npz files are"
    )


class _Found(NamedTuple):
    """What lies in a folder."""

    recordings: list[Path]
    tests: list[Path]
    archives: dict[str, list[Path]]  # by split


def plan(source: Path, output: Path, options: argparse.Namespace) -> Plan:
    """What there is to read in a folder.

    Raises:
        InputError: if it is not this data set, an option is wrong, or images would not fit on the disk.
    """
    cameras = _cameras(options.cameras)
    if options.stride < 1:
        raise InputError(f"--stride is {options.stride}, expected at least 1")
    found = _look(source)
    skipped: list[tuple[str, str]] = []
    parts: list[Part] = []
    taken: dict[str, str] = {}
    images: Path | None = None
    stride = None if options.no_images else options.stride
    if found.recordings and options.layout != "npz":
        training, images = plan_recordings(source, output, found.recordings, cameras, stride, skipped)
        parts += training
        taken["train"] = "official"
    if found.tests and options.layout != "npz":
        parts += _plan_tests(source, found.tests, stride is not None, images, skipped)
        taken["test"] = "official"
    for split, archives in found.archives.items():
        if not archives or options.layout == "official":
            continue
        if split in taken:
            print(f"{split}: {archives[0].name} is there too; --layout npz takes it", file=sys.stderr)
            continue
        archive, annotation = _choose(archives, options.annotation)
        parts.append(Part(f"npz_{split}", read_npz, (archive, split, annotation, cameras), (archive,)))
        taken[split] = f"{archive.name}, {annotation}"
    if not parts:
        raise InputError(_nothing(source, options.layout, skipped))
    for split, what in taken.items():
        print(f"{split}: taken from {what}", file=sys.stderr)
        if what.endswith("unknown"):
            reason = "whether its 3-D joints are annot3 or univ_annot3 cannot be told from it; --annotation says it"
            print(f"{split}: {reason}", file=sys.stderr)
    facts = {
        "skeletons": dict.fromkeys(_COLUMNS, "mpi_inf_3dhp_17"),
        "box_rule": "keypoints",
        "layout": taken,
        "cameras": list(cameras),
        "picture_stride": stride,
        "frames": "numbered from 1, as the images",
    }
    root = None if stride is None or "official" not in taken.values() else images or source
    return Plan("mpi_inf_3dhp", _LICENCE, facts, root, parts, _expected(taken, cameras), skipped)


def _plan_tests(
    source: Path, tests: list[Path], with_images: bool, images: Path | None, skipped: list[tuple[str, str]]
) -> list[Part]:
    """The parts of the official test set."""
    parts, absent = [], []
    for folder in tests:
        annotation = folder / "annot_data.mat"
        if not annotation.is_file():
            skipped.append((f"{folder.name}/annot_data.mat", "is missing; the sequence is left out"))
            continue
        shown = with_images and (folder / "imageSequence").is_dir()
        if with_images and not shown:
            absent.append(f"{folder.name}/imageSequence")
        if shown and images is not None and images.is_dir():
            link(folder / "imageSequence", source, images)  # the source may have moved since the folder was prepared
        parts.append(Part(folder.name, read_test, (source, folder, shown, images), (annotation,)))
    name_missing(absent, "test: no images", len(absent) < len(parts), skipped)
    return parts


def _nothing(source: Path, layout: str, skipped: list[tuple[str, str]]) -> str:
    if skipped:
        return f"{source}: nothing of MPI-INF-3DHP can be prepared: {skipped[0][0]} {skipped[0][1]}"
    wanted = {
        "official": "S1/Seq1/annot.mat and TS1/annot_data.mat",
        "npz": "data_train_3dhp.npz and data_test_3dhp.npz",
    }
    looked = " and ".join(what for name, what in wanted.items() if layout in ("auto", name))
    return f"{source} is not MPI-INF-3DHP: looked for {looked}, up to {_DEPTH} folders deep"


def _look(source: Path) -> _Found:
    """Recordings, test sequences and npz files, each of the shallowest folder that has any."""
    found = _Found([], [], {"train": [], "test": []})
    for folder in _folders(source, 0):
        inside = sorted(path for path in folder.iterdir())
        names = {path.name: path for path in inside if path.is_dir()}
        if not found.recordings:
            places = [names[s] / q for s, q in RECORDINGS if s in names]
            found.recordings.extend(place for place in places if place.is_dir())
        if not found.tests:
            found.tests.extend(names[test] for test in _TEST if test in names)
        for split, archives in found.archives.items():
            if not archives:
                archives.extend(path for path in inside if re.fullmatch(f"data_{split}_3dhp.*\\.npz", path.name))
    return found


def _folders(folder: Path, depth: int) -> Iterator[Path]:
    """A folder and those in it that may hold the data set, the shallow ones first."""
    level = [folder]
    while level and depth <= _DEPTH:
        yield from level
        inside = [path for one in level for path in sorted(one.iterdir()) if path.is_dir()]
        level = [path for path in inside if not re.fullmatch(r"T?S\d+|image.*|\..*|__.*", path.name)]
        depth += 1


def _choose(archives: list[Path], annotation: str | None) -> tuple[Path, str]:
    """The npz file of a split, and what its 3-D joints are."""
    named = [path for path in archives if path.stem.endswith("_ori")]
    others = [path for path in archives if path not in named]
    if annotation == "univ_annot3":
        if not others:
            raise InputError(f"--annotation: {named[0]} is annot3 by its name, not univ_annot3")
        return others[0], annotation
    if named:
        return named[0], "annot3"
    return others[0], annotation or "unknown"


def _cameras(text: str) -> tuple[int, ...]:
    try:
        cameras = tuple(sorted({int(number) for number in text.split(",")}))
    except ValueError:
        cameras = (-1,)
    if cameras[0] < 0 or cameras[-1] > 13:
        raise InputError(f"--cameras: found {text}, expected numbers from 0 to 13 such as 0,1,2")
    return cameras


def _expected(taken: dict[str, str], cameras: tuple[int, ...]) -> list[Expected]:
    expected = []
    if "train" in taken:
        frames = sum(number for number, _ in RECORDINGS.values()) * len(cameras)
        expected.append(Expected("train: frames", frames))
    if "test" in taken:
        expected.append(Expected("test: valid frames", 2929))
        # DiffAnnot's count; SPIN tests on the same frames.
        expected.append(Expected("test: valid frames with all joints in the image", 2875))
    return expected
