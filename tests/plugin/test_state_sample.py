"""What the Sample tab decides, without a screen."""

from __future__ import annotations

import dataclasses
import inspect

import pytest

from napari_vqldm.card import Header, read_header
from napari_vqldm.condition_ranges import allowed_conditions
from napari_vqldm.config import CameraConfig
from napari_vqldm.generate import generate_steps
from napari_vqldm.plugin.state.camera import CAMERA_FIELDS, CameraState, is_noise_free
from napari_vqldm.plugin.state.model import ModelState
from napari_vqldm.plugin.state.sample import (
    CONDITIONS,
    ORGANISATIONS,
    SampleState,
    most_steps_of,
    samplers_of,
)
from napari_vqldm.plugin.tabs.sample.text import request_command, request_script
from napari_vqldm.record import record
from napari_vqldm.zoo import resolve


@pytest.fixture(scope="module")
def header() -> Header:
    return read_header(resolve("ldm"))


def changed(header: Header, **changes) -> Header:
    return dataclasses.replace(header, config=header.config.model_copy(update=changes))


def test_request_holds_every_argument_of_the_verb():
    accepted = set(inspect.signature(generate_steps).parameters)
    # Model and precision come from the Model tab; the camera records afterwards.
    assert set(SampleState().to_request()) == accepted - {"model", "precision", "camera"}


def test_every_argument_follows_its_field():
    state = SampleState(3, 8, 16, 24, 7, {"psf_width_um": 0.2}, 9, "euler", 2.0, 2, 5)
    assert state.to_request() == {
        "count": 3,
        "shape": (8, 16, 24),
        "seed": 7,
        "condition": {"psf_width_um": 0.2},
        "steps": 9,
        "sampler": "euler",
        "guidance_scale": 2.0,
        "batch": 2,
        "start": 5,
    }


def test_only_fixed_conditions_are_asked_for():
    state = SampleState()
    assert state.to_request()["condition"] is None
    state.fix("psf_width_um", 0.2)
    state.fix("organisation", "aster")
    state.fix("psf_width_um", None)
    assert state.to_request()["condition"] == {"organisation": "aster"}


def test_every_condition_and_organisation_of_the_model_has_plain_words(header):
    allowed = allowed_conditions(header.config)
    assert set(allowed) <= set(CONDITIONS)
    assert set(allowed["organisation"]) <= set(ORGANISATIONS)


VOXEL_SIZE = {"voxel_size_z_um": 0.2, "voxel_size_xy_um": 0.1}  # one for all volumes, unless it is asked for otherwise


def test_another_model_drops_what_does_not_fit(header):
    state = SampleState(steps=5000, sampler="euler", condition={"psf_width_um": 0.2})
    other = changed(
        header,
        window=(8, 16, 16),
        diffusion=header.config.diffusion.model_copy(update={"objective": "v", "num_train_timesteps": 100}),
    )
    state.take_model(other)
    assert (state.shape, state.sampler, state.steps, dict(state.condition)) == ((8, 16, 16), None, 100, VOXEL_SIZE)
    assert "ddim" in samplers_of(other)
    assert most_steps_of(other) == 100
    state.take_model(header)
    assert state.shape == header.config.window


@pytest.mark.parametrize(
    ("changes", "fields", "is_running", "words"),
    [
        ({}, {}, False, ""),
        ({"denoiser": None}, {}, False, "stage 1 alone"),
        ({"window": (16, 64, 64)}, {}, False, "trained on 16 × 64 × 64"),
        ({}, {}, True, "wait for them or cancel"),
    ],
)
def test_why_nothing_can_be_generated(header, changes, fields, is_running, words):
    reason = SampleState(**fields).why_not(changed(header, **changes), is_running=is_running)
    assert words in reason
    assert bool(reason) == bool(words)


def test_without_a_model_nothing_can_be_generated():
    assert "Model tab" in SampleState().why_not(None)


def test_extent_is_a_range_unless_the_voxel_size_is_fixed(header):
    state = SampleState()
    assert state.extent_text(header) == "5.12 to 8 × 10.2 to 16 × 10.2 to 16 µm (z, y, x)"
    state.fix("voxel_size_z_um", 0.2)
    state.fix("voxel_size_xy_um", 0.1)
    assert state.extent_text(header) == "6.4 × 12.8 × 12.8 µm (z, y, x)"


def test_button_says_what_happens():
    assert SampleState().action() == "Generate 1 volume"
    assert SampleState(count=3).action() == "Generate 3 volumes"


# --- camera -----------------------------------------------------------------------------------------------------------


def test_camera_is_that_of_the_core_by_default():
    assert CameraState().to_camera() == CameraConfig()
    assert set(CameraState().to_request()) <= set(inspect.signature(record).parameters)


@pytest.mark.parametrize("name", CAMERA_FIELDS)
def test_each_slider_reaches_the_camera(name):
    value = 0.25
    camera = CameraState(**{name: value}).to_camera()
    assert camera == CameraConfig(**{name: value})
    assert camera != CameraConfig()


def test_why_the_camera_cannot_be_used(header):
    state = CameraState()
    assert "generate one first" in state.why_not(header, has_sample=False)
    assert "noisy stacks" in state.why_not(changed(header, target="input"), has_sample=False)
    assert state.why_not(header, has_sample=True) == ""


@pytest.mark.parametrize(
    ("verb", "request_", "expected"),
    [
        ("generate", {"camera": None, "target": "clean"}, True),
        ("generate", {}, True),
        ("generate", {"camera": None, "target": "input"}, False),
        ("generate", {"camera": {"photons": 1}, "target": "clean"}, False),
        ("record", {"camera": {"photons": 1}}, False),
        ("read", {}, False),
    ],
)
def test_noise_free_layers_are_told_by_their_record(verb, request_, expected):
    assert is_noise_free({"verb": verb, "request": request_}) is expected
    assert not is_noise_free(None)


# --- copying before anything ran --------------------------------------------------------------------------------------


def test_script_of_a_request_runs_and_does_what_the_request_says(tiny_checkpoints):
    import numpy as np

    import napari_vqldm as nv

    model = ModelState(device="cpu", threads=1)
    model.open(tiny_checkpoints["ldm"])
    state = SampleState(2, 4, 8, 8, 3, {"organisation": "aster"}, 2, start=1)
    namespace: dict[str, object] = {}
    exec(request_script(model, state.to_request()), namespace)
    expected = nv.generate(nv.load(tiny_checkpoints["ldm"]), **state.to_request())
    assert len(namespace["volumes"]) == 2
    for ours, theirs in zip(namespace["volumes"], expected, strict=True):
        np.testing.assert_array_equal(ours.data, theirs.data)


def test_script_of_the_automatic_device_runs(tiny_checkpoints):
    model = ModelState()
    model.open(tiny_checkpoints["ldm"])
    namespace: dict[str, object] = {}
    exec(request_script(model, SampleState(1, 4, 8, 8, steps=1).to_request()), namespace)
    assert namespace["volumes"][0].shape == (4, 8, 8)


@pytest.mark.parametrize("is_windows", [False, True])
def test_command_of_a_request_is_quoted_for_the_shell(tiny_checkpoints, tmp_path, monkeypatch, is_windows):
    import shutil

    from napari_vqldm.recipe import shell

    monkeypatch.setattr(shell, "_IS_WINDOWS", is_windows)
    path = shutil.copy(tiny_checkpoints["ldm"], tmp_path / "my model.safetensors")
    model = ModelState(device="cpu", threads=1)
    model.open(path)
    line = request_command(model, SampleState(1, 4, 8, 8).to_request())
    assert (f'"{path}"' if is_windows else f"'{path}'") in line


def test_command_of_a_request_writes_the_same_volumes(tiny_checkpoints, tmp_path, monkeypatch):
    import shlex

    import numpy as np
    from typer.testing import CliRunner

    import napari_vqldm as nv
    from napari_vqldm.cli.app import app

    model = ModelState(device="cpu", threads=1)
    model.open(tiny_checkpoints["ldm"])
    request = SampleState(1, 4, 8, 8, 3, {"organisation": "aster", "persistence_length_um": 20.0}, 2).to_request()
    program, *words = shlex.split(request_command(model, request))
    assert program == "napari-vqldm"
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    (path,) = (tmp_path / "generated").glob("*.tif")
    (expected,) = nv.generate(nv.load(tiny_checkpoints["ldm"]), **request)
    np.testing.assert_array_equal(nv.read_volume(path).data, expected.data)
