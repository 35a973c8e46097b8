"""No measure takes NaN, infinity or a volume without voxels: one clear error, wherever the volume enters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from napari_vqldm.errors import ShapeError, VolumeError
from napari_vqldm.metrics import distribution, fidelity, frc, ssim, uncertainty
from napari_vqldm.metrics.feature_net import FeatureNet
from napari_vqldm.metrics.features import FeatureExtractor
from napari_vqldm.metrics.filaments import filament_mask, trace_filaments
from napari_vqldm.metrics.foreground import foreground_psnr_unit_range, tube_mask
from napari_vqldm.metrics.memorization import nearest_patches
from napari_vqldm.metrics.micro_ms3im import micro_ms3im_slice_mean
from napari_vqldm.metrics.ridge import ridge_response
from napari_vqldm.metrics.width import filament_width

VOXEL = (0.2, 0.1, 0.1)
SHAPE = (28, 48, 48)
LINE = np.array([[2.0, 1.0, 1.0], [3.0, 3.0, 3.0]])
CUTOFF = uncertainty.optical_cutoff(1.4, 0.6, 1.515)
GOOD = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
EXTRACTOR = FeatureExtractor("random", "0" * 64, FeatureNet().eval(), torch.device("cpu"))

Measure = Callable[[np.ndarray], object]

ONE: dict[str, Measure] = {
    "unit_range": fidelity.unit_range,
    "blank_baseline": fidelity.blank_baseline,
    "gaussian_baseline": lambda v: fidelity.gaussian_baseline(v, (0.5, 0.5, 0.5)),
    "pooled_baseline": fidelity.pooled_baseline,
    "ridge_response": lambda v: ridge_response(v, VOXEL, axial_um=0.2, lateral_um=0.1),
    "trace_filaments": lambda v: trace_filaments(v, VOXEL),
    "filament_mask": lambda v: filament_mask(v, VOXEL),
    "filament_width": lambda v: filament_width(v, [LINE], VOXEL),
    "lateral_spectrum": lambda v: distribution.lateral_spectrum([v], VOXEL),
    "axial_spectrum": lambda v: distribution.axial_spectrum([v], VOXEL),
    "energy_beyond_cutoff": lambda v: uncertainty.energy_beyond_cutoff(v, VOXEL, CUTOFF),
    "detail_beyond_cutoff": lambda v: uncertainty.detail_beyond_cutoff(v, VOXEL, CUTOFF),
    "features": lambda v: EXTRACTOR([v], VOXEL),
}
PAIRS: dict[str, Callable[[np.ndarray, np.ndarray], object]] = {
    "psnr_unit_range": fidelity.psnr_unit_range,
    "pearson": fidelity.pearson,
    "noise_ceiling of the volume": lambda a, b: fidelity.noise_ceiling_unit_range(a, GOOD[: len(a)] + 1, b),
    "choose_gaussian_sigma": lambda a, b: fidelity.choose_gaussian_sigma([a], [b], (0.5,), (0.5,)),
    "ssim3d_unit_range": ssim.ssim3d_unit_range,
    "ms_ssim3d_unit_range": ssim.ms_ssim3d_unit_range,
    "lateral_frc": lambda a, b: frc.lateral_frc(a, b, VOXEL),
    "axial_fsc": lambda a, b: frc.axial_fsc(a, b, VOXEL),
    "cutoffs_per_um": lambda a, b: frc.cutoffs_per_um(a, b, VOXEL),
    "cutoff_ratios": lambda a, b: frc.cutoff_ratios(a, b, GOOD[: len(a)], VOXEL),
    "foreground_psnr_unit_range": lambda a, b: foreground_psnr_unit_range(a, b, [LINE], VOXEL),
    "micro_ms3im_slice_mean": micro_ms3im_slice_mean,
    "intensity_wasserstein": lambda a, b: distribution.intensity_wasserstein([a], [b]),
    "diversity": lambda a, b: distribution.diversity([a, b]),
    "voxel_spread": lambda a, b: uncertainty.voxel_spread([a, b]),
    "nearest_patches": lambda a, b: nearest_patches([a], [b]),
}
ENTRIES: dict[str, Measure] = (
    ONE
    | {f"{name}, first": lambda v, f=f: f(v, GOOD[: len(v)]) for name, f in PAIRS.items()}
    | {f"{name}, second": lambda v, f=f: f(GOOD[: len(v)], v) for name, f in PAIRS.items()}
)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ENTRIES)
def test_one_voxel_that_is_not_finite_is_refused_in_the_same_words_everywhere(name: str, bad: float) -> None:
    volume = GOOD.copy()
    volume[14, 20, 20] = bad
    with pytest.raises(VolumeError, match=r"expected finite intensities, got NaN or infinity in 1 of 64512 voxels"):
        ENTRIES[name](volume)


@pytest.mark.parametrize("name", ENTRIES)
def test_a_volume_without_voxels_is_refused(name: str) -> None:
    with pytest.raises(ShapeError, match=r"\(0, 48, 48\)"):
        ENTRIES[name](np.zeros((0, 48, 48), np.float32))


@pytest.mark.slow
def test_every_entry_takes_the_same_volume_when_it_is_whole() -> None:
    """Otherwise the refusals above could have another cause."""
    for name, measure in ONE.items():
        assert measure(GOOD) is not None, name
    other = 0.9 * GOOD + 0.3 * np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)
    for name, compare in PAIRS.items():
        if name != "micro_ms3im_slice_mean":  # an optional package
            assert compare(other, GOOD) is not None, name


def test_what_float32_cannot_hold_is_not_traced() -> None:
    volume = GOOD.astype(np.float64)
    volume[0, 0, 0] = 1e300
    with pytest.raises(VolumeError, match="finite intensities"):
        trace_filaments(volume, VOXEL)


def test_centre_lines_and_power_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ShapeError, match="finite um"):
        tube_mask([np.array([[0.0, 0.0, 0.0], [np.nan, 1.0, 1.0]])], SHAPE, VOXEL)
    spectrum = distribution.lateral_spectrum([GOOD], VOXEL)
    broken = distribution.Spectrum(spectrum.frequency_per_um, np.full_like(spectrum.power, np.nan))
    with pytest.raises(VolumeError, match="power spectrum: expected finite"):
        distribution.spectrum_distance_db(broken, spectrum)
