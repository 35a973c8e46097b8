"""Are generated volumes copies of training volumes? Nearest neighbours in feature space, against held-out volumes.

Features forget places: they find candidates quickly, and `napari_vqldm.metrics.memorization` compares voxels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

from napari_vqldm.errors import ShapeError, VolumeError
from napari_vqldm.metrics.frechet import whitening

FloatArray = npt.NDArray[np.floating]

NEAR_QUANTILE = 0.01


@dataclass(frozen=True)
class FeatureCopies:
    """Nearest training volume of every generated one.

    Attributes
    ----------
    distance : ndarray
        To the nearest training volume, in standard deviations of the training set, (N,).
    training_index : ndarray
        Which one, (N,) int64.
    ratio : ndarray
        ``distance`` over the distance to the nearest of equally many held-out volumes, (N,); about 1 without copies,
        towards 0 for a copy.
    threshold : float
        1 % quantile of the distances from held-out to training volumes.
    near_share : float
        Share of generated volumes nearer than that; 0.01 is expected without memorization.
    """

    distance: npt.NDArray[np.float64]
    training_index: npt.NDArray[np.int64]
    ratio: npt.NDArray[np.float64]
    threshold: float
    near_share: float


def feature_copies(
    generated: FloatArray, training: FloatArray, held_out: FloatArray, *, seed: int = 0
) -> FeatureCopies:
    """Compare distances to training volumes with distances to volumes that were never trained on.

    Parameters
    ----------
    generated : ndarray
        Features (N, d), or (N, O, d) under O orientations: then the nearest one counts, which finds copies that were
        turned or flipped (`napari_vqldm.metrics.features.FeatureExtractor.oriented`).
    training : ndarray
        (M, d), all volumes that were trained on.
    held_out : ndarray
        (K, d) or (K, O, d), like ``generated``, from the distribution of the training set. With orientations on one
        side only the threshold would be unfair.
    seed : int
        Of the draw of training volumes for ``ratio``, when M > K.

    Returns
    -------
    FeatureCopies

    Raises
    ------
    ShapeError
        If shapes do not fit, or there are fewer than 2 training or held-out volumes.
    VolumeError
        If a feature is not finite, or those of the training set do not vary.

    Notes
    -----
    distance_i = min over training t and orientations o of |W (g_io - t)|, W the whitening of the training set
    (`frechet.whitening`); threshold: the 1 % quantile of the same distance of held-out volumes. Source: the comparison
    of distances to training and to held-out samples of Meehan et al. 2020, arXiv:2004.05675, here by a quantile and a
    ratio.

    ``ratio`` compares with as many held-out volumes as training ones: a larger set has nearer neighbours. It takes
    min(M, K) of each, so it misses copies of training volumes that were not drawn; ``distance`` and ``near_share`` look
    at all M.

    Bias: a set that is less varied than the training set (averages, blank volumes) lies near its middle and reads as
    near without a copy; held-out volumes that share more with the generated ones than training volumes do (the same
    conditions) raise ``ratio`` above 1. With K held-out volumes the threshold rests on the nearest K / 100 of them.
    """
    known = np.asarray(training, np.float64)
    queries, fresh = (_oriented(f, name) for f, name in ((generated, "generated"), (held_out, "held_out")))
    if known.ndim != 2 or len(known) < 2 or len(fresh) < 2:
        raise ShapeError(
            f"expected at least 2 training and 2 held-out volumes, got shapes {known.shape} and {np.shape(held_out)}"
        )
    if not known.shape[1] == queries.shape[2] == fresh.shape[2]:
        raise ShapeError("expected equal numbers of features in all three sets")
    if queries.shape[1] != fresh.shape[1]:
        raise ShapeError(
            f"expected as many orientations of held-out as of generated volumes, got {fresh.shape[1]} and "
            f"{queries.shape[1]}"
        )
    whiten = whitening(known)
    known, queries, fresh = whiten(known), whiten(queries), whiten(fresh)
    table = _distances(queries, known)
    distance = table.min(axis=1)
    threshold = float(np.quantile(_distances(fresh, known).min(axis=1), NEAR_QUANTILE))
    size = min(len(known), len(fresh))
    rng = np.random.default_rng(seed)
    some = rng.permutation(len(known))[:size]
    others = rng.permutation(len(fresh))[:size]
    # The first orientation is the volume as it is: held-out volumes stand where training volumes stand.
    to_fresh = _distances(queries, fresh[others, 0]).min(axis=1)
    ratio = table[:, some].min(axis=1) / np.maximum(to_fresh, 1e-12)
    return FeatureCopies(distance, table.argmin(axis=1), ratio, threshold, float((distance < threshold).mean()))


def _oriented(features: FloatArray, name: str) -> npt.NDArray[np.float64]:
    """Return (N, O, d)."""
    rows = np.asarray(features, np.float64)
    if rows.ndim == 2:
        rows = rows[:, None]
    if rows.ndim != 3 or 0 in rows.shape:
        raise ShapeError(f"{name}: expected features (N, d) or (N, O, d), got shape {np.shape(features)}")
    if not np.isfinite(rows).all():
        raise VolumeError(f"{name}: expected finite features, got NaN or infinity")
    return rows


def _distances(queries: npt.NDArray[np.float64], known: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Distance (N, M) of the nearest orientation."""
    best = np.full((len(queries), len(known)), np.inf)
    for orientation in range(queries.shape[1]):
        np.minimum(best, cdist(queries[:, orientation], known), out=best)
    return best
