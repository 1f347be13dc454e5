"""The page of the ablations of DiffPose: a table for each test set, and a picture of error and coverage over calls."""

import io
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noise2pose.files import write_bytes, write_text
from noise2pose.metrics.keys import CALIBRATION, MetricKey, named
from noise2pose.reports.significance import Comparison, compare, holm
from scripts.studies import runs
from scripts.studies.diffpose import REFERENCE, ROWS, SWEEPS, Measured

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MPJPE, _PA_MPJPE = named("mpjpe", "pa_mpjpe")
_COVERAGE_50, _COVERAGE_90, _CRPS, _AUSE = CALIBRATION
_LINES = {"encoder": "#777777", "compute": "#D55E00", "gaussian": "#009E73", "diffpose": "#AA5FA0"}  # beside the sweep
_LEVELS = {50: _COVERAGE_50, 90: _COVERAGE_90}
_BLUE, _RED = "#0072B2", "#D55E00"
LEGEND = """MPJPE, PA-MPJPE, CRPS and AUSE in mm, coverage in per cent: medians over the seeds, with the smallest and
the largest. Calls: of the denoiser for each hypothesis; poses/s: with all hypotheses, on the machine named in
test.json. Best: epoch of the best validation, whose weights are tested, of so many. Difference: mean over the people
of all test sets of their error minus that of the same person in the row that is compared with, in mm; p: Wilcoxon's
signed-rank test over people, corrected by Holm within the column. Frames and clips have other test samples: compare
frames with frames."""

Tests = Mapping[int, dict[str, Any]]  # test.json by seed
People = dict[int, dict[str, dict[str, float]]]  # error by seed, metric and person


def write_page(path: Path, splits: Sequence[str], seeds: Sequence[int], quick: bool) -> str:
    """Writes what is finished to a Markdown file and a picture beside it; returns the text, empty if there is none."""
    parts, drawn = [], {}
    for split in splits:
        tests = {row: _tests(row, split, seeds, quick) for row in ROWS}
        for dataset in _datasets(tests):
            parts += [f"## {split}: {dataset}", table(dataset, split, tests, quick)]
            drawn[f"{split}: {dataset}"] = {row: _of(dataset, tests[row]) for row in tests}
        parts += comparisons(split, tests, quick)
        parts += _changes(split, seeds, quick)
    if not parts:
        return ""
    if any(tests[row] for tests in drawn.values() for row in SWEEPS["calls"]):
        picture = path.with_suffix(".png")
        write_bytes(picture, draw(drawn))
        parts.insert(0, f"![Error and coverage over the number of calls]({picture.name})")
    text = "\n\n".join(["# Ablations of DiffPose", LEGEND, *parts])
    write_text(path, text + "\n")
    return text


def table(dataset: str, split: str, tests: Mapping[str, Tests], quick: bool) -> str:
    """One row a row of the study, as Markdown.

    Args:
        dataset: of the test.
        split: key of `SPLITS`.
        tests: of each row, by seed.
        quick: whether these are quick runs.
    """
    found = {row: _of(dataset, tests[row]) for row in tests if _of(dataset, tests[row])}
    header = ["row", "what", "MPJPE", "PA-MPJPE", "CRPS", "in 50 / 90 %", "AUSE", "calls", "poses/s", "parameters",
              "best", "seeds"]  # fmt: skip
    rows = []
    for row, of_seeds in found.items():
        records = list(of_seeds.values())
        coverage = [runs.median(records, key, dataset) for key in _LEVELS.values()]
        speed = statistics.median(record["poses_per_second"] for record in records)
        errors = [runs.median_and_range(records, key, dataset) for key in (_MPJPE, _PA_MPJPE, _CRPS)]
        cells = [row, ROWS[row].what, *errors, " / ".join(filter(None, coverage)), runs.median(records, _AUSE, dataset)]
        cells += [str(records[0]["num_steps"]), f"{speed:,.0f}", f"{records[0]['parameters']:,}"]
        best = _best_epochs([Measured(row, split, seed, quick) for seed in of_seeds])
        rows.append([*cells, best, str(len(records))])
    return runs.markdown(header, rows)


def comparisons(split: str, tests: Mapping[str, Tests], quick: bool) -> list[str]:
    """The paired comparison of each row with its reference, as Markdown; nothing if there are too few people."""
    columns = [
        _compared({row: _people(Measured(row, split, seed, quick) for seed in tests[row]) for row in tests}, metric)
        for metric in ("mpjpe", "crps")
    ]
    found = [row for row in tests if any(row in column for column in columns)]
    header = ["row", "compared with", "difference of MPJPE", "difference of CRPS"]
    rows = [[row, ROWS[row].reference, *(column.get(row, "") for column in columns)] for row in found]
    return [f"### {split}: over people", runs.markdown(header, rows)] if rows else []


def _compared(people: Mapping[str, People], metric: str) -> dict[str, str]:
    """The cell of each row that has enough people in common with its reference."""
    compared: dict[str, Comparison] = {}
    for row in people:
        reference = ROWS[row].reference
        errors, others = (
            {seed: of[metric] for seed, of in people[name].items() if metric in of} for name in (row, reference)
        )
        if row != reference and (comparison := compare(errors, others)):
            compared[row] = comparison
    corrected = holm([comparison.p for comparison in compared.values()])
    return {row: _in_words(compared[row], p) for row, p in zip(compared, corrected, strict=True)}


def _in_words(comparison: Comparison, p: float) -> str:
    return f"{comparison.difference:+.1f} (p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}, {comparison.people} people)"


def _tests(row: str, split: str, seeds: Sequence[int], quick: bool) -> Tests:
    found = {seed: runs.record(Measured(row, split, seed, quick).name, "test.json") for seed in seeds}
    return {seed: test for seed, test in found.items() if test}


def _datasets(tests: Mapping[str, Tests]) -> list[str]:
    """The test sets, in the order in which the rows have them."""
    records = [test for of_seeds in tests.values() for test in of_seeds.values()]
    return list(dict.fromkeys(protocol["dataset"] for test in records for protocol in test["protocols"]))


def _of(dataset: str, tests: Tests) -> Tests:
    """The tests that have the test set."""
    return {seed: test for seed, test in tests.items() if f"test/{dataset}/{_MPJPE.name}" in test["metrics"]}


def _people(measured: Iterable[Measured]) -> People:
    """The errors of the people of all test sets."""
    found: People = {}
    for one in measured:
        for dataset, metrics in (runs.record(one.name, "people.json") or {}).items():
            for metric, people in metrics.items():
                errors = {f"{dataset}/{person}": error for person, error in people.items()}
                found.setdefault(one.seed, {}).setdefault(metric, {}).update(errors)
    return found


def _best_epochs(measured: Sequence[Measured]) -> str:
    """Median epoch of the best validation, and the number of epochs; empty if the row was not trained."""
    found = [best for one in measured if (best := runs.record(one.name, "best.json"))]
    return f"{statistics.median(best['epoch'] for best in found):.0f} of {found[0]['epochs']}" if found else ""


def _changes(split: str, seeds: Sequence[int], quick: bool) -> list[str]:
    """How far apart the answers of the same weights are, for the first seed that has been checked."""
    for seed in seeds:
        found = runs.record(Measured(REFERENCE, split, seed, quick).name, "changes.json")
        if found:
            least = {sweep: min(pairs.items(), key=lambda pair: pair[1]) for sweep, pairs in found.items()}
            words = [f"{sweep} at least {change:.1f} mm ({pair})" for sweep, (pair, change) in least.items()]
            return [
                f"What is varied changes the hypotheses of the same weights ({split}, seed {seed}): {'; '.join(words)}."
            ]
    return []


def draw(tests: Mapping[str, Mapping[str, Tests]]) -> bytes:
    """Error and coverage over the number of calls, a column for each test set, as PNG.

    Args:
        tests: by test set, row and seed.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(tests), 6.4), layout="constrained")
    axes = figure.subplots(2, len(tests), squeeze=False, sharex=True)
    for column, (title, rows) in enumerate(tests.items()):
        dataset = title.partition(": ")[2]
        error, coverage = axes[:, column]
        error.set_title(title, fontsize=10)
        _draw_sweep(error, rows, _MPJPE, dataset, _BLUE, "all calls")
        for row, color in _LINES.items():
            if values := runs.values_of(list(rows[row].values()), _MPJPE, dataset):
                error.axhline(statistics.median(values), color=color, linestyle="--", label=ROWS[row].what)
        for level, color in ((50, _BLUE), (90, _RED)):
            _draw_sweep(coverage, rows, _LEVELS[level], dataset, color, f"in the {level} % interval")
            coverage.axhline(level, color=color, linestyle=":", linewidth=1)
        coverage.set_xlabel("calls")
        coverage.set_ylim(0, 100)
    axes[0, 0].set_ylabel("MPJPE, mm")
    axes[1, 0].set_ylabel("coverage, %")
    for ax in axes[:, 0]:
        ax.legend(fontsize=8, frameon=False)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=130)
    return png.getvalue()


def _draw_sweep(ax: "Axes", rows: Mapping[str, Tests], key: MetricKey, dataset: str, color: str, label: str) -> None:
    """Medians over the seeds, with their range."""
    points = [
        (next(iter(rows[row].values()))["num_steps"], values)
        for row in SWEEPS["calls"]
        if (values := runs.values_of(list(rows[row].values()), key, dataset))
    ]
    calls = [call for call, _ in points]
    ax.set_xticks(calls)
    ax.plot(calls, [statistics.median(values) for _, values in points], color=color, marker="o", label=label)
    ax.fill_between(calls, [min(v) for _, v in points], [max(v) for _, v in points], color=color, alpha=0.15)
