"""What `scripts/doctor.py` found, as text that fits a terminal."""

import itertools
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

WIDTH = 100
Rows = Iterator[tuple[str, ...]]
_SHOWN = ("torch", "lightning", "diffusers", "smplx")  # with their version; the others only if something is wrong
_JOINT = "\N{NO-BREAK SPACE}"


def is_damaged(problem: str) -> bool:
    """Whether a problem of a prepared folder is more than an unfinished preparation."""
    return bool(problem) and not problem.startswith("unfinished")


def as_text(report: dict[str, Any], data: Path) -> str:
    """The report for people, in lines of at most 100 characters."""
    lines = ["Installed", *_table(_package_rows(report))]
    if "experiments" in report:
        detector = report["detector"]["problem"] or "ready, for predictions from photographs"
        lines += ["", "Bodies", *_table(map(_body_row, report["bodies"]))]
        lines += ["", f"Data sets in {data}", *_table(_data_rows(report))]
        lines += ["", "2-D detector", *_table([(report["detector"]["path"], detector)])]
        lines += ["", "Checkpoints", *_table(_checkpoint_rows(report["checkpoints"]))]
        trained = [experiment for experiment in report["experiments"] if experiment["method"]]
        untrained = [(e["file"], _state(e)) for e in report["experiments"] if not e["method"]]
        lines += ["", "Training: noise2pose train fit -c configs/experiments/NAME.yaml", *_experiments(trained)]
        if untrained:
            lines += ["", "Testing what was trained: noise2pose train test ... --data configs/data/NAME.yaml"]
            lines += _table([("NAME", "state"), *untrained])
        lines += ["", "What is missing, if you want it", *_missing(report["missing"])]
    lines.append("")
    for problem in report["damaged"]:
        lines += textwrap.wrap(f"damaged: {problem}", WIDTH, subsequent_indent="  ", break_on_hyphens=False)
    return "\n".join(lines if report["damaged"] else [*lines, "Nothing that was found is damaged."])


def _package_rows(report: dict[str, Any]) -> Rows:
    yield "python", report["python"]
    yield "devices", ", ".join(report.get("devices", ["unknown without PyTorch"]))
    packages = report["packages"]
    for extra in sorted({package["extra"] for package in packages}):
        members = [package for package in packages if package["extra"] == extra]
        good = [package for package in members if not package["problem"]]
        shown = [f"{p['name']} {p['version']}" for p in good if extra != "dev" and (extra or p["name"] in _SHOWN)]
        number = f"{len(good)} of {len(members)}"
        yield f"extra {extra}" if extra else "packages", ": ".join([number, ", ".join(shown)] if shown else [number])
        for package in members if extra != "dev" else ():  # users do not need the developers' tools
            if package["problem"]:
                yield "", f"{package['name']}: {package['problem']}"


def _body_row(body: dict[str, Any]) -> tuple[str, ...]:
    if body["problem"]:
        return body["path"], f"damaged: {body['problem']}"
    model = {"free": "ships with the project"}.get(body["path"], f"model: {body['model']}")
    return body["path"], f"{body['gender']}; {model}; joints: {', '.join(body['regressors']) or 'its own only'}"


def _data_rows(report: dict[str, Any]) -> Rows:
    for entry in report["data_sets"]:
        name = Path(entry["path"]).name
        label = name if name == entry["dataset"] else f"{name} ({entry['dataset']})"
        if entry["problem"]:
            yield label, f"{'damaged: ' if is_damaged(entry['problem']) else ''}{entry['problem']}"
        else:
            splits = ", ".join(f"{number:,} {split}" for split, number in entry["splits"].items())
            images = f"{entry['images']:,} images" if entry["images"] else "no images"
            yield (
                label,
                f"ready: {entry['rows']:,} rows ({splits}); 2-D: {', '.join(entry['keypoints_2d'])}; {images}",
            )
    absent = [
        Path(lack["what"]).name for lack in report["missing"] if lack["kind"] == "data set" and " " not in lack["what"]
    ]
    if absent:
        yield "not there", ", ".join(sorted(absent))


def _checkpoint_rows(checkpoints: list[dict[str, Any]]) -> Rows:
    """One row for each checkpoint; the last and the best of a run share a row."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for checkpoint in checkpoints:
        if checkpoint["problem"]:
            yield checkpoint["name"], f"damaged: {checkpoint['problem']}"
        elif checkpoint["shipped"]:
            yield checkpoint["name"], f"{checkpoint['method']}, shipped"
        else:
            runs.setdefault(str(Path(checkpoint["name"]).parent), []).append(checkpoint)
    for folder, kept in runs.items():
        epochs = max(checkpoint["epoch"] for checkpoint in kept)
        yield folder, f"{kept[0]['method']}, {epochs} epochs: {', '.join(Path(c['name']).name for c in kept)}"


def _experiments(experiments: list[dict[str, Any]]) -> list[str]:
    """One row for each experiment, below its method; those of a subfolder that lack the same things share a row."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for experiment in experiments:
        folder = str(Path(experiment["file"]).parent)
        name = experiment["file"] if folder == "." else folder
        key = (experiment["method"], _state(experiment), name, experiment["data"])
        alike.setdefault(key, []).append(experiment["file"])
    ordered = sorted(alike.items(), key=lambda row: (row[0][0], row[0][1] != "ready", row[0]))
    rows = [("", "NAME", "data", "state")]
    for (method, state, name, data), files in ordered:
        rows.append((method, f"  {name}" if files == [name] else f"  {name}/ ({len(files)})", data, state))
    widths, lines = _widths([row[1:] for row in rows]), []
    for method, group in itertools.groupby(rows, key=lambda row: row[0]):
        lines += [f"  {method}"] * bool(method) + _table((row[1:] for row in group), widths)
    return lines


def _state(experiment: dict[str, Any]) -> str:
    whole = (what.replace(" ", _JOINT) for what in experiment["missing"])
    return f"needs {', '.join(whole)}" if experiment["missing"] else "ready"


def _missing(missing: list[dict[str, Any]]) -> list[str]:
    lines = []
    for lack in missing:
        command = textwrap.wrap(lack["command"], WIDTH - 8, break_long_words=False, break_on_hyphens=False)
        lines += [f"  {lack['what']}", "    " + " \\\n      ".join(command)]
        lines += [f"    licence: {lack['page']}"] * bool(lack["page"])
    return lines or ["  nothing"]


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    """Of all columns but the last."""
    return [max(len(row[i]) for row in rows) for i in range(min(map(len, rows), default=1) - 1)]


def _table(rows: Iterable[Sequence[str]], widths: list[int] | None = None) -> list[str]:
    """Rows in columns as narrow as they can be; the last column is wrapped."""
    cells = list(rows)
    widths = _widths(cells) if widths is None else widths
    lines = []
    for row in cells:
        start = "  " + "".join(f"{cell:{width}}  " for cell, width in zip(row[:-1], widths, strict=True))
        indent = min(len(start), max(4, WIDTH - max(map(len, row[-1].split(" ")))))  # further left for long words
        wrapped = {"initial_indent": start, "subsequent_indent": " " * indent, "break_on_hyphens": False}
        lines += textwrap.wrap(row[-1], max(WIDTH, len(start) + 20), **wrapped, break_long_words=False)
    return [line.replace(_JOINT, " ") for line in lines]
