"""What one set of volumes measures: filaments and widths, with intervals over its volumes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_vqldm.metrics.fidelity import bootstrap_interval
from napari_vqldm.metrics.filaments import length_weighted_median_um, median_length_um
from napari_vqldm.report.profile import Profile

Scores = dict[str, Any]

STRAIGHT_UM = 1e6  # a persistence length of a meter and more is rounding: such filaments do not bend
NO_BENDING = "no bending"

MEASURES = ("length_density", "median_length", "curvature")  # what is judged, as ratio to the reference


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
    scores["persistence_length_um"] = _persistence(bending)
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


def _persistence(bending_per_um: npt.NDArray[np.float64]) -> Scores:
    """Inverse of the mean bending; infinite, without interval and with a ``reason``, where nothing bends."""
    found = _interval(bending_per_um, lambda v: 1.0 / max(float(np.mean(v)), 1e-9))
    if found["value"] is None or found["value"] < STRAIGHT_UM:
        # Resamples that hold straight volumes alone have no end.
        high = found["high"]
        return found | {"high": float("inf") if high is not None and high >= STRAIGHT_UM else high}
    return {"value": float("inf"), "low": None, "high": None, "reason": NO_BENDING}


def _interval(values: npt.NDArray[np.float64], statistic: Any = None) -> Scores:
    finite = values[np.isfinite(values)]
    if not finite.size:
        return {"value": None, "low": None, "high": None}
    found = bootstrap_interval(finite, statistic) if statistic else bootstrap_interval(finite)
    return {"value": found.value, "low": found.low, "high": found.high}
