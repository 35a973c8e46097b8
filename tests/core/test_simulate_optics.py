"""Widths of the computed point spread functions, and images that agree with them wherever a filament lies."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
import torch

from napari_vqldm.config import Float3, OpticsConfig
from napari_vqldm.errors import ConfigError, ShapeError
from napari_vqldm.simulate.optics import line_width_um, psf, reach_um
from napari_vqldm.simulate.render import Renderer, line_samples, splat

CONFOCAL = OpticsConfig()
VOXEL: Float3 = (0.2, 0.1, 0.1)
CPU = torch.device("cpu")


def width_at_half(profile: np.ndarray, step: float) -> float:
    above = np.flatnonzero(profile >= 0.5 * profile.max())
    first, last = above[0], above[-1]
    half = 0.5 * profile.max()
    left = first - (profile[first] - half) / (profile[first] - profile[first - 1])
    right = last + (profile[last] - half) / (profile[last] - profile[last + 1])
    return float(right - left) * step


@pytest.mark.parametrize(
    "optics, lateral, axial",
    [
        (CONFOCAL, 0.21, 0.48),
        (OpticsConfig(modality="widefield"), 0.24, 0.73),
        (OpticsConfig(modality="widefield", numerical_aperture=1.2, immersion_index=1.33), 0.28, 0.89),
        (OpticsConfig(modality="widefield", numerical_aperture=0.75, immersion_index=1.0), 0.43, 1.82),
    ],
    ids=["confocal oil", "widefield oil", "widefield water", "widefield air"],
)
def test_a_line_is_as_wide_as_independent_computations_say(optics: OpticsConfig, lateral: float, axial: float) -> None:
    step = 0.04
    kernel = psf(optics, (step, step, step), 1.0, (81, 41, 101)).sum(axis=2)  # a line along x
    assert width_at_half(kernel[40], step) == pytest.approx(lateral, rel=0.1)
    assert width_at_half(kernel[:, 20], step) == pytest.approx(axial, rel=0.1)
    assert line_width_um(optics) == pytest.approx((lateral, axial), rel=0.1)


def test_psf_is_symmetric_positive_and_scaled_to_a_line_of_height_one() -> None:
    kernel = psf(CONFOCAL, VOXEL, 1.0, (13, 21, 21))
    for axis in range(3):
        np.testing.assert_array_equal(kernel, np.flip(kernel, axis))
    np.testing.assert_array_equal(kernel, kernel.transpose(0, 2, 1))
    assert kernel.min() >= 0.0
    assert np.unravel_index(kernel.argmax(), kernel.shape) == (6, 10, 10)
    assert kernel[6, 10].sum() * VOXEL[2] == pytest.approx(1.0)


def test_the_width_factor_scales_all_lengths() -> None:
    wide = psf(CONFOCAL, (0.25, 0.125, 0.125), 1.25, (13, 21, 21))
    np.testing.assert_allclose(wide * 1.25, psf(CONFOCAL, VOXEL, 1.0, (13, 21, 21)), rtol=1e-9)
    assert line_width_um(CONFOCAL, 1.25)[0] == pytest.approx(1.25 * line_width_um(CONFOCAL)[0])


def test_a_smaller_pinhole_sections_better_and_confocal_beats_widefield() -> None:
    axial = [line_width_um(CONFOCAL.model_copy(update={"pinhole_airy": p}))[1] for p in (0.3, 1.0, 3.0)]
    assert axial[0] < axial[1] < axial[2] < line_width_um(OpticsConfig(modality="widefield"))[1]


def test_optics_refuse_the_impossible() -> None:
    with pytest.raises(ConfigError, match="below immersion_index"):
        line_width_um(OpticsConfig(numerical_aperture=1.4, immersion_index=1.33))
    with pytest.raises(ShapeError, match="odd number"):
        psf(CONFOCAL, VOXEL, 1.0, (12, 21, 21))


def margin_of(optics: OpticsConfig, voxel: Float3, factor: float) -> tuple[int, int, int]:
    z, y, x = (int(np.ceil(r / s)) for r, s in zip(reach_um(optics, factor), voxel, strict=True))
    return z, y, x


def straight(centre: np.ndarray, angle: float = 0.0) -> np.ndarray:
    direction = np.array([0.0, np.sin(np.radians(angle)), np.cos(np.radians(angle))])
    return np.asarray(centre + np.linspace(-9.0, 9.0, 181)[:, None] * direction)


@pytest.mark.parametrize("factor", [0.90625, 1.0, 1.25])
def test_one_in_plane_filament_peaks_at_one(factor: float) -> None:
    renderer = Renderer((16, 64, 64), CONFOCAL, margin_of(CONFOCAL, VOXEL, 1.25), CPU)
    line = straight(np.array([8.5, 32.5, 32.5]) * VOXEL)
    image = renderer.render([line], [1.0], VOXEL, factor).numpy()
    np.testing.assert_allclose(image[8, 32], 1.0, atol=1e-3)  # to the very faces: filaments go on outside
    assert image.max() == pytest.approx(1.0, abs=1e-3)
    brighter = renderer.render([line, line], [0.5, 1.2], VOXEL, factor).numpy()
    np.testing.assert_allclose(brighter, 1.7 * image, atol=2e-5)
    slanted = renderer.render([straight(np.array([8.5, 32.5, 32.5]) * VOXEL, 30.0)], [1.0], VOXEL, factor).numpy()
    assert slanted.max() == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("shift", [(0.0, 0.25), (0.0, 0.5), (0.5, 0.0), (0.5, 0.5)])
def test_the_image_follows_a_filament_within_a_voxel(shift: tuple[float, float]) -> None:
    fine = psf(CONFOCAL, (VOXEL[0] / 4, VOXEL[1] / 4, VOXEL[2]), 1.0, (8 * 4 + 1, 8 * 4 + 1, 25)).sum(axis=2) * VOXEL[2]
    renderer = Renderer((16, 32, 32), CONFOCAL, margin_of(CONFOCAL, VOXEL, 1.25), CPU)
    centre = np.array([8.5 + shift[0], 16.5 + shift[1], 16.5]) * VOXEL
    image = renderer.render([straight(centre)], [1.0], VOXEL, 1.0).numpy()[:, :, 16]
    rows, columns = np.arange(6, 11), np.arange(14, 19)
    z = 16 + np.rint(4 * (rows - 8 - shift[0])).astype(int)
    y = 16 + np.rint(4 * (columns - 16 - shift[1])).astype(int)
    np.testing.assert_allclose(image[np.ix_(rows, columns)], fine[np.ix_(z, y)], atol=0.025)


def test_a_point_in_the_center_of_a_voxel_gives_the_psf_itself() -> None:
    margin = margin_of(CONFOCAL, VOXEL, 1.0)
    renderer = Renderer((24, 48, 48), CONFOCAL, margin, CPU)
    centre = np.array([12.5, 24.5, 24.5]) * VOXEL
    point = centre + np.array([[0.0, 0.0, -1e-6], [0.0, 0.0, 1e-6]])
    image = renderer.render([point], [1.0 / 2e-6], VOXEL, 1.0).numpy()
    kernel = psf(CONFOCAL, VOXEL, 1.0, (2 * margin[0] + 1, 2 * margin[1] + 1, 2 * margin[2] + 1))
    patch = image[12 - 5 : 12 + 6, 24 - 6 : 24 + 7, 24 - 6 : 24 + 7]
    mz, my, mx = margin
    np.testing.assert_allclose(
        patch, kernel[mz - 5 : mz + 6, my - 6 : my + 7, mx - 6 : mx + 7], atol=2e-3 * kernel.max()
    )


@pytest.mark.parametrize("optics", [CONFOCAL, OpticsConfig(modality="widefield")], ids=["confocal", "widefield"])
def test_light_comes_in_from_outside_and_never_wraps_around(optics: OpticsConfig) -> None:
    renderer = Renderer((16, 48, 48), optics, margin_of(optics, VOXEL, 1.0), CPU)
    outside = straight(np.array([8.5, -0.5, 24.5]) * VOXEL)  # one voxel before the window along y
    along_y = renderer.render([outside], [1.0], VOXEL, 1.0).numpy().max(axis=(0, 2))
    assert along_y[0] > 0.2
    assert along_y[24] < 0.02
    assert along_y[-1] <= along_y[-10] + 1e-4  # no rise toward the far face
    above = straight(np.array([-1.5, 24.5, 24.5]) * VOXEL)  # two slices above it
    along_z = renderer.render([above], [1.0], VOXEL, 1.0).numpy().max(axis=(1, 2))
    assert along_z[0] > 0.1
    assert along_z[-1] <= along_z[-4] + 1e-4
    assert along_z[-1] < 0.2 * along_z[0]


def test_splat_keeps_the_light_and_its_center_of_mass() -> None:
    rng = np.random.default_rng(0)
    samples = np.concatenate([rng.uniform(0.0, 1.6, (500, 3)), rng.uniform(0.5, 2.0, (500, 1))], axis=1)
    grid = splat(torch.from_numpy(samples.astype(np.float32)), (0.2, 0.1, 0.1), (3, 3, 3), (14, 22, 22)).numpy()
    weight = samples[:, 3].sum()
    assert grid.sum() == pytest.approx(weight, rel=1e-5)
    for axis, size in enumerate((0.2, 0.1, 0.1)):
        position = (np.arange(grid.shape[axis]) - 3 + 0.5) * size
        mean = (grid.sum(axis=tuple(a for a in range(3) if a != axis)) * position).sum() / weight
        assert mean == pytest.approx((samples[:, axis] * samples[:, 3]).sum() / weight, abs=1e-4)
    off_grid = torch.tensor([[50.0, 0.5, 0.5, 1.0], [-9.0, 0.5, 0.5, 1.0]])
    assert splat(off_grid, (0.2, 0.1, 0.1), (3, 3, 3), (14, 22, 22)).abs().max() == 0.0


def test_samples_carry_brightness_times_length() -> None:
    line = np.array([[1.0, 1.0, 1.0], [1.0, 1.0, 1.13], [1.0, 1.2, 1.13]])
    samples = line_samples([line, line + 0.3], [1.0, 2.0], np.zeros(3), np.full(3, 3.0))
    assert samples[:, 3].sum() == pytest.approx(3.0 * 0.33, rel=1e-6)
    assert line_samples([], [], np.zeros(3), np.ones(3)).shape == (0, 4)


def test_transfer_functions_are_kept_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("napari_vqldm.simulate.render"), "_CACHED_TRANSFER_FUNCTIONS", 2)
    renderer = Renderer((4, 8, 8), CONFOCAL, (2, 4, 4), CPU)
    first = renderer.transfer_function(VOXEL, 1.0)
    assert renderer.transfer_function(VOXEL, 1.0) is first
    renderer.transfer_function(VOXEL, 1.1)
    renderer.transfer_function(VOXEL, 1.2)
    again = renderer.transfer_function(VOXEL, 1.0)
    assert again is not first
    assert torch.equal(again, first)
