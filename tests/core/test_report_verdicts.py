"""The page's lead, which is also the one line of the command: every verdict is in it, also what is no merit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy

import numpy as np
import pytest

from napari_vqldm.report.evaluate import Evaluation
from napari_vqldm.report.evaluation_page import evaluation_page
from napari_vqldm.report.profile import Profile
from napari_vqldm.report.scores import score_rows
from napari_vqldm.report.sets import VolumeSet
from napari_vqldm.report.standards import GENERATION, KNOWN_BAD, NO_VERDICT, blind_numbers

TITLES = [standard.title for standard in GENERATION.values()]


@pytest.fixture(scope="module")
def found(draw_profile: Callable[..., Profile]) -> Evaluation:
    rng = np.random.default_rng(0)
    measured = {name: [draw_profile(rng) for _ in range(6)] for name in ("reference", "candidate", "another seed")}
    scores = score_rows(measured, "another seed") | {
        "candidate": {"name": "ours"}, "against": "a tier", "track": "simulated", "effort": "full",
        "volumes_per_set": 6, "extractor": {"version": "none"}, "created": "2026-01-01", "notes": [],
        "tracer_bias": ["no bias"],
    }  # fmt: skip
    sets = {name: VolumeSet(name, [rng.random((4, 16, 16), np.float32)] * 6, "simulated") for name in measured}
    return Evaluation(scores, sets, measured)


def lead(found: Evaluation, verdicts: Sequence[str]) -> str:
    """Return the lead of the page for verdicts in the order of the scorecard."""
    scores = deepcopy(found.scores)
    scores["rows"]["candidate"]["verdicts"] = dict(zip(GENERATION, verdicts, strict=True))
    return evaluation_page(Evaluation(scores, found.sets, found.profiles)).lead


def test_a_copied_set_is_not_called_excellent(found: Evaluation) -> None:
    text = lead(found, ["too near", "unknown"] + 9 * ["excellent"])
    assert text == (
        "Generated volumes: 9 excellent; nearer than any draw: Frechet distance; not measured: kernel distance."
    )


def test_sets_nearer_than_any_draw_have_nothing_acceptable(found: Evaluation) -> None:
    text = lead(found, 11 * ["too near"])
    assert text == f"Generated volumes: nothing acceptable; nearer than any draw: {', '.join(TITLES)}."


def test_what_was_not_measured_is_not_called_unacceptable(found: Evaluation) -> None:
    assert lead(found, 11 * ["unknown"]) == f"Generated volumes: not measured: {', '.join(TITLES)}."


def test_a_number_on_which_no_wrong_set_looks_wrong_has_no_verdict() -> None:
    real = "another seed"
    alike = {real: {"n": "acceptable"}, **{name: {"n": "excellent"} for name in KNOWN_BAD}}
    assert blind_numbers(alike, real) == ["n"]
    assert blind_numbers(alike | {"blurred": {"n": "acceptable"}}, real) == ["n"]
    assert blind_numbers(alike | {"candidate": {"n": "poor"}, "25 % more filament": {"n": "poor"}}, real) == ["n"]
    for told in ("between", "poor", "too near"):
        assert blind_numbers(alike | {"noise only": {"n": told}}, real) == []  # one that is told is enough
    assert blind_numbers(alike | {real: {"n": "excellent"}, "blurred": {"n": "acceptable"}}, real) == []


def test_what_has_no_verdict_decides_nothing() -> None:
    real = "another seed"
    some = {real: {"n": "excellent"}, "blurred": {"n": "excellent"}, "noise only": {"n": "unknown"}}
    assert blind_numbers(some, real) == ["n"]
    assert blind_numbers(some | {real: {"n": "unknown"}}, real) == []
    assert blind_numbers({real: {"n": "excellent"}, "candidate": {"n": "excellent"}}, real) == []
    assert blind_numbers(some | {"blurred": {"n": "unknown"}}, real) == []


@pytest.mark.slow
def test_verdicts_that_mean_nothing_are_withheld_in_every_row_and_the_numbers_stay(
    draw_profile: Callable[..., Profile],
) -> None:
    rng = np.random.default_rng(4)
    measured = {name: [draw_profile(rng) for _ in range(8)] for name in ("reference", "candidate", "another seed")}
    same = score_rows(measured | {"blurred": measured["another seed"]}, "another seed")
    shifted = score_rows(measured | {"blurred": [draw_profile(rng, 8.0) for _ in range(8)]}, "another seed")
    known = [key for key, value in same["rows"]["another seed"]["scorecard"].items() if value is not None]
    assert same["no_verdict"] == dict.fromkeys(known, NO_VERDICT)
    for name, row in same["rows"].items():
        assert {row["verdicts"][key] for key in known} == {"no verdict"}
        if name != "blurred":
            assert row["scorecard"] == shifted["rows"][name]["scorecard"]
    assert "frechet_sds" not in shifted["no_verdict"]
    assert shifted["rows"]["candidate"]["verdicts"]["frechet_sds"] != "no verdict"
    assert shifted["rows"]["blurred"]["verdicts"]["frechet_sds"] == "poor"


def test_the_page_says_why_there_is_no_verdict(found: Evaluation) -> None:
    scores = deepcopy(found.scores) | {"no_verdict": {"kid_sds": NO_VERDICT, "vendi_ratio_sds": NO_VERDICT}}
    for row in scores["rows"].values():
        row["verdicts"] |= dict.fromkeys(scores["no_verdict"], "no verdict")
    page = evaluation_page(Evaluation(scores, found.sets, found.profiles))
    table = page.sections[0].table
    assert table is not None
    assert table.note == f"No verdict: {TITLES[1]}, {TITLES[3]} {NO_VERDICT}."
    assert f"no verdict ({NO_VERDICT}): {TITLES[1]}, {TITLES[3]}" in page.lead
    assert table.rows[1][1].endswith("no verdict")


def test_the_bias_of_the_tracer_is_that_of_the_simulator(found: Evaluation) -> None:
    def note(track: str) -> str:
        page = evaluation_page(Evaluation(found.scores | {"track": track}, found.sets, found.profiles))
        table = next(s for s in page.sections if s.title == "Filaments, in micrometres").table
        assert table is not None
        return table.note

    assert note("simulated") == "no bias."
    assert "simulated volumes of the standard tier: on these stacks it is not known" in note("real stacks")


def test_every_verdict_is_told(found: Evaluation) -> None:
    kinds = ["excellent", "acceptable", "between", "poor", "too near", "unknown"]
    text = lead(found, kinds + 5 * ["poor"])
    assert text == (
        "Generated volumes: 1 excellent, 1 acceptable, 1 between acceptable and poor; "
        f"poor: {', '.join([TITLES[3], *TITLES[6:]])}; nearer than any draw: {TITLES[4]}; not measured: {TITLES[5]}."
    )
    assert lead(found, 11 * ["poor"]).startswith("Generated volumes: nothing acceptable; poor: Frechet distance, ")
    assert lead(found, 11 * ["excellent"]) == "Generated volumes: 11 excellent."
