"""Recording after sampling: the bits of generating with the camera, and no second noise on top of a first."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from napari_vqldm.checkpoint import Model
from napari_vqldm.config import CameraConfig, SimulationConfig
from napari_vqldm.crop import crop
from napari_vqldm.errors import ConfigError, VolumeError
from napari_vqldm.files import read_volume, write_volume
from napari_vqldm.generate import generate
from napari_vqldm.interpolate import interpolate
from napari_vqldm.reconstruct import encode, reconstruct
from napari_vqldm.record import record
from napari_vqldm.simulation import simulate
from napari_vqldm.volume import Volume, hash_voxels

CAMERA = CameraConfig(photons=50.0, blur_um=0.05, bit_depth=16, hot_pixel_share=0.01)


@pytest.fixture(scope="module")
def clean() -> Volume:
    return simulate(1, seed=4, config=SimulationConfig(shape=(12, 48, 48)), noisy=False)[0].clean


def test_recording_a_generated_volume_is_generating_with_the_camera(model: Model, tmp_path: Path) -> None:
    clean = generate(model, count=2, seed=11, start=3)
    direct = generate(model, count=2, seed=11, start=3, camera=CAMERA)
    for a, b in zip(clean, direct, strict=True):
        assert np.array_equal(record(a, CAMERA).data, b.data) and not np.array_equal(a.data, b.data)
    again = read_volume(write_volume(tmp_path / "clean.ome.tif", clean[1]))
    assert np.array_equal(record(again, CAMERA).data, direct[1].data)
    assert not np.array_equal(record(clean[0], CAMERA).data, record(clean[0], CAMERA, seed=0).data)


def test_a_smaller_shape_is_recorded_alike(ldm: Model) -> None:
    shape = (6, 20, 18)
    (clean,) = generate(ldm, shape=shape)
    (direct,) = generate(ldm, shape=shape, camera=CAMERA)
    assert np.array_equal(record(clean, CAMERA).data, direct.data)


def test_other_volumes_have_a_seed_of_their_own(clean: Volume) -> None:
    first, again, second = record(clean, CAMERA), record(clean, CAMERA, seed=0), record(clean, CAMERA, seed=1)
    assert np.array_equal(first.data, again.data) and not np.array_equal(first.data, second.data)


def test_the_record_holds_what_is_needed_to_do_it_again(clean: Volume) -> None:
    recorded = record(clean, CAMERA, seed=5)
    request = recorded.provenance["request"]
    assert recorded.provenance["verb"] == "record" and recorded.voxel_size_um == clean.voxel_size_um
    assert request["seed"] == 5 and request["source"] == clean.provenance
    assert request["source_sha256"] == hash_voxels(clean)
    assert np.array_equal(record(clean, CameraConfig(**request["camera"]), request["seed"]).data, recorded.data)


def test_counts_are_those_of_the_camera(clean: Volume) -> None:
    camera = CameraConfig(photons=200.0, background=0.5, offset_adu=400.0)
    recorded = record(clean, camera).data.astype(np.float64)
    expected = 400.0 + (clean.data.mean(dtype=np.float64) + 0.5) * 200.0 * 0.8 / 0.5
    assert recorded.mean() == pytest.approx(expected, rel=2e-3)


def test_what_holds_camera_noise_already_is_refused(ldm: Model, clean: Volume) -> None:
    (noisy,) = (s.noisy for s in simulate(1, seed=4, config=SimulationConfig(shape=(12, 48, 48))))
    assert noisy is not None
    (photographed,) = generate(ldm, camera=CAMERA)
    older = {**noisy.provenance, "request": {k: v for k, v in noisy.provenance["request"].items() if k != "part"}}
    foreign = dataclasses.replace(record(clean, CAMERA), provenance={}, name="foreign")
    refused = {
        "recorded": record(clean, CAMERA),
        "generated with a camera": photographed,
        "simulated": noisy,
        "simulated, older record": dataclasses.replace(noisy, provenance=older),
        "a box of it": crop(record(clean, CAMERA), ((0, 4), (0, 20), (0, 20))),
        "without a record": foreign,
        "a box of a stack without a record": crop(foreign, ((0, 4), (0, 20), (0, 20))),
        "a box of a box of it": crop(crop(foreign, ((0, 4), (0, 20), (0, 20))), ((0, 4), (2, 20), (2, 20))),
    }
    for name, volume in refused.items():
        with pytest.raises(VolumeError, match="noise"):
            record(volume, CAMERA)
            pytest.fail(name)


def test_models_of_noisy_stacks_make_noisy_volumes(ldm: Model) -> None:
    noisy = dataclasses.replace(ldm, config=ldm.config.model_copy(update={"target": "input"}))
    with pytest.raises(VolumeError, match="learned noisy stacks"):
        record(generate(noisy)[0], CAMERA)


def test_units_of_a_stack_are_no_filament_units(ldm: Model, stack: Volume, clean: Volume) -> None:
    counts = stack.with_data(stack.data, provenance={})
    with pytest.raises(VolumeError, match="units of the stack"):
        record(reconstruct(ldm, counts), CAMERA)
    latents = encode(ldm, clean), encode(ldm, counts.with_data(np.resize(counts.data, clean.shape)))
    if latents[0].voxel_size_um == latents[1].voxel_size_um:
        with pytest.raises(VolumeError, match="units of the stack"):
            record(interpolate(ldm, *latents), CAMERA)
    assert record(reconstruct(ldm, clean), CAMERA).shape == clean.shape
    assert record(interpolate(ldm, 1, 2), CAMERA).shape == ldm.config.window


def test_what_shows_no_noise_is_recorded_without_a_record(clean: Volume) -> None:
    assert record(clean.with_data(clean.data, provenance={}), CAMERA).shape == clean.shape


def test_impossible_requests_are_refused(clean: Volume) -> None:
    with pytest.raises(ConfigError, match="seed"):
        record(clean, CAMERA, seed=-1)
    with pytest.raises(ConfigError, match="wider than the volume"):
        record(clean, CameraConfig(blur_um=50.0))
