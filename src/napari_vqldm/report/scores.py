"""Scores of one set of volumes against a reference, and what a second draw from the reference scores: the floor."""

from __future__ import annotations

import math
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
SPLITS = 40  # random halves of the pooled reference volumes from which the floors come
LEAST_VOLUMES = NEAREST + 1

# Distances of sets: their floor is what equal sets score. Shares: the more the better. Measures: compared as ratios.
DISTANCES = ("frechet", "kid", "spectrum_lateral_db", "spectrum_axial_db", "intensity_w1", "morphology_frechet")
SHARES = ("precision", "recall", "density", "coverage", "vendi_ratio")
MEASURES = ("length_density", "median_length", "curvature")
# Splits of few volumes can agree by chance: their spread is taken as at least this.
LEAST_SD = {"coverage": 0.03, "vendi_ratio": 0.03, "length_density": 0.02, "median_length": 0.02, "curvature": 0.02}
RELATIVE_SD = 0.05  # of the mean, for all others


@dataclass(frozen=True)
class Floors:
    """What two sets of one size from one distribution score against each other, over random splits of a pool.

    Attributes
    ----------
    mean, sd : dict
        Of every name in ``DISTANCES``, ``SHARES`` and ``MEASURES``; NaN where none could be computed. Of the measures
        it is the logarithm of their ratio, with mean 0.
    size : int
        Volumes a set.
    """

    mean: dict[str, float]
    sd: dict[str, float]
    size: int


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

    Splits of one pool: with a pool of two sets this is the null distribution of a permutation test.

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
    rows: list[dict[str, float]] = []
    for _ in range(SPLITS):
        order = rng.permutation(len(pool))
        a, b = [pool[i] for i in order[:size]], [pool[i] for i in order[size : 2 * size]]
        found = distances(a, b)
        rows.append({name: found[name] for name in (*DISTANCES, *SHARES)} | log_ratios(measures(a), measures(b)))
    mean, sd = {}, {}
    for name in rows[0]:
        values = np.array([row[name] for row in rows], np.float64)
        values = values[np.isfinite(values)]
        mean[name] = float(np.mean(values)) if len(values) else float("nan")
        sd[name] = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
        if name in MEASURES:  # both orders of a split are equally likely
            mean[name], sd[name] = 0.0, float(np.sqrt(np.mean(values**2))) if len(values) else float("nan")
    return Floors(mean, sd, size)


def measures(chosen: Sequence[Profile]) -> dict[str, float]:
    """Return the measurements of a set that are judged; NaN where there is none."""
    lengths = np.concatenate([p.lengths_um for p in chosen])
    curvature = _values(chosen, "mean_curvature_per_um")
    curvature = curvature[np.isfinite(curvature)]
    return {
        "length_density": float(np.mean(_values(chosen, "length_density_um_per_um3"))),
        "median_length": median_length_um(lengths) or float("nan"),
        "curvature": float(np.mean(curvature)) if curvature.size else float("nan"),
    }


def log_ratios(a: dict[str, float], b: dict[str, float]) -> dict[str, float]:
    """Logarithm of the ratio of every measurement; NaN where one is not above 0."""
    return {n: float(np.log(a[n] / b[n])) if a[n] > 0 and b[n] > 0 else float("nan") for n in MEASURES}


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


def scorecard(
    scores: Scores, own: dict[str, float], reference: dict[str, float], floor: Floors
) -> dict[str, float | None]:
    """Return what `report.standards.GENERATION` judges: how clearly a set is told from a draw of the reference.

    Each number is in standard deviations of what such draws score: 0 is what another draw scores on average. None:
    too few volumes to say. `measures` are compared by the logarithm of their ratio, without its sign; a set in which
    nothing could be measured is infinitely far where the reference has a measurement.
    """
    card: dict[str, float | None] = {}
    for name in (*DISTANCES, *SHARES, *MEASURES):
        sd = floor.sd[name]
        if math.isnan(sd):
            card[f"{name}_sds"] = None
        elif name in MEASURES:
            ratio = log_ratios(own, reference)[name]
            far = abs(ratio) / max(sd, LEAST_SD[name])
            card[f"{name}_sds"] = far if far == far else float("inf")
        else:
            sign = -1.0 if name in SHARES else 1.0
            value = float(scores[name])
            least = LEAST_SD.get(name, RELATIVE_SD * abs(floor.mean[name]))
            card[f"{name}_sds"] = sign * (value - floor.mean[name]) / max(sd, least) if value == value else None
    return {name: card[name] for name in GENERATION}


def score_rows(measured: dict[str, list[Profile]], real_name: str) -> Scores:
    """Score every set against the set ``reference``; floors from it and ``real_name``, another draw of the same."""
    reference = measured["reference"]
    size = min(len(reference), len(measured[real_name]))
    floor = floors([*reference[:size], *measured[real_name][:size]], size)
    known = measures(reference)
    result: Scores = {
        "floors": {"mean": floor.mean, "sd": floor.sd, "size": floor.size},
        "reference": {"numbers": set_numbers(reference)},
        "rows": {},
    }
    for name, rows in measured.items():
        if name == "reference":
            continue
        found, own = distances(rows, reference), measures(rows)
        card = scorecard(found, own, known, floor)
        result["rows"][name] = {
            "distances": found,
            "numbers": set_numbers(rows),
            "relative_to_reference": {
                n: own[n] / known[n] - 1.0 if own[n] == own[n] and known[n] > 0 else None for n in MEASURES
            },
            "scorecard": card,
            "verdicts": {n: GENERATION[n].judge(v) for n, v in card.items()},
        }
    return result
