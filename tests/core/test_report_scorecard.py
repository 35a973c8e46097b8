"""Names of scores: one source for the card in the dock, the command line and the pages of the benchmarks."""

from __future__ import annotations

from typing import Any

import pytest

from napari_vqldm.card import read_header
from napari_vqldm.report.scorecard import GATES, gate_title, group_scores, read_scores, untold
from napari_vqldm.report.standards import GENERATION, RECONSTRUCTION
from napari_vqldm.zoo import available

CARD: dict[str, Any] = {
    "created": "today",
    "gates": {
        "psnr_above_gaussian_db": {"value": 5.23, "rule": ">=", "limit": 1.5, "passed": True, "parts": {"known": 5.4}},
        "new_gate": {"value": None, "rule": "<=", "limit": 2.0, "passed": False},
    },
    "evaluation": {
        "cells": {
            "setting": "full",
            "generation": {"kid_sds": {"value": 6.0, "low": 5.5, "high": 6.25, "verdict": "between"}},
            "floors": {"mean": {"kid": 0.004}},
        }
    },
}


def test_scores_have_names_units_and_verdicts() -> None:
    rows = {score.path: (score.measured, score.on, *score.row) for score in read_scores(CARD)}
    gaussian = "PSNR to the noise-free truth, above a Gaussian filter, dB"
    limits = "limits for release"
    assert rows == {
        ("gates", "psnr_above_gaussian_db"): (
            "Reconstruction", f"{limits}, simulated track", gaussian, "5.23 (wanted >= 1.5): passed"
        ),
        ("gates", "new_gate"): ("Other", limits, "new gate", "not known (wanted <= 2): missed"),
        ("evaluation", "cells", "generation", "kid_sds"): (
            "Samples", "cells, real track", "kernel distance, sd", "6 (5.5 to 6.25): between"
        ),
    }  # fmt: skip
    groups = group_scores(read_scores(CARD))
    assert [group.heading.split(":")[0] for group in groups] == ["Reconstruction", "Samples", "Other"]


def test_what_has_another_form_is_left_over_and_nothing_is_lost() -> None:
    assert untold(CARD) == {
        "created": "today",
        "gates": {"psnr_above_gaussian_db": {"parts": {"known": 5.4}}, "new_gate": {}},
        "evaluation": {"cells": {"setting": "full", "generation": {"kid_sds": {}}, "floors": {"mean": {"kid": 0.004}}}},
    }


@pytest.mark.parametrize("damaged", [{}, {"gates": 3, "evaluation": {"x": [1]}}, {"gates": {"a": {"value": 1}}}])
def test_a_damaged_scorecard_has_no_scores_and_is_left_over(damaged: dict[str, Any]) -> None:
    assert read_scores(damaged) == [] and untold(damaged) == damaged


@pytest.mark.parametrize("name", sorted(available()))
def test_every_score_of_the_bundled_models_has_a_name(name: str) -> None:
    scores = read_scores(read_header(available()[name]).card.scorecard)
    keys = {score.path[-1] for score in scores}
    assert keys <= GATES.keys() | GENERATION.keys() | RECONSTRUCTION.keys() and len(keys) > 20
    assert gate_title("file_mib") == "file, MiB"
