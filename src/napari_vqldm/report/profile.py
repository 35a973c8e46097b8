"""What every volume of a set contributes to its scores, computed once: sets are then split and compared at will."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_vqldm.metrics.distribution import Spectrum, axial_spectrum, lateral_spectrum
from napari_vqldm.metrics.feature_unit import load_unit
from napari_vqldm.metrics.features import FeatureExtractor, available_versions
from napari_vqldm.metrics.filaments import trace_filaments
from napari_vqldm.metrics.morphology import Morphology, morphology
from napari_vqldm.metrics.width import filament_width
from napari_vqldm.report.sets import Array
from napari_vqldm.volume import Float3

# Intensities in filament units are counted on bins that are fine near 0 and coarse at crossings: asinh(x / WIDTH).
_NUM_BINS, _WIDTH, _RANGE = 8192, 0.2, (-20.0, 400.0)
EDGES: npt.NDArray[np.float64] = _WIDTH * np.sinh(
    np.linspace(np.arcsinh(_RANGE[0] / _WIDTH), np.arcsinh(_RANGE[1] / _WIDTH), _NUM_BINS + 1)
)


@dataclass(frozen=True)
class Profile:
    """One volume.

    Attributes
    ----------
    features : ndarray
        (64,), in the unit of `metrics.feature_unit`.
    lateral, axial : Spectrum
        Power spectra of this volume alone.
    histogram : ndarray
        Share of the voxels in every bin of ``EDGES``; voxels beyond count in the outermost ones.
    mean, mean_square : float
        Of the intensity.
    lengths_um : ndarray
        Length of every connected traced filament.
    morphology : Morphology
        Measured on the trace.
    width_lateral_um, width_axial_um : float
        Median full width at half maximum of straight isolated stretches; NaN where there is none.
    """

    features: npt.NDArray[np.float32]
    lateral: Spectrum
    axial: Spectrum
    histogram: npt.NDArray[np.float64]
    mean: float
    mean_square: float
    lengths_um: npt.NDArray[np.float64]
    morphology: Morphology
    width_lateral_um: float
    width_axial_um: float


def in_unit(features: npt.NDArray[np.float32], extractor: FeatureExtractor) -> npt.NDArray[np.float32]:
    """Bring features (n, 64) to standard deviations of simulated volumes; those of no release stay as they are."""
    if extractor.version not in available_versions():
        return features
    return load_unit(extractor.version)(features).astype(np.float32)


def profile(volume: Array, voxel_size_um: Float3, extractor: FeatureExtractor) -> Profile:
    """Measure one volume (Z, Y, X) in filament units."""
    return measure(volume, in_unit(extractor([volume], voxel_size_um), extractor)[0], voxel_size_um)


def measure(volume: Array, features: npt.NDArray[np.float32], voxel_size_um: Float3) -> Profile:
    """Measure one volume whose features (64,), in their unit, are known: this part needs no network."""
    trace = trace_filaments(volume, voxel_size_um)
    z, y, x = (n * s for n, s in zip(volume.shape, voxel_size_um, strict=True))
    width = filament_width(volume, trace.filaments, voxel_size_um)
    data = np.asarray(volume, np.float64)
    counts = np.histogram(np.clip(data, EDGES[0], EDGES[-1]), EDGES)[0]
    return Profile(
        features=features,
        lateral=lateral_spectrum([volume], voxel_size_um),
        axial=axial_spectrum([volume], voxel_size_um),
        histogram=counts / data.size,
        mean=float(data.mean()),
        mean_square=float((data**2).mean()),
        lengths_um=trace.lengths_um,
        morphology=morphology(trace.filaments, (z, y, x)),
        width_lateral_um=width.lateral_um,
        width_axial_um=width.axial_um,
    )


def mean_spectrum(spectra: Sequence[Spectrum]) -> Spectrum:
    """Return the spectrum of a set: the mean power over its volumes."""
    return Spectrum(spectra[0].frequency_per_um, np.mean([s.power for s in spectra], axis=0))
