"""Up to which frequency two volumes agree: Fourier ring correlation in xy, Fourier shell correlation around z.

Frequencies are cycles per micrometre. The cut-off against the noise-free volume, divided by that of the noisy input,
says whether a reconstruction lost resolution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft, stats

from napari_vqldm.errors import ShapeError, VolumeError
from napari_vqldm.metrics.checks import check_pair
from napari_vqldm.metrics.fidelity import Float3, FloatArray
from napari_vqldm.metrics.fourier import half_spectrum_weight, hann

CUTOFF_LEVEL = 1.0 / 7.0
CONE_HALF_ANGLE_DEG = 30.0
SIGNIFICANCE = 3.0  # in standard deviations of a Gaussian: one ring of unrelated noise in 740 passes
MIN_VOXELS = 6  # along each axis: three rings

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RingCorrelation:
    """Correlation of two volumes on rings, or on shells inside a cone.

    Attributes
    ----------
    frequency_per_um : ndarray
        Centre of each ring, cycles/um, (R,); the ring at 0 is left out.
    correlation : ndarray
        In [-1, 1], (R,); 0 where either volume has no power.
    samples : ndarray
        Independent real samples on that ring, (R,), the window accounted for. The correlation of unrelated white noise
        has standard deviation 1 / sqrt(samples) within 5 %; inside a cone up to 30 % less on the lowest shells.
    nyquist_per_um : float
        Highest frequency that the voxels can carry along the axes in question.
    """

    frequency_per_um: Array
    correlation: Array
    samples: Array
    nyquist_per_um: float

    def cutoff_per_um(self, level: float = CUTOFF_LEVEL) -> float:
        """Return the frequency at which the correlation falls below ``level`` for good, cycles/um.

        A ring counts as resolved where its correlation reaches ``level`` and what unrelated noise exceeds only once in
        740 rings (three sigma); the cut-off lies between the last resolved ring and the next one, by linear
        interpolation. 0 if no ring is resolved, the Nyquist frequency if the last one is.

        Notes
        -----
        Sources: 1/7 from Rosenthal and Henderson 2003, doi:10.1016/j.jmb.2003.07.013; the three-sigma rule from van
        Heel and Schatz 2005, doi:10.1016/j.jsb.2005.05.009, here with the exact distribution (Student's t) that few
        samples ask for. Bias: on rings of fewer than some 440 independent samples (axial shells of a small volume) the
        rule asks for more than 1/7, so that the cut-off is read low; the window spreads a sharp edge, so that at high
        signal the cut-off of a band is read up to two rings high.
        """
        # Without a true correlation, r sqrt(n - 1) / sqrt(1 - r^2) follows Student's t with n - 1 degrees of freedom.
        freedom = np.maximum(self.samples - 1.0, 0.5)
        t = stats.t.isf(stats.norm.sf(SIGNIFICANCE), freedom)
        required = np.minimum(np.maximum(level, t / np.sqrt(freedom + t**2)), 1.0 - 1e-9)
        resolved = np.flatnonzero(self.correlation >= required)
        if not resolved.size:
            return 0.0
        last = int(resolved[-1])
        if last == len(self.correlation) - 1:
            return self.nyquist_per_um
        above = self.correlation[last] - required[last]
        below = required[last + 1] - self.correlation[last + 1]
        step = self.frequency_per_um[last + 1] - self.frequency_per_um[last]
        return float(self.frequency_per_um[last] + step * above / (above + below))


@dataclass(frozen=True)
class Cutoffs:
    """Cut-off frequencies of one pair of volumes, cycles/um, or the ratios of two pairs."""

    lateral: float
    axial: float


def lateral_frc(volume: FloatArray, reference: FloatArray, voxel_size_um: Float3) -> RingCorrelation:
    """Fourier ring correlation in xy, summed over all planes.

    Parameters
    ----------
    volume, reference : ndarray
        (Z, Y, X), at least 6 voxels along each axis. Units and offsets may differ.
    voxel_size_um : tuple of float
        (z, y, x).

    Returns
    -------
    RingCorrelation
        Rings one frequency step wide up to the lower of the two lateral Nyquist frequencies.

    Raises
    ------
    ShapeError
        If the shapes differ or the volumes are too small.
    VolumeError
        If a voxel is not finite.

    Notes
    -----
    Re sum F G* / sqrt(sum |F|^2 sum |G|^2); F and G are the 2D transforms of the planes, each less its mean and under a
    Hann window along y and x; the sums run over the ring in every plane, that is over all axial frequencies. Sources:
    Saxton and Baumeister 1982, doi:10.1111/j.1365-2818.1982.tb00405.x; for light microscopy Nieuwenhuizen et al. 2013,
    doi:10.1038/nmeth.2448.

    Bias: noise at axial frequencies that the microscope does not pass counts too, so that a noisy volume reads lower
    than in the plane kz = 0 alone. A blur without noise keeps every phase and reads 1 up to the Nyquist frequency: only
    what noise or invention covers is lost here. Against a noise-free reference the correlation is the square root of
    that of two noisy exposures: use ratios, and do not compare with resolutions from two images.
    """
    shape = _checked_shape(volume, reference)
    windows = [hann(n) for n in shape[1:]]
    window = windows[0][:, None] * windows[1]
    frequency_y, frequency_x = fft.fftfreq(shape[1], voxel_size_um[1]), fft.rfftfreq(shape[2], voxel_size_um[2])
    radius = np.hypot(frequency_y[:, None], frequency_x)
    step = 1.0 / min(shape[1] * voxel_size_um[1], shape[2] * voxel_size_um[2])
    nyquist = 0.5 / max(voxel_size_um[1], voxel_size_um[2])
    sums = np.zeros((3, *radius.shape))
    for plane, other in zip(volume, reference, strict=True):
        sums += _products(fft.rfft2(_centered(plane) * window), fft.rfft2(_centered(other) * window))
    # Along the ring; which of the two axes that is changes on the way around.
    samples = shape[0] * float(np.sqrt(_independent_share(windows[0]) * _independent_share(windows[1])))
    return _correlation(sums, radius, np.ones(radius.shape, bool), step, nyquist, samples, shape[2])


def axial_fsc(
    volume: FloatArray,
    reference: FloatArray,
    voxel_size_um: Float3,
    cone_half_angle_deg: float = CONE_HALF_ANGLE_DEG,
) -> RingCorrelation:
    """Fourier shell correlation inside the double cone around the z axis.

    Parameters
    ----------
    volume, reference : ndarray
        (Z, Y, X), at least 6 voxels along each axis. Units and offsets may differ.
    voxel_size_um : tuple of float
        (z, y, x).
    cone_half_angle_deg : float
        Largest angle between a frequency vector (cycles/um along each axis) and the z axis.

    Returns
    -------
    RingCorrelation
        Shells of |k| one axial frequency step wide, up to the axial Nyquist frequency.

    Raises
    ------
    ShapeError
        If the shapes differ or the volumes are too small.
    VolumeError
        If a voxel is not finite.

    Notes
    -----
    As `lateral_frc`, from the 3D transform under a Hann window along every axis. Source: sectioned Fourier shell
    correlation, Koho et al. 2019, doi:10.1038/s41467-019-11024-z.

    Bias: directions up to 30 degrees off the axis are pooled and most samples lie near the surface of the cone, so that
    the number reads better than along z itself; a widefield microscope passes nothing along z itself (missing cone).
    Few planes give few shells: with 32 planes of 0.2 um a shell is 0.16 cycles/um wide.
    """
    shape = _checked_shape(volume, reference)
    windows = [hann(n) for n in shape]
    window = windows[0][:, None, None] * windows[1][:, None] * windows[2]
    frequency_z, frequency_y = (fft.fftfreq(shape[a], voxel_size_um[a]) for a in (0, 1))
    lateral = np.hypot(frequency_y[:, None], fft.rfftfreq(shape[2], voxel_size_um[2]))
    axial = np.abs(frequency_z)[:, None, None]
    radius = np.hypot(axial, lateral)
    # The small margin keeps directions that lie on the cone but for rounding.
    inside = lateral <= axial * np.tan(np.deg2rad(cone_half_angle_deg)) * (1 + 1e-9)
    sums = _products(fft.rfftn(_centered(volume) * window), fft.rfftn(_centered(reference) * window))
    step = 1.0 / (shape[0] * voxel_size_um[0])
    nyquist = 0.5 / voxel_size_um[0]
    samples = _independent_share(windows[1]) * _independent_share(windows[2])  # across z shells are one step wide
    return _correlation(sums, radius, inside, step, nyquist, samples, shape[2])


def cutoffs_per_um(volume: FloatArray, reference: FloatArray, voxel_size_um: Float3) -> Cutoffs:
    """Return the lateral and axial cut-off frequencies, cycles/um, where `lateral_frc` and `axial_fsc` fall below 1/7.

    Raises
    ------
    ShapeError
        If the shapes differ or the volumes are too small.
    VolumeError
        If a voxel is not finite.
    """
    return Cutoffs(
        lateral=lateral_frc(volume, reference, voxel_size_um).cutoff_per_um(),
        axial=axial_fsc(volume, reference, voxel_size_um).cutoff_per_um(),
    )


def cutoff_ratios(volume: FloatArray, noisy: FloatArray, clean: FloatArray, voxel_size_um: Float3) -> Cutoffs:
    """Cut-offs of a reconstruction against the noise-free volume, divided by those of its noisy input.

    Parameters
    ----------
    volume, noisy, clean : ndarray
        (Z, Y, X): reconstruction of ``noisy``, and the noise-free truth of both.
    voxel_size_um : tuple of float
        (z, y, x).

    Returns
    -------
    Cutoffs
        1 where no resolution was lost, above 1 where more frequencies agree with the truth than in the input. A linear
        filter scales signal and noise of a frequency alike and stays near 1. Bounded above by the Nyquist frequency:
        bright volumes resolve every ring before and after.

    Raises
    ------
    ShapeError
        If the shapes differ or the volumes are too small.
    VolumeError
        If a voxel is not finite or the noisy input agrees with the truth on no ring.
    """
    ours = cutoffs_per_um(volume, clean, voxel_size_um)
    theirs = cutoffs_per_um(noisy, clean, voxel_size_um)
    if min(theirs.lateral, theirs.axial) <= 0.0:
        raise VolumeError(
            "expected a noisy input that agrees with the noise-free volume at some frequency, got none: "
            "check that both show the same scene"
        )
    return Cutoffs(lateral=ours.lateral / theirs.lateral, axial=ours.axial / theirs.axial)


def _checked_shape(volume: FloatArray, reference: FloatArray) -> tuple[int, int, int]:
    check_pair(volume, reference)
    shape = np.shape(volume)
    if len(shape) != 3 or min(shape) < MIN_VOXELS:
        raise ShapeError(
            f"expected volumes (Z, Y, X) of at least {MIN_VOXELS} voxels along each axis, got shape {shape}: "
            "use a larger crop"
        )
    return shape[0], shape[1], shape[2]


def _centered(values: FloatArray) -> Array:
    values = np.asarray(values, np.float64)
    centered: Array = values - values.mean()
    return centered


def _independent_share(window: Array) -> float:
    """Independent samples per frequency along one axis: a window ties neighbouring frequencies together."""
    return float(np.sum(window**2) ** 2 / (len(window) * np.sum(window**4)))


def _products(f: npt.NDArray[np.complex128], g: npt.NDArray[np.complex128]) -> Array:
    """Re F G*, |F|^2 and |G|^2, stacked."""
    return np.stack([(f * g.conj()).real, np.abs(f) ** 2, np.abs(g) ** 2])


def _correlation(
    sums: Array,
    radius: Array,
    inside: npt.NDArray[np.bool_],
    step: float,
    nyquist: float,
    samples_per_frequency: float,
    width: int,
) -> RingCorrelation:
    """Sum the half spectra ``sums`` (3, ..., width // 2 + 1) over rings of ``radius``."""
    weight = half_spectrum_weight(radius.shape, width)
    ring = np.rint(radius / step).astype(np.int64)
    last = int(np.floor(nyquist / step + 1e-6))
    kept = inside & (ring >= 1) & (ring <= last)
    count, cross, power, other = (
        np.bincount(ring[kept], (weight * values)[kept], minlength=last + 1)[1:] for values in (1.0, *sums)
    )
    # What rounding leaves outside the band of a band-limited volume is no signal.
    floor = 1e-24 * np.array([power.max(initial=0.0), other.max(initial=0.0)])
    has_power = (power > floor[0]) & (other > floor[1])
    norm = np.sqrt(np.where(has_power, power * other, 1.0))
    correlation = np.where(has_power, cross / norm, 0.0)
    frequency: Array = np.arange(1, last + 1, dtype=np.float64) * step
    # A complex frequency and its mirror image carry two real samples: one per frequency counted.
    samples = np.asarray(count * samples_per_frequency, np.float64)
    return RingCorrelation(frequency, correlation, samples, nyquist)
