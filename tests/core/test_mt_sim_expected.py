"""The metrics still score MT-Sim v1 as its packaged expected numbers say: one volume of each tier, computed again."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from napari_vqldm.simulate.mt_sim import TIERS
from napari_vqldm.simulate.tiers import read_data

# A changed metric moves its number by more, rounding on another machine by less.
RELATIVE = 1e-3


@pytest.mark.parametrize("tier_name", [pytest.param(t, marks=pytest.mark.slow if t != "sparse" else ()) for t in TIERS])
def test_the_first_volume_scores_what_is_recorded(tier_name: str, load: Callable[[str], ModuleType]) -> None:
    tier: dict[str, Any] = read_data("mt-sim-v1-expected.json")["tiers"][tier_name]
    recorded = tier["first_volume"]
    found = load("mt_sim").first_volume(tier_name, tuple(tier["reconstruction"]["gaussian_sigma_voxels"]))
    assert set(found) == set(recorded) == {"noisy", "gaussian", "pooled", "blank"}
    for row, numbers in recorded.items():
        assert set(found[row]) == set(numbers), row
        for name, value in numbers.items():
            assert found[row][name] == (None if value is None else pytest.approx(value, rel=RELATIVE)), (row, name)


@pytest.mark.parametrize("tier_name", TIERS)
def test_the_recorded_numbers_tell_the_rows_apart(tier_name: str) -> None:
    """Otherwise a recording of nonsense would pass above."""
    rows = read_data("mt-sim-v1-expected.json")["tiers"][tier_name]["first_volume"]
    for name in ("psnr_clean_unit_range_db", "ssim3d_unit_range", "ms_ssim3d_unit_range"):
        assert rows["blank"][name] < rows["noisy"][name] < rows["gaussian"][name], name
    assert rows["noisy"]["cutoff_ratio_lateral"] == 1.0 and rows["blank"]["cutoff_ratio_lateral"] == 0.0
    assert rows["noisy"]["centre_line_f1"] > 0.5
    assert {name for name, value in rows["noisy"].items() if value is None} == {
        "psnr_noisy_unit_range_db", "noise_gap_db",
    }  # fmt: skip
