"""How far the morphology of one set of volumes is from that of another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from napari_vqldm.errors import ShapeError
from napari_vqldm.metrics.frechet import whitened_frechet
from napari_vqldm.metrics.morphology import QUANTITIES, Morphology

MIN_SPREAD = 1e-9  # relative: a quantity that does not vary in the reference set has no unit


@dataclass(frozen=True)
class MorphologyDistance:
    """Distance of a set of volumes to a reference set.

    Attributes
    ----------
    w1_per_sd : mapping of str to float
        Per quantity: 1-Wasserstein distance over the standard deviation of the reference set.
    frechet : float
        Frechet distance of the vector of quantities, whitened by the reference set: 1 is a shift by one standard
        deviation. ``nan``, with ``reason``, where a set has too few volumes.
    frechet_floor : float
        What equal distributions score with as many volumes, see `whitened_frechet`.
    num, num_reference : int
        Volumes whose vector is complete.
    reason : str
        Why there is no Frechet distance; empty where there is one.
    """

    w1_per_sd: Mapping[str, float]
    frechet: float
    frechet_floor: float
    num: int
    num_reference: int
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-compatible values: ``None`` where a number is not finite."""
        values = asdict(self)
        values["w1_per_sd"] = {name: _or_none(value) for name, value in self.w1_per_sd.items()}
        return values | {name: _or_none(values[name]) for name in ("frechet", "frechet_floor")}


def _or_none(value: float) -> float | None:
    return value if np.isfinite(value) else None


def wasserstein_per_sd(values: npt.ArrayLike, reference: npt.ArrayLike) -> float:
    """1-Wasserstein distance of two samples over the standard deviation of the reference, numbers not finite left out.

    ``nan`` where a sample is empty or the reference does not vary.
    """
    a, b = (np.asarray(v, np.float64).ravel() for v in (values, reference))
    a, b = a[np.isfinite(a)], b[np.isfinite(b)]
    if not a.size or b.size < 2 or b.std() <= MIN_SPREAD * max(1.0, float(np.abs(b).max())):
        return float("nan")
    return float(stats.wasserstein_distance(a, b) / b.std(ddof=1))


def morphology_distance(volumes: Sequence[Morphology], reference: Sequence[Morphology]) -> MorphologyDistance:
    """Compare two sets of volumes by what their filaments look like.

    Parameters
    ----------
    volumes, reference : sequence of Morphology
        One per volume; both measured in the same way (both traced, with the same constants).

    Returns
    -------
    MorphologyDistance

    Raises
    ------
    ShapeError
        If a set is empty.

    Notes
    -----
    Quantities: length density, mean curvature, 1 / apparent persistence length, <tz^2>, in-plane order, junction
    density, median branch length, end density. Volumes with a quantity that could not be measured are left out of the
    Frechet distance, and only there. Bias: two sets of n volumes from one distribution are not 0 apart but about
    d^2 / (2 n), 0.5 at d = 8 and n = 64: read it beside ``frechet_floor``.
    """
    if not volumes or not reference:
        raise ShapeError(f"expected two sets of volumes, got {len(volumes)} and {len(reference)}")
    a, b = (np.stack([m.vector() for m in items]) for items in (volumes, reference))
    rows = {name: wasserstein_per_sd(a[:, k], b[:, k]) for k, name in enumerate(QUANTITIES)}
    a, b = (table[np.isfinite(table).all(axis=1)] for table in (a, b))
    needed = len(QUANTITIES) + 2
    frechet, floor, reason = float("nan"), float("nan"), ""
    if min(len(a), len(b)) < needed:
        reason = f"{len(a)} and {len(b)} volumes with all quantities, expected at least {needed} each"
    elif (b.std(axis=0) <= MIN_SPREAD * np.maximum(1.0, np.abs(b).max(axis=0))).any():
        reason = "a quantity does not vary in the reference set"
    else:
        spread = b.std(axis=0)  # quantities have different units: whitening regularizes relative to their mean
        score = whitened_frechet(a / spread, b / spread)
        frechet, floor = score.distance, score.floor
    return MorphologyDistance(rows, frechet, floor, len(a), len(b), reason)
