"""Charts are valid SVG with one line per run of finite points."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from napari_vqldm.report.charts import Curve, line_chart


def lines(svg: str) -> list[list[tuple[float, float]]]:
    root = ElementTree.fromstring(svg)
    return [[tuple(map(float, pair.split(","))) for pair in p.attrib["points"].split()] for p in root.iter("polyline")]  # type: ignore[misc]


def test_larger_values_are_higher_and_further_right() -> None:
    (points,) = lines(line_chart([Curve("a <b>", [0, 1, 2], [0, 5, 10])], "x", "y"))
    assert [x for x, _ in points] == sorted(x for x, _ in points)
    assert [y for _, y in points] == sorted((y for _, y in points), reverse=True)


def test_a_gap_breaks_the_line() -> None:
    svg = line_chart([Curve("a", [0, 1, 2, 3, 4], [1, 1, float("nan"), 2, 2])], "x", "y")
    assert [len(run) for run in lines(svg)] == [2, 2]


@pytest.mark.parametrize("values", [[3.0, 3.0], [-1e-9, 1e9]])
def test_any_range_can_be_drawn(values: list[float]) -> None:
    (points,) = lines(line_chart([Curve("a", [0, 1], values)], "x", "y"))
    assert all(0 <= x <= 640 and 0 <= y <= 300 for x, y in points)


def test_nothing_to_draw_is_no_chart() -> None:
    assert line_chart([Curve("a", [0.0], [float("inf")])], "x", "y") == ""
