"""Scores of one set of volumes against a reference, and what a second draw from the reference scores: the floor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from napari_vqldm.errors import ShapeError, VolumeError
from napari_vqldm.metrics.distribution import spectrum_distance_db
from napari_vqldm.metrics.frechet import frechet_distance, whitening
from napari_vqldm.metrics.kid import kernel_mmd2
from napari_vqldm.metrics.morphology import QUANTITIES, Morphology
from napari_vqldm.metrics.morphology_distance import MIN_SPREAD, morphology_distance
from napari_vqldm.metrics.neighbours import NEAREST, neighbour_scores, vendi_ratio
from napari_vqldm.report.intervals import SUBSETS, Bounds, Indices, bounds, subset_errors
from napari_vqldm.report.profile import EDGES, Profile, mean_spectrum
from napari_vqldm.report.set_numbers import MEASURES, Scores, log_ratios, measures, set_numbers
from napari_vqldm.report.standards import GENERATION, NO_VERDICT, blind_numbers

SPLITS = 40  # random halves of the pooled reference volumes from which the floors come
LEAST_VOLUMES = NEAREST + 1
LEAST_COMPLETE = len(QUANTITIES) + 2  # volumes with all quantities, for a distance of morphologies

# Distances of sets: their floor is what equal sets score. Shares: the more the better. ``MEASURES``: as ratios.
DISTANCES = ("frechet", "kid", "spectrum_lateral_db", "spectrum_axial_db", "intensity_w1", "morphology_frechet")
SHARES = ("precision", "recall", "density", "coverage", "vendi_ratio")
COUNTED = ("precision", "recall", "density", "coverage")  # volumes in balls: not known better than to one volume
LEFT_OUT_OF_MORPHOLOGY = 0.125  # whitening by eight quantities needs most of a small reference
# Splits of few volumes can agree by chance: their spread is taken as at least this.
LEAST_SD = {"coverage": 0.03, "vendi_ratio": 0.03, "length_density": 0.02, "median_length": 0.02, "curvature": 0.02}
# Splits of one pool keep its few odd volumes. Over independent draws of the standard tier a Frechet distance differs
# from the mean of its floor by 12 % of it (8 and 16 volumes a set), 10 % (32) and 8 % (64).
RELATIVE_SD = {"frechet": 0.1}
OTHER_RELATIVE_SD = 0.05  # of the mean, for all others


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
    scores = _without_morphology(chosen, reference)
    found = morphology_distance([p.morphology for p in chosen], [p.morphology for p in reference])
    scores["morphology_frechet"] = float(found.frechet)
    scores["morphology"] = found.to_dict()
    return scores


def _without_morphology(chosen: Sequence[Profile], reference: Sequence[Profile]) -> Scores:
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
    return scores


def morphology_frechet(volumes: Sequence[Morphology], reference: Sequence[Morphology]) -> float:
    """Return ``frechet`` of `morphology_distance` alone; its floor, which subsets need not, costs twenty times more."""
    a, b = (np.stack([m.vector() for m in items]) for items in (volumes, reference))
    a, b = (table[np.isfinite(table).all(axis=1)] for table in (a, b))
    spread = b.std(axis=0) if len(b) else np.zeros(len(QUANTITIES))
    if min(len(a), len(b)) < LEAST_COMPLETE or (spread <= MIN_SPREAD * np.maximum(1.0, np.abs(b).max(0))).any():
        return float("nan")
    white = whitening(b / spread)
    x, y = white(a / spread), white(b / spread)
    return frechet_distance(x.mean(axis=0), np.cov(x.T), y.mean(axis=0), np.cov(y.T))


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
        sd = _at_least(floor, name)
        if math.isnan(sd):
            card[f"{name}_sds"] = None
        elif name in MEASURES:
            ratio = log_ratios(own, reference)[name]
            far = _in_sds(abs(ratio), floor.mean[name], sd)
            card[f"{name}_sds"] = far if far == far else float("inf")
        else:
            sign = -1.0 if name in SHARES else 1.0
            value = float(scores[name])
            card[f"{name}_sds"] = _in_sds(value, floor.mean[name], sd, sign) if value == value else None
    return {name: card[name] for name in GENERATION}


def _at_least(floor: Floors, name: str) -> float:
    """Standard deviation of a number between draws, as far as few volumes are believed; NaN where there is none."""
    sd = floor.sd[name]
    relative = RELATIVE_SD.get(name, OTHER_RELATIVE_SD) * abs(floor.mean[name])
    return sd if math.isnan(sd) else max(sd, LEAST_SD.get(name, relative))


def _in_sds(value: float, mean: float, sd: float, sign: float = 1.0) -> float:
    return sign * (value - mean) / sd


def number_bounds(
    scores: Scores, chosen: Sequence[Profile], reference: Sequence[Profile], subsets: int = SUBSETS
) -> dict[str, Bounds]:
    """Return 95 % intervals of distances and shares, and of the logarithms of the ratios of measures.

    Parameters
    ----------
    scores : dict
        What `distances` found for the same sets.
    chosen, reference : sequence of Profile
        Sets of independent volumes: see the bias of `subset_errors` for copies and repeats.
    subsets : int
        Pairs of subsets that are scored.

    Returns
    -------
    dict
        Every name of ``DISTANCES``, ``SHARES`` and ``MEASURES``. Without ends where the number itself is not finite,
        or where a set has no more than ``LEAST_VOLUMES``.

    Notes
    -----
    The distance of morphologies is whitened by the reference at hand and grows steeply as that shrinks: its error is
    1 to 1.5 times the true one at 64 volumes, 1.5 to 2.5 times at 16, more below.
    """

    def plain(i: Indices, j: Indices) -> dict[str, float]:
        a, b = [chosen[k] for k in i], [reference[k] for k in j]
        return _without_morphology(a, b) | log_ratios(measures(a), measures(b))

    def morphology(i: Indices, j: Indices) -> dict[str, float]:
        a, b = [chosen[k].morphology for k in i], [reference[k].morphology for k in j]
        return {"morphology_frechet": morphology_frechet(a, b)}

    sizes = (len(chosen), len(reference))
    errors = subset_errors(plain, sizes, LEAST_VOLUMES, subsets=subsets)
    errors |= subset_errors(morphology, sizes, LEAST_COMPLETE, left_out=LEFT_OUT_OF_MORPHOLOGY, subsets=subsets)
    values = {n: float(scores[n]) for n in (*DISTANCES, *SHARES)} | log_ratios(measures(chosen), measures(reference))
    found = {}
    for name, value in values.items():
        error = errors.get(name, math.nan)
        if name in COUNTED and not math.isnan(error):
            error = max(error, 1.0 / min(sizes))
        low = -math.inf if name == "kid" or name in MEASURES else 0.0
        high = 1.0 if name in COUNTED and name != "density" else math.inf
        found[name] = bounds(value, error, sizes, (low, high))
    return found


def scorecard_bounds(found: dict[str, Bounds], floor: Floors) -> dict[str, Bounds]:
    """Return the intervals of `scorecard` from those of `number_bounds`; the floor is taken as known."""
    card = {}
    for name in (*DISTANCES, *SHARES, *MEASURES):
        mean, sd = floor.mean[name], _at_least(floor, name)
        sign = -1.0 if name in SHARES else 1.0
        around = found[name].absolute() if name in MEASURES else found[name]
        counted = partial(_in_sds, mean=mean, sd=sd, sign=sign)
        card[f"{name}_sds"] = Bounds() if math.isnan(sd) else around.mapped(counted)
    return {name: card[name] for name in GENERATION}


def withheld(scores: Scores, real_name: str) -> Scores:
    """Replace verdicts that mean nothing, of every row, by ``no verdict``; ``no_verdict`` says on what, and why.

    Which they are is decided by `blind_numbers`. The numbers stay.
    """
    rows = scores["rows"]
    blind = blind_numbers({name: row["verdicts"] for name, row in rows.items()}, real_name)
    without = dict.fromkeys(blind, "no verdict")
    judged = {name: row | {"verdicts": row["verdicts"] | without} for name, row in rows.items()}
    return scores | {"rows": judged, "no_verdict": dict.fromkeys(blind, NO_VERDICT)}


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
        around = number_bounds(found, rows, reference)
        result["rows"][name] = {
            "distances": found,
            "numbers": set_numbers(rows),
            "relative_to_reference": {
                n: own[n] / known[n] - 1.0 if own[n] == own[n] and known[n] > 0 else None for n in MEASURES
            },
            "intervals": {n: around[n].to_dict() for n in (*DISTANCES, *SHARES)},
            "relative_intervals": {n: around[n].mapped(math.expm1).to_dict() for n in MEASURES},
            "scorecard": card,
            "scorecard_intervals": {n: b.to_dict() for n, b in scorecard_bounds(around, floor).items()},
            "verdicts": {n: GENERATION[n].judge(v) for n, v in card.items()},
        }
    return withheld(result, real_name)
