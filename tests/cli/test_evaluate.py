"""`evaluate`: what is said and refused before anything is computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


def test_the_help_says_what_workers_are_for(command: Callable[..., Any]) -> None:
    told = " ".join(command("evaluate", "--help").out.replace("│", " ").split())
    assert "--workers" in told
    assert "one per core" in told and "the scores stay the same" in told


@pytest.mark.parametrize("count, why", [("0", "equal to 1"), ("-1", "equal to 1"), ("many", "integer")])
def test_no_workers_are_refused(command: Callable[..., Any], count: str, why: str) -> None:
    command("evaluate", "vq-ldm", "--workers", count).refused("--workers", why)
