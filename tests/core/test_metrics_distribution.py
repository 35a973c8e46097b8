import numpy as np
import pytest
from scipy import ndimage

from napari_vqldm.errors import ShapeError, VolumeError
from napari_vqldm.metrics import distribution

VOXEL = (0.2, 0.1, 0.1)


def noise_set(seed, count=6, shape=(8, 64, 64), smooth=0.8):
    rng = np.random.default_rng(seed)
    return [ndimage.gaussian_filter(rng.normal(size=shape), smooth) for _ in range(count)]


def test_a_wave_peaks_at_its_own_frequency():
    x = np.arange(128) * 0.1
    wave = np.broadcast_to(np.sin(2 * np.pi * 1.25 * x), (8, 128, 128))
    spectrum = distribution.lateral_spectrum([wave], VOXEL)
    assert spectrum.frequency_per_um[np.argmax(spectrum.power)] == pytest.approx(1.25, abs=0.05)


def test_rings_stay_inside_the_band_and_below_nyquist():
    fine = distribution.lateral_spectrum(noise_set(0, 1), VOXEL).frequency_per_um
    coarse = distribution.lateral_spectrum(noise_set(0, 1), (0.4, 0.2, 0.2)).frequency_per_um
    assert fine.min() >= 0.2 and fine.max() == pytest.approx(5.0)
    assert coarse.max() == pytest.approx(2.5)


def test_the_spectrum_does_not_depend_on_the_mean_or_on_lateral_turns():
    volume = noise_set(1, 1)[0]
    plain = distribution.lateral_spectrum([volume], VOXEL).power
    assert np.allclose(distribution.lateral_spectrum([volume + 100.0], VOXEL).power, plain)
    assert np.allclose(distribution.lateral_spectrum([np.rot90(volume, 1, (1, 2))], VOXEL).power, plain)


def test_equal_sets_have_no_distance_and_a_factor_two_is_six_decibel():
    volumes = noise_set(2)
    spectrum = distribution.lateral_spectrum(volumes, VOXEL)
    double = distribution.lateral_spectrum([2 * v for v in volumes], VOXEL)
    assert distribution.spectrum_distance_db(spectrum, spectrum) == 0.0
    assert distribution.spectrum_distance_db(double, spectrum) == pytest.approx(20 * np.log10(2))


def test_blur_is_farther_than_another_draw():
    reference, other = (distribution.lateral_spectrum(noise_set(s, 12), VOXEL) for s in (3, 4))
    blurred = distribution.lateral_spectrum([ndimage.gaussian_filter(v, 0.5) for v in noise_set(4, 12)], VOXEL)
    floor = distribution.spectrum_distance_db(other, reference)
    assert distribution.spectrum_distance_db(blurred, reference) > 3 * floor


def test_spectra_of_constant_volumes_or_other_rings_are_refused():
    spectrum = distribution.lateral_spectrum(noise_set(0, 1), VOXEL)
    with pytest.raises(ShapeError, match="same rings"):
        distribution.spectrum_distance_db(distribution.lateral_spectrum(noise_set(0, 1), (0.2, 0.2, 0.2)), spectrum)
    with pytest.raises(VolumeError, match="no spectrum"):
        distribution.spectrum_distance_db(distribution.lateral_spectrum([np.ones((8, 64, 64))], VOXEL), spectrum)


def test_wasserstein_is_zero_for_equal_sets_and_the_shift_in_units_of_the_deviation():
    volumes = noise_set(5)
    assert distribution.intensity_wasserstein(volumes, volumes) == 0.0
    spread = float(np.std(np.stack(volumes)))
    shifted = [v + 0.5 * spread for v in volumes]
    assert distribution.intensity_wasserstein(shifted, volumes) == pytest.approx(0.5, rel=1e-3)


def test_wasserstein_agrees_with_scipy_for_sets_of_unequal_size():
    from scipy.stats import wasserstein_distance

    a, b = noise_set(6, 3), [1.3 * v for v in noise_set(7, 5)]
    exact = wasserstein_distance(np.ravel(a), np.ravel(b)) / np.std(np.stack(b))
    assert distribution.intensity_wasserstein(a, b) == pytest.approx(exact, rel=1e-3)


def test_wasserstein_refuses_empty_and_constant_references():
    with pytest.raises(ShapeError, match="two sets"):
        distribution.intensity_wasserstein([], noise_set(0, 1))
    with pytest.raises(VolumeError, match="vary"):
        distribution.intensity_wasserstein(noise_set(0, 1), [np.ones((8, 8, 8))])


def test_diversity_is_one_for_unrelated_volumes_and_zero_for_copies():
    volumes = noise_set(8)
    assert distribution.diversity(volumes) == pytest.approx(1.0, abs=0.05)
    assert distribution.diversity([volumes[0]] * 4) == pytest.approx(0.0, abs=1e-5)
    half = distribution.diversity([volumes[0], volumes[0], volumes[1], volumes[1]])
    assert half == pytest.approx(2 / 3, abs=0.05)  # 2 of 6 pairs are copies


def test_diversity_sees_a_mode_that_hides_behind_voxel_noise():
    rng = np.random.default_rng(9)
    mode = 3 * ndimage.gaussian_filter(rng.normal(size=(8, 64, 64)), 2.0)
    repeated = [mode + rng.normal(size=mode.shape) * 0.3 for _ in range(5)]
    assert distribution.diversity(repeated) < 0.5


def test_diversity_needs_two_volumes_of_one_shape():
    with pytest.raises(ShapeError, match="at least 2"):
        distribution.diversity(noise_set(0, 1))
    with pytest.raises(ShapeError, match="one shape"):
        distribution.diversity([np.zeros((8, 8, 8)), np.zeros((8, 8, 9))])
