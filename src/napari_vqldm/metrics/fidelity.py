"""How close one volume is to another, and the simple baselines that a model must beat.

Every peak signal-to-noise ratio here says its range in its name: the same pair of volumes scores 27, 31 or 58 dB
depending on the range alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_vqldm.errors import ShapeError, VolumeError
from napari_vqldm.metrics.checks import check_finite, check_pair

FloatArray = npt.NDArray[np.floating]
Float3 = tuple[float, float, float]
Int3 = tuple[int, int, int]

UNIT_RANGE_PERCENTILES = (0.1, 99.9)
_PART = 2**18  # voxels at a time in sums over whole volumes

# Standard deviations in voxels, axial apart from lateral: volumes are coarser along z.
GAUSSIAN_AXIAL_SIGMAS = (0.0, 0.3, 0.5, 0.7, 0.9, 1.2)
GAUSSIAN_LATERAL_SIGMAS = (0.3, 0.5, 0.65, 0.8, 1.0, 1.3)


def unit_range(reference: FloatArray) -> tuple[float, float]:
    """Return the 0.1 and 99.9 percentiles of ``reference``, the range that `psnr_unit_range` maps to [0, 1].

    Raises
    ------
    ShapeError
        If the reference has no voxel.
    VolumeError
        If it is not finite or both percentiles coincide: such a reference has no range.
    """
    check_finite(reference, "reference")
    low, high = (float(v) for v in np.percentile(reference, UNIT_RANGE_PERCENTILES))
    if not high > low:
        raise VolumeError(
            f"expected a reference whose 0.1 and 99.9 percentiles differ, got {low} twice: compare against a volume "
            "that is not constant"
        )
    return low, high


def psnr_unit_range(volume: FloatArray, reference: FloatArray) -> float:
    """Peak signal-to-noise ratio in dB; peak = the p0.1-p99.9 range of the reference.

    Parameters
    ----------
    volume, reference : ndarray
        Same shape, same unit. Both are mapped by (x - p0.1) / (p99.9 - p0.1) with the percentiles of ``reference``;
        nothing is clipped.

    Returns
    -------
    float
        10 log10(1 / MSE), infinite for equal volumes.

    Raises
    ------
    ShapeError
        If the shapes differ or there is no voxel.
    VolumeError
        If a voxel is not finite or the reference has no range.

    Notes
    -----
    Source: the usual ratio of squared peak to mean squared error; the range by percentiles instead of extremes follows
    Weigert et al. 2018, doi:10.1038/s41592-018-0216-7, who take 0.1 and 99.9 as here.

    Bias: every voxel counts alike, so that the empty background, most of a volume, decides: a volume that is smoothed
    there gains more than one that keeps its filaments (see `foreground.foreground_psnr_unit_range`). Brightness in a
    wrong unit or with an offset counts as error. The range of a noisy reference holds its noise, so that the number
    reads higher than against the noise-free one.
    """
    check_pair(volume, reference)
    low, high = unit_range(reference)
    difference = (np.asarray(volume, np.float64) - np.asarray(reference, np.float64)) / (high - low)
    error = float(np.mean(difference**2))
    return float("inf") if error == 0.0 else float(-10.0 * np.log10(error))


@dataclass(frozen=True)
class NoiseCeiling:
    """How close a reconstruction comes to the limit that the noise of its input sets; all in dB.

    Attributes
    ----------
    to_input : float
        PSNR of the reconstruction against the noisy input.
    ceiling : float
        PSNR of the noise-free volume against the noisy input: what a perfect denoiser scores.
    gap : float
        ``to_input - ceiling``. Does not depend on the range. Negative: structure was lost; positive: noise was copied.
    """

    to_input: float
    ceiling: float

    @property
    def gap(self) -> float:
        """Distance to the ceiling, dB."""
        return self.to_input - self.ceiling


def noise_ceiling_unit_range(volume: FloatArray, noisy: FloatArray, clean: FloatArray) -> NoiseCeiling:
    """Compare ``volume`` with its noisy input, and with what the noise-free volume scores there.

    Parameters
    ----------
    volume : ndarray
        Reconstruction of ``noisy``, (Z, Y, X).
    noisy, clean : ndarray
        The input and its noise-free expectation, (Z, Y, X), in the same unit: offset and gain of the camera removed.

    Returns
    -------
    NoiseCeiling
        Peak = the p0.1-p99.9 range of ``noisy`` in both numbers. The noise itself widens that range, so that both
        read higher than with the range of ``clean``; the gap stays.

    Raises
    ------
    ShapeError
        If the shapes differ or there is no voxel.
    VolumeError
        If a voxel is not finite, ``noisy`` has no range or equals ``clean``: without noise there is no ceiling.

    Notes
    -----
    With an error of variance e that is independent of noise of variance s, the gap is -10 log10(1 + e / s). Bias: error
    along the noise and error against it cancel in one number, so that a volume that blurs and copies can score 0; read
    it next to `psnr_unit_range` against ``clean``.
    """
    ceiling = psnr_unit_range(clean, noisy)
    if not np.isfinite(ceiling):
        raise VolumeError("expected a noisy volume that differs from the noise-free one, got equal volumes: no ceiling")
    return NoiseCeiling(to_input=psnr_unit_range(volume, noisy), ceiling=ceiling)


def pearson(volume: FloatArray, reference: FloatArray) -> float:
    """Pearson correlation of all voxels; 0 when either volume is constant.

    Parameters
    ----------
    volume, reference : ndarray
        Same shape; units and offsets may differ.

    Returns
    -------
    float
        sum (a b) / sqrt(sum a^2 sum b^2) of the volumes less their means, in [-1, 1], without unit.

    Raises
    ------
    ShapeError
        If the shapes differ or there is no voxel.
    VolumeError
        If a voxel is not finite.

    Notes
    -----
    Source: Pearson 1896, doi:10.1098/rsta.1896.0007. Bias: blind to gain and offset, so that a volume half as bright
    scores 1; noise in either volume lowers it, the more the emptier the volume; a few bright crossings outweigh many
    dim filaments.
    """
    check_pair(volume, reference)
    x, y = np.ravel(volume), np.ravel(reference)
    mean_x, mean_y = np.mean(x, dtype=np.float64), np.mean(y, dtype=np.float64)
    xx = yy = xy = 0.0
    for start in range(0, x.size, _PART):  # doubles of a part alone, not of the volumes
        part = slice(start, start + _PART)
        a, b = np.asarray(x[part], np.float64) - mean_x, np.asarray(y[part], np.float64) - mean_y
        xx, yy, xy = xx + float(np.sum(a * a)), yy + float(np.sum(b * b)), xy + float(np.sum(a * b))
    norm = float(np.sqrt(xx * yy))
    return xy / norm if norm > 0 else 0.0


def blank_baseline(clean: FloatArray) -> npt.NDArray[np.float32]:
    """Return the constant volume with the least squared error to ``clean``: its mean; refuses NaN and infinity."""
    check_finite(clean)
    return np.full(clean.shape, np.mean(clean, dtype=np.float64), np.float32)


def gaussian_baseline(noisy: FloatArray, sigma: Float3) -> npt.NDArray[np.float32]:
    """Smooth ``noisy`` (Z, Y, X) with a Gaussian; ``sigma`` (z, y, x) is the standard deviation in voxels.

    Raises
    ------
    ShapeError
        If there is no voxel.
    VolumeError
        If a voxel is not finite: the filter would spread it over its surroundings.
    """
    check_finite(noisy)
    smooth: npt.NDArray[np.float32] = ndimage.gaussian_filter(np.asarray(noisy, np.float32), sigma, mode="reflect")
    return smooth


def pooled_baseline(clean: FloatArray, factor: Int3 = (2, 4, 4)) -> npt.NDArray[np.float32]:
    """Average ``clean`` (Z, Y, X) over blocks of ``factor`` voxels, then interpolate back with cubic splines.

    This is what one number per latent voxel keeps of a volume when nothing is learned.

    Raises
    ------
    ShapeError
        If a size is not a multiple of ``factor`` or there is no voxel.
    VolumeError
        If a voxel is not finite.
    """
    check_finite(clean)
    if any(n % f for n, f in zip(clean.shape, factor, strict=True)):
        raise ShapeError(f"expected a shape that is a multiple of {factor}, got {clean.shape}: crop the volume")
    z, y, x = (n // f for n, f in zip(clean.shape, factor, strict=True))
    blocks = np.asarray(clean, np.float32).reshape(z, factor[0], y, factor[1], x, factor[2])
    # grid_mode: sample points are block centers, so nothing shifts by half a block.
    large: npt.NDArray[np.float32] = ndimage.zoom(
        blocks.mean(axis=(1, 3, 5)), factor, order=3, mode="reflect", grid_mode=True
    )
    return large


def choose_gaussian_sigma(
    noisy: Sequence[FloatArray],
    clean: Sequence[FloatArray],
    axial: Sequence[float] = GAUSSIAN_AXIAL_SIGMAS,
    lateral: Sequence[float] = GAUSSIAN_LATERAL_SIGMAS,
) -> Float3:
    """Return the smoothing (z, y, x) in voxels that gives the best mean `psnr_unit_range` on these volumes.

    Choose on other volumes than those that are scored, otherwise the baseline sees the answer.

    Parameters
    ----------
    noisy, clean : sequence of ndarray
        Pairs of volumes (Z, Y, X).
    axial, lateral : sequence of float
        Grid of standard deviations, voxels. Every combination is tried.

    Raises
    ------
    ShapeError
        If there is no pair or the numbers of volumes differ.
    VolumeError
        If a volume is not finite or a noise-free one has no range.
    """
    if not noisy or len(noisy) != len(clean):
        raise ShapeError(f"expected as many clean as noisy volumes and at least one, got {len(clean)} and {len(noisy)}")

    def score(sigma: Float3) -> float:
        return float(
            np.mean([psnr_unit_range(gaussian_baseline(n, sigma), c) for n, c in zip(noisy, clean, strict=True)])
        )

    return max(((z, xy, xy) for z, xy in itertools.product(axial, lateral)), key=score)


@dataclass(frozen=True)
class Interval:
    """An estimate with its bootstrap interval."""

    value: float
    low: float
    high: float


def bootstrap_interval(
    values: Sequence[float] | npt.NDArray[np.floating],
    statistic: Callable[[npt.NDArray[np.float64]], float] = lambda v: float(np.mean(v)),
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval of ``statistic`` over ``values``, one value per volume.

    Parameters
    ----------
    values : sequence of float
        At least one number; volumes are resampled, never voxels.
    statistic : callable
        Maps an array of numbers to one number.
    level : float
        Coverage, 0.95 by default.
    resamples, seed : int
        Number of resamples and the seed of their draw.

    Raises
    ------
    ShapeError
        If ``values`` is empty.

    Notes
    -----
    Source: Efron 1979, doi:10.1214/aos/1176344552.
    """
    data = np.asarray(values, np.float64)
    if data.size == 0:
        raise ShapeError("expected at least one value to resample, got none")
    rng = np.random.default_rng(seed)
    draws = [statistic(data[rng.integers(0, data.size, data.size)]) for _ in range(resamples)]
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(statistic(data)), float(low), float(high))
