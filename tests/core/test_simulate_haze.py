"""Haze of the wanted level and correlation, dark nuclei, light that fades; seen by the camera and not in `clean`."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_vqldm.config import CameraConfig, HazeConfig, IlluminationConfig, SimulationConfig, validate
from napari_vqldm.errors import ConfigError
from napari_vqldm.simulate import Simulator
from napari_vqldm.simulate.cell import Cell, Ellipsoid
from napari_vqldm.simulate.draws import CAMERA, integer_seed
from napari_vqldm.simulate.haze import haze, light, smooth_field
from napari_vqldm.simulation import simulate

VOXEL = (0.2, 0.1, 0.1)
SMALL = SimulationConfig(shape=(8, 32, 32), photons=(1e5, 1e5))
HAZY = SMALL.model_copy(update={"haze": HazeConfig(level=(0.1, 0.4))})


@pytest.mark.parametrize("correlation", [2.0, 5.0])
def test_the_correlation_length_is_recovered(correlation: float) -> None:
    """From products of neighbours of a known mean (0), over many fields: no window is large enough by itself."""
    distances = np.array([5, 10, 20, 40])  # voxels of 0.25 um along y; 1.25 to 10 um
    products, squares = np.zeros(4), 0.0
    for seed in range(60):
        field = smooth_field((1, 96, 96), (0.25, 0.25, 0.25), correlation, np.random.default_rng(seed))[0]
        squares += float((field.astype(np.float64) ** 2).mean()) / 60
        for i, d in enumerate(distances):
            products[i] += float((field[d:] * field[:-d]).mean()) / 60
    assert squares == pytest.approx(1.0, abs=0.12)
    expected = np.exp(-((0.25 * distances / correlation) ** 2))
    np.testing.assert_allclose(products / squares, expected, atol=0.1)
    first_below = np.interp(-np.exp(-1.0), -products / squares, 0.25 * distances)
    assert first_below == pytest.approx(correlation, rel=0.15)


def test_axes_are_alike_and_values_are_gaussian() -> None:
    fields = np.stack([smooth_field((24, 24, 24), (0.5, 0.5, 0.5), 2.0, np.random.default_rng(s)) for s in range(40)])
    along = [float(np.mean(np.delete(fields, [0, 1], a) * np.delete(fields, [-1, -2], a))) for a in (1, 2, 3)]
    np.testing.assert_allclose(along, np.exp(-((1.0 / 2.0) ** 2)) * np.mean(fields**2), rtol=0.05)
    assert float(np.mean(fields**4) / np.mean(fields**2) ** 2) == pytest.approx(3.0, abs=0.35)


def test_the_field_is_a_function_of_position_and_not_of_the_grid() -> None:
    coarse = smooth_field((6, 20, 20), (0.6, 0.3, 0.3), 3.0, np.random.default_rng(4))
    fine = smooth_field((18, 60, 66), (0.2, 0.1, 0.1), 3.0, np.random.default_rng(4))
    np.testing.assert_allclose(coarse, fine[1::3, 1::3, 1:60:3], atol=1e-4)


def test_the_mean_is_the_level_and_contrast_is_that_of_the_ensemble() -> None:
    fields = [haze((16, 64, 64), (0.5, 0.5, 0.5), 0.2, 2.0, 0.4, np.random.default_rng(s)) for s in range(12)]
    for field in fields:
        assert field.mean(dtype=np.float64) == pytest.approx(0.2, rel=1e-4) and field.min() > 0.0
    assert float(np.mean([f.std() / f.mean() for f in fields])) == pytest.approx(0.4, rel=0.15)


def test_the_nucleus_is_dark_and_nothing_is_outside_the_cell() -> None:
    shape = (16, 64, 64)
    cell = Cell(
        Ellipsoid.upright((4.0, 16.0, 16.0), (4.0, 14.0, 14.0)), Ellipsoid.upright((4.0, 16.0, 16.0), (2.5, 6.0, 6.0))
    )
    field = haze(shape, (0.5, 0.5, 0.5), 0.3, 3.0, 0.0, np.random.default_rng(0), cell=cell, nucleus=0.25)
    z, y, x = np.meshgrid(*(0.5 * (np.arange(n) + 0.5) for n in shape), indexing="ij")
    radius = np.hypot(y - 16.0, x - 16.0)
    in_nucleus = ((z - 4.0) / 2.5) ** 2 + (radius / 6.0) ** 2 < 0.25
    in_cytosol = (np.abs(z - 4.0) < 0.6) & (radius > 8.5) & (radius < 11.5)
    outside = radius > 16.5
    assert field[in_cytosol].mean() == pytest.approx(0.3, rel=0.02)
    assert field[in_nucleus].mean() == pytest.approx(0.25 * 0.3, rel=0.1)
    assert field[outside].max() < 0.01
    nowhere = Cell(Ellipsoid.upright((-900.0, 0.0, 0.0), (1.0, 1.0, 1.0)), None)
    assert not haze((4, 4, 4), VOXEL, 0.3, 3.0, 0.3, np.random.default_rng(0), cell=nowhere).any()


def test_light_fades_linearly_in_z_and_quadratically_to_the_corners() -> None:
    even = light((9, 21, 41), 0.0, 0.0)
    assert (even == 1.0).all()
    faded = light((9, 21, 41), 0.3, 0.15)
    assert faded[0, 10, 20] == 1.0
    assert faded[8, 10, 20] == pytest.approx(0.7) and faded[4, 10, 20] == pytest.approx(0.85)
    for corner in ((0, 0), (0, 40), (20, 0), (20, 40)):
        assert faded[0][corner] == pytest.approx(0.85)
    # The corner is hypot(10, 20) voxels away; a voxel at half that distance loses a quarter as much.
    assert 1.0 - faded[0, 15, 30] == pytest.approx(0.15 / 4, rel=1e-3)
    with pytest.raises(ConfigError, match="bleaching: expected a share"):
        light((4, 4, 4), 1.0, 0.0)


def test_the_camera_sees_haze_and_clean_does_not() -> None:
    plain, hazy = Simulator(SMALL).sample(5, range(2)), Simulator(HAZY).sample(5, range(2))
    assert torch.equal(plain.clean, hazy.clean)
    assert hazy.noisy is not None and plain.noisy is not None
    for noisy, clean, p, before in zip(hazy.noisy, hazy.clean, hazy.parameters, plain.parameters, strict=True):
        assert 0.1 <= p.haze_level <= 0.4 and 2.0 <= p.haze_correlation_um <= 5.0
        assert p.photons == before.photons and p.background == before.background and before.haze_level == 0.0
        assert float((noisy - clean).mean()) == pytest.approx(p.haze_level, rel=0.02)


def test_bleaching_and_vignetting_dim_filaments_and_spare_the_background() -> None:
    uneven = IlluminationConfig(bleaching=(0.3, 0.3), vignetting=(0.15, 0.15))
    config = SMALL.model_copy(update={"illumination": uneven, "photons": (1e7, 1e7), "background": (0.4, 0.4)})
    batch = Simulator(config).sample(6, [0])
    assert batch.noisy is not None and batch.parameters[0].bleaching == pytest.approx(0.3)
    clean, noisy = batch.clean[0, 0].numpy(), batch.noisy[0, 0].numpy()
    for plane in (0, 7):
        y, x = np.unravel_index(clean[plane].argmax(), (32, 32))
        away = ((y - 15.5) ** 2 + (x - 15.5) ** 2) / (2 * 15.5**2)
        expected = (1.0 - 0.3 * plane / 7) * (1.0 - 0.15 * away)
        assert noisy[plane, y, x] / clean[plane, y, x] == pytest.approx(expected, rel=0.01)


def test_a_given_camera_sees_the_haze_too() -> None:
    result = simulate(1, 5, HAZY, camera=CameraConfig(photons=1e6, background=0.0, read_noise_e=0.0, offset_adu=0.0))[0]
    assert result.noisy is not None
    units = result.noisy.data * 0.5 / (1e6 * 0.8)
    assert float((units - result.clean.data).mean()) == pytest.approx(result.parameters.haze_level, rel=0.02)


def test_volumes_without_the_new_options_keep_their_bits() -> None:
    """What the camera did when there was only a rate, one read noise, a gain and an offset."""
    config = SimulationConfig(shape=(8, 32, 32))
    batch = Simulator(config).sample(3, range(3))
    assert batch.noisy is not None
    for clean, noisy, p in zip(batch.clean, batch.noisy, batch.parameters, strict=True):
        generator = torch.Generator().manual_seed(integer_seed(3, p.index, CAMERA))
        rate = ((clean[None] + p.background) * (p.photons * 0.8)).clamp(min=0.0)[0]
        electrons = torch.poisson(rate, generator=generator)
        electrons += torch.randn(electrons.shape, generator=generator) * 1.5
        counts = 100.0 + electrons / 0.5
        assert torch.equal(noisy, (counts - 100.0) * 0.5 / (0.8 * p.photons) - p.background)
    scenes = [Simulator(config).scene(3, 0)]
    assert Simulator(config).expected(batch.clean[:1], scenes).data_ptr() == batch.clean.data_ptr()


@pytest.mark.parametrize(
    "bad",
    [
        {"haze": {"level": (0.4, 0.1)}},
        {"haze": {"correlation_um": (0.0, 5.0)}},
        {"illumination": {"bleaching": (0.0, 1.0)}},
        {"illumination": {"vignetting": (-0.1, 0.1)}},
    ],
)
def test_impossible_light_is_refused(bad: dict[str, dict[str, tuple[float, float]]]) -> None:
    name = next(iter(next(iter(bad.values()))))
    with pytest.raises(ConfigError, match=name):
        validate(SimulationConfig, bad)
