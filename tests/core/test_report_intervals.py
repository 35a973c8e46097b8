"""Intervals of what compares sets: they cover as often as they say, shrink with the sets, and repeat no volume."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from napari_vqldm.errors import ShapeError
from napari_vqldm.metrics.frechet import frechet_distance
from napari_vqldm.metrics.kid import kernel_mmd2
from napari_vqldm.metrics.morphology_distance import morphology_distance
from napari_vqldm.metrics.neighbours import neighbour_scores
from napari_vqldm.report.intervals import Bounds, Indices, bounds, subset_errors
from napari_vqldm.report.profile import Profile
from napari_vqldm.report.scores import (
    DISTANCES,
    LEAST_VOLUMES,
    MEASURES,
    SHARES,
    distances,
    floors,
    morphology_frechet,
    number_bounds,
    score_rows,
    scorecard_bounds,
)

Array = npt.NDArray[np.float64]
Draw = Callable[..., Profile]


def frechet(a: Array, b: Array) -> dict[str, float]:
    return {"frechet": frechet_distance(a.mean(axis=0), np.cov(a.T), b.mean(axis=0), np.cov(b.T))}


def compared(a: Array, b: Array) -> dict[str, float]:
    shares = neighbour_scores(a, b)
    return frechet(a, b) | {"kid": kernel_mmd2(a, b), "coverage": shares.coverage, "precision": shares.precision}


def errors_of(
    a: Array, b: Array, subsets: int = 30, numbers: Callable[[Array, Array], dict[str, float]] = frechet
) -> dict[str, float]:
    return subset_errors(lambda i, j: numbers(a[i], b[j]), (len(a), len(b)), LEAST_VOLUMES, subsets=subsets)


def pair(rng: np.random.Generator, count: int, shift: float, dimension: int = 3) -> tuple[Array, Array]:
    a, b = rng.normal(size=(2, count, dimension))
    a[:, 0] += shift
    return a, b


def test_the_error_of_a_difference_of_means_is_the_known_one() -> None:
    """Exact for linear statistics: sqrt(s_a^2 / n + s_b^2 / n), up to the finite number of subsets."""
    a, b = pair(np.random.default_rng(0), 40, 0.0)
    found = subset_errors(lambda i, j: {"d": float(a[i, 0].mean() - b[j, 0].mean())}, (40, 40), subsets=4000)
    assert found["d"] == pytest.approx(np.sqrt((a[:, 0].var(ddof=1) + b[:, 0].var(ddof=1)) / 40), rel=0.04)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_intervals_cover_what_sets_of_this_size_score_on_average(shift: float) -> None:
    rng = np.random.default_rng(1)
    many = [compared(*pair(rng, 32, shift)) for _ in range(500)]
    inside: dict[str, list[bool]] = {}
    for _ in range(100):
        a, b = pair(rng, 32, shift)
        measured, errors = compared(a, b), errors_of(a, b, numbers=compared)
        for name, value in measured.items():
            found = bounds(value, errors[name], (32, 32))
            assert found.low is not None
            assert found.high is not None
            inside.setdefault(name, []).append(found.low <= np.mean([row[name] for row in many]) <= found.high)
    for name, hits in inside.items():
        assert np.mean(hits) >= 0.85, (name, np.mean(hits))
    for name in ("frechet", "kid"):  # smooth: no wider than need be
        assert np.mean(inside[name]) <= 0.995, name


def test_of_large_sets_the_interval_covers_the_distance_itself() -> None:
    """Two normal distributions 2 apart: the Frechet distance is 4, and 300 volumes in 2 dimensions hardly raise it."""
    rng = np.random.default_rng(2)
    hits = []
    for _ in range(60):
        a, b = pair(rng, 300, 2.0, dimension=2)
        found = bounds(frechet(a, b)["frechet"], errors_of(a, b)["frechet"], (300, 300))
        hits.append((found.low or 0.0) <= 4.0 <= (found.high or 0.0))
    assert 0.85 <= np.mean(hits) <= 0.999


def test_errors_are_those_of_repeated_draws_and_never_far_below() -> None:
    rng = np.random.default_rng(3)
    for shift, limits in ((0.0, (1.0, 2.0)), (3.0, (0.85, 1.2))):  # equal sets: too large by theory, see its notes
        spread = np.std([frechet(*pair(rng, 32, shift))["frechet"] for _ in range(400)])
        estimated = np.mean([errors_of(*pair(rng, 32, shift))["frechet"] ** 2 for _ in range(25)]) ** 0.5
        assert limits[0] <= estimated / spread <= limits[1], shift


def test_more_volumes_tell_more() -> None:
    rng = np.random.default_rng(4)
    sizes = (16, 64)
    small, large = (np.mean([errors_of(*pair(rng, n, 2.0))["frechet"] for _ in range(10)]) for n in sizes)
    assert 1.6 < small / large < 2.6  # 2 is that of independent volumes


def test_no_subset_repeats_a_volume_and_both_sets_are_thinned_alike() -> None:
    seen: list[tuple[int, int]] = []

    def statistic(i: Indices, j: Indices) -> dict[str, float]:
        assert len(set(i.tolist())) == len(i)
        assert len(set(j.tolist())) == len(j)
        seen.append((len(i), len(j)))
        return {"x": 0.0}

    subset_errors(statistic, (16, 8), LEAST_VOLUMES)
    assert set(seen) == {(12, 6)}


def test_too_few_volumes_have_no_interval(draw_profile: Draw) -> None:
    rng = np.random.default_rng(5)
    assert subset_errors(lambda i, j: {"x": 1.0}, (LEAST_VOLUMES, 20), LEAST_VOLUMES) == {}
    few = [draw_profile(rng) for _ in range(LEAST_VOLUMES)]
    found = number_bounds(distances(few, few), few, few, subsets=3)
    assert all(ends == Bounds() for ends in found.values())
    with pytest.raises(ShapeError, match="at least 2 subsets"):
        subset_errors(lambda i, j: {"x": 1.0}, (20, 20), subsets=1)


def test_a_number_that_subsets_lack_has_no_error() -> None:
    def statistic(i: Indices, j: Indices) -> dict[str, float]:
        return {"often": float("nan") if 0 in i else float(i.mean()), "always": float(i.mean())}

    found = subset_errors(statistic, (20, 20))
    assert np.isnan(found["often"])
    assert found["always"] > 0


def test_bounds_turn_and_lose_their_sign() -> None:
    assert Bounds(1.0, 3.0).mapped(lambda v: -2.0 * v) == Bounds(-6.0, -2.0)
    assert Bounds(-1.0, 3.0).absolute() == Bounds(0.0, 3.0)
    assert Bounds(-3.0, -1.0).absolute() == Bounds(1.0, 3.0)
    assert bounds(0.99, 0.1, (16, 16), (0.0, 1.0)).high == 1.0
    assert bounds(float("inf"), 0.1, (16, 16)) == Bounds()


def test_equal_sets_are_within_the_draws_of_the_reference(draw_profile: Draw) -> None:
    """Every judged number of a second draw: its interval contains 0, what such draws score on average, most times."""
    rng = np.random.default_rng(6)
    pool = [draw_profile(rng) for _ in range(32)]
    floor = floors(pool, 16)
    inside: dict[str, list[bool]] = {}
    for _ in range(6):
        order = rng.permutation(32)
        a, b = [pool[k] for k in order[:16]], [pool[k] for k in order[16:]]
        card = scorecard_bounds(number_bounds(distances(a, b), a, b, subsets=20), floor)
        for name, ends in card.items():
            inside.setdefault(name, []).append(ends.low is not None and ends.low <= 0.0 <= (ends.high or 0.0))
    assert all(np.mean(hits) >= 0.5 for hits in inside.values()), inside
    assert np.mean(list(inside.values())) > 0.85, inside


@pytest.mark.slow
def test_a_set_that_differs_is_not_within_them_and_rows_carry_all_ends(draw_profile: Draw) -> None:
    rng = np.random.default_rng(7)
    sets = {name: [draw_profile(rng, shift) for _ in range(16)] for name, shift in
            (("reference", 0.0), ("second", 0.0), ("far", 20.0))}  # fmt: skip
    rows = score_rows(sets, "second")["rows"]
    for row in rows.values():
        assert set(row["intervals"]) == {*DISTANCES, *SHARES}
        assert set(row["relative_intervals"]) == set(MEASURES)
        assert set(row["scorecard_intervals"]) == set(row["scorecard"])
        for name, ends in row["relative_intervals"].items():
            assert -1.0 < ends["low"] <= row["relative_to_reference"][name] <= ends["high"]
    assert rows["far"]["scorecard_intervals"]["frechet_sds"]["low"] > 5
    assert rows["far"]["scorecard_intervals"]["coverage_sds"]["low"] > 2
    assert rows["second"]["scorecard_intervals"]["frechet_sds"]["low"] < 2
    # No volume of the far set is near any of the reference: that is still a share of 16 volumes, not exactly none.
    assert rows["far"]["distances"]["coverage"] == rows["far"]["intervals"]["coverage"]["low"] == 0.0
    assert 0.1 < rows["far"]["intervals"]["coverage"]["high"] < 0.2


def test_the_quick_distance_of_morphologies_is_the_judged_one(draw_profile: Draw) -> None:
    rng = np.random.default_rng(8)
    a, b = ([draw_profile(rng).morphology for _ in range(14)] for _ in range(2))
    assert morphology_frechet(a, b) == pytest.approx(morphology_distance(a, b).frechet, rel=1e-9)
    assert np.isnan(morphology_frechet(a[:9], b))
    assert np.isnan(morphology_distance(a[:9], b).frechet)
