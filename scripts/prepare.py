"""Turn data sets and body models as their publishers ship them into files that the project reads."""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datamodules.sources import Publisher, publishers
from datamodules.sources.common import download as downloads
from noise2pose.errors import InputError

DESCRIPTION = """Turn data sets and body models as their publishers ship them into files that the project reads.

  noise2pose prepare cmu_mocap --download --output data/cmu_mocap
  noise2pose prepare threedpw --source FOLDER --output data/threedpw      (and the other data sets below)
  noise2pose prepare body --help
  noise2pose prepare detector --help

Data sets under a licence of their own are read as their publishers ship them, or as the community passes them on; only
cmu_mocap can be fetched here. WHAT --help says where each is asked for, which files are looked for and what comes out.
"""
EPILOG = """Interrupt it whenever you like; the same command continues where it stopped.

exit status: 0 everything was prepared, 1 something was skipped and is named, 2 nothing could be prepared or the command
is wrong.
"""
DETECTOR = f"""Fetch the 2-D detector that finds people's joints in photographs for scripts/predict.py.

  noise2pose prepare detector --output data/detector
  noise2pose prepare detector --output data/detector --source WHEEL

what goes in: the wheel of the Python package {downloads.PACKAGE} {downloads.VERSION}, fetched with pip
(36 MB) or given. It is not installed. What runs the models is: pip install -e ".[detection]"

what comes out, in DIR: BlazePose's two models, checked against their SHA-256, and a line about their licence.

licence:
{downloads.LICENCE}
"""
BODY = """Convert a body model of the SMPL family into the npz file that every `body` option takes.

  noise2pose prepare body --source SMPL_NEUTRAL.pkl --output data/bodies/smpl_neutral.npz \\
      --regressor h36m_17=J_regressor_h36m.npy
  noise2pose prepare body --source SMPLX_NEUTRAL.npz --output data/bodies/smplx_neutral.npz

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
right leg; which one was found is told from the body and printed. Without --regressor only the model's own joints
can be asked for. Of SMPL-X ten expressions and 51 landmarks of the face are kept besides.

exit status: 0 the file was written, 2 something cannot be read or the command is wrong; then nothing is written.

licence: the models are for non-commercial research and must not be passed on, and neither must the converted file.
"""


def body(arguments: argparse.Namespace) -> int:
    """Converts a published body model; returns the exit status.

    Raises:
        InputError: if a file cannot be read or is not what it should be.
    """
    from noise2pose.bodies import conversion as body_conversion  # with PyTorch, which --help does not need

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
    written = downloads.prepare_detector(arguments.source, arguments.output)
    print(f"wrote {' and '.join(map(str, written))}\n{downloads.LICENCE}")
    return 0


def dataset(arguments: argparse.Namespace) -> int:
    """Prepares a data set as its publisher ships it; returns the exit status.

    Raises:
        InputError: if the source is not what it should be, or nothing in it can be read.
    """
    from datamodules.preparation import engine, report  # with PyTorch, which --help does not need

    publisher: Publisher = arguments.publisher
    if arguments.num_workers < 0:
        raise InputError(f"--num_workers is {arguments.num_workers}, expected at least 0")
    source = _source(arguments, publisher)
    plan = importlib.import_module(publisher.module).plan(source, arguments.output, arguments)
    manifest = engine.prepare(plan, arguments.output, arguments.num_workers)
    print("\n".join(report.summary(arguments.output, manifest)))
    for line in report.warnings(manifest):
        print(line, file=sys.stderr)
    print(manifest["licence"])
    return 1 if manifest["skipped"] else 0


def _source(arguments: argparse.Namespace, publisher: Publisher) -> Path | list[Path]:
    """The publisher's files; fetched first, where that was asked for.

    Returns:
        What `plan` takes: a path, or a list where `--source` takes several.
    """
    given: Path | list[Path] | None = arguments.source
    if publisher.download and arguments.download:
        archive: Path = arguments.output.absolute().parent / publisher.download.rpartition("/")[2]
        if not archive.exists():
            downloads.download(arguments.url, archive)
        return [archive] if _several(publisher) else archive
    if given is None:
        raise InputError(
            f"nothing to prepare: add --download to fetch {publisher.download}, or --source ZIP_OR_FOLDER to read it"
        )
    if publisher.source == "DIR" and not (isinstance(given, Path) and given.is_dir()):
        raise InputError(f"--source: {given} is no folder")
    return given


def _several(publisher: Publisher) -> bool:
    return publisher.source.endswith("...")


def _parser(args: Sequence[str]) -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=DESCRIPTION, formatter_class=raw)
    commands = parser.add_subparsers(required=True, metavar="WHAT")
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
    for name, publisher in publishers().items():
        command = commands.add_parser(name, help=publisher.summary, formatter_class=raw, epilog=EPILOG)
        if name in args:  # what is not asked for need not be imported
            _add_options(command, publisher)
    return parser


def _add_options(parser: argparse.ArgumentParser, publisher: Publisher) -> None:
    """Description and options of a data set: those that all have, then its own."""
    files = importlib.import_module(publisher.module)
    parser.description = files.DESCRIPTION
    shipped = "folder as its publisher ships it" if publisher.source == "DIR" else "what goes in, see above"
    takes: dict[str, Any] = {"type": Path, "metavar": publisher.source.removesuffix("..."), "help": shipped}
    if _several(publisher):
        takes |= {"nargs": "+", "action": "extend"}
    if publisher.download:
        sources = parser.add_mutually_exclusive_group()
        sources.add_argument("--source", **takes)
        sources.add_argument("--download", action="store_true", help="fetch the archive into the folder above DIR")
        parser.add_argument(
            "--url", default=publisher.download, help="where --download fetches from (default: %(default)s)"
        )
    else:
        parser.add_argument("--source", required=True, **takes)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument(
        "--num_workers", type=int, default=os.cpu_count() or 1, help="processes that read (default: %(default)s)"
    )
    files.add_options(parser)
    parser.set_defaults(run=dataset, publisher=publisher)


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
        print("interrupted; the same command continues where this one stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
