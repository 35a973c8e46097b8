"""The verb simulate: reproducible volumes with their truth, through the configured or a given camera."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_vqldm.config import CameraConfig, SimulationConfig
from napari_vqldm.errors import ConfigError
from napari_vqldm.simulate import tier
from napari_vqldm.simulation import simulate, simulate_steps

SMALL = SimulationConfig(shape=(8, 24, 28), voxel_size_jitter=0.1)


def test_volume_i_of_a_seed_does_not_depend_on_count_or_start() -> None:
    three = simulate(3, seed=2, config=SMALL)
    alone = simulate(1, seed=2, config=SMALL, start=2)[0]
    assert np.array_equal(alone.clean.data, three[2].clean.data)
    assert alone.noisy is not None and three[2].noisy is not None
    assert np.array_equal(alone.noisy.data, three[2].noisy.data)
    assert alone.parameters == three[2].parameters
    assert not np.array_equal(three[0].clean.data, three[1].clean.data)


def test_a_volume_carries_its_truth() -> None:
    result = simulate(1, seed=4, config=SMALL)[0]
    assert result.clean.voxel_size_um == result.parameters.voxel_size_um
    length = sum(np.linalg.norm(np.diff(line, axis=0), axis=1).sum() for line in result.centre_lines)
    density = length / np.prod(result.clean.extent_um)
    assert density == pytest.approx(result.parameters.length_density_um_per_um3, rel=1e-3)
    request = result.clean.provenance["request"]
    assert request["seed"] == 4 and request["config"]["shape"] == [8, 24, 28]
    assert request["parameters"]["organisation"] == result.parameters.organisation


def test_a_given_camera_records_in_counts() -> None:
    camera = CameraConfig(photons=1e5, background=0.1, read_noise_e=0.0, offset_adu=500.0)
    result = simulate(1, seed=4, config=SMALL, camera=camera)[0]
    assert result.noisy is not None
    expected = 500 + (result.clean.data + 0.1) * 1e5 * camera.quantum_efficiency / camera.gain_e_per_adu
    np.testing.assert_allclose(result.noisy.data, expected, rtol=0.05)
    assert simulate(1, seed=4, config=SMALL, noisy=False)[0].noisy is None


def test_configurations_come_by_name_or_file(tmp_path: Path) -> None:
    file = tmp_path / "scene.toml"
    file.write_text("shape = [4, 16, 16]\n", encoding="utf-8")
    assert simulate(1, config=file)[0].clean.shape == (4, 16, 16)
    step = next(simulate_steps(1, config="standard"))
    assert step.result.clean.shape == tier("standard").shape
    with pytest.raises(ConfigError, match="unknown tier"):
        simulate_steps(1, config="heroic")
    file.write_text("shap = 3\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="shap"):
        simulate_steps(1, config=file)
    for bad in ({"count": 0}, {"seed": -1}, {"start": -1}):
        with pytest.raises(ConfigError, match="or more"):
            simulate_steps(**bad)


def test_cancelling_stops_the_simulation() -> None:
    steps = simulate_steps(1000, config=SMALL)
    assert next(steps).total == 1000
    steps.close()  # type: ignore[attr-defined]
    assert next(steps, None) is None
