import numpy as np
import pytest
import torch
from scipy import ndimage

from napari_vqldm.errors import ShapeError, VolumeError
from napari_vqldm.metrics import degradations
from napari_vqldm.metrics.distribution import axial_spectrum, lateral_spectrum

VOXEL = (0.2, 0.1, 0.1)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def volumes():
    return torch.rand((3, 1, 12, 24, 20), generator=generator(5))


def power(volumes):
    return torch.fft.rfftn(volumes.double(), dim=(2, 3, 4)).abs()


def test_blur_is_a_gaussian_of_that_many_micrometres():
    point = torch.zeros((1, 1, 41, 41, 41))
    point[0, 0, 20, 20, 20] = 1.0
    result = degradations.blur(point, 0.3, VOXEL)[0, 0].double()
    assert result.sum() == pytest.approx(1.0, abs=1e-5)
    place = torch.arange(41) - 20
    for axis, size in enumerate(VOXEL):
        profile = result.sum(dim=[a for a in range(3) if a != axis])
        assert ((profile * place**2).sum().sqrt() * size).item() == pytest.approx(0.3, rel=1e-3)


def test_blur_agrees_with_scipy_away_from_the_faces(volumes):
    found = degradations.blur(volumes, 0.1, VOXEL)[1, 0, 3:-3, 5:-5, 5:-5].numpy()
    expected = ndimage.gaussian_filter(volumes[1, 0].numpy(), (0.5, 1.0, 1.0), truncate=6)[3:-3, 5:-5, 5:-5]
    assert np.allclose(found, expected, atol=2e-3)


def test_each_volume_has_its_own_strength_and_zero_is_nothing(volumes):
    strengths = torch.tensor([0.0, 0.1, 0.3])
    found = degradations.blur(volumes, strengths, VOXEL)
    assert torch.allclose(found[0], volumes[0], atol=1e-6)
    for i in (1, 2):
        assert torch.allclose(found[i : i + 1], degradations.blur(volumes[i : i + 1], float(strengths[i]), VOXEL))
    assert torch.allclose(degradations.phase_scramble(volumes, 0.0, generator()), volumes, atol=1e-5)
    assert torch.equal(degradations.add_haze(volumes, 0.0, generator(), VOXEL), volumes)
    assert torch.allclose(degradations.blur(torch.full((1, 1, 6, 9, 9), 3.0), 0.5, VOXEL), torch.tensor(3.0))


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_scrambling_keeps_power_and_mean_and_loses_the_image(volumes, share):
    found = degradations.phase_scramble(volumes, share, generator(1))
    assert torch.allclose(power(found), power(volumes), rtol=1e-3, atol=1e-3)
    assert torch.allclose(found.mean((2, 3, 4)), volumes.mean((2, 3, 4)), atol=1e-6)
    rows = torch.stack([found[0].flatten(), volumes[0].flatten()])
    correlation = torch.corrcoef(rows)[0, 1].item()
    # The mean cosine of share * angle, angle uniform in (-pi, pi), is sin(pi share) / (pi share).
    assert correlation == pytest.approx(np.sinc(share), abs=0.06)


def test_haze_is_smooth_and_as_strong_as_asked(volumes):
    dark = torch.zeros((4, 1, 32, 128, 128))
    haze = degradations.add_haze(dark, 0.4, generator(2), VOXEL)
    assert haze.min() >= 0 and haze.max() <= 0.4 and haze.max() > 0.25
    assert haze.diff(dim=4).abs().max() < 0.4 * VOXEL[2] / 2.0  # of the whole range at most per half correlation length
    assert haze.std() > 0.02


def test_blank_and_noise_keep_mean_or_spread_and_nothing_else(volumes):
    flat = degradations.blank(volumes)
    assert flat.std((2, 3, 4)).max() < 1e-6
    assert torch.allclose(flat[:, 0, 0, 0, 0], volumes.mean((1, 2, 3, 4)), atol=1e-6)
    noise = degradations.noise_only(volumes, generator(3))
    assert torch.allclose(noise.std((2, 3, 4)), volumes.std((2, 3, 4)), rtol=0.05)
    assert abs(torch.corrcoef(torch.stack([noise[0].flatten(), volumes[0].flatten()]))[0, 1]) < 0.06


def test_duplicates_repeat_each_tenth():
    rows = torch.arange(40)[:, None]
    found = degradations.duplicate(rows, 10)
    assert found.shape == rows.shape
    assert found[:, 0].unique().tolist() == [0, 10, 20, 30]
    with pytest.raises(ShapeError, match="copies"):
        degradations.duplicate(rows[:3], 10)


def test_gain_multiplies(volumes):
    assert torch.equal(degradations.scale_intensity(volumes, 1.0), volumes)
    assert torch.allclose(degradations.scale_intensity(volumes, torch.tensor([1.0, 2.0, 0.5]))[1], 2 * volumes[1])


def test_nothing_is_changed_in_place_and_misuse_is_refused(volumes):
    before = volumes.clone()
    degradations.blur(volumes, 0.2, VOXEL)
    degradations.phase_scramble(volumes, 0.5, generator())
    degradations.add_haze(volumes, 0.5, generator(), VOXEL)
    degradations.blank(volumes)
    assert torch.equal(volumes, before)
    with pytest.raises(ShapeError, match="B, 1"):
        degradations.blur(volumes[0], 0.2, VOXEL)
    with pytest.raises(ShapeError, match="one strength per volume"):
        degradations.blur(volumes, torch.zeros(2), VOXEL)
    with pytest.raises(VolumeError, match="0 or more"):
        degradations.blur(volumes, -1.0, VOXEL)


def test_the_axial_spectrum_finds_a_wave_along_z_and_ignores_lateral_ones():
    z, x = np.arange(64) * 0.2, np.arange(64) * 0.1
    along = np.broadcast_to(np.sin(2 * np.pi * 1.25 * z)[:, None, None], (64, 16, 64))
    spectrum = axial_spectrum([along], VOXEL)
    assert spectrum.frequency_per_um[np.argmax(spectrum.power)] == pytest.approx(1.25, abs=0.05)
    assert spectrum.frequency_per_um.max() == pytest.approx(2.5) and spectrum.frequency_per_um.min() >= 0.2
    across = np.broadcast_to(np.sin(2 * np.pi * 1.25 * x), (64, 16, 64))
    assert axial_spectrum([across], VOXEL).power.max() < 1e-3 * spectrum.power.max()


def test_axial_blur_shows_in_the_axial_spectrum_by_the_transfer_function_of_the_gaussian():
    rng = np.random.default_rng(0)
    noise = [rng.normal(size=(64, 48, 48)) for _ in range(3)]
    blurred = [ndimage.gaussian_filter1d(v, 1.0, axis=0, mode="wrap", truncate=6) for v in noise]
    plain, after = axial_spectrum(noise, VOXEL), axial_spectrum(blurred, VOXEL)
    expected = np.exp(-((2 * np.pi * plain.frequency_per_um * 0.2) ** 2))  # squared transfer function, sigma 0.2 um
    low = plain.frequency_per_um < 1.2
    assert np.allclose((after.power / plain.power)[low], expected[low], rtol=0.15)
    lateral = lateral_spectrum(blurred, VOXEL).power / lateral_spectrum(noise, VOXEL).power
    assert np.ptp(lateral) < 0.6  # no lateral shape


def test_the_axial_spectrum_refuses_thin_stacks():
    with pytest.raises(ShapeError, match="axial"):
        axial_spectrum([np.zeros((1, 32, 32))], VOXEL)
