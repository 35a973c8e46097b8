"""Vectorial point spread functions from aperture, index and wavelengths.

The pupil integrals I0, I1, I2 of Richards and Wolf (Proc. R. Soc. A 253, 358, 1959) give the focal intensity
|I0|^2 + 2 |I1|^2 + |I2|^2 averaged over polarization, which is symmetric about the optical axis. It is tabulated once
per objective over (z, r); voxel sizes and widths are interpolations of that table. Behind a mismatched layer (see
`aberration`) the table has two sides, and its 0 is the focus in which an in-plane line is brightest.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import j0, j1, jv

from napari_vqldm.config import Float3, Int3, OpticsConfig
from napari_vqldm.errors import ConfigError, ShapeError
from napari_vqldm.simulate.aberration import aberrated_intensity, brightest_focus_um, full_width
from napari_vqldm.simulate.filaments import FloatArray

WIDTH_STEP = 1.0 / 64.0  # PSF width factors are multiples of it, so that few different PSFs occur
_STEP_R_UM, _STEP_Z_UM = 0.01, 0.02
_PUPIL_NODES = 192
# Widths (axial, lateral) after which light is neglected.
_CONFOCAL_REACH = (3.5, 4.5)
_WIDEFIELD_REACH = (7.0, 12.0)  # no optical sectioning: haze reaches far
_FARTHEST_UM = 60.0  # of a table behind a mismatched layer, to either side of the focus


@dataclass(frozen=True)
class FocalTable:
    """Intensity over (z, r) at width factor 1, not normalized, and the widths of an in-plane line."""

    z_um: FloatArray  # from 0 on where the intensity is even, else from below 0 to above
    r_um: FloatArray
    intensity: FloatArray  # (z, r)
    line_fwhm_lateral_um: float
    line_fwhm_axial_um: float


def _focal_intensity(optics: OpticsConfig, wavelength_um: float, z: FloatArray, r: FloatArray) -> FloatArray:
    half_angle = np.arcsin(optics.numerical_aperture / optics.immersion_index)
    nodes, weights = np.polynomial.legendre.leggauss(_PUPIL_NODES)
    theta = 0.5 * half_angle * (nodes + 1.0)
    c, s = np.cos(theta), np.sin(theta)
    apodized = weights * np.sqrt(c) * s  # sine condition
    k = 2.0 * np.pi * optics.immersion_index / wavelength_um
    defocus = np.exp(1j * k * z[:, None] * c)
    argument = k * s[:, None] * r
    i0 = defocus @ ((apodized * (1.0 + c))[:, None] * j0(argument))
    i1 = defocus @ ((apodized * s)[:, None] * j1(argument))
    i2 = defocus @ ((apodized * (1.0 - c))[:, None] * jv(2, argument))
    intensity: FloatArray = np.abs(i0) ** 2 + 2.0 * np.abs(i1) ** 2 + np.abs(i2) ** 2
    return intensity


def _through_pinhole(intensity: FloatArray, r: FloatArray, radius_um: float) -> FloatArray:
    """Average a radial intensity over a disk: the light that a pinhole of that radius in the sample lets through."""
    nodes, weights = np.polynomial.legendre.leggauss(8)
    rho = radius_um * np.sqrt(0.5 * (nodes + 1.0))  # equal areas
    angle = (np.arange(16) + 0.5) * np.pi / 16
    away = np.sqrt(r[:, None, None] ** 2 + rho[:, None] ** 2 + 2.0 * r[:, None, None] * rho[:, None] * np.cos(angle))
    mean = [(np.interp(away, r, plane) * weights[:, None]).sum((1, 2)) for plane in intensity]
    average: FloatArray = np.asarray(mean) / (weights.sum() * len(angle))
    return average


@lru_cache(maxsize=4)
def _pinhole_matrix(farthest_um: float, radius_um: float) -> FloatArray:
    """`_through_pinhole` as a matrix (r, r): independent of the depth, so all widths of an objective share it."""
    r = np.arange(0.0, farthest_um, _STEP_R_UM)
    matrix = _through_pinhole(np.eye(len(r)), r, radius_um)
    matrix.flags.writeable = False
    return matrix


def _full_width(position: FloatArray, profile: FloatArray) -> float:
    """Full width at half maximum of a symmetric profile given from its centre outward."""
    below = int(np.argmax(profile < 0.5 * profile[0]))
    upper, lower = profile[below - 1], profile[below]
    fraction = (upper - 0.5 * profile[0]) / (upper - lower)
    return float(2.0 * (position[below - 1] + fraction * (position[below] - position[below - 1])))


def _pinhole_um(optics: OpticsConfig) -> float:
    """Return the radius of the pinhole, projected into the sample."""
    return 0.5 * optics.pinhole_airy * (1.22 * optics.emission_wavelength_um / optics.numerical_aperture)


def _aberrated_table(optics: OpticsConfig) -> FocalTable:
    """Tabulate both sides of the focus behind a mismatched layer; skewed, so wide enough for `reach_um` in any case."""
    confocal = optics.modality == "confocal"
    emission = optics.emission_wavelength_um
    at_peak = brightest_focus_um(optics)
    farthest = max(4.5, 9.0 * emission / optics.numerical_aperture)
    r = np.arange(0.0, farthest, _STEP_R_UM)
    half = r[r <= r[-1] / np.sqrt(2.0)]
    pinhole = _pinhole_matrix(farthest, _pinhole_um(optics)) if confocal else None
    axial, wanted = np.nan, max(3.0, 8.0 * emission * optics.immersion_index / optics.numerical_aperture**2)
    reach = 0.0
    while not reach >= wanted:  # the width is known once a table is there, and says how far the next has to reach
        reach = wanted
        if reach > _FARTHEST_UM:
            raise ConfigError(
                f"optics: light from {optics.depth_um} um deep in index {optics.specimen_index} under NA "
                f"{optics.numerical_aperture} spreads over more than {_FARTHEST_UM} um: use a lower depth_um"
            )
        z = _STEP_Z_UM * np.arange(-int(reach / _STEP_Z_UM), int(reach / _STEP_Z_UM) + 1, dtype=np.float64)
        intensity = aberrated_intensity(optics, emission, at_peak + z, r)
        if pinhole is not None:
            excitation = aberrated_intensity(optics, optics.excitation_wavelength_um, at_peak + z, r)
            intensity = (intensity @ pinhole) * excitation
        line = intensity[:, : len(half)].sum(1)
        axial = full_width(z, line)
        wanted = (_CONFOCAL_REACH if confocal else _WIDEFIELD_REACH)[0] * axial if np.isfinite(axial) else 1.5 * reach
    z = z - z[line.argmax()]  # a confocal line is brightest a little off the focus of the emission
    plane = intensity[line.argmax()]
    across = np.array([np.interp(np.hypot(half, y), r, plane).sum() for y in half])
    return FocalTable(z, r, intensity, _full_width(half, across), axial)


@lru_cache(maxsize=64)
def focal_table(optics: OpticsConfig) -> FocalTable:
    """Tabulate the focal intensity of an objective (excitation times detection for a confocal one)."""
    if optics.numerical_aperture >= optics.immersion_index:
        raise ConfigError(
            f"optics: expected numerical_aperture below immersion_index, got {optics.numerical_aperture} and "
            f"{optics.immersion_index}"
        )
    if optics.is_aberrated:
        return _aberrated_table(optics)
    confocal = optics.modality == "confocal"
    far = optics.emission_wavelength_um * optics.immersion_index / optics.numerical_aperture**2
    z = np.arange(0.0, max(3.0, (4.0 if confocal else 8.0) * far), _STEP_Z_UM)
    r = np.arange(0.0, max(3.0, 6.0 * optics.emission_wavelength_um / optics.numerical_aperture), _STEP_R_UM)
    intensity = _focal_intensity(optics, optics.emission_wavelength_um, z, r)
    if confocal:
        detection = _through_pinhole(intensity, r, _pinhole_um(optics))
        intensity = detection * _focal_intensity(optics, optics.excitation_wavelength_um, z, r)
    half = r[r <= r[-1] / np.sqrt(2.0)]  # a line along x, seen from a distance y (or z) away
    across = np.array([np.interp(np.hypot(half, y), r, intensity[0]).sum() for y in half])
    return FocalTable(z, r, intensity, _full_width(half, across), _full_width(z, intensity[:, : len(half)].sum(1)))


def _table_at(optics: OpticsConfig, width_factor: float) -> FocalTable:
    """Return the table that, stretched by ``width_factor``, is the focus at the depth of ``optics`` itself."""
    if optics.is_aberrated:
        optics = optics.model_copy(update={"depth_um": optics.depth_um / width_factor})
    return focal_table(optics)


def line_width_um(optics: OpticsConfig, width_factor: float = 1.0) -> tuple[float, float]:
    """Return the (lateral, axial) full width at half maximum of an in-plane line, um."""
    table = _table_at(optics, width_factor)
    return table.line_fwhm_lateral_um * width_factor, table.line_fwhm_axial_um * width_factor


def reach_um(optics: OpticsConfig, width_factor: float = 1.0) -> Float3:
    """Return the distance (z, y, x) beyond which the light of a filament is neglected, um."""
    lateral, axial = line_width_um(optics, width_factor)
    along, across = _CONFOCAL_REACH if optics.modality == "confocal" else _WIDEFIELD_REACH
    return along * axial, across * lateral, across * lateral


def psf(optics: OpticsConfig, voxel_size_um: Float3, width_factor: float, shape: Int3) -> FloatArray:
    """Sample the point spread function around its centre.

    Parameters
    ----------
    optics : OpticsConfig
        Objective and wavelengths.
    voxel_size_um : tuple of float
        (z, y, x), um.
    width_factor : float
        Both wavelengths are multiplied by it, and with them all lengths of the PSF; the depth in the specimen stays.
    shape : tuple of int
        Odd number of samples (z, y, x).

    Returns
    -------
    ndarray
        float64 of ``shape``, in 1/um, scaled so that an infinite straight in-plane line of unit brightness peaks at 1:
        the sum along x through the centre times the voxel size is 1. Even in every axis; behind a mismatched layer not
        in z, which grows with the depth in the specimen and counts the movement of the stage.
    """
    if any(n < 1 or n % 2 == 0 for n in shape):
        raise ShapeError(f"expected an odd number of PSF samples per axis, got {shape}")
    table = _table_at(optics, width_factor)
    z, y, x = (np.arange(n // 2 + 1) * size / width_factor for n, size in zip(shape, voxel_size_um, strict=True))
    if optics.is_aberrated:
        z = (np.arange(shape[0]) - shape[0] // 2) * voxel_size_um[0] / width_factor - table.z_um[0]
    row = np.clip(z / _STEP_Z_UM, 0.0, len(table.z_um) - 1.001)
    lower = row.astype(np.int64)
    part = (row - lower)[:, None]
    rows = (1.0 - part) * table.intensity[lower] + part * table.intensity[lower + 1]
    distance = np.hypot(y[:, None], x)
    octant = np.stack([np.interp(distance, table.r_um, values) for values in rows])
    mirrored = [np.abs(np.arange(n) - n // 2) for n in shape]
    if optics.is_aberrated:
        mirrored[0] = np.arange(shape[0])  # both sides are tabulated
    full = octant[np.ix_(*mirrored)]
    line = full[shape[0] // 2, shape[1] // 2].sum() * voxel_size_um[2]
    return np.asarray(full / line)
