"""The table of reconstructions: intervals pair volumes, MicroMS3IM is a row only where it is installed."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from napari_vqldm.report import fidelity
from napari_vqldm.report.standards import RECONSTRUCTION
from napari_vqldm.simulate.mt_sim import BenchmarkVolume, mt_sim_split, mt_sim_volumes

NAMES = (
    "psnr_clean_unit_range_db", "noise_gap_db", "ssim3d_unit_range", "ms_ssim3d_unit_range", "cutoff_ratio_lateral",
    "cutoff_ratio_axial", "centre_line_f1",
)  # fmt: skip


def table(monkeypatch: pytest.MonkeyPatch, truth: BenchmarkVolume, model: Any) -> dict[str, Any]:
    """The table of a cropped volume, its other scores left simple; the model leaves half of the noise."""
    monkeypatch.setattr(fidelity, "score_row", lambda volume, *rest: dict.fromkeys(NAMES, float(volume.mean())))
    monkeypatch.setattr(fidelity, "gaussian_sigma", lambda split: (0.5, 0.8, 0.8))
    monkeypatch.setattr(
        fidelity, "reconstruct",
        lambda model, volume, intensity: SimpleNamespace(data=0.5 * (volume.data + truth.clean)),
    )  # fmt: skip
    steps = list(fidelity.fidelity_scores(model, [truth], mt_sim_split("standard", "test")))
    assert steps[:-1] == [None]
    assert steps[-1] is not None
    return steps[-1]


@pytest.fixture(scope="module")
def truth() -> BenchmarkVolume:
    whole = next(mt_sim_volumes(mt_sim_split("standard", "test"), [0]))
    return replace(whole, clean=whole.clean[:, 32:80, 32:80].copy(), noisy=whole.noisy[:, 32:80, 32:80].copy())


@pytest.mark.slow
def test_micro_ms3im_is_a_row_where_it_is_installed(
    monkeypatch: pytest.MonkeyPatch, truth: BenchmarkVolume, capsys: pytest.CaptureFixture[str]
) -> None:
    class Correlation:
        def fit(self, gt: np.ndarray, pred: np.ndarray) -> None:
            assert gt.shape == pred.shape == truth.clean.shape  # one volume at a time
            print("100%", file=sys.stderr)

        def score(self, gt: np.ndarray, pred: np.ndarray, *, betas: tuple[float, ...]) -> float:
            return float(1.0 - np.mean(np.abs(gt - pred)))

    monkeypatch.setitem(sys.modules, "microssim", SimpleNamespace(MicroMS3IM=Correlation))
    found = table(monkeypatch, truth, object())
    scores = {name: row[fidelity.MICRO_MS3IM]["value"] for name, row in found["rows"].items() if name != "clean"}
    assert scores["noisy"] < scores["model"] < 1.0
    assert found["notes"] == []
    assert capsys.readouterr().err == ""  # no foreign progress bar under ours
    assert fidelity.MICRO_MS3IM not in table(monkeypatch, truth, None)["rows"]["noisy"]  # the benchmark's own numbers


def test_without_the_package_a_note_stands_instead(monkeypatch: pytest.MonkeyPatch, truth: BenchmarkVolume) -> None:
    monkeypatch.setitem(sys.modules, "microssim", None)
    found = table(monkeypatch, truth, object())
    assert found["notes"] == [fidelity.NO_MICRO_MS3IM]
    assert all(fidelity.MICRO_MS3IM not in row for row in found["rows"].values())
    assert set(found["scorecard_intervals"]) == set(RECONSTRUCTION)


def made(rng: np.random.Generator, count: int, gain: float) -> dict[str, list[dict[str, float]]]:
    """Scores of volumes that differ far more from each other than the model from the filter."""
    hard = rng.normal(30.0, 4.0, size=count)
    psnr = {"gaussian": hard, "model": hard + gain + rng.normal(0.0, 0.2, size=count)}
    rows = {name: [{"psnr_clean_unit_range_db": v} for v in values.tolist()] for name, values in psnr.items()}
    for row in rows["model"]:
        row |= {name: 0.9 + 0.01 * rng.normal() for name in NAMES[1:]}
    return rows | {"clean": [{"centre_line_f1": 0.9} for _ in range(count)]}


def test_intervals_of_the_judged_numbers_pair_volumes_and_lie_around_the_values() -> None:
    rows = made(np.random.default_rng(0), 16, 2.0)
    ends = fidelity.scorecard_intervals(rows)
    means = {name: fidelity._means(row) for name, row in rows.items()}
    card = fidelity.scorecard({"rows": means})
    for name, value in card.items():
        assert value is not None
        assert ends[name]["low"] <= value <= ends[name]["high"], name  # type: ignore[operator]
    gain = ends["psnr_clean_above_gaussian_db"]
    assert gain["low"] > 1.7  # type: ignore[operator]
    assert gain["high"] - gain["low"] < 0.5  # type: ignore[operator] - unpaired it would be about 5 dB


def test_the_interval_of_a_gain_covers_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fidelity, "RESAMPLES", 120)
    rng = np.random.default_rng(1)
    found = [fidelity.scorecard_intervals(made(rng, 16, 2.0))["psnr_clean_above_gaussian_db"] for _ in range(60)]
    assert 0.82 <= np.mean([ends["low"] <= 2.0 <= ends["high"] for ends in found]) <= 1.0  # type: ignore[operator]


def test_a_number_that_cannot_be_measured_has_no_interval() -> None:
    rows = made(np.random.default_rng(2), 6, 0.0)
    for row in rows["model"]:
        row["cutoff_ratio_axial"] = float("nan")
    ends = fidelity.scorecard_intervals(rows)
    assert ends["cutoff_axial"] == {"low": None, "high": None}
    assert ends["ssim"]["low"] is not None


def test_a_mean_over_fewer_volumes_says_so(monkeypatch: pytest.MonkeyPatch, truth: BenchmarkVolume) -> None:
    """A model that fails on one volume of three must not be averaged over the other two in silence."""
    failed = replace(truth, noisy=-truth.noisy)

    def score(volume: np.ndarray, scored: BenchmarkVolume, *rest: Any) -> dict[str, float]:
        result = dict.fromkeys(NAMES, float(volume.mean()))
        if scored is failed and volume is made_of_failed:
            result |= {"ssim3d_unit_range": float("nan"), "cutoff_ratio_axial": float("inf")}
        if volume is scored.noisy:
            result["noise_gap_db"] = float("inf")  # compared with itself
        return result

    made_of_failed = 0.5 * truth.clean

    def reconstructed(model: Any, volume: Any, intensity: Any) -> Any:
        return SimpleNamespace(data=made_of_failed if volume.data.mean() < 0 else truth.clean)

    monkeypatch.setattr(fidelity, "score_row", score)
    monkeypatch.setattr(fidelity, "gaussian_sigma", lambda split: (0.5, 0.8, 0.8))
    monkeypatch.setattr(fidelity, "reconstruct", reconstructed)
    monkeypatch.setattr(fidelity, "micro_ms3im", lambda volume, truth: {fidelity.MICRO_MS3IM: 0.5})
    split = mt_sim_split("standard", "test")
    found = list(fidelity.fidelity_scores(object(), [truth, failed, truth], split))[-1]  # type: ignore[arg-type]
    assert found is not None
    rows = found["rows"]
    counted = {(row, name) for row, numbers in rows.items() for name, entry in numbers.items() if "volumes" in entry}
    assert counted == {("model", "ssim3d_unit_range"), ("model", "cutoff_ratio_axial")}
    assert rows["model"]["ssim3d_unit_range"]["volumes"] == 2
    assert rows["model"]["ssim3d_unit_range"]["value"] == pytest.approx(float(truth.clean.mean()))
    assert rows["noisy"]["noise_gap_db"] == {"value": None, "low": None, "high": None}
    assert found["notes"] == [
        "model: ssim3d_unit_range, cutoff_ratio_axial not finite on 1 of 3 volumes; the mean is over the other 2."
    ]


def test_a_number_that_fails_everywhere_is_noted_too() -> None:
    table = {"model": fidelity._means([{"a": float("nan"), "b": 1.0}] * 4)}
    assert table["model"]["a"] == {"value": None, "low": None, "high": None, "volumes": 0}
    assert "volumes" not in table["model"]["b"]
    assert fidelity.missing_notes(table, 4) == ["model: a not finite on 4 of 4 volumes; there is no mean."]
