"""The command on clips in the layout of the CMU archive, and what it leaves behind."""

import contextlib
import io

from scripts.prepare import main
from tests.datamodules.acclaim import amc, asf

BROKEN = amc().replace("\nhead ", "\nhead x ", 1)


def prepare(*arguments, status=0):
    """What the command prints, in this process."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            found = main(["cmu_mocap", *map(str, arguments), "--num_workers", "0"])
        except SystemExit as ended:  # --help
            found = ended.code
    assert found == status, printed.getvalue()
    return printed.getvalue()


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def arrays(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.npy")}


def folder_of(path, motions, skeleton=None):
    """A source folder with one subject."""
    path.mkdir(parents=True)
    (path / "01.asf").write_text(skeleton or asf())
    for number, motion in enumerate(motions, start=1):
        (path / f"01_{number:02d}.amc").write_text(motion)
    return path
