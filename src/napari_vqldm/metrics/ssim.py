"""Structural similarity of two volumes in 3D, at one scale and at three.

Both map the volumes by the p0.1-p99.9 range of the reference, as `psnr_unit_range` does, and count only windows that
lie wholly inside: no border is invented.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Iterator, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_vqldm.errors import ShapeError
from napari_vqldm.metrics.checks import check_pair
from napari_vqldm.metrics.fidelity import FloatArray, unit_range

WINDOW_SIGMA = 1.5  # voxels
WINDOW_RADIUS = 5  # 11 voxels, as scikit-image truncates the same Gaussian
MS_WINDOW_SIGMA = 1.0
MS_WINDOW_RADIUS = 3  # 7 voxels: three scales fit into 28 planes
MS_WEIGHTS = (0.3, 0.3, 0.4)  # fine to coarse
C1, C2 = 0.01**2, 0.03**2  # (K1 L)^2 and (K2 L)^2 for the range L = 1

_BLOCK = (32, 64, 64)  # windows (z, y, x) at a time: all fields of a block take some 12 MiB and stay near the processor

Array = npt.NDArray[np.float64]
T = TypeVar("T")


def ssim3d_unit_range(volume: FloatArray, reference: FloatArray) -> float:
    """Mean structural similarity in 3D; range 1 after mapping by the p0.1-p99.9 range of the reference.

    Parameters
    ----------
    volume, reference : ndarray
        (Z, Y, X), the same unit, at least 11 voxels along each axis. Both are mapped by (x - p0.1) / (p99.9 - p0.1)
        with the percentiles of ``reference``; nothing is clipped.

    Returns
    -------
    float
        Mean over all voxels at least 5 from every face, in [-1, 1]; 1 for equal volumes.

    Raises
    ------
    ShapeError
        If the shapes differ or an axis is shorter than 11 voxels.
    VolumeError
        If a voxel is not finite or the reference has no range.

    Notes
    -----
    Per voxel (2 m_x m_y + C1) (2 s_xy + C2) / ((m_x^2 + m_y^2 + C1) (s_x^2 + s_y^2 + C2)) with means, variances and
    covariance under a Gaussian window of standard deviation 1.5 voxels, population normalization, C1 = 0.01^2,
    C2 = 0.03^2. Source: Wang et al. 2004, doi:10.1109/TIP.2003.819861, Eq. 13.

    Bias: the window counts voxels, so that it is longer along z in um. A dark background that agrees counts as
    similarity, and one that holds noise as dissimilarity: the score depends on how empty a volume is. Equal to
    scikit-image with ``gaussian_weights`` and ``use_sample_covariance=False``; torchmetrics averages windows over
    mirrored borders too and reads up to 0.05 higher on small noisy volumes.
    """
    return _finish(ssim3d_steps(volume, reference))


def ssim3d_steps(volume: FloatArray, reference: FloatArray) -> Generator[None, None, float]:
    """Compute `ssim3d_unit_range` block by block; it yields after each of `num_ssim3d_steps` and returns the mean.

    Beside both volumes it takes the memory of one block. Parameters and errors are those of `ssim3d_unit_range`.
    """
    _check(volume, reference, 2 * WINDOW_RADIUS + 1)
    means = yield from _similarity_steps(volume, reference, unit_range(reference), WINDOW_SIGMA, WINDOW_RADIUS)
    return means[0]


def num_ssim3d_steps(shape: Sequence[int]) -> int:
    """Return how often `ssim3d_steps` yields for volumes of this shape; 0 where the window does not fit."""
    return math.prod(-(-max(0, n - 2 * WINDOW_RADIUS) // size) for n, size in zip(shape, _BLOCK, strict=True))


def ms_ssim3d_unit_range(volume: FloatArray, reference: FloatArray) -> float:
    """Structural similarity at three scales in 3D; range 1 by the p0.1-p99.9 range of the reference.

    Parameters
    ----------
    volume, reference : ndarray
        (Z, Y, X), the same unit, at least 28 voxels along each axis, mapped as in `ssim3d_unit_range`.

    Returns
    -------
    float
        In [0, 1]; 1 for equal volumes, 0 if the mean of any factor is negative.

    Raises
    ------
    ShapeError
        If the shapes differ or an axis is shorter than 28 voxels.
    VolumeError
        If a voxel is not finite or the reference has no range.

    Notes
    -----
    cs_1^0.3 cs_2^0.3 ssim_3^0.4: contrast-structure term at full size and after averaging 2 x 2 x 2 voxels, the full
    index after averaging twice; window of 7 voxels, standard deviation 1 voxel, windows wholly inside. An odd last
    plane, row or column is dropped when averaging. Source: Wang, Simoncelli and Bovik 2003,
    doi:10.1109/ACSSC.2003.1292216, Eq. 7; scales and weights are ours, because five scales of an 11 voxel window need
    161 planes. Numbers are not comparable to those of five scales.

    Bias: insensitive to fine noise, which the coarse scales average away; the means (offset) count at the last scale
    alone.
    """
    scales = len(MS_WEIGHTS)
    _check(volume, reference, (2 * MS_WINDOW_RADIUS + 1) * 2 ** (scales - 1))
    low, high = unit_range(reference)
    x, y = ((np.asarray(field, np.float64) - low) / (high - low) for field in (volume, reference))
    product = 1.0
    for scale, weight in enumerate(MS_WEIGHTS):
        ssim, contrast = _finish(_similarity_steps(x, y, (0.0, 1.0), MS_WINDOW_SIGMA, MS_WINDOW_RADIUS))
        is_last = scale == scales - 1
        # A negative mean has no real power: such volumes are dissimilar, not half similar.
        product *= max(0.0, ssim if is_last else contrast) ** weight
        if not is_last:
            x, y = _halved(x), _halved(y)
    return product


def _check(volume: FloatArray, reference: FloatArray, smallest: int) -> None:
    check_pair(volume, reference)
    shape = np.shape(reference)
    if len(shape) != 3 or min(shape) < smallest:
        raise ShapeError(
            f"expected volumes (Z, Y, X) of at least {smallest} voxels along each axis, got shape {shape}: "
            "the window does not fit; compare a larger crop"
        )


def _similarity_steps(
    x: FloatArray, y: FloatArray, limits: tuple[float, float], sigma: float, radius: int
) -> Generator[None, None, tuple[float, float]]:
    """Mean SSIM and mean contrast-structure term over the windows that lie inside; ``limits`` are mapped to [0, 1]."""
    low, high = limits
    position = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (position / sigma) ** 2)
    kernel /= kernel.sum()
    ssim_sum = contrast_sum = 0.0
    count = 0
    for block in _blocks(x.shape, radius):
        a, b = ((np.asarray(field[block], np.float64) - low) / (high - low) for field in (x, y))
        mean_a, mean_b = _smooth(a, kernel), _smooth(b, kernel)
        # Variances enter as their sum alone: four smoothed fields, not five.
        variances = _smooth(a * a + b * b, kernel) - mean_a**2 - mean_b**2
        covariance = _smooth(a * b, kernel) - mean_a * mean_b
        contrast = (2.0 * covariance + C2) / (variances + C2)
        luminance = (2.0 * mean_a * mean_b + C1) / (mean_a**2 + mean_b**2 + C1)
        ssim_sum += float(np.sum(luminance * contrast))
        contrast_sum += float(np.sum(contrast))
        count += contrast.size
        yield
    return ssim_sum / count, contrast_sum / count


def _blocks(shape: Sequence[int], radius: int) -> Iterator[tuple[slice, ...]]:
    """Parts of a volume whose windows together are all that lie inside: neighbors overlap by a window less one."""
    inside = [n - 2 * radius for n in shape]
    starts = (range(0, n, size) for n, size in zip(inside, _BLOCK, strict=True))
    for corner in itertools.product(*starts):
        yield tuple(
            slice(start, min(start + size, n) + 2 * radius)
            for start, size, n in zip(corner, _BLOCK, inside, strict=True)
        )


def _finish(steps: Generator[None, None, T]) -> T:
    """Run to the end and return what is returned there."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


def _smooth(field: Array, kernel: Array) -> Array:
    """Weighted mean under the separable window, only where it lies inside."""
    radius = len(kernel) // 2
    for axis in range(field.ndim):
        inside = [slice(None)] * field.ndim
        inside[axis] = slice(radius, field.shape[axis] - radius)
        field = ndimage.correlate1d(field, kernel, axis=axis, mode="nearest")[tuple(inside)]
    return field


def _halved(field: Array) -> Array:
    """Means of blocks of 2 x 2 x 2 voxels."""
    z, y, x = (n // 2 for n in field.shape)
    blocks = field[: 2 * z, : 2 * y, : 2 * x].reshape(z, 2, y, 2, x, 2)
    means: Array = blocks.mean(axis=(1, 3, 5))
    return means
