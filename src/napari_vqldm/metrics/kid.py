"""Kernel distance between two sets of features: unbiased, so equal distributions score 0 on average at any size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_vqldm.errors import ShapeError, VolumeError

FloatArray = npt.NDArray[np.floating]
Array = npt.NDArray[np.float64]

NUM_SUBSETS = 20
SUBSET_SIZE = 250
DEGREE = 3


@dataclass(frozen=True)
class KernelDistance:
    """Squared maximum mean discrepancy.

    ``mean`` over random subsets, may be negative; ``sd`` its standard deviation over them; ``low`` and ``high`` the 2.5
    and 97.5 % quantiles over them; ``subset_size`` volumes were in each.
    """

    mean: float
    sd: float
    low: float
    high: float
    subset_size: int


def polynomial_kernel(a: FloatArray, b: FloatArray) -> Array:
    """Return (a b^T / d + 1)^3, (n, m), for features (n, d) and (m, d)."""
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return np.asarray((x @ y.T / x.shape[1] + 1.0) ** DEGREE)


def kernel_mmd2(a: FloatArray, b: FloatArray) -> float:
    """Unbiased squared maximum mean discrepancy of two samples under the cubic kernel.

    Means of the kernel within each sample leave out the diagonal (Gretton et al. 2012, JMLR 13, 723, Eq. 3). The kernel
    compares moments up to the third: unlike a linear kernel, which compares means alone, it sees a change of spread.

    Raises
    ------
    ShapeError
        If a sample has fewer than 2 rows or the numbers of features differ.
    """
    x, y = _checked(a), _checked(b)
    if x.shape[1] != y.shape[1]:
        raise ShapeError(f"expected sets with equal numbers of features, got {x.shape[1]} and {y.shape[1]}")
    n, m = len(x), len(y)
    within_x, within_y, between = polynomial_kernel(x, x), polynomial_kernel(y, y), polynomial_kernel(x, y)
    first = (within_x.sum() - np.trace(within_x)) / (n * (n - 1))
    second = (within_y.sum() - np.trace(within_y)) / (m * (m - 1))
    return float(first + second - 2.0 * between.mean())


def kernel_distance(
    features: FloatArray,
    reference: FloatArray,
    *,
    num_subsets: int = NUM_SUBSETS,
    subset_size: int = SUBSET_SIZE,
    seed: int = 0,
) -> KernelDistance:
    """Kernel inception distance (KID) of two sets of features, by subsets.

    Parameters
    ----------
    features, reference : ndarray
        (n, d) and (m, d); first standardized by mean and standard deviation of the reference, so that no feature
        dominates by its unit.
    num_subsets, subset_size : int
        Random subsets without replacement; smaller where a set has fewer rows. Subsets of one set overlap: their
        spread is that of one subset, not the error of the mean.
    seed : int
        Of the subsets.

    Returns
    -------
    KernelDistance
        Without unit.

    Raises
    ------
    ShapeError
        If a set has fewer than 2 rows or the numbers of features differ.
    VolumeError
        If a feature is not finite, or those of the reference do not vary.

    Notes
    -----
    Mean of `kernel_mmd2` over the subsets. Source: Binkowski et al. 2018, arXiv:1801.01401. Bias: none; equal
    distributions score 0 on average, and half of the time less. Its size has no unit that means anything: put the value
    of another draw from the reference beside it.
    """
    known = _checked(reference)
    mean, sd = known.mean(axis=0), known.std(axis=0)
    if not sd.max() > 0:
        raise VolumeError("expected reference features that vary, got equal ones")
    sd = np.maximum(sd, 1e-6 * sd.max())
    rows = _checked(features)
    if rows.shape[1] != known.shape[1]:
        raise ShapeError(f"expected sets with equal numbers of features, got {rows.shape[1]} and {known.shape[1]}")
    x, y = (rows - mean) / sd, (known - mean) / sd
    size = min(subset_size, len(x), len(y))
    rng = np.random.default_rng(seed)
    values = [
        kernel_mmd2(x[rng.choice(len(x), size, replace=False)], y[rng.choice(len(y), size, replace=False)])
        for _ in range(num_subsets)
    ]
    low, high = np.quantile(values, (0.025, 0.975))
    return KernelDistance(float(np.mean(values)), float(np.std(values)), float(low), float(high), size)


def _checked(features: FloatArray) -> Array:
    rows = np.asarray(features, np.float64)
    if rows.ndim != 2 or len(rows) < 2:
        raise ShapeError(f"expected features of at least 2 volumes, (n, d), got shape {rows.shape}")
    if not np.isfinite(rows).all():
        raise VolumeError("expected finite features, got NaN or infinity")
    return rows
