"""Quality and diversity apart: precision, recall, density and coverage by nearest neighbours, and the Vendi score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

from napari_vqldm.errors import ShapeError, VolumeError

FloatArray = npt.NDArray[np.floating]
Array = npt.NDArray[np.float64]

NEAREST = 5


@dataclass(frozen=True)
class NeighbourScores:
    """Shares by nearest neighbours; none of them is 1 for equal distributions: compare with real against real.

    Attributes
    ----------
    precision : float
        Share of the set that lies inside the k-th-neighbour ball of some reference volume, in [0, 1].
    recall : float
        Share of the reference that lies inside the ball of some volume of the set, in [0, 1].
    density : float
        Mean number of reference balls around a volume of the set, over k; may exceed 1.
    coverage : float
        Share of reference balls that hold a volume of the set, in [0, 1].
    """

    precision: float
    recall: float
    density: float
    coverage: float


def neighbour_scores(features: FloatArray, reference: FloatArray, k: int = NEAREST) -> NeighbourScores:
    """Precision, recall, density and coverage of a set against a reference.

    Parameters
    ----------
    features, reference : ndarray
        (n, d) and (m, d). Distances are Euclidean: whiten or standardize before.
    k : int
        The ball of a volume reaches to its k-th nearest neighbour in its own set, itself not counted.

    Raises
    ------
    ShapeError
        If a set has no more than k rows.

    Notes
    -----
    Sources: Kynkaanniemi et al. 2019, arXiv:1904.06991 (precision, recall), Naeem et al. 2020, arXiv:2002.09797
    (density, coverage). Expected coverage of equal distributions with n = m is about 1 - 2^-k. All depend on the sizes
    of the sets: compare equal sizes only.
    """
    x, y = _checked(features, k + 1), _checked(reference, k + 1)
    if x.shape[1] != y.shape[1]:
        raise ShapeError(f"expected sets with equal numbers of features, got {x.shape[1]} and {y.shape[1]}")
    radius_x, radius_y = _radius(x, k), _radius(y, k)
    between = cdist(x, y)  # (n, m)
    in_reference = between <= radius_y  # in the ball of each reference volume
    in_set = between <= radius_x[:, None]
    return NeighbourScores(
        precision=float(in_reference.any(axis=1).mean()),
        recall=float(in_set.any(axis=0).mean()),
        density=float(in_reference.sum() / (k * len(x))),
        coverage=float(in_reference.any(axis=0).mean()),
    )


def vendi_score(features: FloatArray) -> float:
    """Effective number of different volumes: exp of the entropy of the eigenvalues of the similarity matrix over n.

    Parameters
    ----------
    features : ndarray
        (n, d). Similarity is the cosine of the angle between features: center them by the mean of the reference first,
        or all angles are alike.

    Returns
    -------
    float
        From 1 (all alike) to min(n, d); the same however often every volume is repeated.

    Raises
    ------
    VolumeError
        If a volume has no direction (zero features).

    Notes
    -----
    Source: Friedman and Dieng 2023, arXiv:2210.02410. The eigenvalues are those of the (d, d) matrix of second moments
    of the normalized features, which are the nonzero ones of the (n, n) similarity matrix.
    """
    rows = _checked(features, 1)
    norm = np.linalg.norm(rows, axis=1)
    if not norm.min() > 0:
        raise VolumeError("expected features other than zero: the cosine of a zero vector has no value")
    unit = rows / norm[:, None]
    values = np.clip(np.linalg.eigvalsh(unit.T @ unit / len(unit)), 0.0, None)
    values = values[values > 1e-12]
    return float(np.exp(-(values * np.log(values)).sum()))


def vendi_ratio(features: FloatArray, reference: FloatArray, seed: int = 0) -> float:
    """Vendi score of a set over that of as many volumes of the reference; 1: as diverse.

    Both are centered and scaled by the reference. The score grows with the number of volumes, so the larger set is cut
    to the size of the smaller one at random.
    """
    known = _checked(reference, 2)
    rows = _checked(features, 1)
    mean, sd = known.mean(axis=0), known.std(axis=0)
    sd = np.maximum(sd, max(1e-6 * float(sd.max()), 1e-30))
    rng = np.random.default_rng(seed)
    size = min(len(rows), len(known))
    first, second = ((r[rng.permutation(len(r))[:size]] - mean) / sd for r in (rows, known))
    return vendi_score(first) / vendi_score(second)


def _radius(rows: Array, k: int) -> Array:
    """Distance of every row to its k-th neighbour, itself not counted."""
    distances = np.sort(cdist(rows, rows), axis=1)
    radius: Array = distances[:, k]
    return radius


def _checked(features: FloatArray, least: int) -> Array:
    rows = np.asarray(features, np.float64)
    if rows.ndim != 2 or len(rows) < least:
        raise ShapeError(f"expected features of at least {least} volumes, (n, d), got shape {rows.shape}")
    if not np.isfinite(rows).all():
        raise VolumeError("expected finite features, got NaN or infinity")
    return rows
