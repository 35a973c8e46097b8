"""The intensity estimate finds background and filament brightness, and follows the data under a * x + b."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_vqldm.config import SimulationConfig
from napari_vqldm.errors import ShapeError, VolumeError
from napari_vqldm.files import read_volume
from napari_vqldm.files.samples import sample_names, sample_path
from napari_vqldm.intensity import IntensityScale, estimate_intensity
from napari_vqldm.simulate import Simulator

SHAPE = (16, 96, 96)
SIGMA = np.array([1.05, 0.95, 0.95])  # voxels: a confocal line at 0.2/0.1/0.1 um


def filaments(seed: int, count: int) -> np.ndarray:
    """Straight, mostly flat lines through the volume, blurred so that one line peaks at 1."""
    rng = np.random.default_rng(seed)
    step = 0.2
    grid = np.zeros(SHAPE)
    for _ in range(count):
        direction = rng.normal(size=3) * (0.15, 1, 1)
        direction /= np.linalg.norm(direction)
        points = rng.uniform(0, 1, 3) * SHAPE + np.arange(-150, 150, step)[:, None] * direction
        low = np.floor(points).astype(int)
        for corner in np.ndindex(2, 2, 2):
            weight = np.prod(np.where(np.array(corner, bool), points - low, 1 - (points - low)), axis=1)
            inside = ((low + corner >= 0) & (low + corner < SHAPE)).all(axis=1)
            np.add.at(grid, tuple((low + corner)[inside].T), weight[inside])
    return gaussian_filter(grid, SIGMA) * step * 2 * np.pi * SIGMA[0] * SIGMA[1]


@pytest.mark.parametrize(("photons", "background"), [(50, 0.4), (50, 0.02), (100, 0.1), (200, 0.2)])
@pytest.mark.parametrize("count", [4, 14])
def test_it_recovers_the_camera_of_simulated_filaments(photons, background, count):
    rng = np.random.default_rng(count)
    gain, offset = 2.0, 100.0
    electrons = rng.poisson(photons * (filaments(count, count) + background)) + rng.normal(0, 1.5, SHAPE)
    found = estimate_intensity((offset + gain * electrons).astype(np.float32))
    peak = gain * photons
    assert found.background == pytest.approx(offset + background * peak, abs=0.1 * peak)
    assert found.scale == pytest.approx(peak, rel=0.3)


@pytest.mark.parametrize("name", sample_names())
@pytest.mark.parametrize(("a", "b"), [(2.5, 100.0), (0.03, -7.0), (1000.0, 0.0), (1.0, 300.0)])
def test_it_follows_scale_and_offset_on_real_stacks(name, a, b):
    data = read_volume(sample_path(name)).data
    found, moved = estimate_intensity(data), estimate_intensity((a * data.astype(np.float64) + b).astype(np.float32))
    assert moved.scale == pytest.approx(a * found.scale, rel=1e-4)
    assert moved.background == pytest.approx(a * found.background + b, abs=1e-4 * a * found.scale)


def test_exact_zeros_are_background():
    data = read_volume(sample_path("spindle_morph_volume00")).data
    assert 0.41 < (data == 0).mean() < 0.73
    found = estimate_intensity(data)
    assert found.background == pytest.approx(0, abs=0.5)
    assert np.percentile(data[data > 0], 25) < found.scale < np.percentile(data, 99.9)


@pytest.mark.parametrize("shape", [(2, 2, 2), (2, 30, 30), (3, 2, 50), (40, 2, 2)])
def test_thin_volumes_have_an_estimate(shape):
    data = np.random.default_rng(0).normal(size=shape)
    found = estimate_intensity(data)
    assert data.min() <= found.background <= data.max()
    assert 0 < found.scale <= 2 * np.ptp(data)


def test_one_bright_voxel_and_one_dark_voxel_have_an_estimate():
    for odd in (5.0, -5.0):
        data = np.zeros((6, 8, 8))
        data[3, 4, 4] = odd
        found = estimate_intensity(data)
        assert found.background == pytest.approx(0, abs=0.01)
        assert 0.05 < found.scale <= 5.0


def test_a_very_large_range_does_not_overflow():
    data = np.random.default_rng(0).normal(size=(4, 16, 16)).astype(np.float32) * np.float32(1e37)
    found = estimate_intensity(data)
    assert np.isfinite(found.apply(data)).all()


def test_apply_and_invert_undo_each_other_to_float32():
    data = (np.random.default_rng(0).normal(size=(5, 20, 20)) * 30 + 1000).astype(np.float32)
    scale = IntensityScale(background=996.5, scale=27.25)
    units = scale.apply(data)
    assert units.dtype == np.float32
    np.testing.assert_allclose(units, (data.astype(np.float64) - 996.5) / 27.25, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(scale.invert(units), data, rtol=1e-7)


def test_large_volumes_are_estimated_on_a_part(monkeypatch):
    data = np.tile(filaments(3, 14), (2, 2, 2)) * 50 + np.random.default_rng(0).normal(10, 2, (32, 192, 192))
    whole = estimate_intensity(data)
    monkeypatch.setattr("napari_vqldm.intensity._MAX_VOXELS", data.size // 4)
    part = estimate_intensity(data)
    assert part.scale == pytest.approx(whole.scale, rel=0.15)
    assert part.background == pytest.approx(whole.background, abs=0.05 * whole.scale)
    assert part != whole  # fewer voxels were used


@pytest.mark.parametrize("bad", [np.full((4, 4, 4), 3.0), np.zeros((0, 4, 4)), np.full((4, 4, 4), np.nan)])
def test_volumes_without_contrast_are_refused(bad):
    with pytest.raises(VolumeError):
        estimate_intensity(bad)


def test_a_plane_is_refused():
    with pytest.raises(ShapeError, match="2 voxels per axis"):
        estimate_intensity(np.ones((1, 4, 4)))


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
def test_a_scale_that_is_not_positive_is_refused(scale):
    with pytest.raises(VolumeError, match="above 0"):
        IntensityScale(background=0.0, scale=scale)


def test_it_recovers_filament_units_of_the_simulator():
    simulator = Simulator(SimulationConfig(shape=(24, 96, 96)))
    batch = simulator.sample(seed=11, indices=range(12))
    found = [estimate_intensity(noisy[0].numpy()) for noisy in batch.noisy]  # true background 0, true scale 1
    scales = np.array([f.scale for f in found])
    assert max(abs(f.background) for f in found) < 0.1
    assert np.median(scales) == pytest.approx(1, abs=0.2)
    assert np.mean(abs(scales - 1) < 0.3) >= 0.75
