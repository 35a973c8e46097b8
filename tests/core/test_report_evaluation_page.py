"""The page of an evaluation: every number with its interval, old scores without them, verdicts from the value."""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import pytest

from napari_vqldm.report.evaluate import Evaluation
from napari_vqldm.report.evaluation_page import evaluation_page
from napari_vqldm.report.evaluation_tables import number_text, percent_text, value_text, with_interval
from napari_vqldm.report.fidelity import MICRO_MS3IM, NO_MICRO_MS3IM
from napari_vqldm.report.page import Section, render_html
from napari_vqldm.report.profile import Profile
from napari_vqldm.report.scores import score_rows
from napari_vqldm.report.sets import VolumeSet
from napari_vqldm.report.standards import RECONSTRUCTION

Draw = Callable[..., Profile]
INTERVAL = r"\S+ to \S+"


def reconstruction() -> dict[str, Any]:
    def entry(value: float) -> dict[str, float]:
        return {"value": value, "low": value - 0.1, "high": value + 0.1}

    keys = ("psnr_clean_unit_range_db", "ssim3d_unit_range", MICRO_MS3IM)
    rows = {name: {key: entry(30.0) for key in keys} for name in ("model", "noisy", "gaussian", "pooled", "blank")}
    card = dict.fromkeys(RECONSTRUCTION, 0.9)
    return {
        "volumes": 8,
        "rows": rows | {"clean": {"centre_line_f1": entry(0.9)}},
        "scorecard": card,
        "scorecard_intervals": {name: {"low": 0.85, "high": 0.95} for name in card},
        "verdicts": {name: RECONSTRUCTION[name].judge(value) for name, value in card.items()},
        "notes": [],
    }


@pytest.fixture(scope="module")
def found(draw_profile: Draw) -> Evaluation:
    rng = np.random.default_rng(0)
    shifts = {"reference": 0.0, "candidate": 1.0, "another seed": 0.0, "blurred": 8.0}
    measured = {name: [draw_profile(rng, shift) for _ in range(8)] for name, shift in shifts.items()}
    scores = score_rows(measured, "another seed") | {
        "candidate": {"name": "ours"}, "against": "a tier", "track": "simulated", "effort": "quick",
        "volumes_per_set": 8, "extractor": {"version": "none"}, "created": "2026-01-01", "notes": [],
        "tracer_bias": ["no bias"], "reconstruction": reconstruction(),
    }  # fmt: skip
    sets = {name: VolumeSet(name, [rng.random((4, 16, 16), np.float32)] * 8, "simulated") for name in shifts}
    return Evaluation(scores, sets, measured)


def section(found: Evaluation, title: str) -> Section:
    return next(s for s in evaluation_page(found).sections if s.title == title)


def cells(part: Section, column: str) -> list[str]:
    assert part.table is not None
    index = part.table.columns.index(column)
    return [row[index] for row in part.table.rows]


def test_every_number_stands_with_its_interval(found: Evaluation) -> None:
    card = cells(section(found, "Scorecard"), "candidate")
    told = [text for text in card if not text.startswith("-\n")]  # eight volumes: no distance of morphologies
    assert len(told) == len(card) - 1
    for text in told:
        assert re.fullmatch(rf"\S+\n\({INTERVAL}\)\n(excellent|acceptable|between|poor|too near|no verdict)", text), (
            text
        )
    assert all("\n" in text for text in cells(section(found, "Distances to the reference"), "blurred")[:9])
    assert re.search(rf"length density \S+\s% \({INTERVAL}\s%\)", section(found, "Filaments, in micrometres").text)
    assert cells(section(found, "Reconstruction"), "model")[0] == "0.9\n(0.85 to 0.95)"
    page = render_html(evaluation_page(found))
    assert '<td>0.9 <span class="more">(0.85 to 0.95)</span></td>' in page
    assert ">nan" not in page
    assert "None" not in page


def test_scores_without_intervals_still_make_a_page(found: Evaluation) -> None:
    scores = deepcopy(found.scores)
    for row in scores["rows"].values():
        for name in ("intervals", "scorecard_intervals", "relative_intervals"):
            del row[name]
    for name in ("scorecard_intervals", "notes"):
        del scores["reconstruction"][name]
    old = Evaluation(scores, found.sets, found.profiles)
    for title, column in (("Scorecard", "another seed"), ("Reconstruction", "model")):
        assert not any("\n" in text for text in cells(section(old, title), column))
    assert [text.split("\n")[0] for text in cells(section(found, "Scorecard"), "blurred")] == cells(
        section(old, "Scorecard"), "blurred"
    )


def test_micro_ms3im_is_a_row_or_a_note(found: Evaluation) -> None:
    part = section(found, "Reconstruction, beside simple filters")
    assert "MicroMS3IM, mean over planes" in cells(part, "")
    scores = deepcopy(found.scores)
    for row in scores["reconstruction"]["rows"].values():
        row.pop(MICRO_MS3IM, None)
    scores["reconstruction"]["notes"] = [NO_MICRO_MS3IM]
    without = section(Evaluation(scores, found.sets, found.profiles), "Reconstruction, beside simple filters")
    assert "MicroMS3IM, mean over planes" not in cells(without, "")
    assert without.table is not None
    assert without.table.note == NO_MICRO_MS3IM


def test_numbers_are_short() -> None:
    assert number_text(float("nan")) == number_text(None) == "-"
    assert number_text(0.123456) == "0.123"
    assert number_text(198_765.0) == "199000"
    assert number_text(-1.2e9) == "-1.2e+09"
    assert with_interval(1.0, {"low": None, "high": None}) == "1"
    assert value_text({"value": None, "low": None, "high": None}) == "-"
    assert value_text(3) == "3"
    assert percent_text(-0.051, {"low": -0.1, "high": 0.004}) == "-5\u00a0% (-10 to +0\u00a0%)"
    assert percent_text(None, None) == "-"
