"""Charts as SVG: sharp at any size, a few kilobytes each, readable on white and on dark paper, without matplotlib.

Every text is escaped here, so that no name of a run or a method becomes markup.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from noise2pose.rendering.skeletons import NEUTRAL

_COLORS = ("#0072B2", "#D55E00", "#009E73", "#AA5FA0", "#B8860B", "#3A9BD1")  # distinct, on white and on dark paper
_DASHES = ("", "7 4", "2 3", "9 3 2 3")  # once the colours are used up
NUM_COLORS = len(_COLORS)
_SIZE = (480, 300)  # of a chart of lines
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 12, 44  # margins
_MOST_POINTS = 160  # of a line: more than a screen shows
_BAR, _GAP, _LABEL = 8, 9, 112  # height of a bar, between groups, width of their names
_TITLE, _KEY = 34, 20  # heights in a sheet: of a title, of a line of the legend
FONT = 'font-family="system-ui,Helvetica,Arial,sans-serif"'


@dataclass(frozen=True)
class Panel:
    """One drawing.

    Attributes:
        svg: a whole `<svg>` element.
        size: width and height of its coordinates.
        title: above it, plain text.
    """

    svg: str
    size: tuple[int, int]
    title: str = ""


@dataclass(frozen=True)
class Stroke:
    """How a line, or what it stands for in a legend, is drawn."""

    label: str
    color: str
    dash: str = ""
    width: float = 2.0
    opacity: float = 1.0

    def attributes(self) -> str:
        """As attributes of an SVG element."""
        dash = f' stroke-dasharray="{self.dash}"' if self.dash else ""
        faint = f' opacity="{self.opacity:g}"' if self.opacity < 1 else ""
        return f'stroke="{self.color}" stroke-width="{self.width:g}" fill="none"{dash}{faint}'


@dataclass(frozen=True)
class Line:
    """Points of a chart, joined; those that are not finite are left out."""

    stroke: Stroke
    x: np.ndarray
    y: np.ndarray
    dot: bool = False  # at the lowest point


def stroke(number: int, label: str) -> Stroke:
    """The colour and dashes of a row of a table, the same in every chart."""
    return Stroke(label, _COLORS[number % NUM_COLORS], _DASHES[number // NUM_COLORS % len(_DASHES)])


def line_chart(lines: Sequence[Line], x: str, y: str, from_zero: bool = False) -> Panel:
    """Lines over an axis; the vertical one is logarithmic where values differ by more than four times.

    Args:
        lines: at least one.
        x, y: titles of the axes.
        from_zero: whether the vertical axis starts at 0.
    """
    xs = np.concatenate([line.x[np.isfinite(line.y)] for line in lines])
    ys = np.concatenate([line.y[np.isfinite(line.y)] for line in lines])
    xs, ys = (values if len(values) else np.array([0.0, 1.0]) for values in (xs, ys))
    log = not from_zero and ys.min() > 0 and ys.max() > 4 * ys.min()
    to_y: Callable[[Any], Any] = np.log10 if log else np.asarray
    low, high = (0.0 if from_zero else ys.min()), ys.max()
    span = float(to_y(high) - to_y(low)) or abs(float(to_y(high))) or 1.0
    bottom, top = float(to_y(low)) - (0 if from_zero else 0.04 * span), float(to_y(high)) + 0.04 * span
    width, height = _SIZE
    left, right = float(xs.min()), float(xs.max() if xs.max() > xs.min() else xs.min() + 1.0)

    def place_x(values: np.ndarray | float) -> np.ndarray:
        return _LEFT + (np.asarray(values) - left) / (right - left) * (width - _LEFT - _RIGHT)

    def place_y(values: np.ndarray | float) -> np.ndarray:
        return height - _BOTTOM - (to_y(values) - bottom) / (top - bottom) * (height - _BOTTOM - _TOP)

    ticks = _log_ticks(10**bottom, 10**top) if log else _ticks(bottom, top)
    parts = [_rule(_LEFT, float(place_y(tick)), width - _RIGHT) for tick in ticks]
    parts += [_text(_LEFT - 6, float(place_y(tick)) + 4, f"{tick:g}", "end") for tick in ticks]
    parts += [
        _text(float(place_x(tick)), height - _BOTTOM + 17, _short(tick), "middle") for tick in _ticks(left, right)
    ]
    parts += [_text((width + _LEFT) / 2, height - 8, x, "middle"), _upright_text(13, (height - _BOTTOM) / 2, y)]
    for line in lines:
        shown = _thinned(line)
        if not len(shown):
            continue
        px, py = place_x(line.x[shown]), place_y(line.y[shown])
        points = " ".join(f"{a:.0f},{b:.1f}" for a, b in zip(px, py, strict=True))
        title = f"<title>{escape(line.stroke.label)}</title>"
        parts.append(f'<polyline {line.stroke.attributes()} points="{points}">{title}</polyline>')
        if line.dot:
            best = int(np.argmin(line.y[shown]))
            parts.append(f'<circle cx="{px[best]:.0f}" cy="{py[best]:.1f}" r="3.5" fill="{line.stroke.color}"/>')
    return _panel(parts, _SIZE)


def bar_chart(groups: Sequence[str], bars: Sequence[tuple[Stroke, Sequence[float | None]]], unit: str) -> Panel:
    """Horizontal bars from 0, one for each group and stroke.

    Args:
        groups: names, from top to bottom.
        bars: of each stroke, a value for each group; None where there is none.
        unit: title of the axis.
    """
    width, step = _SIZE[0], len(bars) * _BAR + _GAP
    height = _TOP + len(groups) * step + _BOTTOM
    known = [value for _, values in bars for value in values if value is not None and math.isfinite(value)]
    most = max(known, default=1.0) or 1.0
    scale = (width - _LABEL - _RIGHT - 34) / most
    parts = []
    for tick in _ticks(0.0, most):
        at = _LABEL + tick * scale
        parts.append(f'<path d="M{at:.0f} {_TOP}V{height - _BOTTOM}" stroke="{NEUTRAL}" opacity=".25"/>')
        parts.append(_text(at, height - _BOTTOM + 15, f"{tick:g}", "middle"))
    parts.append(_text((width + _LABEL) / 2, height - 8, unit, "middle"))
    for i, group in enumerate(groups):
        top = _TOP + i * step
        parts.append(_text(_LABEL - 7, top + step / 2 - _GAP / 2 + 4, _cut(group, 17), "end"))
        for j, (mark, values) in enumerate(bars):
            value = values[i]
            if value is None or not math.isfinite(value):
                continue
            title = f"<title>{escape(f'{group}: {mark.label} {value:.1f}')}</title>"
            parts.append(
                f'<rect x="{_LABEL}" y="{top + j * _BAR:g}" width="{value * scale:.1f}" height="{_BAR - 1}" '
                f'fill="{mark.color}">{title}</rect>'
            )
    return _panel(parts, (width, height))


def sheet(panels: Sequence[Panel], legend: Sequence[Stroke], columns: int) -> str:
    """Panels and their legend in one SVG, as a file of its own.

    Args:
        panels: at least one.
        legend: below them.
        columns: panels in a row, at most.
    """
    columns = min(columns, len(panels))
    width, height = (max(panel.size[axis] for panel in panels) for axis in (0, 1))
    title = _TITLE if any(panel.title for panel in panels) else 0
    parts, rows = [], -(-len(panels) // columns)
    for i, panel in enumerate(panels):
        x, y = i % columns * width, i // columns * (height + title)
        if panel.title:
            parts.append(_text(x + width / 2, y + 20, _cut(panel.title, width // 7), "middle"))
        parts.append(panel.svg.replace("<svg ", f'<svg x="{x}" y="{y + title}" ', 1))
    y = rows * (height + title)
    for i, mark in enumerate(legend):
        x, row = i % columns * width + 10, y + i // columns * _KEY
        parts.append(f'<path d="M{x} {row + 10}h22" {mark.attributes()}/>')
        parts.append(_text(x + 30, row + 14, _cut(mark.label, (width - 40) // 7)))
    size = (columns * width, y + -(-len(legend) // columns) * _KEY + 8)
    return _panel(parts, size).svg


def _panel(parts: Iterable[str], size: tuple[int, int]) -> Panel:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[0]} {size[1]}" width="{size[0]}" '
    head += f'height="{size[1]}" {FONT} font-size="13">'
    return Panel(f"{head}{''.join(parts)}</svg>", size)


def svg(parts: Iterable[str], size: tuple[int, int], title: str = "") -> Panel:
    """A panel of any other drawing.

    Args:
        parts: SVG elements.
        size: width and height of their coordinates.
        title: above it.
    """
    return Panel(_panel(parts, size).svg, size, title)


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    side = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{x:.0f}" y="{y:.0f}" fill="{NEUTRAL}"{side}>{escape(text)}</text>'


def _upright_text(x: float, y: float, text: str) -> str:
    turned = f'transform="rotate(-90 {x:.0f} {y:.0f})"'
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="middle" fill="{NEUTRAL}" {turned}>{escape(text)}</text>'


def _rule(left: float, y: float, right: float) -> str:
    return f'<path d="M{left} {y:.1f}H{right}" stroke="{NEUTRAL}" opacity=".25"/>'


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers, about five."""
    rough = (high - low) / 5 or 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 10) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [factor * 10.0**power for power in powers for factor in (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)]
    found = [tick for tick in found if low <= tick <= high]
    return found if len(found) <= 9 else [tick for tick in found if f"{tick:e}"[0] in "15" and f"{tick:e}"[2] == "0"]


def _short(value: float) -> str:
    return f"{value / 1000:g}k" if abs(value) >= 10_000 else f"{value:g}"


def _cut(text: str, most: int) -> str:
    """The text, its middle left out where it is too long: names that begin alike often end differently."""
    most = max(most, 8)
    return text if len(text) <= most else f"{text[: most - most // 2 - 1]}..{text[len(text) - most // 2 + 1 :]}"


def _thinned(line: Line) -> np.ndarray:
    """Indices of the points that are drawn, the first, the last and the lowest among them."""
    finite = np.flatnonzero(np.isfinite(line.y))
    if len(finite) <= _MOST_POINTS:
        return finite
    chosen = finite[np.linspace(0, len(finite) - 1, _MOST_POINTS).round().astype(int)]
    return np.unique(np.append(chosen, finite[np.argmin(line.y[finite])]))
