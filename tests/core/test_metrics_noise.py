"""Noise of a volume from the volume alone: planted lines come back, smooth volumes have none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from napari_vqldm.config import CameraConfig
from napari_vqldm.errors import ShapeError, VolumeError
from napari_vqldm.metrics import noise
from napari_vqldm.metrics.noise import estimate_noise, local_mean
from napari_vqldm.simulate import Simulator, render_camera, tier


@pytest.fixture(scope="module")
def clean() -> np.ndarray:
    config = tier().model_copy(update={"shape": (32, 96, 96)})
    return Simulator(config).sample(4, [0], noisy=False).clean[0, 0].numpy()


def record(clean: np.ndarray, camera: CameraConfig) -> np.ndarray:
    return render_camera(torch.from_numpy(clean)[None, None], camera, (0.2, 0.1, 0.1), [1])[0, 0].numpy()


@pytest.mark.parametrize("photons", [60.0, 100.0, 300.0])
def test_the_line_of_a_camera_is_recovered(clean: np.ndarray, photons: float) -> None:
    camera = CameraConfig(photons=photons, read_noise_e=4.0, background=0.2)
    estimate = estimate_noise(record(clean, camera))
    slope = 1.0 / camera.gain_e_per_adu
    variance = (camera.read_noise_e / camera.gain_e_per_adu) ** 2
    expected = camera.offset_adu + (clean + camera.background) * photons * 0.8 * slope
    assert estimate.is_measurable
    assert estimate.slope == pytest.approx(slope, rel=0.2)
    background = float(expected.min())
    planted = variance + slope * (background - camera.offset_adu)
    assert estimate.offset + estimate.slope * background == pytest.approx(planted, rel=0.05)
    mean = variance + slope * (float(expected.mean(dtype=np.float64)) - camera.offset_adu)
    assert estimate.mean_variance == pytest.approx(mean, rel=0.1)


def test_read_noise_alone_has_no_slope(clean: np.ndarray) -> None:
    noisy = 500.0 + 40.0 * clean + np.random.default_rng(0).normal(0.0, 3.0, clean.shape)
    estimate = estimate_noise(noisy)
    assert estimate.mean_sd == pytest.approx(3.0, rel=0.03)
    assert estimate.slope * 40.0 < 0.1 * estimate.mean_variance


def test_the_estimate_follows_the_units(clean: np.ndarray) -> None:
    noisy = record(clean, CameraConfig()).astype(np.float64)
    a, b = estimate_noise(noisy), estimate_noise(0.25 * noisy - 300.0)
    assert b.slope == pytest.approx(0.25 * a.slope, rel=1e-6)
    assert b.mean_variance == pytest.approx(a.mean_variance / 16.0, rel=1e-6)
    assert b.offset == pytest.approx(a.offset / 16.0 + 300.0 * b.slope, rel=1e-6)


def test_few_photons_and_hot_pixels_are_no_obstacle(clean: np.ndarray) -> None:
    dim = CameraConfig(photons=5.0, background=0.0, read_noise_e=0.0)
    expected = dim.offset_adu + clean * 5.0 * 0.8 * 2.0
    found = estimate_noise(record(clean, dim)).mean_variance
    assert found == pytest.approx(float(np.mean((record(clean, dim) - expected) ** 2)), rel=0.1)
    hot = CameraConfig(hot_pixel_share=0.001, hot_pixel_e=2000.0)
    plain = estimate_noise(record(clean, CameraConfig())).mean_variance
    assert estimate_noise(record(clean, hot)).mean_variance == pytest.approx(plain, rel=0.15)


def test_large_volumes_are_measured_in_runs(clean: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    noisy = 20.0 * clean + np.random.default_rng(0).normal(0.0, 3.0, clean.shape)
    whole = estimate_noise(noisy)
    monkeypatch.setattr("napari_vqldm.metrics.noise._MAX_VOXELS", noisy.size // 2)
    assert estimate_noise(noisy).mean_sd == pytest.approx(3.0, rel=0.05)
    assert estimate_noise(noisy).mean_sd != whole.mean_sd


def test_thin_stacks_are_measured_in_their_planes(clean: np.ndarray) -> None:
    noisy = 100.0 + 20.0 * clean[:2] + np.random.default_rng(0).normal(0.0, 5.0, clean[:2].shape)
    assert estimate_noise(noisy).mean_sd == pytest.approx(5.0, rel=0.05)


def test_volumes_without_noise_say_why(clean: np.ndarray) -> None:
    noisy = record(clean, CameraConfig())
    reasons = {
        "structure": clean,
        "filter": ndimage.gaussian_filter(noisy, 0.6),
        "constant": np.full((8, 16, 16), 7.0),
        "too small": noisy[:, :4, :4],
    }
    for words, volume in reasons.items():
        estimate = estimate_noise(volume)
        assert not estimate.is_measurable and estimate.mean_variance == 0.0
        assert words in str(estimate.reason)


def test_the_mean_of_the_residual_is_the_mean_that_belongs_to_it() -> None:
    """Under variance = a + b x the squared residual of a point of noise is the local mean of the variance."""
    variance = np.random.default_rng(0).uniform(1.0, 5.0, (5, 5, 5))
    kernel = np.array([1.0, -2.0, 1.0]) / np.sqrt(6.0)
    weights = np.einsum("i,j,k->ijk", kernel, kernel, kernel) ** 2
    assert local_mean(variance)[2, 2, 2] == pytest.approx(float(np.sum(weights * variance[1:4, 1:4, 1:4])))


def test_what_is_no_volume_is_refused() -> None:
    with pytest.raises(ShapeError, match="Z, Y, X"):
        estimate_noise(np.zeros((4, 4)))
    with pytest.raises(VolumeError, match="finite"):
        estimate_noise(np.full((8, 16, 16), np.nan))


@pytest.mark.parametrize("shape", [(2, 40, 40), (3, 24, 24), (31, 40, 52), (60, 64, 64)])
def test_parts_change_no_bit(monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int, int]) -> None:
    """Filters and classes go through a volume part by part: fresh noise of `uncertainty` hangs on every bit."""
    rate = np.full(shape, 20.0)
    rate[:, ::9] += 60.0
    volume = np.random.default_rng(0).poisson(rate).astype(np.float32)
    monkeypatch.setattr(noise, "_MAX_VOXELS", 2**17)  # the last one in runs of planes
    found = []
    for size in (2**30, 2**12):
        monkeypatch.setattr(noise, "_PART", size)
        found.append(estimate_noise(volume))
    assert found[0].is_measurable and found[0] == found[1]
