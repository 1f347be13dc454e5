"""Charts hold their data, survive what is not finite, and never turn a name into markup."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from noise2pose.reports.charts import Line, bar_chart, line_chart, sheet, stroke

NASTY = "<script>alert('1')</script> \"&"


def elements(panel, tag):
    return [found for found in ElementTree.fromstring(panel.svg).iter() if found.tag.endswith("}" + tag)]


def points(panel):
    return [
        np.array([pair.split(",") for pair in line.get("points").split()], float)
        for line in elements(panel, "polyline")
    ]


def test_lines_keep_their_order_and_stay_inside():
    x = np.arange(50.0)
    panel = line_chart([Line(stroke(0, "up"), x, x + 60), Line(stroke(1, "down"), x, 110 - x)], "steps", "error")
    up, down = points(panel)
    assert (np.diff(up[:, 0]) >= 0).all() and (np.diff(up[:, 1]) < 0).all() and (np.diff(down[:, 1]) > 0).all()
    for line in (up, down):
        assert (line >= 0).all() and (line <= panel.size).all()


def test_a_long_line_is_thinned_and_keeps_its_lowest_point():
    values = np.full(5000, 9.0)
    values[1234] = 8.0
    (line,) = points(line_chart([Line(stroke(0, "a"), np.arange(5000.0), values, dot=True)], "x", "y"))
    assert len(line) < 200 and (line[:, 1] == line[:, 1].max()).sum() == 1


@pytest.mark.parametrize(
    "values", [[np.nan, 2.0, 3.0], [np.nan, np.nan], [0.0, 0.0], [5.0], [1e-3, 1e4], [-4.0, 900.0]]
)
def test_any_values_can_be_drawn(values):
    panel = line_chart([Line(stroke(0, "a"), np.arange(float(len(values))), np.array(values), dot=True)], "x", "y")
    assert "nan" not in panel.svg and "inf" not in panel.svg
    assert [len(line) for line in points(panel)] == [n for n in [int(np.isfinite(values).sum())] if n]


def test_bars_are_as_long_as_their_values():
    rows = [(stroke(0, "a"), [10.0, 20.0, None]), (stroke(1, "b"), [5.0, float("nan"), 40.0])]
    widths = [float(bar.get("width")) for bar in elements(bar_chart(["x", "y", "z"], rows, "mm"), "rect")]
    assert np.allclose(np.array(widths) / widths[0], [1.0, 0.5, 2.0, 4.0], atol=0.02)


def test_names_are_text_in_every_part():
    line = line_chart([Line(stroke(0, NASTY), np.arange(3.0), np.arange(3.0))], NASTY, NASTY)
    bars = bar_chart([NASTY], [(stroke(0, NASTY), [1.0])], NASTY)
    whole = ElementTree.fromstring(sheet([line, bars], [stroke(0, NASTY)], 2))
    assert {found.tag.split("}")[1] for found in whole.iter()} <= {"svg", "path", "text", "title", "polyline", "rect"}
    assert not re.search("<script", line.svg + bars.svg)
    assert NASTY in [found.text for found in elements(line, "text")]
