"""Presets: valid, deterministic, and what their names say; spindles with a width fill it and leave old scenes alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from napari_vqldm.config import SimulationConfig, SpindleConfig, to_json, validate
from napari_vqldm.errors import ConfigError
from napari_vqldm.metrics.morphology import nematic_order, orientation_tensor
from napari_vqldm.simulate import Simulator, preset, tier
from napari_vqldm.simulate.presets import PRESETS
from napari_vqldm.simulate.simulator import Scene
from napari_vqldm.simulate.spindle import Arcs, draw_arcs
from napari_vqldm.simulate.tiers import TIERS
from napari_vqldm.simulation import simulate

REAL = os.environ.get("NAPARI_VQLDM_REAL_DATA", "")


def scene_of(name: str, index: int, **changes: object) -> Scene:
    return Simulator(preset(name).model_copy(update=changes)).scene(7, index)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_renders_the_same_bits_again(name: str) -> None:
    # A coarse grid of the same extent: the scene is the same, the image is quick.
    config = preset(name)
    coarse = tuple(max(2, n // 2) for n in config.shape)
    size = tuple(e * n / c for e, n, c in zip(config.voxel_size_um, config.shape, coarse, strict=True))
    config = config.model_copy(update={"shape": coarse, "voxel_size_um": size, "length_density_um_per_um3": (0.2, 0.3)})
    first, again = (Simulator(config).sample(3, [1]) for _ in range(2))
    assert first.noisy is not None and again.noisy is not None
    assert np.array_equal(first.noisy.numpy(), again.noisy.numpy()) and np.array_equal(first.clean, again.clean)
    assert np.isfinite(first.noisy.numpy()).all() and float(first.clean.max()) > 1.0
    assert float(first.noisy.mean()) > float(first.clean.mean())  # haze


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_survives_text_and_states_its_whole_mix(name: str) -> None:
    config = preset(name)
    assert validate(SimulationConfig, config.model_dump(mode="json")) == config
    assert sum(config.organisation.values()) == pytest.approx(1.0)
    assert config.cell.share == 1.0 and config.haze.level[0] > 0


def test_a_tier_is_a_preset_and_an_unknown_name_is_refused_with_the_list() -> None:
    for name in TIERS:
        assert preset(name) == tier(name)
    with pytest.raises(ConfigError, match="unknown preset 'metaphase': choose one of spindle, interphase, sparse"):
        preset("metaphase")


def test_the_verb_takes_the_name() -> None:
    with pytest.raises(ConfigError, match="unknown tier 'metaphase'"):
        simulate(1, config="metaphase")
    assert simulate(1, 3, config="interphase", noisy=False)[0].clean.shape == preset("interphase").shape


def test_a_spindle_has_two_poles_no_nucleus_and_filaments_along_their_axis() -> None:
    for index in range(3):
        scene = scene_of("spindle", index, length_density_um_per_um3=(0.3, 0.3))
        assert scene.parameters.has_cell and not scene.parameters.has_nucleus
        assert scene.cell is not None and scene.cell.nucleus is None
        points = np.concatenate(scene.filaments)
        assert scene.cell.membrane.level(points.T).max() < 1.0
        order, _ = nematic_order(orientation_tensor(scene.filaments))
        assert order > 0.5  # 0 without a direction, 1 for parallel
        middle = points.mean(axis=0)
        spread, axes = np.linalg.eigh(np.cov((points - middle).T))
        along = (points - middle) @ axes[:, -1]
        across = np.linalg.norm((points - middle) @ axes[:, :-1], axis=1)
        half = np.quantile(np.abs(along), 0.98)
        # It tapers: narrow at both ends, wide in the middle.
        equator = np.quantile(across[np.abs(along) < 0.15 * half], 0.95)
        for side in (-1, 1):
            pole = np.quantile(across[np.abs(along - side * 0.95 * half) < 0.08 * half], 0.8)
            assert pole < 0.65 * equator, (index, side, pole, equator)
        assert 2.0 * half > 1.1 * 2.0 * equator and 3.5 < 2.0 * equator < 9.5
        assert spread[-1] > 1.2 * spread[1]


def test_interphase_filaments_leave_the_nucleus_and_the_medium_empty() -> None:
    organisations = set()
    for index in range(3):
        scene = scene_of("interphase", index, length_density_um_per_um3=(0.1, 0.1))
        organisations.add(scene.parameters.organisation)
        assert scene.parameters.has_nucleus and scene.cell is not None and scene.cell.nucleus is not None
        points = np.concatenate(scene.filaments).T
        assert scene.cell.nucleus.level(points).min() > 1.0 and scene.cell.membrane.level(points).max() < 1.0
    assert len(organisations) > 1


def arcs(**changes: object) -> Arcs:
    drawn = draw_arcs(SpindleConfig(width_um=(6.0, 6.0), **changes), 10.0, np.random.default_rng(0))  # type: ignore[arg-type]
    assert drawn is not None
    return drawn


def test_arcs_start_on_circles_through_both_poles_and_fill_the_equator_evenly() -> None:
    start, tangent = arcs(minus_ends=0.4).draw(np.random.default_rng(1), 4000)
    np.testing.assert_allclose(np.linalg.norm(tangent, axis=1), 1.0)
    x, y = start[:, 0], np.linalg.norm(start[:, 1:], axis=1)
    # Centre of the circle: halfway between the poles, `below` the axis, at equal distance from pole and start.
    below = (10.0 * x - x**2 - y**2) / (2.0 * y)
    assert x.min() > 0.0 and np.linalg.norm(start, axis=1).min() > 0.29
    radius = np.hypot(5.0, below)
    radial = np.stack([x - 5.0, y + below], axis=1) / radius[:, None]
    sideways = start[:, 1:] / y[:, None]
    across = (tangent[:, 1:] * sideways).sum(axis=1)
    assert np.abs(tangent[:, 0] * radial[:, 0] + across * radial[:, 1]).max() < 1e-6
    crossing = radius - below
    assert crossing.max() <= 3.0 + 1e-9
    # Uniform on a disk: the squared radius is uniform.
    assert np.abs(np.quantile((crossing / 3.0) ** 2, (0.25, 0.5, 0.75)) - (0.25, 0.5, 0.75)).max() < 0.03


def test_fibers_gather_arcs_in_few_places() -> None:
    """Share of the arcs that have 20 neighbours of 400 within a fiber's radius: hardly any without fibers."""

    def crowded(drawn: Arcs) -> float:
        tangent = drawn.draw(np.random.default_rng(2), 400)[1]
        # Where the circle crosses the equator, from the start at the pole: (S / 2) tan(a / 2) with the angle there.
        away = 5.0 * np.tan(0.5 * np.arccos(tangent[:, 0].clip(-1, 1)))
        where = tangent[:, 1:] / np.linalg.norm(tangent[:, 1:], axis=1, keepdims=True) * away[:, None]
        near = np.linalg.norm(where[:, None] - where, axis=2) < 0.3
        return float((near.sum(axis=1) > 20).mean())

    assert crowded(arcs(fiber_share=(1.0, 1.0), num_fibers=(10.0, 10.0))) > 0.9
    assert crowded(arcs()) < 0.05


def test_a_spindle_without_width_is_as_it_was() -> None:
    config = SimulationConfig(organisation={"spindle": 1.0})
    assert "spindle" not in {name for name in config.model_dump() if name != "organisation"}
    named = validate(SimulationConfig, {"organisation": {"spindle": 1.0}, "spindle": {"length_um": [6.0, 10.0]}})
    assert to_json(named) == to_json(config)
    assert draw_arcs(config.spindle, 8.0, np.random.default_rng(0)) is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width_um": [0.0, 5.0]}, "width_um above 0"),
        ({"length_um": [0.5, 5.0]}, "length_um from 1"),
        ({"astral_share": [0.1, 1.2]}, "astral_share: expected at most 1"),
        ({"minus_ends": 0.3}, "expected width_um with them"),
        ({"width_um": [6.0, 5.0]}, "low <= high"),
    ],
)
def test_impossible_spindles_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validate(SimulationConfig, {"spindle": values})


@pytest.mark.parametrize("pixel_um, bias", [(0.1, 0.015), (0.2, 0.03)])
def test_correlation_width_and_noise_of_a_known_image(
    load: Callable[[str], ModuleType], pixel_um: float, bias: float
) -> None:
    """Filtered noise of known correlation; more noise beside it changes the noise and hardly the width."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(0)
    smooth = gaussian_filter(
        rng.standard_normal((1, round(60 / pixel_um), round(60 / pixel_um))), (0, *(2 * [0.5 / pixel_um]))
    )
    smooth /= smooth.std()
    for added in (0.0, 0.3):
        found = load("preset_measures").correlation_widths(
            smooth + added * rng.standard_normal(smooth.shape), (1.0, pixel_um, pixel_um)
        )
        # A Gaussian of sigma s has an autocorrelation of sigma s * sqrt(2).
        assert found["structure_xy_um"] == pytest.approx(2.3548 * 0.5 * 2**0.5, rel=0.06)
        assert found["noise"] == pytest.approx(added, abs=bias)


@pytest.mark.skipif(not REAL, reason="set NAPARI_VQLDM_REAL_DATA to the folder of real stacks")
@pytest.mark.slow
@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_lies_near_the_real_images(load: Callable[[str], ModuleType], name: str) -> None:
    """Medians of widths and noise within 35 % of the range of the real images; spectra and intensities as near."""
    images, bench = load("preset_images"), load("presets")
    real = list(images.REAL[name](Path(REAL)))
    simulated = list(images.like(name, real, 1, bench.SEED + 1))  # not those that it was tuned on
    found = bench.compare(name, bench.measure_all(name, real), bench.measure_all(name, simulated))
    print("\n".join(bench.table_of(found)))
    for number in ("structure_xy_um", "structure_z_um", "filament_um", "noise"):
        if number in found["numbers"]:
            row = found["numbers"][number]
            assert row["real"]["low"] / 1.35 < row["simulated"]["median"] < 1.35 * row["real"]["high"], (number, row)
    for spectrum in found["spectra"].values():
        assert spectrum["rms_of_means_db"] < 1.35 * spectrum["rms_real_alone_db"][2]
    distance = found["intensity_w1"]
    assert distance["simulated_pooled"] < 1.35 * distance["real_alone"][2]
