"""Background and scale of a stack: how raw intensities relate to "filament units", in which one filament peaks at 1.

The estimate follows the data under ``a * x + b`` (a > 0). Weights fade out instead of switching, and the median of the
ridges is the mean of a band, so that rounding of the input cannot make the estimate jump.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_vqldm.errors import ShapeError, VolumeError

_SMOOTHING = (0.5, 0.7, 0.7)  # voxels (z, y, x): enough to order neighbors, too little to merge filaments
_MAX_VOXELS = 2**23  # larger volumes are estimated on evenly spaced slabs of this size in total
_NOISE_FLOOR = 0.01  # of the bright end: stacks whose background is clipped to zeros show no noise of their own


@dataclass(frozen=True)
class IntensityScale:
    """Affine map between the units of a stack and filament units.

    Attributes
    ----------
    background : float
        Intensity of empty space, in the units of the stack.
    scale : float
        Peak of one filament above the background, > 0, in the units of the stack.
    """

    background: float
    scale: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.background) and np.isfinite(self.scale) and self.scale > 0):
            raise VolumeError(
                f"expected a finite background and a scale above 0, got {self.background} and {self.scale}: "
                "the stack has no usable contrast"
            )

    def apply(self, data: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return ``(data - background) / scale``, float32, same shape."""
        return self._by_plane(data, lambda plane: (plane - self.background) / self.scale)

    def invert(self, data: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return ``data * scale + background``, float32, same shape; values are never clipped."""
        return self._by_plane(data, lambda plane: plane * self.scale + self.background)

    @staticmethod
    def _by_plane(data: npt.NDArray[Any], function: Any) -> npt.NDArray[np.float32]:
        """Apply in float64, one plane at a time: a large offset keeps its digits and memory stays small."""
        result = np.empty(data.shape, np.float32)
        for index in np.ndindex(data.shape[:1]):
            result[index] = function(data[index].astype(np.float64))
        return result


def estimate_intensity(data: npt.NDArray[Any]) -> IntensityScale:
    """Estimate background and brightness of one filament from the stack alone.

    The background is the center of the lower mode of the lightly smoothed volume. The scale is the median brightness
    of ridge voxels: those that exceed both neighbors along at least two of the three axes, as the center line of a
    filament does whatever its direction, weighted by how far they stand out.

    Parameters
    ----------
    data : ndarray
        Volume (Z, Y, X), real and finite, at least 2 voxels per axis, any units.

    Returns
    -------
    IntensityScale
        In the units of ``data``.

    Raises
    ------
    ShapeError
        If ``data`` is not 3D or an axis has fewer than 2 voxels.
    VolumeError
        If ``data`` is empty, constant, or not finite.
    """
    if data.ndim != 3 or (data.size and min(data.shape) < 2):
        raise ShapeError(f"expected a volume (Z, Y, X) with at least 2 voxels per axis, got shape {data.shape}")
    if data.size == 0:
        raise VolumeError(f"expected a volume with voxels, got the empty shape {data.shape}")
    lowest, highest = float(data.min()), float(data.max())
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        raise VolumeError("expected finite intensities, got NaN or infinite voxels: repair them first")
    if lowest == highest:
        raise VolumeError(f"every voxel equals {lowest:g}: the volume is constant and holds no structure")
    # Work on (x - min) / (max - min): thresholds need no units and any float range is safe.
    spread = highest - lowest
    unit = (_evenly_spaced_slabs(data).astype(np.float64) - lowest) / spread
    background, scale = _estimate_unit(unit)
    return IntensityScale(background=lowest + background * spread, scale=scale * spread)


def _estimate_unit(unit: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Background and scale of a volume whose values lie in [0, 1]."""
    from scipy.ndimage import gaussian_filter  # slow to import, and an `IntensityScale` does not need it

    smooth = gaussian_filter(unit, _SMOOTHING)
    background, noise = _lower_mode(smooth)
    above = smooth - background
    bright = max(float(np.percentile(above, 99.5)), 1e-5)  # stays above rounding when nothing is bright
    noise = max(noise, _NOISE_FLOOR * bright)
    visible = np.clip(above / noise - 5.0, 0.0, 1.0)  # fades in between 5 and 6 standard deviations
    weight = _ridge_height(smooth) * visible
    chosen = weight > 0
    if np.count_nonzero(chosen) >= 8:
        scale = _weighted_center(unit[chosen], weight[chosen]) - background
    else:  # no filament-like voxels: too small, or smooth blobs
        scale = float(np.percentile(unit, 99.8)) - background
    if scale <= _NOISE_FLOOR * bright:
        scale = max(1.0 - background, background)  # the farther end of the range; never 0
    return background, scale


def _lower_mode(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Center and standard deviation of the dim voxels; filaments make a bright tail that is cut off step by step."""
    flat = values.ravel()
    center = float(np.median(flat))
    for _ in range(8):
        deviation = 1.4826 * float(np.median(center - flat[flat <= center]))
        center = float(np.median(flat[flat <= center + 1.5 * deviation]))
    return center, 1.4826 * float(np.median(center - flat[flat <= center]))


def _ridge_height(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return by how much a voxel exceeds both neighbors along its second most prominent axis; 0 off ridges."""
    heights = []
    for axis in range(3):
        height = np.zeros_like(values)
        center, before, after = (_shifted(values, axis, offset) for offset in (1, 0, 2))
        _shifted(height, axis, 1)[...] = np.maximum(center - np.maximum(before, after), 0.0)
        heights.append(height)
    a, b, c = heights
    return np.asarray(np.maximum(np.minimum(a, b), np.minimum(np.maximum(a, b), c)))  # median of three


def _shifted(values: npt.NDArray[np.float64], axis: int, offset: int) -> npt.NDArray[np.float64]:
    """View of ``values`` without two planes of one axis, starting at ``offset`` (0, 1 or 2)."""
    index = [slice(None)] * 3
    index[axis] = slice(offset, max(offset, values.shape[axis] - 2 + offset))
    return values[tuple(index)]


def _weighted_center(values: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]) -> float:
    """Weighted mean of the middle fifth of the samples: a median that does not jump between integer levels."""
    order = np.argsort(values)
    cumulative = np.concatenate(([0.0], np.cumsum(weights[order])))
    low, high = 0.4 * cumulative[-1], 0.6 * cumulative[-1]
    share = np.diff(np.clip(cumulative, low, high))  # of each sample's weight that lies in the middle fifth
    return float(np.sum(share * values[order]) / np.sum(share))


def _evenly_spaced_slabs(data: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return ``data``, or a smaller volume made of evenly spaced blocks along the axes of a very large one."""
    for axis in range(3):
        size = data.shape[axis]
        keep = max(32, int(size * _MAX_VOXELS / data.size))
        if data.size > _MAX_VOXELS and keep < size:
            blocks = -(-keep // 32)
            starts = np.linspace(0, size - 32, blocks).astype(np.int64)
            data = np.concatenate([data.take(range(s, s + 32), axis=axis) for s in np.unique(starts)], axis=axis)
    return data
