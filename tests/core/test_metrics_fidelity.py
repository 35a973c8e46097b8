import math

import numpy as np
import pytest
from scipy import ndimage

from napari_vqldm.errors import ShapeError, VolumeError
from napari_vqldm.metrics import fidelity


def line_volume(seed=0, shape=(16, 32, 32)):
    rng = np.random.default_rng(seed)
    volume = np.zeros(shape)
    for _ in range(6):
        z, y = rng.integers(2, shape[0] - 2), rng.integers(2, shape[1] - 2)
        volume[z, y, :] += 1.0
    return (ndimage.gaussian_filter(volume, 1.0) * 2 * np.pi).astype(np.float32)


def test_psnr_of_a_known_error_over_a_known_range():
    reference = np.linspace(0.0, 1000.0, 1001).reshape(7, 11, 13)
    # The range from p0.1 to p99.9 is 998; an error of 9.98 everywhere is 1 % of it: 40 dB.
    assert fidelity.psnr_unit_range(reference + 9.98, reference) == pytest.approx(40.0, abs=1e-9)


def test_psnr_does_not_clip_and_does_not_change_with_unit_or_offset():
    rng = np.random.default_rng(0)
    reference, volume = rng.normal(size=(2, 8, 16, 16))
    volume[0, 0, 0] = 1e3  # an outlier far outside the range counts in full
    low, high = np.percentile(reference, (0.1, 99.9))
    expected = -10 * math.log10(np.mean((volume - reference) ** 2) / (high - low) ** 2)
    assert fidelity.psnr_unit_range(volume, reference) == pytest.approx(expected)
    assert fidelity.psnr_unit_range(7 * volume + 3, 7 * reference + 3) == pytest.approx(expected)


def test_psnr_of_equal_volumes_is_infinite():
    volume = line_volume()
    assert fidelity.psnr_unit_range(volume, volume) == math.inf


def test_psnr_refuses_a_constant_reference_and_unequal_shapes():
    with pytest.raises(VolumeError, match="not constant"):
        fidelity.psnr_unit_range(np.zeros((4, 4, 4)), np.ones((4, 4, 4)))
    with pytest.raises(ShapeError, match="one shape"):
        fidelity.psnr_unit_range(np.zeros((4, 4, 4)), np.zeros((4, 4, 5)))


def test_pearson_ignores_unit_and_offset_and_is_zero_for_a_constant():
    volume = line_volume()
    assert fidelity.pearson(5 * volume + 2, volume) == pytest.approx(1.0)
    assert fidelity.pearson(-volume, volume) == pytest.approx(-1.0)
    assert fidelity.pearson(np.ones_like(volume), volume) == 0.0


def test_no_constant_beats_the_blank_baseline():
    clean = line_volume()
    best = fidelity.psnr_unit_range(fidelity.blank_baseline(clean), clean)
    for offset in (-0.05, 0.05):
        assert fidelity.psnr_unit_range(fidelity.blank_baseline(clean) + offset, clean) < best


def test_pooling_keeps_constants_and_linear_ramps_in_place():
    assert np.allclose(fidelity.pooled_baseline(np.full((4, 16, 16), 3.0)), 3.0, atol=5e-3)
    ramp = np.broadcast_to(np.arange(64.0), (4, 64, 64))
    middle = slice(20, 44)  # a spline bends near the mirrored border
    assert np.allclose(fidelity.pooled_baseline(ramp)[:, :, middle], ramp[:, :, middle], atol=0.05)


def test_pooling_refuses_sizes_that_are_no_multiple():
    with pytest.raises(ShapeError, match="multiple"):
        fidelity.pooled_baseline(np.zeros((5, 16, 16)))


def test_baselines_are_ordered_blank_noisy_gaussian():
    clean = [line_volume(seed) for seed in range(4)]
    noisy = [c + 0.12 * np.random.default_rng(9 + i).normal(size=c.shape) for i, c in enumerate(clean)]
    sigma = fidelity.choose_gaussian_sigma(noisy[:2], clean[:2])
    assert sigma[1] == sigma[2]
    for n, c in zip(noisy[2:], clean[2:], strict=True):
        blank, raw, smooth = (
            fidelity.psnr_unit_range(v, c)
            for v in (fidelity.blank_baseline(c), n, fidelity.gaussian_baseline(n, sigma))
        )
        assert blank < raw < smooth


def test_the_chosen_sigma_grows_with_the_noise():
    clean = [line_volume(seed) for seed in range(2)]
    noise = np.random.default_rng(3).normal(size=clean[0].shape)
    little, much = (fidelity.choose_gaussian_sigma([c + s * noise for c in clean], clean) for s in (0.02, 0.5))
    assert sum(much) > sum(little)


def test_choosing_sigma_needs_pairs():
    with pytest.raises(ShapeError, match="at least one"):
        fidelity.choose_gaussian_sigma([], [])


def test_bootstrap_interval_covers_the_true_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    intervals = [fidelity.bootstrap_interval(rng.normal(1.0, 2.0, 40), resamples=400) for _ in range(120)]
    covered = np.mean([i.low <= 1.0 <= i.high for i in intervals])
    assert 0.87 <= covered <= 0.99
    assert all(i.low < i.value < i.high for i in intervals)


def test_bootstrap_interval_is_seeded_and_needs_values():
    values = [1.0, 2.0, 5.0]
    assert fidelity.bootstrap_interval(values) == fidelity.bootstrap_interval(values)
    with pytest.raises(ShapeError, match="at least one"):
        fidelity.bootstrap_interval([])


def test_noise_ceiling_is_that_of_the_noise():
    clean = line_volume(shape=(24, 48, 48))
    noise = np.random.default_rng(0).normal(size=clean.shape)
    for sd in (0.05, 0.2):
        noisy = clean + sd * noise
        low, high = np.percentile(noisy, (0.1, 99.9))
        expected = 20 * math.log10((high - low) / sd)
        assert fidelity.noise_ceiling_unit_range(clean, noisy, clean).ceiling == pytest.approx(expected, abs=0.05)


def test_gap_to_the_ceiling_tells_lost_structure_from_copied_noise():
    clean = line_volume(shape=(24, 48, 48))
    noise, other = np.random.default_rng(0).normal(size=(2, *clean.shape))
    noisy = clean + 0.1 * noise

    def gap(volume):
        return fidelity.noise_ceiling_unit_range(volume, noisy, clean).gap

    assert gap(clean) == 0.0
    assert gap(clean + 0.05 * noise) == pytest.approx(20 * math.log10(2), abs=1e-4)  # half of the noise copied
    assert gap(clean + 0.1 * other) == pytest.approx(-10 * math.log10(2), abs=0.1)  # as much error of its own
    assert gap(ndimage.gaussian_filter(clean, 3.0)) < -0.2
    assert gap(noisy) == math.inf
    scaled = fidelity.noise_ceiling_unit_range(9 * (clean + 0.1 * other) + 50, 9 * noisy + 50, 9 * clean + 50)
    assert scaled.gap == pytest.approx(gap(clean + 0.1 * other), abs=1e-4)


def test_an_input_without_noise_has_no_ceiling():
    clean = line_volume()
    with pytest.raises(VolumeError, match="no ceiling"):
        fidelity.noise_ceiling_unit_range(clean, clean, clean)
