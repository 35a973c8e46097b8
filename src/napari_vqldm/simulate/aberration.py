"""Focus behind a mismatched layer: the pupil integral of an objective that looks through a cover slip into a specimen.

An emitter lies ``depth_um`` below the cover slip in a specimen of another refractive index. A ray of invariant
s = n sin(theta) collects the phase k0 (n_s d cos(theta_s) - n_i f cos(theta_i)), where f is the position of the focus
in the immersion index: the depth-dependent term of Gibson and Lanni (J. Opt. Soc. Am. A 8, 1601, 1991), in the
vectorial integrals and with the transmissions of Torok and Varga (Appl. Opt. 36, 2305, 1997). Rays beyond s = n_s are
evanescent in the specimen and do not reach the objective.

f is the movement of the stage, as in a recorded stack; the specimen that it crosses is deeper or shallower by about
n_s / n_i, which is not corrected here.
"""

from __future__ import annotations

import numpy as np
from scipy.special import j0, j1, jv

from napari_vqldm.config import OpticsConfig
from napari_vqldm.simulate.filaments import FloatArray

_PUPIL_NODES = 192
_NODES_PER_UM = 12  # of depth: the phase turns faster over the pupil the deeper the focus is


def _largest_invariant(optics: OpticsConfig) -> float:
    index = optics.specimen_index or optics.immersion_index
    return min(optics.numerical_aperture, index)


def aberrated_intensity(optics: OpticsConfig, wavelength_um: float, focus_um: FloatArray, r: FloatArray) -> FloatArray:
    """Intensity of an emitter below a mismatched layer, averaged over polarization.

    Parameters
    ----------
    optics : OpticsConfig
        ``specimen_index`` and ``depth_um`` say where the emitter is.
    wavelength_um : float
        In vacuum, um.
    focus_um : ndarray
        (z,), positions f of the focus below the cover slip in the immersion index, um; f grows into the specimen.
    r : ndarray
        (r,), distances from the optical axis, um.

    Returns
    -------
    ndarray
        float64 (z, r), not normalized.
    """
    immersion, specimen = optics.immersion_index, optics.specimen_index or optics.immersion_index
    nodes, weights = np.polynomial.legendre.leggauss(_PUPIL_NODES + int(_NODES_PER_UM * optics.depth_um))
    # s = s_max sin(u) crowds the nodes at the rim, where the phase is steepest.
    largest = _largest_invariant(optics) * (1.0 - 1e-9)
    u = 0.25 * np.pi * (nodes + 1.0)
    s, ds = largest * np.sin(u), weights * largest * np.cos(u)
    cos_i, cos_s = np.sqrt(1.0 - (s / immersion) ** 2), np.sqrt(1.0 - (s / specimen) ** 2)
    across = 2.0 * immersion * cos_i / (immersion * cos_i + specimen * cos_s)  # Fresnel transmission, s and p
    along = 2.0 * immersion * cos_i / (specimen * cos_i + immersion * cos_s)
    apodized = ds * s / np.sqrt(cos_i)  # sine condition: sqrt(cos) sin d(theta)
    k0 = 2.0 * np.pi / wavelength_um
    # The paraxial phase is common to all rays; without it the remaining one stays small and the sum exact.
    path = specimen * optics.depth_um * (cos_s - 1.0) - immersion * focus_um[:, None] * (cos_i - 1.0)
    wave = np.exp(1j * k0 * path)
    argument = k0 * s[:, None] * r
    i0 = wave @ ((apodized * (across + along * cos_s))[:, None] * j0(argument))
    i1 = wave @ ((apodized * along * s / specimen)[:, None] * j1(argument))
    i2 = wave @ ((apodized * (across - along * cos_s))[:, None] * jv(2, argument))
    intensity: FloatArray = np.abs(i0) ** 2 + 2.0 * np.abs(i1) ** 2 + np.abs(i2) ** 2
    return intensity


def brightest_focus_um(optics: OpticsConfig) -> float:
    """Return the focus position f, um, at which an in-plane line at the depth of ``optics`` is brightest."""
    immersion, specimen = optics.immersion_index, optics.specimen_index or optics.immersion_index
    # Where single rays cross the axis, from the paraxial ones to nearly the rim.
    s = np.linspace(0.0, 0.97 * _largest_invariant(optics), 64)
    crossing = optics.depth_um * np.sqrt((immersion**2 - s**2) / (specimen**2 - s**2))
    margin = 4.0 * optics.emission_wavelength_um * immersion / optics.numerical_aperture**2
    r = np.arange(0.0, 3.0 + 0.5 * abs(crossing[-1] - crossing[0]), 0.05)
    low, high = float(crossing.min()) - margin, float(crossing.max()) + margin
    best = 0.5 * (low + high)
    for step in (margin / 32.0, margin / 320.0):
        focus = np.arange(low, high, step)
        best = float(focus[aberrated_intensity(optics, optics.emission_wavelength_um, focus, r).sum(axis=1).argmax()])
        low, high = best - 2.0 * step, best + 2.0 * step
    return best


def full_width(position: FloatArray, profile: FloatArray) -> float:
    """Full width at half maximum about the highest point of a profile that may be skewed; nan if it never falls."""
    peak = int(profile.argmax())
    half = 0.5 * profile[peak]
    below = np.flatnonzero(profile < half)
    left, right = below[below < peak], below[below > peak]
    if not len(left) or not len(right):
        return float("nan")
    i, j = int(left[-1]), int(right[0])
    start = position[i] + (half - profile[i]) / (profile[i + 1] - profile[i]) * (position[i + 1] - position[i])
    stop = position[j - 1] + (profile[j - 1] - half) / (profile[j - 1] - profile[j]) * (position[j] - position[j - 1])
    return float(stop - start)
