"""The figures of a report: validation curves, bars, calibration, and predictions of the same samples side by side."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from noise2pose.errors import InputError
from noise2pose.metrics.keys import CALIBRATION, POSE_ERRORS, main_error
from noise2pose.rendering.skeletons import LEFT, MIDDLE, NEUTRAL, RIGHT
from noise2pose.rendering.vector import SIDE, keypoints_svg, poses_svg
from noise2pose.reports.charts import NUM_COLORS, Line, Panel, Stroke, bar_chart, line_chart, stroke, svg
from noise2pose.reports.comparability import Group, same_samples
from noise2pose.reports.curves import LOSSES
from noise2pose.reports.entries import Entry
from noise2pose.reports.runs import Run, Samples
from noise2pose.reports.tables import labels
from noise2pose.skeleton_tables import SKELETONS

_NUM_SAMPLES = 6
_MOST_PANELS = 12  # predictions of one sample
_KEYS = {key.name: key for key in (*POSE_ERRORS, *CALIBRATION)}
_SIDES = (
    Stroke("left", LEFT),
    Stroke("right", RIGHT),
    Stroke("middle", MIDDLE),
    Stroke("truth", NEUTRAL, "", 6.5, 0.4),
)


@dataclass(frozen=True)
class Picture:
    """A figure of one or more panels.

    Attributes:
        name: of its file, without ending.
        panels: in their order.
        legend: of all panels.
        alt: description for readers who cannot see it.
        caption: text below it.
        choice: what is to be chosen to see it, among the figures of its section; empty if it is always shown.
    """

    name: str
    panels: Sequence[Panel]
    legend: Sequence[Stroke]
    alt: str
    caption: str
    choice: str = ""


def curves_pictures(entries: Sequence[Entry], title: str, name: str) -> list[Picture]:
    """Every number that a training logs over steps, one picture each, the main error first and over time as well.

    Args:
        entries: of one group.
        title: beginning of the captions.
        name: beginning of the files' names.
    """
    pictures, runs = [], [entry.middle for entry in entries]
    shown = {(dataset, metric) for run in runs for dataset, found in run.curves.items() for metric in found}
    for dataset, metric in sorted(shown, key=_rank):
        drawn = {i: run for i, run in enumerate(runs) if metric in run.curves.get(dataset, {})}
        strokes = {i: stroke(i, label) for i, label in enumerate(labels(entries)) if i in drawn}
        key, of_main = _KEYS.get(metric), metric in (main_error(3).name, main_error(2).name)
        words = f"{key.caption} ({key.unit})" if key else f"training {metric}"
        curves = {i: run.curves[dataset][metric] for i, run in drawn.items()}
        lowest = key is not None and key.best == "min"
        panels = [
            line_chart([Line(strokes[i], x, y, lowest) for i, (x, y) in curves.items()], "training steps", words),
            *(_over_time(drawn, strokes, dataset, metric, words) if of_main else []),
        ]
        caption = f"{title}: {'validation ' if key else ''}{words}{f' on {dataset}' if dataset else ''}."
        if lowest:
            best = (f"{strokes[i].label} {np.fmin.reduce(y):.1f}" for i, (_, y) in curves.items())
            caption = f"{caption[:-1]}; a dot marks the lowest ({'; '.join(best)})."
        if key is None:
            caption += " Losses of different methods do not compare."
        if any(len(entry.runs) > 1 for entry in entries):
            caption += " Of several seeds, the run in the middle is drawn."
        if len(panels) > 1:
            caption += " Time is the run's training time, shared out evenly over its steps."
            if len({run.fit["device"] for run in drawn.values() if run.fit}) > 1:
                caption += " The runs were trained on different devices, so their times do not compare."
        choice = f"{words}{f', {dataset}' if dataset else ''}"
        file = f"{name}_{dataset or 'train'}_{metric.replace('/', '_')}"
        alt = f"Curves of {words} over training steps"
        pictures.append(Picture(file, panels, list(strokes.values()), alt, caption, choice))
    return pictures


def bars_pictures(group: Group) -> list[Picture]:
    """The main error by action or sequence, and by joint, of the best rows of a group; none if neither was recorded."""
    error, captions, of_groups = main_error(group.protocol.dimensions), group.protocol.group_captions, []
    for entry in group.entries:
        found = entry.middle.by_group().get("metrics", {}).get(error.name)
        values = found["values"] if found else {}
        order = [*(name for name in captions if name in values), *sorted(set(values).difference(captions))]
        of_groups.append({captions.get(name) or name: values[name] for name in order})
    by_joint = [entry.joints() for entry in group.entries]
    drawn = [i for i in range(len(by_joint)) if of_groups[i] or by_joint[i]][:NUM_COLORS]
    panels, names = [], labels(group.entries)
    for heading, tables in ((f"by {group.protocol.groups}", of_groups), ("by joint", by_joint)):
        if keys := list(dict.fromkeys(key for i in drawn for key in tables[i])):
            rows = [(stroke(i, names[i]), [tables[i].get(key) for key in keys]) for i in drawn]
            panel = bar_chart([key.replace("_", " ") for key in keys], rows, f"{error.caption} ({error.unit})")
            panels.append(replace(panel, title=f"{error.caption} {heading}"))
    if not panels:
        return []
    legend = [replace(stroke(i, names[i]), dash="", width=7.0) for i in drawn]
    few = f" of the {len(drawn)} best rows" if len(drawn) < len(names) else ""
    what = " and ".join(panel.title.removeprefix(f"{error.caption} ") for panel in panels)
    caption = f"Protocol {group.letter}: {error.caption} {what}{few}, {error.unit}."
    return [Picture(f"bars_{group.letter}", panels, legend, f"Bars of the {error.caption} {what}", caption)]


def sparsification_pictures(group: Group) -> list[Picture]:
    """Error over the share of joints left out, those with the widest spread first; of runs with several hypotheses."""
    drawn = {i: entry.middle for i, entry in enumerate(group.entries) if entry.middle.sparsification()}
    if not drawn:
        return []
    names, lines = labels(group.entries), []
    for i, run in drawn.items():
        curve, mark = {key: np.array(values) for key, values in run.sparsification().items()}, stroke(i, names[i])
        lines.append(Line(mark, curve["removed"], curve["error"]))
        lines.append(Line(Stroke(f"{names[i]}, truly worst", mark.color, "", 0.9, 0.7), *_worst(curve)))
    panel = line_chart(lines, "most uncertain joints removed (%)", "mean error of the rest (mm)", from_zero=True)
    caption = (
        f"Protocol {group.letter}: the steeper, the better the spread tells where the error is. Thin lines show the "
        "same if the truly worst joints are left out, which needs the ground truth and is only the reference."
    )
    legend = [line.stroke for line in lines[::2]]
    alt = "Curves of the mean error over the share of joints removed"
    return [Picture(f"sparsification_{group.letter}", [panel], legend, alt, caption)]


def sample_pictures(group: Group) -> list[Picture]:
    """The input and every row's answer for the same samples of a group, which are not chosen by error."""
    entries = [entry for entry in group.entries if entry.middle.samples and same_samples(group.runs[0], entry.middle)]
    names, entries = labels(entries)[:_MOST_PANELS], entries[:_MOST_PANELS]
    runs = [entry.middle for entry in entries]
    rows = [{name: i for i, name in enumerate(_samples(run).sample_id)} for run in runs]
    common = [name for name in (rows[0] if rows else []) if all(name in row for row in rows)]
    chosen = [common[i] for i in np.linspace(0, len(common) - 1, min(_NUM_SAMPLES, len(common))).astype(int)]
    if not chosen:
        return []
    first, root, pictures = _samples(runs[0]), group.protocol.root, []
    if first.skeleton not in SKELETONS:  # of a version with other skeletons
        raise InputError(f"{runs[0].folder / 'test_samples.npz'}: unknown skeleton {first.skeleton}")
    skeleton, square = SKELETONS[first.skeleton], (SIDE, SIDE)
    if skeleton.num_joints != first.target.shape[1]:
        raise InputError(
            f"{runs[0].folder / 'test_samples.npz'}: {first.target.shape[1]} joints, but {first.skeleton} has "
            f"{skeleton.num_joints}"
        )
    errors = [sample_errors(run) for run in runs]
    for number, name in enumerate(chosen, start=1):
        i = rows[0][name]
        target = first.target[i] - first.target[i, root]
        answers = [_samples(run).prediction[row[name]] for run, row in zip(runs, rows, strict=True)]
        answers = [answer - answer[root] for answer in answers]
        extent = np.concatenate([target, *answers])
        panels = [svg(keypoints_svg(first.keypoints_2d[i], skeleton, first.image_size[i]), square, "2-D input")]
        words = [f"{label} {error[row[name]]:.1f} mm" for label, error, row in zip(names, errors, rows, strict=True)]
        panels += [
            svg(poses_svg(target, answer, skeleton, extent), square, told)
            for answer, told in zip(answers, words, strict=True)
        ]
        alt = "Skeletons of the 2-D input, and of each prediction over the truth"
        caption = f"{name}. MPJPE: {'; '.join(words)}."
        pictures.append(Picture(f"sample_{group.letter}{number}", panels, _SIDES, alt, caption))
    return pictures


def sample_errors(run: Run) -> np.ndarray:
    """(S,) MPJPE of each sample in millimetres, over the joints and around the root of the run's protocol."""
    samples, root, joints = _samples(run), run.protocol.root, run.protocol.joints
    offset = (samples.prediction - samples.prediction[:, root, None]) - (samples.target - samples.target[:, root, None])
    distance = np.linalg.norm(offset, axis=-1)
    return 1000 * distance[:, slice(None) if joints is None else list(joints)].mean(axis=1)


def _samples(run: Run) -> Samples:
    assert run.samples is not None
    return run.samples


def _rank(shown: tuple[str, str]) -> tuple[bool, int, str, str]:
    """Losses last, and metrics in the order of their keys."""
    dataset, metric = shown
    return dataset == LOSSES, list(_KEYS).index(metric) if metric in _KEYS else len(_KEYS), dataset, metric


def _worst(curve: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return curve["removed"], curve["oracle_error"]


def _over_time(drawn: dict[int, Run], strokes: dict[int, Stroke], dataset: str, metric: str, words: str) -> list[Panel]:
    """The same curves over the training time; none if no run recorded it."""
    timed = {i: run for i, run in drawn.items() if run.fit and run.fit["steps"] > 0}
    minutes = max((run.fit["seconds"] for run in timed.values()), default=0.0) / 60
    if not timed:
        return []
    unit, scale = ("hours", 3600.0) if minutes > 120 else ("minutes", 60.0) if minutes > 2 else ("seconds", 1.0)
    lines = []
    for i, run in timed.items():
        steps, values = run.curves[dataset][metric]
        lines.append(Line(strokes[i], steps / run.fit["steps"] * run.fit["seconds"] / scale, values, dot=True))
    return [line_chart(lines, f"training time ({unit})", words)]
