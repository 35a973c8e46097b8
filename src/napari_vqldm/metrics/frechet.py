"""Frechet distance between two sets of features, with the value that equal sets would get.

The distance of two finite samples of one distribution is not 0: it grows with the square of the number of features and
falls with the number of volumes. A bare number therefore says nothing; here it comes with its floor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_vqldm.errors import ShapeError, VolumeError

Array = npt.NDArray[np.float64]
FloatArray = npt.NDArray[np.floating]

# Added to every eigenvalue of the reference covariance before whitening, as a share of their mean: a direction in which
# the reference hardly varies is not magnified without limit.
REGULARIZATION = 1e-3
NUM_SPLITS = 20


@dataclass(frozen=True)
class FrechetScore:
    """Frechet distance of whitened features.

    Attributes
    ----------
    distance : float
        Squared Frechet distance; 1 is one standard deviation of the reference along one feature.
    floor : float
        What a set of this size from the distribution of the reference scores on average (see `whitened_frechet`).
    floor_sd : float
        Standard deviation over the random splits, scaled alike.
    """

    distance: float
    floor: float
    floor_sd: float

    @property
    def excess(self) -> float:
        """Distance above the floor; about 0, and sometimes below, for equal distributions."""
        return self.distance - self.floor


@dataclass(frozen=True)
class Whitening:
    """Affine map after which the reference has mean 0 and, up to the regularization, covariance 1."""

    mean: Array  # (d,)
    matrix: Array  # (d, d)

    def __call__(self, features: FloatArray) -> Array:
        """Map features (n, d)."""
        return (np.asarray(features, np.float64) - self.mean) @ self.matrix


def frechet_distance(mean_a: FloatArray, cov_a: FloatArray, mean_b: FloatArray, cov_b: FloatArray) -> float:
    """Squared Frechet (2-Wasserstein) distance of two normal distributions.

    |m_a - m_b|^2 + tr(A + B - 2 (A^(1/2) B A^(1/2))^(1/2)) (Dowson and Landau 1982, J. Multivar. Anal. 12, 450). The
    square roots are taken from eigenvalues of symmetric matrices, so covariances may be singular, as they are for fewer
    volumes than features.

    Parameters
    ----------
    mean_a, mean_b : ndarray
        (d,).
    cov_a, cov_b : ndarray
        (d, d), symmetric, positive semidefinite.

    Raises
    ------
    ShapeError
        If the sizes do not fit.
    VolumeError
        If a value is not finite.
    """
    a, b = np.asarray(cov_a, np.float64), np.asarray(cov_b, np.float64)
    m_a, m_b = np.asarray(mean_a, np.float64), np.asarray(mean_b, np.float64)
    if m_a.ndim != 1 or m_a.shape != m_b.shape or a.shape != (m_a.size, m_a.size) or b.shape != a.shape:
        raise ShapeError(
            f"expected means (d,) and covariances (d, d), got {m_a.shape}, {m_b.shape} and {a.shape}, {b.shape}"
        )
    delta = m_a - m_b
    if not (np.isfinite(delta).all() and np.isfinite(a).all() and np.isfinite(b).all()):
        raise VolumeError("expected finite means and covariances, got NaN or infinity: check the features")
    values, vectors = np.linalg.eigh(a)
    root_a = (vectors * np.sqrt(np.clip(values, 0.0, None))) @ vectors.T
    middle = root_a @ b @ root_a
    cross = np.sqrt(np.clip(np.linalg.eigvalsh(0.5 * (middle + middle.T)), 0.0, None)).sum()
    return max(float(delta @ delta + np.trace(a) + np.trace(b) - 2.0 * cross), 0.0)


def whitening(reference: FloatArray, regularization: float = REGULARIZATION) -> Whitening:
    """Return the symmetric whitening of reference features (n, d): (covariance + r mean eigenvalue)^(-1/2).

    Raises
    ------
    ShapeError
        If there are fewer than 2 rows.
    VolumeError
        If the features are constant or not finite.
    """
    rows = _checked(reference, "reference")
    mean, covariance = _moments(rows)
    values, vectors = np.linalg.eigh(covariance)
    level = float(np.mean(np.clip(values, 0.0, None)))
    if level <= 0:
        raise VolumeError("expected reference features that vary, got equal ones")
    scale = 1.0 / np.sqrt(np.clip(values, 0.0, None) + regularization * level)
    return Whitening(mean, (vectors * scale) @ vectors.T)


def expected_floor(num_features: int, size_a: int, size_b: int) -> float:
    """Expected distance of two samples of one normal distribution with unit covariance, to first order.

    (1/n_a + 1/n_b) (d^2 + 5 d) / 4: the means contribute d (1/n_a + 1/n_b), the covariances a quarter of the squared
    Frobenius norm of their difference. For n_a = n_b = n and large d this is d^2 / (2 n).
    """
    return (1.0 / size_a + 1.0 / size_b) * (num_features**2 + 5 * num_features) / 4.0


def whitened_frechet(
    features: FloatArray, reference: FloatArray, *, regularization: float = REGULARIZATION, seed: int = 0
) -> FrechetScore:
    """Frechet distance of two sets after whitening by the reference, and its floor.

    Parameters
    ----------
    features, reference : ndarray
        (n, d) and (m, d); about 500 rows or more for d = 64.
    regularization : float
        See `whitening`.
    seed : int
        Of the random splits.

    Returns
    -------
    FrechetScore

    Raises
    ------
    ShapeError
        If the set has fewer than 2 rows, the reference fewer than 4, or the numbers of features differ.
    VolumeError
        If a feature is not finite, or those of the reference do not vary.

    Notes
    -----
    Floor: mean distance of the two halves of 20 random splits of the reference. Halves are smaller than the sets that
    are compared, so the value is scaled by (1/n + 1/m) / (4/m), the ratio that `expected_floor` predicts. Whitened by
    the whole reference the halves seem too near to each other, by one of them too far: the mean of both is taken. For
    normal features, d = 64 and 250 to 2000 rows it is within 6 % of the mean distance of equal distributions, which
    exceeds the first-order `expected_floor` by about 1 / (1 - d/m). Below 4 d rows compare sets of equal size only.

    Source: Heusel et al. 2017, arXiv:1706.08500; the bias of finite samples: Chong and Forsyth 2020, arXiv:1911.07023.
    """
    rows, known = _checked(features, "features"), _checked(reference, "reference")
    if rows.shape[1] != known.shape[1]:
        raise ShapeError(f"expected sets with equal numbers of features, got {rows.shape[1]} and {known.shape[1]}")
    if len(known) < 4:
        raise ShapeError(f"expected at least 4 reference volumes to split, got {len(known)}")
    whiten = whitening(known, regularization)
    white, white_known = whiten(rows), whiten(known)
    distance = frechet_distance(*_moments(white), *_moments(white_known))
    rng = np.random.default_rng(seed)
    half = len(known) // 2
    splits = []
    for _ in range(NUM_SPLITS):
        order = rng.permutation(len(known))
        first, second = white_known[order[:half]], white_known[order[half : 2 * half]]
        own = whitening(second, regularization)
        inside = frechet_distance(*_moments(first), *_moments(second))
        outside = frechet_distance(*_moments(own(first)), *_moments(own(second)))
        splits.append(0.5 * (inside + outside))
    scale = (1.0 / len(rows) + 1.0 / len(known)) / (2.0 / half)
    return FrechetScore(distance, float(np.mean(splits)) * scale, float(np.std(splits)) * scale)


def _moments(rows: Array) -> tuple[Array, Array]:
    """Mean (d,) and unbiased covariance (d, d)."""
    mean: Array = rows.mean(axis=0)
    centered = rows - mean
    return mean, centered.T @ centered / (len(rows) - 1)


def _checked(features: FloatArray, name: str) -> Array:
    rows = np.asarray(features, np.float64)
    if rows.ndim != 2 or len(rows) < 2:
        raise ShapeError(f"{name}: expected features of at least 2 volumes, (n, d), got shape {rows.shape}")
    if not np.isfinite(rows).all():
        raise VolumeError(f"{name}: expected finite features, got NaN or infinity")
    return rows
