"""Groups of measurements compared: differences that were planted, intervals that cover them, words."""

from __future__ import annotations

import csv
import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from napari_vqldm.config import SimulationConfig
from napari_vqldm.errors import ShapeError
from napari_vqldm.intensity import IntensityScale
from napari_vqldm.measure import Measurement, compare_measurements, measure, write_comparison
from napari_vqldm.measure.groups import _half_width, _row
from napari_vqldm.measure.quantities import VOLUME_QUANTITIES, Quantity
from napari_vqldm.simulation import simulate
from napari_vqldm.volume import Volume

DENSITY = "length_density_um_per_um3"
UNIT = IntensityScale(0.0, 1.0)
PLAIN = Quantity("density", "density", "um/um3")


def of_density(value: float, count: int, seed: int) -> list[Measurement]:
    config = SimulationConfig.model_validate(
        {"shape": (20, 80, 80), "organisation": {"free": 1.0}, "length_density_um_per_um3": (value, value)}
    )
    made = simulate(count, seed=seed, config=config, noisy=False)
    return [measure(one.clean, intensity=UNIT) for one in made]


@pytest.fixture(scope="module")
def sparse() -> list[Measurement]:
    return of_density(0.15, 4, 1)


@pytest.fixture(scope="module")
def dense() -> list[Measurement]:
    return of_density(0.3, 4, 2)


def test_twice_the_density_is_found(sparse: list[Measurement], dense: list[Measurement]) -> None:
    row = compare_measurements(dense, sparse).row(DENSITY)
    assert row.counted == "volumes" and (row.num_a, row.num_b) == (4, 4)
    assert row.ratio_low is not None and row.ratio_high is not None
    assert row.ratio_low < 2.0 < row.ratio_high and row.ratio_low > 1.2
    assert row.is_told_apart and "more in A" in row.sentence and "times B" in row.sentence
    back = compare_measurements(sparse, dense).row(DENSITY)
    assert back.difference == pytest.approx(-row.difference) and back.ratio == pytest.approx(1 / row.ratio)
    assert back.ratio_low == pytest.approx(1 / row.ratio_high) and "less in A" in back.sentence


def test_the_interval_is_that_of_welch(sparse: list[Measurement], dense: list[Measurement]) -> None:
    a, b = ([one.number(DENSITY) for one in group] for group in (dense, sparse))
    expected = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    row = compare_measurements(dense, sparse).row(DENSITY)
    assert row.difference_low == pytest.approx(expected.low) and row.difference_high == pytest.approx(expected.high)


def test_a_group_against_itself_differs_in_nothing(sparse: list[Measurement]) -> None:
    compared = compare_measurements(sparse, sparse)
    assert len(compared.rows) == len({row.name for row in compared.rows}) > 15
    for row in compared.rows:
        if row.num_a:
            assert row.difference == 0.0 and not row.is_told_apart, row.name
            assert row.ratio == 1.0 or math.isnan(row.ratio)
    assert "do not tell a difference" in compared.row(DENSITY).sentence


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """Of normal samples with means 3 and 2, unequal spreads and sizes, 95 % of both intervals hold the truth."""
    rng = np.random.default_rng(0)
    hits = np.zeros(2)
    for _ in range(600):
        row = _row(PLAIN, "volumes", rng.normal(3.0, 0.4, 5), rng.normal(2.0, 0.2, 8))
        assert row.difference_low is not None and row.difference_high is not None
        assert row.ratio_low is not None and row.ratio_high is not None
        hits += (row.difference_low < 1.0 < row.difference_high, row.ratio_low < 1.5 < row.ratio_high)
    assert (hits / 600 > 0.92).all() and (hits / 600 < 0.98).all()


def test_single_volumes_are_compared_by_their_filaments(sparse: list[Measurement], dense: list[Measurement]) -> None:
    a, b = dense[0], sparse[0]
    compared = compare_measurements([a], [b])
    row = compared.row(DENSITY)
    assert row.ratio == pytest.approx(a.number(DENSITY) / b.number(DENSITY))
    assert row.difference_low is None and row.ratio_low is None and not row.is_told_apart
    assert "it takes two volumes on each side" in row.sentence
    lengths = compared.row("filament_length_um")
    assert lengths.counted == "filaments"
    assert (lengths.num_a, lengths.num_b) == (len(a.filaments), len(b.filaments))
    expected = stats.ttest_ind(a.column("length_um"), b.column("length_um"), equal_var=False).confidence_interval(0.95)
    assert lengths.difference_low == pytest.approx(expected.low)
    assert any("do not speak of a population" in note for note in compared.notes)
    assert not any("Intervals are over volumes" in note for note in compared.notes)


def test_one_volume_against_several_counts_filaments(sparse: list[Measurement]) -> None:
    compared = compare_measurements(sparse[:1], sparse[1:])
    assert compared.row("filament_length_um").num_b == sum(len(one.filaments) for one in sparse[1:])
    assert compared.row(DENSITY).difference_low is None


def test_numbers_that_are_missing_are_left_out(sparse: list[Measurement]) -> None:
    empty = measure(Volume(np.zeros((8, 16, 16)), (0.2, 0.1, 0.1), {}, "empty"))
    compared = compare_measurements([empty, empty], sparse)
    median = compared.row("median_length_um")
    assert median.num_a == 0 and median.difference_low is None
    assert median.sentence == "Median length: no such number in group A."
    density = compared.row(DENSITY)
    assert density.mean_a == 0.0 and math.isnan(density.ratio) and density.is_told_apart
    assert "A minus B" in density.sentence
    assert density.to_dict()["ratio"] is None
    mixed = compare_measurements([empty, *sparse], sparse).row("median_length_um")
    assert (mixed.num_a, mixed.num_b) == (4, 4)


def test_an_empty_group_is_refused(sparse: list[Measurement]) -> None:
    with pytest.raises(ShapeError, match="got 4 and 0"):
        compare_measurements(sparse, [])


def test_volumes_that_agree_exactly_have_a_point_for_an_interval() -> None:
    assert _half_width([0.0, 0.0], [3, 3]) == 0.0
    row = _row(PLAIN, "volumes", np.full(3, 0.3), np.full(3, 0.1))
    assert row.difference_low == row.difference_high == pytest.approx(0.2)


def test_two_volumes_that_vary_a_lot_do_not_overflow() -> None:
    row = _row(PLAIN, "volumes", np.array([1e-6, 1e6]), np.array([1e-6, 1e6]))
    assert row.ratio_high is not None and math.isfinite(row.ratio_high) and not row.is_told_apart


def test_a_difference_smaller_than_the_error_of_the_tracer_is_called_that() -> None:
    quantity = next(quantity for quantity in VOLUME_QUANTITIES if quantity.name == DENSITY)
    rng = np.random.default_rng(0)
    row = _row(quantity, "volumes", rng.normal(1.02, 1e-4, 5), rng.normal(1.0, 1e-4, 5))
    assert "by less than the 4 % that the tracer itself is off" in row.sentence
    far = _row(quantity, "volumes", rng.normal(1.5, 1e-4, 5), rng.normal(1.0, 1e-4, 5))
    assert far.sentence.endswith("; more in A.")


def test_notes_tell_what_may_differ_besides_the_filaments(sparse: list[Measurement]) -> None:
    plain = compare_measurements(sparse, sparse)
    assert not any("voxel size" in note or "brightness" in note for note in plain.notes)
    coarse = dataclasses.replace(sparse[0], voxel_size_um=(0.3, 0.1, 0.1))
    assert any("differ in voxel size" in note for note in compare_measurements([coarse, *sparse], sparse).notes)
    own = dataclasses.replace(sparse[0], is_intensity_estimated=True)
    assert any("differences in brightness" in note for note in compare_measurements([own, *sparse], sparse).notes)
    noisy = dataclasses.replace(sparse[0], signal_to_noise=2.0)
    assert any("In 1 of the 9 volumes" in note for note in compare_measurements([noisy, *sparse], sparse).notes)


def test_the_table_holds_every_row(sparse: list[Measurement], dense: list[Measurement], tmp_path: Path) -> None:
    compared = compare_measurements(dense, sparse)
    with write_comparison(tmp_path / "comparison.csv", compared).open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["name"] for row in rows] == [row.name for row in compared.rows]
    density = next(row for row in rows if row["name"] == DENSITY)
    assert float(density["ratio"]) == compared.row(DENSITY).ratio
    assert density["sentence"] == compared.row(DENSITY).sentence
