"""What refinement by DiffAnnot is worth, in the layout of the paper's Tables II and III, with every control."""

import argparse
import json
import shlex
import statistics
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from noise2pose.class_paths import named_class
from noise2pose.errors import InputError
from noise2pose.files import commit, write_text
from noise2pose.metrics.keys import MetricKey, named
from noise2pose.metrics.protocols import Protocol
from noise2pose.reports.comparability import source_in_words

DESCRIPTION = """What refinement by DiffAnnot is worth: the paper's Tables II and III, with every control.

  python scripts/annotator_report.py --data configs/data/rendered_cmu_keypoints.yaml --output report/annotator \\
      runs/diffannot_rendered_cmu/checkpoints/best.ckpt

Several checkpoints of one method, trained with different seeds, give medians and ranges.
"""
EPILOG = """how to read it:
  none, untrained, trained   which denoiser the row had. What selection gains without a network, or with random weights,
                             is not due to diffusion. The untrained one knows mean and spread of the poses.
  fixed                      one number of steps for all, chosen on validation data for each row
  reproj2d                   the candidate nearest to the detected 2-D keypoints
  guided, SMPLify-style      the keypoints pull; how strongly is chosen on validation data for each row
  oracle                     Algorithm 1 as published: the ground truth of the same sample chooses. Never deployable;
                             never compare it with the rows above.
  half joints                the ground truth of seven joints chooses, the errors are of the other seven
  steps, ms                  denoising steps of the answer, milliseconds of a sample including all candidates

The paper searches up to s_max = 1000; here --max_steps is 60 by default, which includes the paper's own figure (57).
The command writes DIR/tables.md and DIR/numbers.json, and with --curve_people DIR/curves.csv and DIR/curves.svg: L'(s),
the error after s steps, of trained denoiser and controls; `best` is chosen for each sample with its ground truth.
"""
# Columns of the tables: errors, and further values as (attribute of a row, heading, format).
_ERRORS = named("mpjpe", "pa_mpjpe")
_BY_NAME = {key.name: key for key in _ERRORS}
_FURTHER = (
    ("improved", "improved", ".0%"),
    ("pixels", "2-D error, px", ".1f"),
    ("step", "steps", ".0f"),
    ("milliseconds", "ms", ".1f"),
)


def main(args: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "checkpoints", nargs="+", type=Path, metavar="CHECKPOINT", help="of methods.diffannot.DiffAnnot"
    )
    parser.add_argument("--data", type=Path, required=True, metavar="YAML", help="a file of configs/data")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument("--max_people", type=int, default=1000, help="of the test split, evenly spread (default: 1000)")
    parser.add_argument("--max_steps", type=int, default=60, help="s_max of the searches (default: 60)")
    parser.add_argument(
        "--select_by", choices=["pa_mpjpe", "mpjpe"], help="error by which the ground truth chooses (default: trained)"
    )
    parser.add_argument("--curve_people", type=int, default=0, help="people of the curves of L'(s) (default: none)")
    parser.add_argument("--threads", type=int, metavar="N", help="of PyTorch (default: all cores)")
    arguments = parser.parse_args(args)
    if arguments.threads is not None:
        import torch  # here and below, so that `--help` need not wait for it

        torch.set_num_threads(arguments.threads)
    try:
        print(_report(arguments, list(sys.argv[1:] if args is None else args)))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _report(arguments: argparse.Namespace, command: list[str]) -> str:
    import torch

    from methods.checkpoints import load_method  # these load Lightning
    from methods.diffannot.controls import measure_controls
    from methods.diffannot.module import DiffAnnot
    from methods.diffannot.states import to_state
    from noise2pose.metrics.protocols import with_training_source

    methods = []
    for path in arguments.checkpoints:
        method = load_method(path)
        if not isinstance(method, DiffAnnot):
            raise InputError(f"{path} holds {method.title}, expected DiffAnnot")
        method.refiner.max_steps = arguments.max_steps
        method.refiner.select_by = arguments.select_by or method.refiner.select_by
        methods.append(method)
    module = _data_module(arguments.data)
    module.setup("test")
    protocols = module.protocols("test")
    protocol = replace(protocols[0], dataset=" and ".join(each.dataset for each in protocols))
    for method in methods:
        (protocol,) = with_training_source([protocol], method.trained_on, module.mixed_keypoints_2d, method.title)
    samples = module.load("train")
    if "smpl" not in samples:
        raise InputError(f"--data {arguments.data}: {protocol.dataset} has no body parameters, which the report needs")
    states = to_state(samples["smpl"])
    # A quarter is enough to choose settings by, and choosing tries them all.
    validation = _batches(module, "val", max(1, arguments.max_people // 4))
    test = _batches(module, "test", arguments.max_people)
    measured = [measure_controls(method, states, validation, test) for method in methods]
    people = sum(len(batch["sample_id"]) for batch in test)
    about = {
        "command": shlex.join(["python", "scripts/annotator_report.py", *command]),
        "commit": commit(),
        "device": f"cpu, {torch.get_num_threads()} threads",
        "people": people,
        "protocol": protocol.as_dict(),
        "max_steps": arguments.max_steps,
        "select_by": [method.refiner.select_by for method in methods],
        "patience": [method.refiner.patience for method in methods],
        "settings": [{name: each._asdict() for name, each in one.settings.items()} for one in measured],
    }
    tables = {
        name: [[row._asdict() for row in getattr(each, name)] for each in measured]
        for name in ("deployable", "oracle", "half_joints")
    }
    write_text(arguments.output / "numbers.json", json.dumps({**about, **tables}, indent=2) + "\n")
    text = _markdown(protocol, about, tables, len(measured))
    write_text(arguments.output / "tables.md", text)
    written = ["tables.md", "numbers.json"]
    if arguments.curve_people:
        _write_curves(methods, _batches(module, "test", arguments.curve_people), arguments.output)
        written += ["curves.csv", "curves.svg"]
    return text + "\n" + ", ".join(str(arguments.output / name) for name in written)


def _write_curves(methods: Sequence[Any], batches: list[Any], output: Path) -> None:
    """The curves of every checkpoint as a table, and their means as a picture."""
    from methods.diffannot.curves import METRICS, loss_curves
    from noise2pose.reports.charts import Line, line_chart, sheet, stroke

    found = [loss_curves(method, batches) for method in methods]
    lines = ["checkpoint,denoiser,metric,step,fixed,best"]
    panels: dict[str, dict[str, list[float]]] = {}
    for metric in METRICS:
        drawn = panels.setdefault(_BY_NAME[metric].caption, {})
        for control in found[0]:
            curves = [each[control][metric] for each in found]
            lines += [
                f"{number},{control},{metric},{step},{fixed:.3f},{best:.3f}"
                for number, curve in enumerate(curves)
                for step, (fixed, best) in enumerate(zip(curve.fixed.tolist(), curve.best.tolist(), strict=True))
            ]
            for kind in ("fixed", "best"):
                values = [getattr(curve, kind).tolist() for curve in curves]
                drawn[f"{control}, {kind}"] = [statistics.mean(at) for at in zip(*values, strict=True)]
    write_text(output / "curves.csv", "\n".join(lines) + "\n")
    strokes = {label: stroke(number, label) for number, label in enumerate(next(iter(panels.values())))}
    charts = [
        replace(
            line_chart(
                [Line(strokes[label], np.arange(len(values)), np.array(values)) for label, values in drawn.items()],
                "denoising steps s",
                "mean error (mm)",
            ),
            title=heading,
        )
        for heading, drawn in panels.items()
    ]
    write_text(output / "curves.svg", sheet(charts, list(strokes.values()), len(charts)))


def _data_module(path: Path) -> Any:
    """The data module of a YAML file as `scripts/train.py` takes it."""
    from datamodules.base import PoseDataModule

    try:
        described = yaml.safe_load(path.read_text())
        return named_class(described["class_path"], PoseDataModule)(**described.get("init_args", {}))
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError, ImportError) as error:
        message = f"--data {path}: not a file with class_path and init_args of a data module ({error})"
        raise InputError(message) from error


def _batches(module: Any, split: str, max_people: int) -> list[Any]:
    """Batches of evenly spread samples of a split."""
    import torch

    from datamodules.base import batch_of

    samples = module.load(split)
    count = len(samples["sample_id"])
    chosen = torch.linspace(0, count - 1, min(count, max_people)).round().long()
    return [batch_of(samples, part) for part in chosen.split(module.eval_batch_size)]


def _markdown(protocol: Protocol, about: dict[str, Any], tables: dict[str, Any], seeds: int) -> str:
    lines = [
        f"{protocol.dataset}, {about['people']} people of the test split; {source_in_words(protocol)} 2-D joints; "
        f"14 joints, millimetres, relative to the pelvis; median (range) of {seeds} checkpoints.",
        f"`{about['command']}`, commit {about['commit']}, {about['device']}.",
        "",
    ]
    by = " or ".join(dict.fromkeys(_BY_NAME[name].caption for name in about["select_by"]))
    titles = {
        "deployable": "Deployable: nothing was chosen with the ground truth",
        "oracle": f"Oracle, as published: the ground truth of each sample chooses, by {by} (never deployable)",
        "half_joints": "Seven joints choose, errors of the other seven (never deployable)",
    }
    headings = ["selector", "denoiser", *(key.caption for key in _ERRORS), *(heading for _, heading, _ in _FURTHER)]
    for name, title in titles.items():
        lines += [f"**{title}**", "", f"| {' | '.join(headings)} |", "|" + "---|" * len(headings)]
        for rows in zip(*tables[name], strict=True):
            cells = [rows[0]["name"].replace("_", " "), rows[0]["control"]]
            cells += [_median_and_range(key, [row[key.name] for row in rows]) for key in _ERRORS]
            cells += [format(statistics.median(row[name] for row in rows), form) for name, _, form in _FURTHER]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def _median_and_range(key: MetricKey, values: Sequence[float]) -> str:
    median = key.text(statistics.median(values))
    return f"{median} ({key.text(min(values))} to {key.text(max(values))})" if len(values) > 1 else median


if __name__ == "__main__":
    sys.exit(main())
