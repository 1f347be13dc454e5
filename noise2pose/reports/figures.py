"""The pictures of a report: validation curves, and predictions of the same samples side by side."""

import io
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from noise2pose.errors import InputError
from noise2pose.rendering.figures import comparison_figure
from noise2pose.rendering.skeletons import NEUTRAL
from noise2pose.reports.comparability import Group, same_samples
from noise2pose.reports.runs import Run, Samples
from noise2pose.reports.tables import labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_COLORS = ("#0072B2", "#D55E00", "#009E73", "#AA5FA0", "#B8860B", "#3A9BD1")  # distinct, on white and on dark paper
_DASHES = ("-", "--", ":", "-.")  # once the colours are used up
_NUM_SAMPLES = 6
_DPI = 130


@dataclass(frozen=True)
class Picture:
    """A picture for a wide page and for a narrow one.

    Attributes:
        name: of its file, without ending.
        wide: PNG for a page of a thousand pixels.
        narrow: PNG of the same for a phone.
        alt: description for readers who cannot see it.
        caption: text below it.
    """

    name: str
    wide: bytes
    narrow: bytes
    alt: str
    caption: str


def curves_pictures(runs: Sequence[Run], title: str, name: str) -> list[Picture]:
    """Validation MPJPE over steps and over training time, one picture for each data set.

    Args:
        runs: of one group.
        title: beginning of the captions.
        name: beginning of the files' names.
    """
    pictures = []
    for dataset in dict.fromkeys(dataset for run in runs for dataset in run.curves):
        drawn = [run for run in runs if dataset in run.curves]
        wide, narrow = (_png(_curves_figure(drawn, dataset, columns)) for columns in (2, 1))
        lowest = "; ".join(
            f"{label} {np.fmin.reduce(run.curves[dataset][1]):.1f} mm"
            for run, label in zip(drawn, labels(drawn), strict=True)
        )
        caption = f"{title}: validation MPJPE on {dataset}; a dot marks the lowest ({lowest})."
        if any(run.fit for run in drawn):
            caption += " Time is the run's training time, shared out evenly over its steps."
        if len({run.fit["device"] for run in drawn if run.fit}) > 1:
            caption += " The runs were trained on different devices, so their times do not compare."
        alt = "Curves of the validation MPJPE over training steps and over training time"
        pictures.append(Picture(f"{name}_{dataset}", wide, narrow, alt, caption))
    return pictures


def sparsification_pictures(group: Group) -> list[Picture]:
    """Error over the share of joints left out, those with the widest spread first; of runs with several hypotheses."""
    runs = [run for run in group.runs if run.sparsification()]
    if not runs:
        return []
    wide, narrow = (_png(_sparsification_figure(runs, columns)) for columns in (2, 1))
    caption = (
        f"Protocol {group.letter}: the steeper, the better the spread tells where the error is. Thin lines show the "
        "same if the truly worst joints are left out, which needs the ground truth and is only the reference."
    )
    alt = "Curves of the mean error over the share of joints removed"
    return [Picture(f"sparsification_{group.letter}", wide, narrow, alt, caption)]


def sample_pictures(group: Group) -> list[Picture]:
    """The input and every run's answer for the same samples of a group, which are not chosen by error."""
    from noise2pose import skeletons

    runs = [run for run in group.runs if run.samples and same_samples(group.runs[0], run)]
    rows = [{name: i for i, name in enumerate(run.samples.sample_id)} for run in runs if run.samples]
    common = [name for name in (rows[0] if rows else []) if all(name in row for row in rows)]
    chosen = [common[i] for i in np.linspace(0, len(common) - 1, min(_NUM_SAMPLES, len(common))).astype(int)]
    if not chosen:
        return []
    first, root, pictures = _samples(runs[0]), group.protocol.root, []
    skeleton = skeletons.get(first.skeleton)
    if skeleton.num_joints != first.target.shape[1]:
        raise InputError(
            f"{runs[0].folder / 'test_samples.npz'}: {first.target.shape[1]} joints, but {first.skeleton} has "
            f"{skeleton.num_joints}"
        )
    for number, name in enumerate(chosen, start=1):
        predictions, words = [], []
        for run, row, label in zip(runs, rows, labels(runs), strict=True):
            error = sample_errors(run)[row[name]]
            predictions.append((f"{textwrap.fill(label, 28)}\n{error:.1f} mm", _samples(run).prediction[row[name]]))
            words.append(f"{label} {error:.1f} mm")
        i = rows[0][name]
        wide, narrow = (
            _png(
                comparison_figure(
                    first.keypoints_2d[i],
                    first.target[i] - first.target[i, root],
                    [(title, pose - pose[root]) for title, pose in predictions],
                    skeleton,
                    first.image_size[i],
                    columns,
                )
            )
            for columns in (4, 2)
        )
        file = f"sample_{group.letter}{number}"
        alt = "Skeletons of the 2-D input, and of each prediction over the truth"
        pictures.append(Picture(file, wide, narrow, alt, f"{name}. MPJPE: {'; '.join(words)}."))
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


def lines_png(panels: Mapping[str, Mapping[str, Sequence[float]]], x: str, y: str) -> bytes:
    """A PNG with a panel beside each other for each heading, each with the same lines over 0, 1, 2, ...

    Args:
        panels: heading to lines, label to values.
        x, y: titles of the axes.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2 * len(panels), 3.6), facecolor="none", layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False).flat
    drawn = []
    for panel, (ax, (heading, lines)) in enumerate(zip(axes, panels.items(), strict=True)):
        for i, (label, values) in enumerate(lines.items()):
            style = {"color": _COLORS[i // 2 % len(_COLORS)], "linestyle": _DASHES[i % 2]}
            (line,) = ax.plot(range(len(values)), values, linewidth=1.8, label=label, **style)
            drawn += [line] if panel == 0 else []
        ax.set_title(heading, color=NEUTRAL, fontsize=10)
        _style(ax, x, y if panel == 0 else "")
    _legend(figure, drawn, 2)
    return _png(figure)


def _curves_figure(runs: Sequence[Run], dataset: str, columns: int) -> "Figure":
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    timed = [run for run in runs if run.fit and run.fit["steps"] > 0]
    minutes = max((run.fit["seconds"] for run in timed), default=0.0) / 60
    panels = [("training steps", runs, lambda run, steps: steps)]
    if timed:
        unit, scale = ("hours", 3600.0) if minutes > 120 else ("minutes", 60.0) if minutes > 2 else ("seconds", 1.0)
        share = lambda run, steps: steps / run.fit["steps"] * run.fit["seconds"] / scale  # noqa: E731
        panels.append((f"training time ({unit})", timed, share))
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    legend = 0.25 * -(-len(runs) // columns) + 0.1
    figure = Figure(figsize=(5.2 * columns, 3.3 * rows + legend), facecolor="none", layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True).flat
    values = np.concatenate([run.curves[dataset][1] for run in runs])
    values = values[np.isfinite(values)]
    lines = []
    for panel, (ax, (title, shown, position)) in enumerate(zip(axes, panels, strict=False)):
        for i, (run, label) in enumerate(zip(runs, labels(runs), strict=True)):
            if not any(run is one for one in shown):
                continue
            steps, errors = run.curves[dataset]
            style = {"color": _COLORS[i % len(_COLORS)], "linestyle": _DASHES[i // len(_COLORS) % len(_DASHES)]}
            x = position(run, steps)
            (line,) = ax.plot(x, errors, linewidth=1.8, label=label, **style)
            if np.isfinite(errors).any():
                best = np.nanargmin(errors)
                ax.plot(x[best], errors[best], "o", markersize=5, color=style["color"])
            if panel == 0:
                lines.append(line)
        if len(values) and values.min() > 0 and values.max() > 4 * values.min():
            ax.set_yscale("log")
            ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0)))
            ax.yaxis.set_major_formatter(ScalarFormatter())
            ax.yaxis.set_minor_formatter(NullFormatter())
        _style(ax, title, "MPJPE (mm)" if panel % columns == 0 else "")
    _legend(figure, lines, columns)
    return figure


def _sparsification_figure(runs: Sequence[Run], columns: int) -> "Figure":
    from matplotlib.figure import Figure

    legend = 0.25 * -(-(len(runs) + 1) // columns) + 0.1
    figure = Figure(figsize=(5.2, 3.3 + legend), facecolor="none", layout="constrained")
    ax = figure.subplots()
    lines = []
    for i, (run, label) in enumerate(zip(runs, labels(runs), strict=True)):
        curve, color = run.sparsification(), _COLORS[i % len(_COLORS)]
        style = _DASHES[i // len(_COLORS) % len(_DASHES)]
        lines += ax.plot(curve["removed"], curve["error"], linewidth=1.8, label=label, color=color, linestyle=style)
        (worst,) = ax.plot(curve["removed"], curve["oracle_error"], linewidth=0.8, color=color, alpha=0.6)
        worst.set_label("truly worst removed" if i == 0 else "_")
        lines += [worst] if i == 0 else []
    ax.set_ylim(bottom=0.0)
    _style(ax, "most uncertain joints removed (%)", "mean error of the rest (mm)")
    _legend(figure, lines, columns)
    return figure


def _style(ax: "Axes", x: str, y: str) -> None:
    ax.set_facecolor("none")
    ax.set_xlabel(x, color=NEUTRAL)
    ax.set_ylabel(y, color=NEUTRAL)
    ax.tick_params(colors=NEUTRAL, which="both", labelsize=9)
    ax.grid(color=NEUTRAL, alpha=0.25, linewidth=0.6)
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(NEUTRAL)


def _legend(figure: "Figure", lines: "list[Line2D]", columns: int) -> None:
    figure.legend(
        handles=lines, loc="outside lower center", ncols=columns, frameon=False, labelcolor=NEUTRAL, fontsize=9
    )


def _png(figure: "Figure") -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=_DPI, metadata={"Software": None})
    return file.getvalue()
