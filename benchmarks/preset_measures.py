"""What real stacks and simulated ones are compared by: numbers of one volume or one plane, by one set of functions.

Intensities are first mapped to 0..1 between their percentiles 0.1 and 99.9 and cut there: real stacks state no unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft

from napari_vqldm.config import Float3
from napari_vqldm.intensity import estimate_intensity
from napari_vqldm.metrics.distribution import Spectrum, axial_spectrum, intensity_wasserstein, lateral_spectrum
from napari_vqldm.metrics.filaments import trace_filaments
from napari_vqldm.metrics.width import filament_width, full_width

FloatArray = npt.NDArray[np.float64]

QUANTILES = (25, 50, 75, 90, 95, 99)
SLAB_Z_UM, SLAB_PLANES, SLAB_FWHM_UM = 0.2, 25, 0.6  # what one plane is given along z, so that 3D functions read it


@dataclass(frozen=True)
class Measured:
    """One volume or plane; lengths in um, intensities and noise over the range 0..1, widths ``nan`` where unknown."""

    intensity: npt.NDArray[np.float32]
    lateral: Spectrum
    axial: Spectrum | None
    numbers: dict[str, float]


def to_range(data: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Map percentiles 0.1 and 99.9 to 0 and 1 and cut beyond them."""
    low, high = np.percentile(data, (0.1, 99.9))
    return np.clip((np.asarray(data, np.float32) - low) / (high - low), 0.0, 1.0).astype(np.float32)


def measure(data: npt.NDArray[Any], voxel_size_um: Float3, *, filaments: bool) -> Measured:
    """Measure a volume (Z, Y, X), or a plane as a volume of one plane.

    ``filaments``: their width, too, which needs some that are straight and isolated.
    """
    intensity = to_range(data)
    numbers = {f"p{q}": float(v) for q, v in zip(QUANTILES, np.percentile(intensity, QUANTILES), strict=True)}
    numbers |= correlation_widths(intensity, voxel_size_um)
    if filaments:
        numbers["filament_um"] = plane_width_um(intensity[0], voxel_size_um)
    axial = axial_spectrum([intensity], voxel_size_um) if intensity.shape[0] > 1 else None
    return Measured(intensity, lateral_spectrum([intensity], voxel_size_um), axial, numbers)


def correlation_widths(volume: npt.NDArray[np.float32], voxel_size_um: Float3) -> dict[str, float]:
    """Full widths at half maximum of the autocorrelation along the axes, and the noise beside it.

    White noise only adds to lag 0, and to the mean square of differences at every other lag alike. That is extrapolated
    from lags 1 to 3 to lag 0 by an even polynomial of fourth order, which is how an optical image, smooth and even in
    the lag, begins (after Thong et al., Scanning 23, 328, 2001, who extrapolate the autocorrelation by a line).
    ``noise`` is the standard deviation; too high where an image is not sampled finely: 0.02 of that of the signal for a
    Gaussian image with two and a half pixels in a sigma.
    """
    centred = np.asarray(volume, np.float64) - volume.mean(dtype=np.float64)
    padded = [fft.next_fast_len(2 * n, real=True) for n in centred.shape]
    power = np.abs(fft.rfftn(centred, padded)) ** 2
    correlation = fft.irfftn(power, padded)[tuple(slice(0, n) for n in centred.shape)]
    correlation /= correlation[0, 0, 0]
    lags = min(correlation.shape[1:])
    lateral = 0.5 * (_unbiased(correlation[0, :, 0])[:lags] + _unbiased(correlation[0, 0, :])[:lags])
    one, two, three = (0.5 * (_differences(centred, lag, 1) + _differences(centred, lag, 2)) for lag in (1, 2, 3))
    noise = 0.5 * max((15.0 * one - 6.0 * two + three) / 10.0, 0.0)
    signal = 1.0 - noise / centred.var()
    result = {
        "noise": float(np.sqrt(noise)),
        "structure_xy_um": _even_width(np.r_[signal, lateral[1:]], voxel_size_um[1]),
    }
    if volume.shape[0] > 2:
        axial = _unbiased(correlation[:, 0, 0])
        result["structure_z_um"] = _even_width(np.r_[signal, axial[1:]], voxel_size_um[0])
    return result


def _differences(volume: FloatArray, lag: int, axis: int) -> float:
    """Mean square of differences between voxels ``lag`` apart."""
    count = volume.shape[axis] - lag
    first, second = (volume.take(range(start, start + count), axis=axis) for start in (0, lag))
    return float(np.mean((second - first) ** 2))


def _unbiased(correlation: FloatArray) -> FloatArray:
    """Divide sums by how many pairs of voxels are so far apart."""
    count = len(correlation)
    return np.asarray(correlation * count / (count - np.arange(count)))


def _even_width(half: FloatArray, step_um: float) -> float:
    """Width of a profile given from its centre outward."""
    profile = np.r_[half[:0:-1], half]
    return full_width((np.arange(len(profile)) - len(half) + 1.0) * step_um, profile)


def plane_width_um(plane: npt.NDArray[np.float32], voxel_size_um: Float3) -> float:
    """Width of the filaments of one plane (Y, X), um.

    The plane above its background becomes a volume, with a Gaussian profile along z: the tracer and the ruler of the
    package read volumes. Only the lateral width means anything.
    """
    scale = estimate_intensity(np.stack([plane, plane]))
    z = (np.arange(SLAB_PLANES) - SLAB_PLANES // 2) * SLAB_Z_UM
    profile = np.exp(-4.0 * np.log(2.0) * (z / SLAB_FWHM_UM) ** 2)
    slab = profile[:, None, None] * scale.apply(plane[None])
    size = (SLAB_Z_UM, *voxel_size_um[1:])
    return filament_width(slab, trace_filaments(slab, size).filaments, size).lateral_um


def shape_of(spectrum: Spectrum, frequency_per_um: FloatArray) -> FloatArray:
    """Power in dB at ``frequency_per_um`` (R,), relative to its mean there: the shape alone, not the contrast."""
    decibel = np.interp(frequency_per_um, spectrum.frequency_per_um, 10.0 * np.log10(spectrum.power))
    return np.asarray(decibel - decibel.mean())


def intensity_distance(ones: Sequence[Measured], others: Sequence[Measured]) -> float:
    """Wasserstein distance of pooled intensities over the standard deviation of ``others``."""
    return intensity_wasserstein([m.intensity for m in ones], [m.intensity for m in others])
