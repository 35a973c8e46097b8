"""Line charts as SVG text, readable in light and dark pages: colours and ink come from the page's own style."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 56, 160, 14, 40
COLOURS = ("var(--ink)", "#d1495b", "#2e86ab", "#66a182", "#edae49", "#8d6bb8", "#8a8f94")


@dataclass(frozen=True)
class Curve:
    """One line of a chart."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


def line_chart(curves: Sequence[Curve], x_label: str, y_label: str) -> str:
    """Draw curves with two axes, ticks at round numbers and a legend; points that are not finite break a line."""
    points = [(x, y) for c in curves for x, y in zip(c.x, c.y, strict=True) if math.isfinite(x) and math.isfinite(y)]
    if not points:
        return ""
    xs, ys = (
        _ticks(min(p[0] for p in points), max(p[0] for p in points)),
        _ticks(min(p[1] for p in points), max(p[1] for p in points)),
    )
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def px(x: float) -> float:
        return LEFT + (x - xs[0]) / (xs[-1] - xs[0]) * (right - LEFT)

    def py(y: float) -> float:
        return bottom - (y - ys[0]) / (ys[-1] - ys[0]) * (bottom - TOP)

    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(y_label)} over '
        f'{escape(x_label)}">'
    ]
    for x in xs:
        parts.append(f'<line class="rule" x1="{px(x):.1f}" y1="{TOP}" x2="{px(x):.1f}" y2="{bottom}"/>')
        parts.append(f'<text x="{px(x):.1f}" y="{bottom + 15}" text-anchor="middle">{x:g}</text>')
    for y in ys:
        parts.append(f'<line class="rule" x1="{LEFT}" y1="{py(y):.1f}" x2="{right}" y2="{py(y):.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{py(y) + 4:.1f}" text-anchor="end">{y:g}</text>')
    parts.append(f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>')
    middle = (TOP + bottom) / 2
    parts.append(f'<text transform="translate(13 {middle}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>')
    for number, curve in enumerate(curves):
        colour = COLOURS[number % len(COLOURS)]
        for run in _runs(curve):
            path = " ".join(f"{px(x):.1f},{py(y):.1f}" for x, y in run)
            parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        y = TOP + 12 + 18 * number
        parts.append(f'<line x1="{right + 12}" y1="{y - 4}" x2="{right + 30}" y2="{y - 4}" stroke="{colour}" '
                     f'stroke-width="2.5"/>')  # fmt: skip
        parts.append(f'<text x="{right + 36}" y="{y}">{escape(curve.name)}</text>')
    return "".join([*parts, "</svg>"])


def _runs(curve: Curve) -> list[list[tuple[float, float]]]:
    runs: list[list[tuple[float, float]]] = [[]]
    for x, y in zip(curve.x, curve.y, strict=True):
        if math.isfinite(x) and math.isfinite(y):
            runs[-1].append((x, y))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if len(run) > 1]


def _ticks(low: float, high: float) -> list[float]:
    """Return 3 to 8 round numbers that enclose a range."""
    if high <= low:
        high = low + 1.0
    raw = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(s * power for s in (1.0, 2.0, 2.5, 5.0, 10.0) if s * power >= raw)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]
