"""Photon transfer, units there and back, and noise that belongs to a volume and not to its batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_vqldm.config import CameraConfig
from napari_vqldm.errors import ShapeError
from napari_vqldm.simulate import camera_in_filament_units, noisy_in_filament_units, render_camera

VOXEL = (0.2, 0.1, 0.1)
CAMERA = CameraConfig(photons=150.0, background=0.2)


def ramp() -> torch.Tensor:
    """Eight levels between 0 and 2, 8000 voxels each."""
    return torch.linspace(0.0, 2.0, 8)[None, None, :, None, None].expand(1, 1, 8, 80, 100).contiguous()


def test_photon_transfer_curve_gives_gain_read_noise_and_offset() -> None:
    camera = CAMERA.model_copy(update={"read_noise_e": 3.0, "gain_e_per_adu": 0.5, "offset_adu": 100.0})
    adu = render_camera(ramp(), camera, VOXEL, [1])[0, 0].double()
    mean, variance = adu.mean((1, 2)).numpy(), adu.var((1, 2)).numpy()
    slope, constant = np.polyfit(mean - 100.0, variance, 1)
    assert 1.0 / slope == pytest.approx(0.5, rel=0.05)  # electrons per ADU
    assert np.sqrt(constant) * 0.5 == pytest.approx(3.0, rel=0.25)
    expected = 100.0 + (np.linspace(0.0, 2.0, 8) + 0.2) * 150.0 * 0.8 / 0.5
    np.testing.assert_allclose(mean, expected, rtol=0.01)


def test_counts_come_back_as_filament_units_without_bias() -> None:
    clean = ramp()
    back = camera_in_filament_units(render_camera(clean, CAMERA, VOXEL, [2]), CAMERA)
    np.testing.assert_allclose(back.mean((0, 1, 3, 4)), clean.mean((0, 1, 3, 4)), atol=0.006)


def test_conversion_inverts_the_camera_equation_exactly() -> None:
    electrons = torch.tensor([0.0, 12.0, 96.0])
    adu = CAMERA.offset_adu + electrons / CAMERA.gain_e_per_adu
    expected = electrons / (0.8 * 150.0) - 0.2
    torch.testing.assert_close(camera_in_filament_units(adu, CAMERA), expected)


def test_noise_belongs_to_the_seed_and_not_to_the_batch() -> None:
    clean = torch.rand((3, 1, 4, 16, 16), generator=torch.Generator().manual_seed(0))
    together = render_camera(clean, CAMERA, VOXEL, [5, 6, 7])
    assert torch.equal(together[1:2], render_camera(clean[1:2], CAMERA, VOXEL, [6]))
    assert not torch.equal(together[1:2], render_camera(clean[1:2], CAMERA, VOXEL, [8]))
    with pytest.raises(ShapeError, match="one seed per volume"):
        render_camera(clean, CAMERA, VOXEL, [1])


def test_blur_spreads_by_its_sigma_in_um_and_keeps_the_light() -> None:
    point = torch.zeros((1, 1, 21, 41, 41))
    point[0, 0, 10, 20, 20] = 1000.0
    camera = CameraConfig(photons=1e6, background=0.0, read_noise_e=0.0, blur_um=0.2)
    image = camera_in_filament_units(render_camera(point, camera, VOXEL, [0]), camera)[0, 0].double().numpy()
    assert image.sum() == pytest.approx(1000.0, rel=1e-3)
    for axis, size in enumerate(VOXEL):
        profile = image.sum(axis=tuple(a for a in range(3) if a != axis))
        position = (np.arange(len(profile)) - len(profile) // 2) * size
        assert np.sqrt((profile * position**2).sum() / profile.sum()) == pytest.approx(0.2, rel=0.03)
    with pytest.raises(ShapeError, match="B, 1, D, H, W"):
        render_camera(torch.zeros((2, 4, 4)), camera, VOXEL, [0, 0])


def test_the_fast_path_has_the_statistics_of_the_camera() -> None:
    clean = ramp().repeat(2, 1, 1, 1, 1)
    photons, background = torch.tensor([150.0, 40.0]), torch.tensor([0.2, 0.05])
    fast = noisy_in_filament_units(clean, photons, background, CAMERA, torch.Generator().manual_seed(3))
    for i in range(2):
        camera = CAMERA.model_copy(update={"photons": float(photons[i]), "background": float(background[i])})
        slow = camera_in_filament_units(render_camera(clean[i : i + 1], camera, VOXEL, [4]), camera)
        np.testing.assert_allclose(fast[i].mean((0, 2, 3)), clean[i].mean((0, 2, 3)), atol=0.012)
        np.testing.assert_allclose(fast[i].std((0, 2, 3)), slow[0].std((0, 2, 3)), rtol=0.04)


def test_the_fast_path_is_a_function_of_its_generator() -> None:
    clean, one = torch.rand((2, 1, 4, 8, 8)), torch.ones(2)
    first, again, other = (
        noisy_in_filament_units(clean, 100 * one, 0.1 * one, CAMERA, torch.Generator().manual_seed(s))
        for s in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_without_read_noise_only_whole_electrons_arrive() -> None:
    camera = CAMERA.model_copy(update={"read_noise_e": 0.0})
    clean, one = torch.rand((1, 1, 4, 8, 8)), torch.ones(1)
    noisy = noisy_in_filament_units(clean, 100 * one, 0.1 * one, camera, torch.Generator().manual_seed(1))
    electrons = (noisy + 0.1) * 80.0
    torch.testing.assert_close(electrons, electrons.round(), atol=1e-3, rtol=0.0)
