"""How much of a volume is noise of its camera, estimated from the volume alone.

Noise is what differs from voxel to voxel; what a microscope shows is smoother. The third power of the second
difference, (1, -2, 1) along every axis, keeps the first and removes nearly all of the second.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import numpy.typing as npt
from scipy import ndimage, optimize

from napari_vqldm.errors import ShapeError
from napari_vqldm.metrics.checks import FloatArray, check_finite

MAD_OF_NORMAL = 0.6745  # median absolute deviation of a normal variable of unit variance
GAIN = 6.0  # root of the sum of squares of the second difference along two axes, (1, -2, 1) x (1, -2, 1)

_SECOND_DIFFERENCE = np.array([1.0, -2.0, 1.0]) / np.sqrt(6.0)  # unit response to white noise
# Its square: the mean over these weights is the mean whose noise the second difference sees.
_WEIGHTS = np.array([1.0, 4.0, 1.0]) / 6.0
_ORDERING = (
    0.6,
    1.0,
    1.0,
)  # voxels: voxels of like brightness are told apart after this blur, which little noise survives
_ORDERING_NOISE = 0.19  # standard deviation of white noise of unit variance after that blur
_CLASSES = 32  # cut by number of voxels, and as many by brightness
_LEAST_PER_CLASS = 200
_OUTLIER = 4.0  # standard deviations
_MAX_VOXELS = 2**22  # larger volumes are measured on evenly spaced runs of planes
_RUN = 8  # planes
_PART = 2**18  # voxels that are filtered or sorted into classes at a time
_HALO = 2  # planes that the widest filter reaches
# Neighbors of white noise after the second difference have the correlation -2/3; of smooth structure they have more.
_LEAST_WHITE = -0.5
_LEAST_SD = 1e-4  # of the range of the volume: below is rounding


@dataclass(frozen=True)
class NoiseEstimate:
    """Variance of the noise of a voxel as a line over its expected intensity: ``offset + slope * expected``.

    Attributes
    ----------
    offset : float
        Variance at intensity 0, squared units of the volume; below 0 where the camera adds an offset to its counts.
    slope : float
        Variance per intensity, units of the volume; 0 or more. Photons alone: counts per photoelectron.
    mean_variance : float
        Mean over the volume, squared units of the volume; 0 if nothing was measured.
    reason : str or None
        Why no noise could be measured; None when it was.
    """

    offset: float
    slope: float
    mean_variance: float
    reason: str | None = None

    @property
    def is_measurable(self) -> bool:
        """Whether there is noise, and it could be told from structure."""
        return self.reason is None

    @property
    def mean_sd(self) -> float:
        """Root of the mean variance, units of the volume."""
        return float(np.sqrt(self.mean_variance))

    def standard_deviation(self, volume: FloatArray) -> npt.NDArray[np.float32]:
        """Noise of each voxel of ``volume`` (Z, Y, X), units of the volume: the line at its local mean."""
        expected = local_mean(volume)
        return np.sqrt(np.maximum(self.offset + self.slope * expected, 0.0)).astype(np.float32)


def noise_sd(volume: FloatArray) -> float:
    """Estimate the standard deviation of white noise from what is left of a volume without its structure.

    The second difference along y and x of every plane removes what is smooth along either (Immerkaer 1996, eq. 1 and
    2: the mask (1, -2, 1) x (1, -2, 1), whose response to white noise of standard deviation s has 6 s). Its median
    absolute value over 0.6745 (Donoho and Johnstone 1994, sec. 4.2) does not see the few voxels on filaments: under
    shot noise it is that of the background. Noise that resampling or a filter has smoothed reads low.

    Parameters
    ----------
    volume : ndarray
        (Z, Y, X), at least 3 voxels along y and x.

    Returns
    -------
    float
        In the unit of the volume; 0 where more than half of it is constant.

    Raises
    ------
    ShapeError
        If it is not such a volume.

    References
    ----------
    J. Immerkaer, Fast noise variance estimation, Computer Vision and Image Understanding 64 (1996) 300-302.
    D. L. Donoho and I. M. Johnstone, Ideal spatial adaptation by wavelet shrinkage, Biometrika 81 (1994) 425-455.
    """
    if volume.ndim != 3 or min(volume.shape[1:]) < 3:
        raise ShapeError(f"expected (Z, Y, X) with at least 3 voxels along y and x, got shape {volume.shape}")
    along_y = np.diff(np.asarray(volume, np.float64), 2, axis=1)
    return float(np.median(np.abs(np.diff(along_y, 2, axis=2)))) / (MAD_OF_NORMAL * GAIN)


def estimate_noise(volume: FloatArray) -> NoiseEstimate:
    """Estimate the noise of a volume, and how it grows with the signal.

    Parameters
    ----------
    volume : ndarray
        (Z, Y, X), any units.

    Returns
    -------
    NoiseEstimate
        With a ``reason`` instead of numbers where the volume is too small, constant, or smooth from voxel to voxel.

    Raises
    ------
    ShapeError
        If the volume is not (Z, Y, X) or has no voxel.
    VolumeError
        If a voxel is not finite.

    Notes
    -----
    Poisson-Gaussian noise has the variance a + b * mean: Foi et al. 2008, doi:10.1109/TIP.2008.2001399, Eq. 1-3. Here
    the residual r is the volume under (1, -2, 1) / sqrt(6) along each axis (z only from 3 planes on), which answers
    white noise of unit variance with unit variance (Immerkaer 1996, doi:10.1006/cviu.1996.0060, in 3D). Under that line
    E[r^2] = a + b m, exactly, with m the mean of the volume under the squared weights (1, 4, 1) / 6. Voxels are put
    into classes of like brightness by a blurred copy, wider than its noise; the variance of a class is the mean of r^2
    without what lies beyond 4 standard deviations (hot pixels, edges). Least squares, weighted by size over squared
    variance and without negative parts, fit the line and a term m^2, which takes up sharp structure and is dropped.

    Bias: structure sharper than the voxels reads as noise. Noise that a filter or resampling has smoothed is no longer
    white: neighbors of r correlate by -2/3 if it is, and above -1/2 nothing is estimated. On simulated volumes of the
    three tiers the mean variance is within 10 % from 20 to 1000 photons per filament, and up to 15 % high at 5000; the
    slope reads up to 30 % low at 20 photons in sparse volumes and up to 35 % high at 1000. The very bright spindles of
    the preset hide their noise from 300 photons on.
    """
    values = np.asarray(volume)
    if values.ndim != 3:
        raise ShapeError(f"expected a volume (Z, Y, X), got shape {values.shape}")
    check_finite(values)
    if min(values.shape[1:]) < 5:
        return _nothing(f"the volume of {values.shape} voxels is too small to tell noise from structure")
    spread = float(np.ptp(values))
    if spread == 0.0:
        return _nothing("the volume is constant")
    low = float(values.min())
    runs = _runs(values)
    # Fields are doubles of all voxels that are looked at: each is made when it is needed, and two are held at once.
    residual = _field(runs, low, spread, _SECOND_DIFFERENCE)
    correlation = float(np.mean([_neighbor_correlation(run) for run in _each_run(residual, runs)]))
    if not np.isfinite(correlation) or np.mean(residual**2) < _LEAST_SD**2:
        return _nothing("neighboring voxels hardly differ")
    if correlation > _LEAST_WHITE:
        return _nothing("what differs between neighboring voxels is smooth: structure, or noise that a filter smoothed")
    place = _classes(_field(runs, low, spread, None), np.sqrt(_variance(residual)))
    means = _per_class(_field(runs, low, spread, _WEIGHTS), place, np.mean)
    offset, slope = _line(means, _per_class(residual, place, _variance), _per_class(residual, place, np.size))
    # Back from (x - low) / spread to the units of the volume.
    slope *= spread
    offset = offset * spread**2 - slope * low
    mean_variance = max(0.0, offset + slope * float(np.mean(values, dtype=np.float64)))
    if mean_variance == 0.0:
        return _nothing("most neighboring voxels are equal")
    return NoiseEstimate(offset, slope, mean_variance)


def local_mean(volume: FloatArray) -> npt.NDArray[np.float64]:
    """Mean of each voxel and its neighbors under the weights (1, 4, 1) / 6 along every axis; faces are mirrored."""
    values = np.asarray(volume, np.float64)
    return reduce(lambda field, axis: _along(field, _WEIGHTS, axis), range(values.ndim), values)


def _nothing(reason: str) -> NoiseEstimate:
    return NoiseEstimate(0.0, 0.0, 0.0, reason)


def _runs(values: FloatArray) -> list[FloatArray]:
    """Return the volume, or evenly spaced runs of planes of one that is very large."""
    planes = values.shape[0]
    count = int(_MAX_VOXELS / (_RUN * values.shape[1] * values.shape[2])) or 1
    if planes <= _RUN * count:
        return [values]
    starts = np.unique(np.linspace(0, planes - _RUN, count).astype(np.int64))
    return [values[start : start + _RUN] for start in starts]


def _margin(shape: Sequence[int]) -> int:
    """Planes at either end that the fields leave out; thin volumes are filtered along y and x alone."""
    return 1 if shape[0] >= 3 else 0


def _inside(shape: Sequence[int]) -> tuple[int, int, int]:
    """Shape of the fields of a run (Z, Y, X): without what lies at its faces."""
    return shape[0] - 2 * _margin(shape), shape[1] - 2, shape[2] - 2


def _field(
    runs: Sequence[FloatArray], low: float, spread: float, weights: npt.NDArray[np.float64] | None
) -> npt.NDArray[np.float64]:
    """Return every voxel off the faces of all runs, (N,), in the range 0 to 1, under three weights along each axis.

    None instead of weights: the brightness by which voxels are classed.
    """
    field = np.empty(sum(math.prod(_inside(run.shape)) for run in runs))
    filled = 0
    for run in runs:
        margin = _margin(run.shape)
        axes = (0, 1, 2) if margin else (1, 2)
        planes, last = max(_HALO, _PART // (run.shape[1] * run.shape[2])), run.shape[0] - margin
        for start in range(margin, last, planes):
            stop, first = min(start + planes, last), max(0, start - _HALO)
            part = run[first : stop + _HALO].astype(np.float64)
            part -= low
            part /= spread
            if weights is None:
                part = ndimage.gaussian_filter(part, _ORDERING)
            else:
                part = reduce(lambda values, axis: _along(values, weights, axis), axes, part)
            part = part[start - first : stop - first, 1:-1, 1:-1]
            field[filled : filled + part.size] = part.ravel()
            filled += part.size
    return field


def _each_run(field: npt.NDArray[np.float64], runs: Sequence[FloatArray]) -> list[npt.NDArray[np.float64]]:
    """Return the field (N,) as one array (z, y, x) for each run, without a copy; runs are equal in shape."""
    return list(field.reshape(len(runs), *_inside(runs[0].shape)))


def _neighbor_correlation(residual: npt.NDArray[np.float64]) -> float:
    """Correlation of lateral neighbors; voxels that stand out count as far as the bulk does, so that edges are few."""
    spread = np.sqrt(_variance(residual.ravel()))
    clipped = np.clip(residual, -3.0 * spread, 3.0 * spread)
    power = float(np.mean(clipped**2))
    if power == 0.0:
        return float("nan")
    along = (np.mean(clipped[:, 1:] * clipped[:, :-1]), np.mean(clipped[:, :, 1:] * clipped[:, :, :-1]))
    return float(np.mean(along)) / power


def _classes(order: npt.NDArray[np.float64], sd: float) -> npt.NDArray[np.uint8]:
    """Number of the class of like brightness that each voxel belongs to, (N,); ``sd`` is that of the noise."""
    edges = _edges(order, 4.0 * _ORDERING_NOISE * sd)
    place = np.empty(order.size, np.uint8)  # there are twice 32 edges at most
    for start in range(0, order.size, _PART):
        place[start : start + _PART] = np.searchsorted(edges, order[start : start + _PART])
    return place


def _per_class(
    field: npt.NDArray[np.float64],
    place: npt.NDArray[np.uint8],
    measure: Callable[[npt.NDArray[np.float64]], float | np.floating],
) -> npt.NDArray[np.float64]:
    """Measure the voxels of each class that has enough of them; all voxels, where none has."""
    numbers = np.flatnonzero(np.bincount(place) >= _LEAST_PER_CLASS)
    found = [float(measure(field[place == number])) for number in numbers]
    return np.array(found if found else [float(measure(field))])


def _line(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], size: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Fit variances as ``offset + slope * mean``, slope 0 or more, to means ``x`` and variances ``y`` of classes."""
    constant = float(np.average(y, weights=size))
    if len(x) < 4 or np.ptp(x) == 0.0:
        return constant, 0.0
    start = float(x.min())
    above = (x - start) / np.ptp(x)
    terms = np.stack([np.ones_like(above), above, above**2], axis=1)
    fitted = np.full_like(y, constant)
    for _ in range(5):  # the variance of a variance is proportional to its square
        weight = np.sqrt(size) / np.maximum(fitted, 1e-3 * constant)
        parts, _ = optimize.nnls(terms * weight[:, None], y * weight)
        fitted = terms @ parts
    slope = float(parts[1] / np.ptp(x))
    return float(parts[0]) - slope * start, slope


def _edges(order: npt.NDArray[np.float64], least_width: float) -> npt.NDArray[np.float64]:
    """Limits of classes of like brightness: some hold alike many voxels, some span alike much, where filaments are."""
    shares = np.quantile(order, np.linspace(0.01, 0.9995, _CLASSES))
    wanted = np.sort(np.concatenate([shares, np.linspace(shares[0], shares[-1], _CLASSES)]))
    edges = [float(wanted[0])]
    for edge in wanted[1:]:
        if edge - edges[-1] >= max(least_width, 1e-9):
            edges.append(float(edge))
    return np.array(edges[1:])


def _variance(residual: npt.NDArray[np.float64]) -> float:
    """Mean square of what is not far off the rest: hot pixels and sharp edges are left out."""
    squares = residual**2
    variance = float(np.mean(squares))
    for _ in range(8):
        kept = float(np.mean(squares[squares <= _OUTLIER**2 * variance]))
        if kept == 0.0:  # very few photons: most voxels are equal, and the rest is what there is
            break
        variance = kept
    return variance


def _along(field: npt.NDArray[np.float64], weights: npt.NDArray[np.float64], axis: int) -> npt.NDArray[np.float64]:
    """Correlate with three weights along one axis."""
    result: npt.NDArray[np.float64] = ndimage.correlate1d(field, weights, axis=axis, mode="mirror")
    return result
