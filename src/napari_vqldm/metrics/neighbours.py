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

    Returns
    -------
    NeighbourScores
        Four shares without unit.

    Raises
    ------
    ShapeError
        If a set has no more than k rows or the numbers of features differ.
    VolumeError
        If a feature is not finite.

    Notes
    -----
    With x of the set, y of the reference, B(.) the balls: precision = share of x inside any B(y), recall = share of y
    inside any B(x), density = sum over x of the number of B(y) around it / (k n), coverage = share of B(y) that hold
    any x.

    Sources: Kynkaanniemi et al. 2019, arXiv:1904.06991 (precision, recall), Naeem et al. 2020, arXiv:2002.09797
    (density, coverage). Expected coverage of equal distributions with n = m is about 1 - 2^-k.

    Bias: all depend on the sizes of the sets: compare equal sizes only. A single outlier of the reference has a large
    ball that lets precision read high, one of the set does so for recall; density and coverage feel it less. In many
    dimensions balls are large and overlap, so that precision and recall saturate.
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
    ShapeError
        If there is no row.
    VolumeError
        If a volume has no direction (zero features) or a feature is not finite.

    Notes
    -----
    exp(-sum l log l) over the eigenvalues l of K / n, K_ij the cosine of the angle between rows i and j. Source:
    Friedman and Dieng 2023, arXiv:2210.02410. The eigenvalues are those of the (d, d) matrix of second moments of the
    normalized features, which are the nonzero ones of the (n, n) similarity matrix.

    Bias: grows with n towards that of the distribution and is never above d, so compare sets of one size
    (`vendi_ratio`). It rewards any difference: noise that reaches the features counts as variety.
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

    Parameters
    ----------
    features, reference : ndarray
        (n, d) and (m, d), m at least 2. Both are centered and scaled by mean and standard deviation of the reference.
    seed : int
        Of the draw: the score grows with the number of volumes, so the larger set is cut to the size of the smaller
        one at random.

    Returns
    -------
    float
        Above 0, without unit.

    Raises
    ------
    ShapeError
        If a set has too few rows or the numbers of features differ.
    VolumeError
        If a feature is not finite, or a volume lies exactly at the mean of the reference.

    Notes
    -----
    `vendi_score` of Friedman and Dieng 2023, arXiv:2210.02410, as a ratio. Bias: sets from one distribution scatter
    around 1. The mean is that of the reference alone, so that a set far away from it lies in one direction and reads as
    uniform although its volumes differ; and noise that reaches the features can raise it above 1.
    """
    known = _checked(reference, 2)
    rows = _checked(features, 1)
    if rows.shape[1] != known.shape[1]:
        raise ShapeError(f"expected sets with equal numbers of features, got {rows.shape[1]} and {known.shape[1]}")
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
