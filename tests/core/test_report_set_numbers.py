"""Numbers of a set of filaments: what does not bend has no persistence length, and the report says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from napari_vqldm.cli.console import to_json_text
from napari_vqldm.metrics.morphology import morphology
from napari_vqldm.report.evaluation_tables import value_text
from napari_vqldm.report.profile import Profile
from napari_vqldm.report.set_numbers import NO_BENDING, set_numbers

EXTENT = (6.4, 12.8, 12.8)


@pytest.fixture(scope="module")
def bent(draw_profile: Callable[..., Profile]) -> list[Profile]:
    rng = np.random.default_rng(3)
    return [draw_profile(rng) for _ in range(6)]


def straight(profile: Profile) -> Profile:
    lines = [np.array([[1.0 + 0.4 * k, 1.0, 0.5], [1.0 + 0.4 * k, 11.0, 12.0]]) for k in range(8)]
    return replace(profile, morphology=morphology(lines, EXTENT))


def test_straight_filaments_have_an_infinite_persistence_length_without_interval(bent: list[Profile]) -> None:
    found = set_numbers([straight(p) for p in bent])["persistence_length_um"]
    assert found == {"value": float("inf"), "low": None, "high": None, "reason": NO_BENDING}
    stored = json.loads(to_json_text(found))  # strict JSON knows no infinity
    assert stored == {"value": None, "low": None, "high": None, "reason": NO_BENDING}
    assert value_text(found) == value_text(stored) == "no bending"


def test_bending_below_rounding_is_none(bent: list[Profile]) -> None:
    tiny = [replace(p, morphology=replace(p.morphology, persistence_length_um=1e12)) for p in bent]
    assert set_numbers(tiny)["persistence_length_um"]["value"] == float("inf")


def test_a_few_straight_volumes_leave_the_interval_open_above(bent: list[Profile]) -> None:
    found = set_numbers([straight(bent[0]), straight(bent[1]), straight(bent[2]), bent[3]])["persistence_length_um"]
    expected = 4.0 * bent[3].morphology.persistence_length_um
    assert found["value"] == pytest.approx(expected)
    assert 0.0 < found["low"] < expected and found["high"] == float("inf")
    assert "reason" not in found


def test_bent_filaments_keep_a_finite_interval(bent: list[Profile]) -> None:
    found = set_numbers(bent)["persistence_length_um"]
    assert found["value"] == pytest.approx(1.0 / np.mean([p.morphology.bending_per_um for p in bent]))
    assert 0.0 < found["low"] <= found["value"] <= found["high"] < 100.0
    assert value_text(found).count("\n") == 1
