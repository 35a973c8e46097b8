"""Distances between two sets of volumes: lateral power spectrum, intensities, diversity.

No single number is enough. A blurred set keeps its filaments and loses spectrum; a phase-scrambled set keeps its
spectrum and loses its filaments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from napari_vqldm.errors import ShapeError, VolumeError
from napari_vqldm.metrics.checks import check_finite

FloatArray = npt.NDArray[np.floating]
Float3 = tuple[float, float, float]

SPECTRUM_BAND_PER_UM = (0.2, 5.0)
INTENSITY_BINS = 65536


@dataclass(frozen=True)
class Spectrum:
    """Mean power on rings of lateral frequency, or at axial frequencies.

    Attributes
    ----------
    frequency_per_um : ndarray
        Center of each ring, cycles per micrometre, (R,).
    power : ndarray
        Mean squared Fourier magnitude on the ring over all volumes, (R,).
    """

    frequency_per_um: npt.NDArray[np.float64]
    power: npt.NDArray[np.float64]


def lateral_spectrum(volumes: Sequence[FloatArray], voxel_size_um: Float3) -> Spectrum:
    """Radially averaged power of the plane kz = 0, averaged over ``volumes``.

    Parameters
    ----------
    volumes : sequence of ndarray
        Equal shapes (Z, Y, X). Each loses its mean and is multiplied by a Hann window along every axis.
    voxel_size_um : tuple of float
        (z, y, x).

    Returns
    -------
    Spectrum
        Rings one frequency step wide inside 0.2-5 cycles/um, or up to the Nyquist frequency where that is lower.

    Raises
    ------
    ShapeError
        If there is no volume, the shapes differ, or the volume is too small for a ring inside the band.
    VolumeError
        If a voxel is not finite.
    """
    shape = _common_shape(volumes)
    window_z, window_y, window_x = (np.hanning(n + 2)[1:-1] for n in shape)
    lateral_window = window_y[:, None] * window_x
    total = np.zeros((shape[1], shape[2] // 2 + 1))
    for volume in volumes:
        mean = np.mean(volume, dtype=np.float64)
        # The plane kz = 0 of the 3D transform is the 2D transform of the (windowed) sum over z, taken plane by plane:
        # doubles of the whole volume would not be needed for anything else.
        summed = np.zeros(shape[1:])
        for share, plane in zip(window_z, volume, strict=True):
            summed += share * (np.asarray(plane, np.float64) - mean)
        total += np.abs(fft.rfft2(summed * lateral_window)) ** 2
    radius = np.hypot(
        fft.fftfreq(shape[1], voxel_size_um[1])[:, None], fft.rfftfreq(shape[2], voxel_size_um[2])[None, :]
    )
    low, high = SPECTRUM_BAND_PER_UM
    step = 1.0 / min(shape[1] * voxel_size_um[1], shape[2] * voxel_size_um[2])
    high = min(high, 0.5 / voxel_size_um[1], 0.5 / voxel_size_um[2])
    ring = np.rint(radius / step).astype(np.int64)
    # Each half-plane column but the first (and the Nyquist one) stands for two frequencies.
    weight = np.full(total.shape, 2.0)
    weight[:, 0] = 1.0
    if shape[2] % 2 == 0:
        weight[:, -1] = 1.0
    count = np.bincount(ring.ravel(), weight.ravel())
    power = np.bincount(ring.ravel(), (total * weight).ravel()) / np.maximum(count, 1.0) / len(volumes)
    frequency: npt.NDArray[np.float64] = np.arange(count.size, dtype=np.float64) * step
    inside = (frequency >= low) & (frequency <= high + 1e-9) & (count > 0)
    if not inside.any():
        raise ShapeError(f"expected a field of view with frequencies inside {low}-{high} cycles/um, got shape {shape}")
    return Spectrum(frequency[inside], power[inside].astype(np.float64))


def axial_spectrum(volumes: Sequence[FloatArray], voxel_size_um: Float3) -> Spectrum:
    """Power along z, averaged over all columns (y, x) and over ``volumes``.

    Parameters
    ----------
    volumes : sequence of ndarray
        Equal shapes (Z, Y, X). Each loses its mean; every column is multiplied by a Hann window along z.
    voxel_size_um : tuple of float
        (z, y, x); only z matters.

    Returns
    -------
    Spectrum
        One value per frequency kz inside 0.2-5 cycles/um, or up to the Nyquist frequency where that is lower. All
        lateral frequencies are summed (Parseval): white noise adds the same to every kz, so compare sets of one camera.

    Raises
    ------
    ShapeError
        If there is no volume, the shapes differ, or the volume is too thin for a frequency inside the band.
    VolumeError
        If a voxel is not finite.
    """
    shape = _common_shape(volumes)
    window = np.hanning(shape[0] + 2)[1:-1, None, None]
    power = np.zeros(shape[0] // 2 + 1)
    for volume in volumes:
        centered = np.asarray(volume, np.float64) - np.mean(volume, dtype=np.float64)
        power += (np.abs(fft.rfft(centered * window, axis=0)) ** 2).mean(axis=(1, 2))
    frequency: npt.NDArray[np.float64] = fft.rfftfreq(shape[0], voxel_size_um[0])
    inside = (frequency >= SPECTRUM_BAND_PER_UM[0]) & (frequency <= SPECTRUM_BAND_PER_UM[1] + 1e-9)
    if not inside.any():
        raise ShapeError(f"expected a stack with axial frequencies inside the band, got shape {shape}")
    return Spectrum(frequency[inside], power[inside] / len(volumes))


def spectrum_distance_db(spectrum: Spectrum, reference: Spectrum) -> float:
    """Root mean square over rings of 10 log10(power / reference power), dB.

    Parameters
    ----------
    spectrum, reference : Spectrum
        Of two sets of volumes of one shape, voxel size and intensity unit, both from `lateral_spectrum` or both from
        `axial_spectrum`.

    Returns
    -------
    float
        dB, 0 for equal spectra; a factor of 2 in power on every ring, or of 1.41 in brightness, is 3 dB.

    Raises
    ------
    ShapeError
        If the rings differ.
    VolumeError
        If a ring of either set holds no power (constant volumes) or its power is not finite.

    Notes
    -----
    Source: the log spectral distance of speech coding, Gray and Markel 1976, doi:10.1109/TASSP.1976.1162849, over rings
    instead of frequencies.

    Bias: two sets from one distribution are above 0 apart, for the power of a ring scatters: about 6 / sqrt(N M) dB for
    N volumes with M independent frequencies on a ring, more where volumes differ in density. Every ring counts alike,
    also the first ones, which hold few frequencies and scatter most: read it beside the value of another draw of the
    reference. Phases do not count: a phase-scrambled set is 0 away.
    """
    if spectrum.frequency_per_um.shape != reference.frequency_per_um.shape or not np.allclose(
        spectrum.frequency_per_um, reference.frequency_per_um
    ):
        raise ShapeError("expected two spectra on the same rings: compare volumes of one shape and voxel size")
    check_finite(spectrum.power, "power spectrum")
    check_finite(reference.power, "power spectrum of the reference")
    if min(spectrum.power.min(), reference.power.min()) <= 0:
        raise VolumeError("expected power on every ring, got none: a set of constant volumes has no spectrum")
    ratio_db = 10.0 * np.log10(spectrum.power / reference.power)
    return float(np.sqrt(np.mean(ratio_db**2)))


def intensity_wasserstein(volumes: Sequence[FloatArray], reference: Sequence[FloatArray]) -> float:
    """1-Wasserstein distance between pooled intensities, divided by the standard deviation of the reference set.

    Parameters
    ----------
    volumes, reference : sequence of ndarray
        Two sets of volumes of any shape, in one intensity unit. All voxels of a set are pooled.

    Returns
    -------
    float
        Integral of |F - G| over the intensity, F and G the cumulative distributions, in standard deviations of the
        voxels of ``reference``; 0 for equal sets.

    Raises
    ------
    ShapeError
        If a set is empty or a volume has no voxel.
    VolumeError
        If a voxel is not finite or the reference set is constant.

    Notes
    -----
    Source: Vallender 1974, doi:10.1137/1118101 (the integral). It is taken on 65 536 equal bins over the joint range;
    the error is below one bin, which one very bright voxel widens.

    Bias: never negative, so that two sets from one distribution are above 0 apart, by what their densities and
    brightnesses happen to differ. Places do not count: shuffled voxels are 0 away. Most voxels are background, whose
    offset or noise weighs more than the filaments; bright crossings widen the standard deviation and shrink the number.
    """
    if not volumes or not reference:
        raise ShapeError(f"expected two sets of volumes, got {len(volumes)} and {len(reference)} volumes")
    for name, items in (("volume", volumes), ("reference volume", reference)):
        for number, item in enumerate(items):
            check_finite(item, f"{name} {number}")
    low = min(float(np.min(v)) for v in (*volumes, *reference))
    high = max(float(np.max(v)) for v in (*volumes, *reference))
    count = sum(np.size(v) for v in reference)
    mean = sum(float(np.sum(v, dtype=np.float64)) for v in reference) / count
    variance = sum(float(np.sum((np.asarray(v, np.float64) - mean) ** 2)) for v in reference) / count
    if variance <= 0:
        raise VolumeError("expected a reference set whose intensities vary, got a constant")

    def cumulative(items: Sequence[FloatArray]) -> npt.NDArray[np.float64]:
        histogram = np.zeros(INTENSITY_BINS)
        for item in items:
            histogram += np.histogram(item, INTENSITY_BINS, (low, high))[0]
        share: npt.NDArray[np.float64] = np.cumsum(histogram) / histogram.sum()
        return share

    width = (high - low) / INTENSITY_BINS
    return float(np.abs(cumulative(volumes) - cumulative(reference)).sum() * width / np.sqrt(variance))


def diversity(volumes: Sequence[FloatArray], blur_voxels: float = 2.0) -> float:
    """Mean over all pairs of 1 - Pearson correlation after a Gaussian blur.

    Parameters
    ----------
    volumes : sequence of ndarray
        At least 2, equal shapes (Z, Y, X); gains and offsets may differ.
    blur_voxels : float
        Standard deviation, voxels. Without the blur, filaments a voxel apart already look unrelated and noise hides
        repetition.

    Returns
    -------
    float
        In [0, 2], without unit: 0 for copies of one volume, about 1 for unrelated volumes.

    Raises
    ------
    ShapeError
        If there are fewer than two volumes or the shapes differ.
    VolumeError
        If a voxel is not finite.

    Notes
    -----
    Source: ours, a mean of pairwise distances; `neighbours.vendi_score` is the published number. Bias: unrelated
    volumes score below 1 where all are brighter in one place (vignetting, a cell in the middle), and noise that the
    blur leaves raises the number. A shifted or turned copy counts as unrelated. A constant volume correlates with
    nothing: a set of them scores 1, so look for blank volumes by another number.
    """
    _common_shape(volumes)
    if len(volumes) < 2:
        raise ShapeError(f"expected at least 2 volumes to compare, got {len(volumes)}")
    rows = []
    for volume in volumes:
        smooth = ndimage.gaussian_filter(np.asarray(volume, np.float32), blur_voxels, mode="reflect")
        centered = (smooth - smooth.mean(dtype=np.float64)).ravel()
        norm = float(np.linalg.norm(centered))
        rows.append((centered / norm if norm > 0 else centered).astype(np.float32))
    table = np.stack(rows)  # (N, Z*Y*X)
    correlation = table @ table.T
    n = len(volumes)
    return float(1.0 - (correlation.sum() - np.trace(correlation)) / (n * (n - 1)))


def _common_shape(volumes: Sequence[FloatArray]) -> tuple[int, int, int]:
    shapes = {np.shape(v) for v in volumes}
    if len(shapes) != 1 or len(next(iter(shapes))) != 3:
        raise ShapeError(f"expected volumes of one shape (Z, Y, X), got {sorted(shapes)}")
    for number, volume in enumerate(volumes):
        check_finite(volume, f"volume {number}")
    z, y, x = shapes.pop()
    return z, y, x
