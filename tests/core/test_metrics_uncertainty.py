"""Spread over draws against known noise; power beyond the optical cut-off against planted detail."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import fft, ndimage

from napari_vqldm.config import OpticsConfig, SimulationConfig
from napari_vqldm.errors import ConfigError, ShapeError, VolumeError
from napari_vqldm.metrics.uncertainty import (
    OpticalCutoff,
    detail_beyond_cutoff,
    energy_beyond_cutoff,
    optical_cutoff,
    voxel_spread,
)
from napari_vqldm.simulate import Simulator

VOXEL = (0.2, 0.08, 0.08)
SHAPE = (24, 64, 64)
WATER = OpticsConfig(modality="widefield", numerical_aperture=1.2, immersion_index=1.33)
CUTOFF = optical_cutoff(1.2, 0.6, 1.33)  # 4.0 and 1.26 cycles/um: inside the Nyquist frequencies 6.25 and 2.5


@pytest.fixture(scope="module")
def clean():
    config = SimulationConfig(shape=SHAPE, voxel_size_um=VOXEL, optics=WATER, psf_width_factor=(1.0, 1.0))
    return Simulator(config).sample(4, [0], noisy=False).clean[0, 0].numpy()


def band_noise(lateral, axial, seed=0):
    """White noise with lateral and axial frequencies inside (low, high), standard deviation 1."""
    z, y, x = (fft.fftfreq(n, s) for n, s in zip(SHAPE, VOXEL, strict=True))
    kr, kz = np.hypot(y[:, None], x), np.abs(z)[:, None, None]
    keep = (kr >= lateral[0]) & (kr < lateral[1]) & (kz >= axial[0]) & (kz < axial[1])
    noise = fft.ifftn(fft.fftn(np.random.default_rng(seed).normal(size=SHAPE)) * keep).real
    return noise / noise.std()


def test_spread_recovers_the_noise_of_each_voxel():
    rng = np.random.default_rng(0)
    truth, sd = rng.uniform(100, 200, (4, 6, 8)), rng.uniform(0.5, 5.0, (4, 6, 8))
    spread = voxel_spread(truth + sd * rng.normal(size=truth.shape) for _ in range(400))  # a generator
    assert spread.num_draws == 400
    # 3.5 % is one standard error of a standard deviation from 400 draws; 192 voxels stay below 4.5 of them.
    np.testing.assert_allclose(spread.standard_deviation, sd, rtol=0.16)
    assert np.mean(spread.standard_deviation / sd) == pytest.approx(1.0, abs=0.01)
    assert np.max(np.abs(spread.mean - truth) / sd) < 4.5 / 20


def test_spread_is_exact_on_a_large_offset():
    draws = 1e6 + np.random.default_rng(1).normal(size=(5, 3, 4, 5))
    spread = voxel_spread(draws)
    np.testing.assert_allclose(spread.standard_deviation, draws.std(axis=0, ddof=1), rtol=1e-6)
    assert not voxel_spread([draws[0]] * 3).standard_deviation.any()


def test_spread_of_few_draws_reads_low_as_documented():
    rng = np.random.default_rng(2)
    for k, expected in ((2, 0.80), (8, 0.965)):
        spread = voxel_spread(rng.normal(size=(k, 20, 40, 40)))
        assert spread.standard_deviation.mean() == pytest.approx(expected, abs=0.01)


def test_spread_needs_two_draws_of_one_shape():
    for draws in ([], [np.zeros((2, 3, 4))]):
        with pytest.raises(ShapeError, match="at least 2"):
            voxel_spread(draws)
    with pytest.raises(ShapeError, match="one shape"):
        voxel_spread([np.zeros((2, 3, 4)), np.zeros((2, 3, 5))])


def test_cutoffs_of_known_objectives():
    oil = optical_cutoff(1.4, 0.5, 1.515)
    assert oil.lateral_per_um == pytest.approx(5.6)  # Abbe: 0.5 um / 2.8 = 0.179 um
    assert oil.axial_per_um == pytest.approx(1.872, abs=1e-3)
    low = optical_cutoff(0.1, 0.5, 1.0)
    assert low.axial_per_um == pytest.approx(0.1**2 / (2 * 0.5), rel=0.005)  # paraxial: NA^2 / (2 n wavelength)
    confocal = optical_cutoff(1.4, 0.5, 1.515, excitation_wavelength_um=0.5)
    assert confocal == OpticalCutoff(2 * oil.lateral_per_um, 2 * oil.axial_per_um)
    for values in ((1.6, 0.5, 1.515), (0.0, 0.5, 1.0), (1.2, -0.5, 1.33)):
        with pytest.raises(ConfigError, match="numerical_aperture"):
            optical_cutoff(*values)


def test_simulated_microscopes_pass_nothing_beyond_their_cutoff(clean):
    result = energy_beyond_cutoff(clean, VOXEL, CUTOFF)
    assert result.observable_share > 0.5
    assert result.share < 1e-4
    # The cut-offs are the edges of what passes, not merely upper bounds: a little below them there is light.
    for lateral, axial, part in ((0.8, 1.0, "lateral_share"), (1.0, 0.8, "axial_share")):
        tighter = OpticalCutoff(lateral * CUTOFF.lateral_per_um, axial * CUTOFF.axial_per_um)
        assert getattr(energy_beyond_cutoff(clean, VOXEL, tighter), part) > 5 * getattr(result, part)


def test_a_confocal_microscope_passes_the_sum_of_both_cutoffs():
    optics = OpticsConfig(modality="confocal", numerical_aperture=0.8)
    config = SimulationConfig(
        shape=(32, 48, 48), voxel_size_um=(0.3, 0.08, 0.08), optics=optics, psf_width_factor=(1.0, 1.0)
    )
    volume = Simulator(config).sample(4, [0], noisy=False).clean[0, 0].numpy()
    emission, excitation = optics.emission_wavelength_um, optics.excitation_wavelength_um
    both = optical_cutoff(0.8, emission, optics.immersion_index, excitation)
    assert energy_beyond_cutoff(volume, config.voxel_size_um, both).share < 1e-5
    alone = optical_cutoff(0.8, emission, optics.immersion_index)
    assert energy_beyond_cutoff(volume, config.voxel_size_um, alone).share > 1e-3


@pytest.mark.parametrize(
    "lateral, axial, parts",
    [
        ((4.4, 6.0), (0.0, 0.9), (1.0, 0.0)),
        ((0.0, 3.6), (1.6, 2.6), (0.0, 1.0)),
        ((4.4, 6.0), (1.6, 2.6), (1.0, 1.0)),
    ],
)
@pytest.mark.parametrize("share", [0.002, 0.05, 0.3])
def test_planted_detail_is_found_with_its_share(clean, lateral, axial, parts, share):
    # Compared under the window that the measure uses, because a volume is not stationary.
    window = np.ones(())
    for n in SHAPE:
        window = window[..., None] * np.sin(np.pi * np.arange(1, n + 1) / (n + 1)) ** 2
    detail = band_noise(lateral, axial)
    own = np.sum(((clean - clean.mean()) * window) ** 2)
    detail *= np.sqrt(share / (1 - share) * own / np.sum((detail * window) ** 2))
    result = energy_beyond_cutoff(clean + detail, VOXEL, CUTOFF)
    assert result.share == pytest.approx(share, rel=0.05)
    assert result.lateral_share == pytest.approx(parts[0] * share, rel=0.05, abs=2e-3 * share + 1e-4)
    assert result.axial_share == pytest.approx(parts[1] * share, rel=0.05, abs=2e-3 * share + 1e-4)


def test_white_noise_scores_the_share_of_all_frequencies(clean):
    noise = np.random.default_rng(0).normal(size=SHAPE)
    result = energy_beyond_cutoff(noise, VOXEL, CUTOFF)
    assert result.share == pytest.approx(result.observable_share, abs=0.01)
    assert energy_beyond_cutoff(500 + 7 * noise, VOXEL, CUTOFF).share == pytest.approx(result.share)


def test_large_voxels_show_nothing_beyond_the_cutoff():
    result = energy_beyond_cutoff(np.random.default_rng(0).normal(size=SHAPE), (0.5, 0.2, 0.2), CUTOFF)
    assert result.observable_share == result.share == 0.0


def test_the_map_shows_where_detail_was_invented(clean):
    z, y, x = np.indices(SHAPE)
    patch = np.exp(-((z - 12) ** 2 + (y - 40) ** 2 + (x - 20) ** 2) / (2 * 3.0**2))
    invented = 0.5 * patch * np.cos(2 * np.pi * 5.5 * VOXEL[2] * x)  # 5.5 cycles/um along x
    found = detail_beyond_cutoff(clean + invented, VOXEL, CUTOFF)
    assert np.corrcoef(found.ravel(), invented.ravel())[0, 1] > 0.97
    assert np.sum(found**2) == pytest.approx(np.sum(invented**2), rel=0.05)
    assert abs(float(found.mean())) < 1e-6
    quiet = detail_beyond_cutoff(clean, VOXEL, CUTOFF)
    inner = (slice(3, -3), slice(6, -6), slice(6, -6))
    assert quiet[inner].std() < 0.01 * clean.std()


def test_blurring_removes_flagged_detail():
    noise = np.random.default_rng(0).normal(size=SHAPE)
    shares = [energy_beyond_cutoff(ndimage.gaussian_filter(noise, s), VOXEL, CUTOFF).share for s in (0, 0.5, 1.0, 2.0)]
    assert shares == sorted(shares, reverse=True) and shares[-1] < 0.05


def test_flat_volumes_have_no_power_to_place():
    with pytest.raises(VolumeError, match="not constant"):
        energy_beyond_cutoff(np.ones(SHAPE), VOXEL, CUTOFF)
    with pytest.raises(ShapeError, match=r"\(Z, Y, X\)"):
        detail_beyond_cutoff(np.ones((4, 4)), VOXEL, CUTOFF)
