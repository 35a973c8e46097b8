"""Markdown tables and numbers for the pages that are written from results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Markdown table; the first column is text, the others are numbers."""
    rule = ["---", *("---:" for _ in head[1:])]
    return ["| " + " | ".join(row) + " |" for row in (head, rule, *rows)] + [""]


def number(value: Any) -> str:
    """A value, or a value with its interval, to three or four digits."""
    if isinstance(value, dict):
        return f"{value['value']:.4g} ({value['low']:.4g} to {value['high']:.4g})"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def show(value: Any) -> str:
    """A number to three digits; a dash for none."""
    if isinstance(value, dict):
        value = value.get("value")
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def ranged(value: Any, ends: dict[str, Any] | None) -> str:
    """A number and its 95 % interval, where there is one."""
    if value is None or not ends or ends["low"] is None:
        return show(value)
    return f"{show(value)} ({show(ends['low'])} to {show(ends['high'])})"


def percent(value: float | None, ends: dict[str, Any] | None = None) -> str:
    """A relative difference and its 95 % interval, where there is one."""
    if value is None or not ends or ends["low"] is None:
        return "-" if value is None else f"{100 * value:+.0f} %"
    return f"{100 * value:+.0f} % ({100 * ends['low']:+.0f} to {100 * ends['high']:+.0f} %)"
