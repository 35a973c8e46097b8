"""What the numbers of a comparison mean, in plain words. No Qt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari_vqldm.compare import Comparison
    from napari_vqldm.metrics.distribution import Spectrum


def numbers_text(comparison: Comparison) -> str:
    """Return one line: how close the reconstruction is to its input."""
    if comparison.is_identical:
        return "Identical to the input, voxel for voxel."
    if not comparison.is_measured:
        return f"Not compared with the input: {comparison.noise.reason}."
    psnr = "not defined" if comparison.psnr_db is None else decibel(comparison.psnr_db)
    ssim = "not defined" if comparison.ssim is None else f"{comparison.ssim:.3f}"
    return f"Against the input: PSNR {psnr}, SSIM {ssim}, mean difference {comparison.mean_absolute_error:.3g}."


def ceiling_text(comparison: Comparison) -> str:
    """Return what the noise of the input allows, and what the distance to that means."""
    ceiling, psnr = comparison.noise_ceiling_db, comparison.psnr_db
    if comparison.is_identical or not comparison.is_measured:
        return ""
    if ceiling is None:
        return f"Noise ceiling: not known, {comparison.missing.get('noise_ceiling_db', 'no noise was found')}."
    text = f"A perfect noise-free result would score {decibel(ceiling)} against this noisy input."
    if psnr is None:
        return text
    if psnr > ceiling + 0.5:
        return f"{text} This one scores more: it keeps some of the noise, or fine structure was taken for noise."
    if psnr < ceiling - 0.5:
        return f"{text} This one is {ceiling - psnr:.1f} dB below: it lacks some structure or brightness."
    return f"{text} This one is at that ceiling."


def series_text(comparisons: Sequence[Comparison]) -> str:
    """Return one line on all frames of a series; empty for a single volume."""
    values = [c.psnr_db for c in comparisons if c.psnr_db is not None and math.isfinite(c.psnr_db)]
    if len(comparisons) < 2 or not values:
        return ""
    mean = sum(values) / len(values)
    return f"All {len(comparisons)} frames: PSNR {mean:.1f} dB on average, {min(values):.1f} to {max(values):.1f} dB."


def plane_text(comparison: Comparison) -> str:
    """Return the best and the worst plane in words: what the plot shows, without a plot."""
    per_z = comparison.psnr_per_z_db
    if not comparison.is_measured:
        return ""
    if per_z is None or not len(per_z):
        return "PSNR per plane: " + comparison.missing.get("psnr_per_z_db", "not defined") + "."
    worst, best = int(per_z.argmin()), int(per_z.argmax())
    return (
        f"PSNR per plane: {decibel(per_z[worst])} at z = {worst} (worst), {decibel(per_z[best])} at z = {best} (best)."
    )


def spectrum_text(comparison: Comparison, cutoff_per_um: float | None) -> str:
    """Return how much power the reconstruction keeps below and above the cut-off of the optics."""
    a, b = comparison.spectrum, comparison.reconstruction_spectrum
    if not comparison.is_measured:
        return ""
    if a is None or b is None:
        return "Power spectrum: " + comparison.missing.get("spectrum", "not defined") + "."
    everything = np.ones(len(a.power), bool)
    if cutoff_per_um is None:
        return f"Power spectrum (thin line: input): {_kept(a, b, everything)} of the input's power is kept."
    inside = a.frequency_per_um <= cutoff_per_um
    optics = f"the cut-off of the optics that the model was trained on ({cutoff_per_um:.2g} cycles/µm)"
    if inside.all():
        return (
            f"Power spectrum (thin line: input): {_kept(a, b, everything)} of the input's power is kept. This spectrum "
            f"ends before {optics}."
        )
    text = f"Power spectrum (thin line: input): {_kept(a, b, inside)} of the input's power is kept below {optics}"
    if comparison.noise.is_measurable:
        return (
            f"{text}, {_kept(a, b, ~inside)} above it, where such optics pass next to nothing: what this input has "
            "there is noise."
        )
    # A share of next to nothing says nothing: without noise the power above the cut-off is that of rounding.
    return f"{text}. Above it such optics pass next to nothing, and no noise was found in this input."


def cutoff_of(optics: object) -> float | None:
    """Return the lateral cut-off of a widefield microscope, 2 NA / wavelength, in cycles/um; None when not known."""
    aperture = getattr(optics, "numerical_aperture", None)
    wavelength = getattr(optics, "emission_wavelength_um", None)
    return 2.0 * aperture / wavelength if aperture and wavelength else None


def decibel(value: float) -> str:
    """Return a level as text."""
    return "identical" if math.isinf(value) and value > 0 else f"{value:.1f} dB"


def _kept(a: Spectrum, b: Spectrum, rings: np.ndarray) -> str:
    """Share of the power of ``a`` on these rings that ``b`` has.

    A spectrum holds means: a ring has as many frequencies as it is long, so that means count by its radius.
    """
    radius = a.frequency_per_um[rings]
    whole = float(radius @ a.power[rings])
    return "all" if whole <= 0 else f"{100.0 * float(radius @ b.power[rings]) / whole:.0f} %"
