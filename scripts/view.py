"""Look at what predict wrote: in a browser, or as one web page."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noise2pose.errors import InputError

if TYPE_CHECKING:
    from methods.inference.results import Annotations, LiftedPoses
    from noise2pose.viewing.sources import FoundSources

DESCRIPTION = """Look at what `noise2pose predict` wrote, in space and over time.

  noise2pose view lifted
  noise2pose view lifted --html lifted.html
  noise2pose view bodies --source photos

Without --html a server is started; open the address that it prints (pip install -e '.[view]'). With --html the same
people are written as one page that any browser opens without a network, and that can be sent to others.
Both have a timeline, hypotheses as ghosts, uncertainty as ellipsoids of one standard deviation, a threshold that hides
joints whose 2-D joint was seen with less confidence, several people in their colours, bodies, and the images where they
are found: in --source, in DIR, beside it, in this folder, or where the command that made annotations.json had them.
"""


def main(args: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    arguments = _parser().parse_args(args)
    try:
        if arguments.html is None:
            _serve(arguments)
        else:
            print(_write(arguments))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("closed", file=sys.stderr)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("output", type=Path, metavar="DIR", help="folder of poses.npz or annotations.npz, or that file")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write one web page instead of starting a server")
    parser.add_argument(
        "--source", type=Path, nargs="+", default=[], metavar="PATH", help="videos, images, or folders they are in"
    )
    parser.add_argument("--body", metavar="FILE", help="body model of annotations, if it was moved")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1, this computer)")
    parser.add_argument("--port", type=int, default=8080, help="port to listen at; 0 for any (default: 8080)")
    return parser


def _write(arguments: argparse.Namespace) -> str:
    """Writes the page; returns what to say."""
    from noise2pose.files import check_writable
    from noise2pose.viewing.page import write_page

    check_writable(arguments.html.parent)
    if arguments.html.is_dir():
        raise InputError(f"--html {arguments.html} is a folder, expected the name of a file to write")
    result, sources = _load(arguments)
    write_page(arguments.html, result.motions(), sources, title=arguments.output.resolve().name)
    megabytes = arguments.html.stat().st_size / 1e6
    return f"{arguments.html}: any web browser opens it, without a network; {megabytes:.1f} MB{_missing(sources)}"


def _serve(arguments: argparse.Namespace) -> None:
    """Runs the server until Ctrl-C."""
    from noise2pose.export import extras
    from noise2pose.viewing.live import LiveView, check_port
    from noise2pose.viewing.scene import build_scene

    extras.load("viser", "view", "viewing in the browser (--html FILE does not)")
    check_port(arguments.host, arguments.port)
    result, sources = _load(arguments)
    view = LiveView(build_scene(result.motions()), sources, arguments.host, arguments.port)
    print(f"{view.address}: open it in a browser; Ctrl-C ends{_missing(sources)}", flush=True)
    try:
        view.play_until_stopped()
    finally:
        view.stop()


def _load(arguments: argparse.Namespace) -> "tuple[LiftedPoses | Annotations, FoundSources]":
    """What was predicted, and what finds its images."""
    from methods.inference.saved import find_result, load_result
    from noise2pose.viewing.sources import FoundSources

    for place in arguments.source:
        if not place.exists():
            raise InputError(f"--source {place} does not exist")
    folder = find_result(arguments.output).parent
    result = load_result(arguments.output, arguments.body)
    info: dict[str, Any] = getattr(result, "info", {})
    named = [Path(word) for word in shlex.split(str(info.get("command", ""))) if Path(word).exists()]
    return result, FoundSources([*arguments.source, folder, folder.absolute().parent, Path(), *named])


def _missing(sources: "FoundSources") -> str:
    """What is shown without images, in words."""
    names = sources.missing
    if not names:
        return ""
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"; without the images of {names[0]}{more}, which were not found: say where they are with --source"


if __name__ == "__main__":
    sys.exit(main())
