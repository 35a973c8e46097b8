"""The verb simulate: reproducible volumes with their truth, through the configured or a given camera."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_vqldm.config import CameraConfig, SimulationConfig, to_json, validate
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


def test_a_blur_up_to_the_shortest_edge_is_rendered_and_a_wider_one_refused() -> None:
    edge = 8 * 0.2 * 1.1  # um, of the largest voxels that SMALL draws
    blurred = simulate(1, seed=4, config=SMALL, camera=CameraConfig(blur_um=0.9 * edge))[0]
    assert blurred.noisy is not None
    with pytest.raises(ConfigError, match=r"--blur 2: wider than the volume, at most 1\.76 x 2\.64 x 3\.08 um"):
        simulate_steps(1, config=SMALL, camera=CameraConfig(blur_um=2.0))
    simulate_steps(1, config=SMALL, camera=CameraConfig(blur_um=2.0), noisy=False)


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


@pytest.mark.parametrize(
    "bad",
    [
        {"voxel_size_um": (0.0, 0.1, 0.1)},
        {"voxel_size_um": (0.2, 0.1, 101.0)},
        {"length_density_um_per_um3": (0.0, 0.5)},
        {"persistence_length_um": (0.0, 0.0)},
        {"mean_contour_length_um": (0.0, 20.0)},
        {"photons": (0.0, 1.0)},
        {"psf_width_factor": (0.0, 1.0)},
    ],
)
def test_a_configuration_without_filaments_or_light_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(bad))):
        validate(SimulationConfig, bad)


def test_scenes_of_absurd_size_are_refused_before_they_are_drawn() -> None:
    with pytest.raises(ConfigError, match=r"shape \(8, 16, 16\) with voxel size \(100\.0, .* um of filament"):
        simulate_steps(config=SimulationConfig(shape=(8, 16, 16), voxel_size_um=(100.0, 100.0, 100.0)))
    with pytest.raises(ConfigError, match=r"voxel size \(0\.001, .* larger voxels"):
        simulate_steps(config=SimulationConfig(voxel_size_um=(0.001, 0.001, 0.001)))
    with pytest.raises(ConfigError, match="2\\*\\*64"):
        simulate_steps(seed=2**64)


def test_the_text_of_the_default_configuration_stays() -> None:
    """Data sets are named after it."""
    digest = hashlib.sha256(to_json(SimulationConfig()).encode()).hexdigest()
    assert digest == "373f815b003480e98842a1b80cd3b7ec1ca23c80e292170cc3854b73c306ad44"


def test_cancelling_stops_the_simulation() -> None:
    steps = simulate_steps(1000, config=SMALL)
    assert next(steps).total == 1000
    steps.close()  # type: ignore[attr-defined]
    assert next(steps, None) is None
