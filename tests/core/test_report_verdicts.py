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
from napari_vqldm.report.standards import GENERATION

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


def test_every_verdict_is_told(found: Evaluation) -> None:
    kinds = ["excellent", "acceptable", "between", "poor", "too near", "unknown"]
    text = lead(found, kinds + 5 * ["poor"])
    assert text == (
        "Generated volumes: 1 excellent, 1 acceptable, 1 between acceptable and poor; "
        f"poor: {', '.join([TITLES[3], *TITLES[6:]])}; nearer than any draw: {TITLES[4]}; not measured: {TITLES[5]}."
    )
    assert lead(found, 11 * ["poor"]).startswith("Generated volumes: nothing acceptable; poor: Frechet distance, ")
    assert lead(found, 11 * ["excellent"]) == "Generated volumes: 11 excellent."
