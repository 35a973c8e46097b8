"""Scores of one set of volumes against a reference, and what a second draw from the reference scores: the floor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_vqldm.errors import ShapeError, VolumeError
from napari_vqldm.metrics.distribution import spectrum_distance_db
from napari_vqldm.metrics.fidelity import bootstrap_interval
from napari_vqldm.metrics.filaments import length_weighted_median_um, median_length_um
from napari_vqldm.metrics.frechet import frechet_distance
from napari_vqldm.metrics.kid import kernel_mmd2
from napari_vqldm.metrics.morphology_distance import morphology_distance
from napari_vqldm.metrics.neighbours import NEAREST, neighbour_scores, vendi_ratio
from napari_vqldm.report.profile import EDGES, Profile, mean_spectrum
from napari_vqldm.report.standards import GENERATION

Scores = dict[str, Any]
SPLITS = 20  # random halves of the pooled reference volumes from which the floors come
LEAST_VOLUMES = NEAREST + 1

# Distances of sets: their floor is what equal sets score. The others are compared with the reference as ratios.
DISTANCES = ("frechet", "kid", "spectrum_lateral_db", "spectrum_axial_db", "intensity_w1", "morphology_frechet")


@dataclass(frozen=True)
class Floors:
    """What sets of one size from one distribution score against each other.

    Attributes
    ----------
    mean, sd : dict
        Of every distance in ``DISTANCES`` over random splits.
    coverage, recall, precision, density : float
        Means over the same splits.
    """

    mean: dict[str, float]
    sd: dict[str, float]
    neighbours: dict[str, float]


def distances(chosen: Sequence[Profile], reference: Sequence[Profile]) -> Scores:
    """Compare two sets; no floors, no intervals.

    Returns
    -------
    dict
        Every name of ``DISTANCES`` and of ``precision, recall, density, coverage, vendi_ratio``. Blank volumes have an
        infinite distance of spectra and no variety; the distance of morphologies is NaN for few volumes.
    """
    a = np.stack([p.features for p in chosen]).astype(np.float64)
    b = np.stack([p.features for p in reference]).astype(np.float64)
    neighbours = neighbour_scores(a, b)
    scores: Scores = {
        "frechet": frechet_distance(a.mean(axis=0), np.cov(a.T), b.mean(axis=0), np.cov(b.T)),
        "kid": kernel_mmd2(a, b),
        "intensity_w1": intensity_w1(chosen, reference),
        "precision": neighbours.precision,
        "recall": neighbours.recall,
        "density": neighbours.density,
        "coverage": neighbours.coverage,
    }
    for axis in ("lateral", "axial"):
        spectra = [mean_spectrum([getattr(p, axis) for p in side]) for side in (chosen, reference)]
        try:
            scores[f"spectrum_{axis}_db"] = spectrum_distance_db(*spectra)
        except VolumeError:
            scores[f"spectrum_{axis}_db"] = float("inf")
    try:
        scores["vendi_ratio"] = vendi_ratio(a, b)
    except VolumeError:
        scores["vendi_ratio"] = 0.0
    found = morphology_distance([p.morphology for p in chosen], [p.morphology for p in reference])
    scores["morphology_frechet"] = float(found.frechet)
    scores["morphology"] = found.to_dict()
    return scores


def intensity_w1(chosen: Sequence[Profile], reference: Sequence[Profile]) -> float:
    """1-Wasserstein distance of pooled intensities over the standard deviation of the reference.

    Integral of |F - G| on the bins of the profiles: finer than 0.001 filament peaks near 0, 0.5 % of the value beyond.
    """
    f, g = (np.cumsum(np.mean([p.histogram for p in side], axis=0))[:-1] for side in (chosen, reference))
    # F is known at inner edges; between two of them the difference is taken as that at its left end.
    integral = float(np.sum(np.abs(f - g) * np.diff(EDGES)[1:]))
    mean = np.mean([p.mean for p in reference])
    variance = float(np.mean([p.mean_square for p in reference]) - mean**2)
    if variance <= 0:
        raise VolumeError("expected a reference set whose intensities vary, got a constant")
    return integral / float(np.sqrt(variance))


def floors(pool: Sequence[Profile], size: int, seed: int = 0) -> Floors:
    """Score random disjoint subsets of ``size`` volumes of the pool against each other.

    Raises
    ------
    ShapeError
        If the pool has fewer than twice ``size`` volumes, or ``size`` is below ``LEAST_VOLUMES``.
    """
    if len(pool) < 2 * size or size < LEAST_VOLUMES:
        raise ShapeError(
            f"expected at least {max(2 * size, 2 * LEAST_VOLUMES)} volumes for the floors, got {len(pool)}"
        )
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(SPLITS):
        order = rng.permutation(len(pool))
        rows.append(distances([pool[i] for i in order[:size]], [pool[i] for i in order[size : 2 * size]]))
    table = {name: np.array([row[name] for row in rows], np.float64) for name in DISTANCES}
    # Few volumes, or volumes without filaments, have no distance of morphologies: then there is no floor either.
    table = {name: values[np.isfinite(values)] for name, values in table.items()}
    shares = ("precision", "recall", "density", "coverage", "vendi_ratio")
    return Floors(
        {name: float(np.mean(values)) if len(values) else float("nan") for name, values in table.items()},
        {name: float(np.std(values, ddof=1)) if len(values) > 1 else float("nan") for name, values in table.items()},
        {name: float(np.mean([row[name] for row in rows])) for name in shares},
    )


def set_numbers(chosen: Sequence[Profile]) -> Scores:
    """Measurements of one set with 95 % bootstrap intervals over its volumes; lengths in um."""
    lengths = [p.lengths_um for p in chosen]
    rows: dict[str, npt.NDArray[np.float64]] = {
        "length_density_um_per_um3": _values(chosen, "length_density_um_per_um3"),
        "mean_curvature_per_um": _values(chosen, "mean_curvature_per_um"),
        "nematic_order": _values(chosen, "nematic_order"),
        "z_alignment": _values(chosen, "z_alignment"),
        "junctions_per_um3": _values(chosen, "junctions_per_um3"),
        "ends_per_um3": _values(chosen, "ends_per_um3"),
        "width_lateral_um": np.array([p.width_lateral_um for p in chosen]),
        "width_axial_um": np.array([p.width_axial_um for p in chosen]),
    }
    scores: Scores = {name: _interval(values) for name, values in rows.items()}
    bending = _values(chosen, "bending_per_um")
    scores["persistence_length_um"] = _interval(bending, lambda v: 1.0 / max(float(np.mean(v)), 1e-9))
    index = np.arange(len(chosen))
    for name, statistic in (("median_length_um", median_length_um), ("length_weighted_um", length_weighted_median_um)):
        found = bootstrap_interval(
            index.astype(np.float64),
            lambda picked, statistic=statistic: statistic(  # type: ignore[misc]
                np.concatenate([lengths[int(i)] for i in picked])
            ),
            resamples=500,
        )
        scores[name] = {"value": found.value, "low": found.low, "high": found.high}
    scores["volumes"] = len(chosen)
    return scores


def _values(chosen: Sequence[Profile], name: str) -> npt.NDArray[np.float64]:
    return np.array([getattr(p.morphology, name) for p in chosen], np.float64)


def _interval(values: npt.NDArray[np.float64], statistic: Any = None) -> Scores:
    finite = values[np.isfinite(values)]
    if not finite.size:
        return {"value": None, "low": None, "high": None}
    found = bootstrap_interval(finite, statistic) if statistic else bootstrap_interval(finite)
    return {"value": found.value, "low": found.low, "high": found.high}


def scorecard(scores: Scores, numbers: Scores, reference_numbers: Scores, floor: Floors) -> dict[str, float | None]:
    """Return the numbers that `report.standards.GENERATION` judges."""

    def over(name: str) -> float | None:
        if not floor.mean[name] > 0:  # NaN too
            return None
        ratio = float(scores[name] / floor.mean[name])
        return ratio if ratio == ratio else float("inf")  # a set in which nothing can be measured is as far as can be

    def error(name: str) -> float | None:
        value, wanted = numbers[name]["value"], reference_numbers[name]["value"]
        if wanted is None or not wanted:
            return None
        return abs(float(value or 0.0) / float(wanted) - 1.0)

    return {
        "frechet_floors": over("frechet"),
        "kid_sds": float(scores["kid"] / max(floor.sd["kid"], 1e-12)),
        "coverage_ratio": scores["coverage"] / max(floor.neighbours["coverage"], 1e-9),
        "spectrum_lateral_floors": over("spectrum_lateral_db"),
        "spectrum_axial_floors": over("spectrum_axial_db"),
        "intensity_w1_floors": over("intensity_w1"),
        "length_density_error": error("length_density_um_per_um3"),
        "median_length_error": error("median_length_um"),
        "curvature_error": error("mean_curvature_per_um"),
        "morphology_floors": over("morphology_frechet"),
        "vendi_ratio": scores["vendi_ratio"] / max(floor.neighbours["vendi_ratio"], 1e-9),
    }


def score_rows(measured: dict[str, list[Profile]], real_name: str) -> Scores:
    """Score every set against the set ``reference``; floors from it and ``real_name``, another draw of the same."""
    reference = measured["reference"]
    size = min(len(reference), len(measured[real_name]))
    floor = floors([*reference[:size], *measured[real_name][:size]], size)
    numbers = {name: set_numbers(rows) for name, rows in measured.items()}
    result: Scores = {
        "floors": {"mean": floor.mean, "sd": floor.sd, "neighbours": floor.neighbours},
        "reference": {"numbers": numbers["reference"]},
        "rows": {},
    }
    for name, rows in measured.items():
        if name == "reference":
            continue
        found = distances(rows, reference)
        card = scorecard(found, numbers[name], numbers["reference"], floor)
        result["rows"][name] = {
            "distances": found,
            "numbers": numbers[name],
            "scorecard": card,
            "verdicts": {n: GENERATION[n].judge(v) for n, v in card.items()},
        }
    return result
