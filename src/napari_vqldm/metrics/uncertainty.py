"""Where a reconstruction is unsure, and how much of a volume no microscope could have shown.

Spread over draws says how far repeated answers differ, not how far they are from the truth: draws can agree on a
mistake. Power beyond the optical cut-off is certain to be invented.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft

from napari_vqldm.errors import ConfigError, ShapeError, VolumeError
from napari_vqldm.metrics.checks import check_finite
from napari_vqldm.metrics.fidelity import Float3, FloatArray
from napari_vqldm.metrics.fourier import half_spectrum_weight, hann


@dataclass(frozen=True)
class Spread:
    """Mean and spread of several draws of one volume.

    Attributes
    ----------
    mean, standard_deviation : ndarray
        float32, (Z, Y, X), unit of the draws.
    num_draws : int
        K.
    """

    mean: npt.NDArray[np.float32]
    standard_deviation: npt.NDArray[np.float32]
    num_draws: int


@dataclass(frozen=True)
class OpticalCutoff:
    """Highest frequencies that a microscope passes, cycles/um."""

    lateral_per_um: float
    axial_per_um: float


@dataclass(frozen=True)
class BeyondCutoff:
    """Power beyond an `OpticalCutoff`, as shares of the power of a volume without its mean.

    Attributes
    ----------
    share : float
        Power beyond the lateral or the axial cut-off, in [0, 1].
    lateral_share, axial_share : float
        Beyond each cut-off alone; power beyond both counts in both.
    observable_share : float
        Share of all frequencies of the voxel grid that lie beyond, what white noise would score. 0 if the voxels
        are so large that nothing beyond the cut-off can be seen: then ``share`` says nothing.
    """

    share: float
    lateral_share: float
    axial_share: float
    observable_share: float


class RunningSpread:
    """Mean and spread of draws that come one by one; keeps two fields, whatever the number of draws.

    Running sums of Welford 1962, doi:10.1080/00401706.1962.10490022, in float64.
    """

    def __init__(self) -> None:
        self._count = 0
        self._mean = self._squares = np.zeros(())

    def add(self, draw: FloatArray) -> None:
        """Take one more volume (Z, Y, X); errors as in `voxel_spread`."""
        values = np.asarray(draw, np.float64)
        check_finite(values, f"draw {self._count}")
        if self._count == 0:
            self._mean, self._squares = np.zeros(values.shape), np.zeros(values.shape)
        elif values.shape != self._mean.shape:
            raise ShapeError(f"expected draws of one shape, got {self._mean.shape} and {values.shape}")
        self._count += 1
        away = values - self._mean
        self._mean += away / self._count
        self._squares += away * (values - self._mean)

    def spread(self) -> Spread:
        """Return mean and standard deviation of the draws so far; errors as in `voxel_spread`."""
        if self._count < 2:
            raise ShapeError(
                f"expected at least 2 draws to take a standard deviation, got {self._count}: ask for more draws"
            )
        deviation = np.sqrt(self._squares / (self._count - 1))
        return Spread(self._mean.astype(np.float32), deviation.astype(np.float32), self._count)


def voxel_spread(draws: Iterable[FloatArray]) -> Spread:
    """Mean and standard deviation of each voxel over draws.

    Parameters
    ----------
    draws : iterable of ndarray
        K >= 2 volumes (Z, Y, X) of one shape: samples of one posterior (same input, other seeds), or reconstructions of
        one scene under other noise. Read once, in order, so that a generator keeps one volume in memory.

    Returns
    -------
    Spread
        Standard deviation with K - 1 in the denominator.

    Raises
    ------
    ShapeError
        If there are fewer than two draws, the shapes differ or there is no voxel.
    VolumeError
        If a voxel is not finite.

    Notes
    -----
    See `RunningSpread`. Bias: the variance is unbiased, its root is not: with Gaussian draws it reads low, by 20 % at
    K = 2 and 3.5 % at K = 8. Posterior draws show the model's spread, noise draws the spread that photons cause; they
    answer different questions.
    """
    running = RunningSpread()
    for draw in draws:
        running.add(draw)
    return running.spread()


def optical_cutoff(
    numerical_aperture: float,
    emission_wavelength_um: float,
    immersion_index: float,
    excitation_wavelength_um: float | None = None,
) -> OpticalCutoff:
    """Highest lateral and axial frequency that an incoherent microscope passes.

    Parameters
    ----------
    numerical_aperture, immersion_index : float
        NA and n, NA < n.
    emission_wavelength_um : float
        In vacuum, um. For simulated volumes multiply it by their PSF width factor.
    excitation_wavelength_um : float, optional
        Given for a confocal microscope: its excitation adds its own cut-off. That bound holds for a pinhole of size
        zero; a wide open one passes nothing beyond the cut-off of the excitation alone. None: widefield.

    Raises
    ------
    ConfigError
        If a value is not above 0 or the aperture is not below the index.

    Notes
    -----
    Lateral 2 NA / wavelength; axial n (1 - cos a) / wavelength with NA = n sin a. The support of the transfer function
    is the autocorrelation of a spherical cap of radius n / wavelength: Frieden 1967, doi:10.1364/JOSA.57.000056;
    Gustafsson 1999, doi:10.1046/j.1365-2818.1999.00576.x.
    """
    wavelengths = [emission_wavelength_um] + ([] if excitation_wavelength_um is None else [excitation_wavelength_um])
    if not 0.0 < numerical_aperture < immersion_index or min(wavelengths) <= 0.0:
        raise ConfigError(
            f"expected 0 < numerical_aperture < immersion_index and wavelengths above 0 um, got {numerical_aperture}, "
            f"{immersion_index} and {wavelengths}"
        )
    cosine = np.sqrt(1.0 - (numerical_aperture / immersion_index) ** 2)
    inverse = sum(1.0 / w for w in wavelengths)
    return OpticalCutoff(2.0 * numerical_aperture * inverse, float(immersion_index * (1.0 - cosine) * inverse))


def energy_beyond_cutoff(volume: FloatArray, voxel_size_um: Float3, cutoff: OpticalCutoff) -> BeyondCutoff:
    """Share of the power of a noise-free volume at frequencies that no such microscope passes: invented detail.

    Parameters
    ----------
    volume : ndarray
        (Z, Y, X), generated or reconstructed; noise-free, because the noise of a camera is white and reaches beyond.
    voxel_size_um : tuple of float
        (z, y, x).
    cutoff : OpticalCutoff
        Of the microscope that the volume claims to come from.

    Returns
    -------
    BeyondCutoff

    Raises
    ------
    ShapeError
        If the volume is not (Z, Y, X) or has no voxel.
    VolumeError
        If the volume is constant or not finite.

    Notes
    -----
    Sum of |F|^2 with lateral frequency above or axial frequency above the cut-off, over the sum of |F|^2 without the
    zero frequency; F is the transform of the volume less its mean under a Hann window. The box between the cut-offs
    encloses the true support (a torus with a missing cone, see `optical_cutoff`), so that this is a lower bound of what
    was invented. Bias: negative values, clipping and sharp ends of the field leave a little power beyond; report it
    next to the same number of simulated noise-free volumes.
    """
    values = _checked(volume)
    z, y, x = (hann(n) for n in values.shape)
    window = z[:, None, None] * y[:, None] * x
    power = np.abs(fft.rfftn((values - values.mean()) * window)) ** 2
    weight = half_spectrum_weight(power.shape, values.shape[2])
    weight[0, 0, 0] = 0.0  # the mean is no detail
    frequencies = (
        fft.fftfreq(values.shape[0], voxel_size_um[0]),
        fft.fftfreq(values.shape[1], voxel_size_um[1]),
        fft.rfftfreq(values.shape[2], voxel_size_um[2]),
    )
    beyond_axial, beyond_lateral = _beyond(frequencies, cutoff)
    beyond = beyond_axial | beyond_lateral
    power *= weight
    total = float(power.sum())

    def share(where: npt.NDArray[np.bool_]) -> float:
        return float(np.sum(power, where=where)) / total

    observable = float(np.sum(weight, where=beyond) / weight.sum())
    return BeyondCutoff(share(beyond), share(beyond_lateral), share(beyond_axial), observable)


def detail_beyond_cutoff(volume: FloatArray, voxel_size_um: Float3, cutoff: OpticalCutoff) -> npt.NDArray[np.float32]:
    """Return the part of ``volume`` beyond the cut-off in real space: where the invented detail lies.

    Parameters
    ----------
    volume, voxel_size_um, cutoff
        As in `energy_beyond_cutoff`.

    Returns
    -------
    ndarray
        float32, (Z, Y, X), unit of ``volume``, mean 0.

    Raises
    ------
    ShapeError
        If the volume is not (Z, Y, X) or has no voxel.
    VolumeError
        If the volume is constant or not finite.

    Notes
    -----
    Cosine transform, which mirrors the volume at its faces: a window would hide the borders, and without either the
    jump between opposite faces would look like detail. Filaments cut by a face keep a kink there, which shows faintly.
    """
    values = _checked(volume)
    shape = values.shape
    # Component k of the cosine transform oscillates k / 2 times over the n voxels of an axis.
    frequencies = tuple(np.arange(n) / (2.0 * n * size) for n, size in zip(shape, voxel_size_um, strict=True))
    beyond_axial, beyond_lateral = _beyond(frequencies, cutoff)
    spectrum = fft.dctn(values, norm="ortho")
    detail: npt.NDArray[np.float64] = fft.idctn(np.where(beyond_axial | beyond_lateral, spectrum, 0.0), norm="ortho")
    return detail.astype(np.float32)


def _checked(volume: FloatArray) -> npt.NDArray[np.float64]:
    values = np.asarray(volume, np.float64)
    if values.ndim != 3:
        raise ShapeError(f"expected a volume (Z, Y, X), got shape {values.shape}")
    check_finite(values)
    if not np.ptp(values) > 0.0:
        raise VolumeError("expected a volume that is not constant: it has no power to place")
    return values


def _beyond(
    frequencies: tuple[npt.NDArray[np.float64], ...], cutoff: OpticalCutoff
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Masks (Z, Y, X) of the frequencies beyond the axial and beyond the lateral cut-off."""
    z, y, x = frequencies
    lateral = np.hypot(y[:, None], x)
    axial = np.abs(z)[:, None, None]
    shape = (len(z), *lateral.shape)
    return (
        np.broadcast_to(axial > cutoff.axial_per_um, shape),
        np.broadcast_to(lateral > cutoff.lateral_per_um, shape),
    )
