"""Fourier correlations against signals whose band and signal-to-noise ratio are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import fft

from napari_vqldm.errors import ShapeError, VolumeError
from napari_vqldm.metrics.frc import Cutoffs, axial_fsc, cutoff_ratios, cutoffs_per_um, lateral_frc

VOXEL = (0.2, 0.1, 0.1)
SHAPE = (32, 64, 64)
RING, SHELL = 1 / 6.4, 1 / 6.4  # widths, cycles/um


def white(seed, shape=SHAPE):
    return np.random.default_rng(seed).normal(size=shape)


def frequencies(shape=SHAPE, voxel=VOXEL):
    """|kz| and lateral frequency, cycles/um."""
    z, y, x = (fft.fftfreq(n, s) for n, s in zip(shape, voxel, strict=True))
    return np.broadcast_to(np.abs(z)[:, None, None], shape), np.broadcast_to(np.hypot(y[:, None], x), shape)


def filtered(volume, gain):
    return fft.ifftn(fft.fftn(volume) * gain).real


def test_equal_volumes_agree_up_to_the_nyquist_frequency():
    volume = white(0)
    for curve, nyquist in ((lateral_frc(volume, volume, VOXEL), 5.0), (axial_fsc(volume, volume, VOXEL), 2.5)):
        np.testing.assert_allclose(curve.correlation, 1.0, atol=1e-12)
        assert curve.frequency_per_um[-1] == pytest.approx(nyquist)
        assert curve.cutoff_per_um() == nyquist
    inverted = lateral_frc(-volume, volume, VOXEL)
    np.testing.assert_allclose(inverted.correlation, -1.0, atol=1e-12)
    assert inverted.cutoff_per_um() == 0.0


def test_unrelated_noise_scatters_around_zero_as_predicted_and_has_no_cutoff():
    curves = [[f(white(i), white(100 + i), VOXEL) for i in range(24)] for f in (lateral_frc, axial_fsc)]
    for family in curves:
        scaled = np.array([c.correlation[3:] * np.sqrt(c.samples[3:]) for c in family])  # fewer samples: not Gaussian
        assert abs(scaled.mean()) < 4 / np.sqrt(scaled.size)
        assert scaled.std() == pytest.approx(1.0, abs=0.12)
        assert np.mean([c.cutoff_per_um() > 0 for c in family]) <= 0.1


@pytest.mark.parametrize("band", [1.0, 2.2, 3.7])
def test_lateral_cutoff_is_the_edge_of_the_common_band(band):
    common = filtered(white(0), frequencies()[1] <= band)
    a, b = common + 0.3 * white(1), common + 0.3 * white(2)
    curve = lateral_frc(a, b, VOXEL)
    assert curve.cutoff_per_um() == pytest.approx(band, abs=2 * RING)
    assert curve.correlation[curve.frequency_per_um < band - 2 * RING].min() > 0.8
    assert abs(curve.correlation[curve.frequency_per_um > band + 2 * RING]).max() < 1 / 7


@pytest.mark.parametrize("band", [0.8, 1.4, 2.0])
def test_axial_cutoff_is_the_edge_of_the_common_band(band):
    axial, lateral = frequencies()
    common = filtered(white(0), np.hypot(axial, lateral) <= band)
    curve = axial_fsc(common + 0.3 * white(1), common + 0.3 * white(2), VOXEL)
    assert curve.cutoff_per_um() == pytest.approx(band, abs=2 * SHELL)


def test_lost_axial_detail_shows_along_z_and_not_in_the_rings():
    axial, _ = frequencies()
    truth = white(0)
    flat = filtered(truth, axial <= 1.0) + 0.3 * white(1)
    cutoffs = cutoffs_per_um(flat, truth, VOXEL)
    assert cutoffs.lateral == 5.0
    # On the surface of the cone of 30 degrees |k| is 15 % above |kz|.
    assert 1.0 - SHELL < cutoffs.axial < 1.0 / np.cos(np.deg2rad(30)) + 2 * SHELL


def test_correlation_is_that_of_the_signal_to_noise_ratio():
    signal, ratio = white(0), 0.5
    a, b = (signal + white(seed) / np.sqrt(ratio) for seed in (1, 2))
    two_images = lateral_frc(a, b, VOXEL)
    with_truth = lateral_frc(a, signal, VOXEL)
    high = two_images.frequency_per_um > 2
    assert two_images.correlation[high].mean() == pytest.approx(ratio / (1 + ratio), abs=0.01)
    assert with_truth.correlation[high].mean() == pytest.approx(np.sqrt(ratio / (1 + ratio)), abs=0.01)


def test_cutoff_of_a_blurred_copy_with_noise_follows_the_blur():
    truth = white(0)
    lateral = frequencies()[1]
    noise_sd = 0.02
    found, expected = [], []
    for sigma_um in (0.08, 0.11, 0.15, 0.22):
        blurred = filtered(truth, np.exp(-2 * (np.pi * lateral * sigma_um) ** 2)) + noise_sd * white(1)
        found.append(cutoffs_per_um(blurred, truth, VOXEL).lateral)
        # Against the truth 1/7 means a signal-to-noise power ratio of 1/48.
        expected.append(np.sqrt(np.log(48 / noise_sd**2)) / (2 * np.pi * sigma_um))
    assert found == sorted(found, reverse=True)
    assert expected[0] > 5.0 == found[0]  # beyond the Nyquist frequency
    np.testing.assert_allclose(found[1:], expected[1:], atol=1.5 * RING)


def test_a_blur_without_noise_loses_no_phase():
    truth = white(0)
    blurred = filtered(truth, np.exp(-2 * (np.pi * frequencies()[1] * 0.1) ** 2))
    assert cutoffs_per_um(blurred, truth, VOXEL).lateral == 5.0


def test_frequencies_scale_with_the_voxels_and_not_with_unit_or_offset():
    common = filtered(white(0), frequencies()[1] <= 2.2)
    a, b = common + 0.05 * white(1), common + 0.05 * white(2)
    one = lateral_frc(a, b, VOXEL)
    half = lateral_frc(900 + 40 * a, 3 * b - 7, (0.1, 0.05, 0.05))
    np.testing.assert_allclose(half.frequency_per_um, 2 * one.frequency_per_um)
    assert half.cutoff_per_um() == pytest.approx(2 * one.cutoff_per_um())


def test_sizes_may_be_odd_and_voxels_oblong():
    shape, voxel = (15, 33, 48), (0.3, 0.12, 0.09)
    common = filtered(white(0, shape), frequencies(shape, voxel)[1] <= 2.0)
    a, b = common + 0.3 * white(1, shape), common + 0.3 * white(2, shape)
    curve = lateral_frc(a, b, voxel)
    assert curve.cutoff_per_um() == pytest.approx(2.0, abs=2 / (33 * 0.12))
    assert curve.nyquist_per_um == pytest.approx(0.5 / 0.12)
    assert lateral_frc(a, a, voxel).cutoff_per_um() == pytest.approx(0.5 / 0.12)
    assert axial_fsc(a, a, voxel).cutoff_per_um() == pytest.approx(0.5 / 0.3)


def test_ratios_are_one_for_the_input_itself_above_for_less_and_below_for_more_noise():
    axial, lateral = frequencies()
    clean = filtered(white(0), np.exp(-2 * np.pi**2 * ((axial * 0.2) ** 2 + (lateral * 0.1) ** 2)))
    noise = white(1)
    noisy = clean + 0.3 * noise
    assert cutoff_ratios(noisy, noisy, clean, VOXEL) == Cutoffs(1.0, 1.0)
    better = cutoff_ratios(clean + 0.1 * noise, noisy, clean, VOXEL)
    worse = cutoff_ratios(clean + 0.9 * noise, noisy, clean, VOXEL)
    assert min(better.lateral, better.axial) > 1.03
    assert max(worse.lateral, worse.axial) < 0.97


def test_constants_resolve_nothing_and_are_no_input():
    clean = white(0)
    blank = np.full(SHAPE, 3.0)
    assert cutoffs_per_um(blank, clean, VOXEL) == Cutoffs(0.0, 0.0)
    with pytest.raises(VolumeError, match="same scene"):
        cutoff_ratios(clean, blank, clean, VOXEL)


def test_small_and_unequal_volumes_are_refused():
    with pytest.raises(ShapeError, match="at least 6"):
        axial_fsc(white(0, (5, 16, 16)), white(0, (5, 16, 16)), VOXEL)
    with pytest.raises(ShapeError, match="one shape"):
        lateral_frc(white(0, (8, 16, 16)), white(0, (8, 16, 17)), VOXEL)
