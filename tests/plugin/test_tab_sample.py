"""The Sample tab with a real viewer, a real inference thread and tiny models."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtWidgets import QApplication, QCheckBox, QComboBox, QPushButton

import napari_vqldm as nv
from napari_vqldm.condition_ranges import middle_voxel_size
from napari_vqldm.config import CameraConfig
from napari_vqldm.plugin.desk import Desk
from napari_vqldm.plugin.layers import provenance_of
from napari_vqldm.plugin.layers.lazy_frames import LazyFrames
from napari_vqldm.plugin.tabs.sample.tab import SampleTab

SHAPE = (4, 8, 8)


def changed_model(source: Path, target: Path, change: Callable[[Any], None]) -> Path:
    """Write a checkpoint again with other weights."""
    import torch

    from napari_vqldm.checkpoint import save_checkpoint

    model = nv.load(source)
    with torch.no_grad():
        for parameter in [*model.space.autoencoder.parameters(), *model.denoiser.parameters()]:
            change(parameter)
    return save_checkpoint(target, config=model.config, space=model.space, denoiser=model.denoiser)


@pytest.fixture(scope="module")
def checkpoints(tiny_checkpoints, tmp_path_factory) -> dict[str, Path]:
    """Denoisers that begin at zero leave the noise as it is: give all weights a push."""
    import torch

    folder = tmp_path_factory.mktemp("pushed")
    generator = torch.Generator().manual_seed(1)

    def push(parameter: Any) -> None:
        parameter += 0.1 * torch.randn(parameter.shape, generator=generator)

    return {family: changed_model(path, folder / path.name, push) for family, path in tiny_checkpoints.items()}


@pytest.fixture
def desk(viewer, checkpoints):
    desk = Desk(viewer)
    desk.model.open(checkpoints["ldm"])
    desk.model.device, desk.model.threads = "cpu", 1
    yield desk
    desk.close()


@pytest.fixture
def tab(desk, qtbot):
    tab = SampleTab(desk)
    qtbot.addWidget(tab)
    tab.show()
    tab.state.size_z, tab.state.size_y, tab.state.size_x = SHAPE
    tab.seed_box.keep_box.setChecked(True)
    tab.state.seed = 5
    yield tab
    tab.close_tab()


@pytest.fixture
def model(checkpoints):
    return nv.load(checkpoints["ldm"])


def run(tab, wait_until) -> None:
    tab.button.click()
    assert not tab.button.isEnabled()
    wait_until(lambda: not tab.desk.runner.is_busy and tab.button.isEnabled())


def names(desk) -> list[str]:
    return [layer.name for layer in desk.viewer.layers]


def script_bits(text: str, tmp_path) -> np.ndarray:
    """Run a script in a new process and return the voxels that it computes."""
    path = tmp_path / "script.py"
    path.write_text(f"{text}\nimport numpy\nnumpy.save({str(tmp_path / 'bits.npy')!r}, volume.data)\n")
    subprocess.run([sys.executable, str(path)], check=True, timeout=120)
    return np.load(tmp_path / "bits.npy")


# --- generating -------------------------------------------------------------------------------------------------------


def test_one_click_gives_one_layer_equal_to_the_verb(tab, desk, model, wait_until):
    assert tab.button.text() == "Generate 1 volume"
    run(tab, wait_until)
    size = middle_voxel_size(model.config)  # one for all volumes, unless it is asked for otherwise
    assert size
    (expected,) = nv.generate(model, 1, SHAPE, seed=5, condition=size)
    (layer,) = desk.viewer.layers
    np.testing.assert_array_equal(layer.data, expected.data)
    assert layer.name == "tiny-ldm-seed5-000"
    np.testing.assert_allclose(layer.scale, expected.voxel_size_um)
    assert [str(unit) for unit in layer.units] == ["micrometer"] * 3
    assert provenance_of(layer)["request"] == expected.provenance["request"]


def test_every_choice_reaches_the_volumes(tab, desk, model, wait_until):
    state = tab.state
    state.count, state.steps, state.sampler, state.start, state.batch = 2, 3, "heun", 1, 2
    state.guidance_scale = 1.5
    state.fix("organisation", "aligned")
    run(tab, wait_until)
    expected = nv.generate(model, **state.to_request())
    assert len(expected) == len(desk.viewer.layers) == 2
    for layer, volume in zip(desk.viewer.layers, expected, strict=True):
        np.testing.assert_array_equal(layer.data, volume.data)


@pytest.mark.parametrize("family", ["ldm", "vq-ldm"])
def test_a_layer_equals_its_script_in_a_new_process(tab, desk, checkpoints, wait_until, tmp_path, family):
    desk.model.open(checkpoints[family])
    tab.state.steps = 2
    run(tab, wait_until)
    tab.copy.python_action.trigger()
    bits = script_bits(QApplication.clipboard().text(), tmp_path)
    np.testing.assert_array_equal(desk.viewer.layers[0].data, bits)


def test_seed_is_new_unless_kept(tab, desk, wait_until):
    tab.seed_box.keep_box.setChecked(False)
    run(tab, wait_until)
    assert tab.state.seed != 5
    assert tab.seed_box.seed == tab.state.seed
    assert provenance_of(desk.viewer.layers[0])["request"]["seed"] == tab.state.seed


def test_one_undo_takes_back_the_whole_run(tab, desk, wait_until):
    tab.state.count = 2
    run(tab, wait_until)
    assert desk.undo.title == "Generate 2 volumes"
    desk.undo.undo()
    assert names(desk) == []


def test_weights_count(tab, desk, checkpoints, tmp_path, wait_until):
    run(tab, wait_until)
    desk.model.open(changed_model(checkpoints["ldm"], tmp_path / "zero.safetensors", lambda weights: weights.zero_()))
    tab.state.size_z, tab.state.size_y, tab.state.size_x = SHAPE
    run(tab, wait_until)
    first, second = desk.viewer.layers
    assert first.data.std() > 0
    assert not np.array_equal(first.data, second.data)


# --- preview, cancel, errors ------------------------------------------------------------------------------------------


def slow_model(monkeypatch, seconds: float = 0.05) -> None:
    """Make every denoising step take a moment."""
    import time

    generate = import_module("napari_vqldm.generate")  # the package names the verb so
    steps = generate.sample_starts

    def slow(*args):
        for step in steps(*args):
            time.sleep(seconds)
            yield step

    monkeypatch.setattr(generate, "sample_starts", slow)


def test_a_preview_is_shown_while_denoising_and_goes_away(tab, desk, monkeypatch, wait_until):
    slow_model(monkeypatch, 0.3)
    tab.button.click()
    wait_until(lambda: any("preview" in name for name in names(desk)))
    layer = desk.viewer.layers[0]
    first = layer.data.copy()
    assert layer.data.shape == SHAPE
    wait_until(lambda: not np.array_equal(first, layer.data))
    wait_until(lambda: not desk.runner.is_busy)
    assert names(desk) == ["tiny-ldm-seed5-000"]


def test_a_preview_that_the_user_deletes_stays_away(tab, desk, monkeypatch, wait_until):
    slow_model(monkeypatch, 0.3)
    tab.button.click()
    wait_until(lambda: any("preview" in name for name in names(desk)))
    desk.viewer.layers.clear()
    seen = []
    desk.viewer.layers.events.inserted.connect(lambda event: seen.append(event.value.name))
    wait_until(lambda: not desk.runner.is_busy)
    assert seen == ["tiny-ldm-seed5-000"]


def test_preview_can_be_switched_off_and_changes_no_bit(tab, desk, model, monkeypatch, wait_until):
    slow_model(monkeypatch, 0.3)
    seen = []
    desk.viewer.layers.events.inserted.connect(lambda event: seen.append(event.value.name))
    tab.state.shows_preview = False
    run(tab, wait_until)
    tab.state.shows_preview = True
    run(tab, wait_until)
    assert sum("preview" in name for name in seen) == 1
    first, second = desk.viewer.layers
    np.testing.assert_array_equal(first.data, second.data)


def test_cancel_leaves_complete_volumes_alone_and_says_so(tab, desk, monkeypatch, wait_until):
    slow_model(monkeypatch, 0.1)
    notices = []
    desk.noticed.connect(notices.append)
    tab.state.count = 50
    tab.button.click()
    wait_until(lambda: "tiny-ldm-seed5-000" in names(desk) and any("preview" in name for name in names(desk)))
    desk.runner.cancel_all()
    wait_until(lambda: tab.button.isEnabled())
    assert not any("preview" in name for name in names(desk))
    assert notices[-1].startswith(f"Cancelled: {len(names(desk))} of 50 volumes")
    desk.undo.undo()
    assert names(desk) == []


def test_cancel_before_the_first_volume_leaves_nothing(tab, desk, monkeypatch, wait_until):
    slow_model(monkeypatch)
    notices = []
    desk.noticed.connect(notices.append)
    tab.state.steps = 500
    tab.button.click()
    wait_until(lambda: any("preview" in name for name in names(desk)))
    desk.runner.cancel_all()
    wait_until(lambda: tab.button.isEnabled())
    assert names(desk) == []
    assert notices[-1] == "Cancelled: nothing was added."


def test_a_failure_is_told_and_the_button_comes_back(tab, desk, monkeypatch, wait_until):
    def broken(*_args):
        raise RuntimeError("broken denoiser")

    monkeypatch.setattr(import_module("napari_vqldm.generate"), "sample_starts", broken)
    failures = []
    desk.failed.connect(failures.append)
    run(tab, wait_until)
    assert "broken denoiser" in failures[0].cause
    assert names(desk) == []


def test_out_of_memory_goes_on_with_smaller_batches(tab, desk, monkeypatch, wait_until):
    generate = import_module("napari_vqldm.generate")  # the package names the verb so
    steps = generate.sample_starts

    def hungry(model, starts, sampling):
        if len(starts) > 1:
            raise RuntimeError("CUDA out of memory. Tried to allocate 7 GiB")
        yield from steps(model, starts, sampling)

    monkeypatch.setattr(generate, "sample_starts", hungry)
    notes = []
    desk.runner.noted.connect(lambda _job, text: notes.append(text))
    tab.state.count, tab.state.batch = 4, 4
    run(tab, wait_until)
    assert [provenance_of(layer)["request"]["index"] for layer in desk.viewer.layers] == [0, 1, 2, 3]
    assert [note for note in notes if "Not enough memory" in note] == [
        "Not enough memory for 4 volumes at once: trying 2.",
        "Not enough memory for 2 volumes at once: trying 1.",
    ]


# --- estimates --------------------------------------------------------------------------------------------------------


def set_free(monkeypatch, num_bytes: int) -> None:
    """Let estimates believe that so much memory is free."""
    monkeypatch.setattr(import_module("napari_vqldm.estimate.jobs"), "available_bytes", lambda *_: num_bytes)


def test_what_does_not_fit_is_refused_and_runs_anyway_with_the_same_seed(tab, desk, model, monkeypatch, wait_until):
    set_free(monkeypatch, 1)
    tab.seed_box.keep_box.setChecked(False)
    run(tab, wait_until)
    seed = tab.state.seed
    assert names(desk) == [] and desk.undo.title == ""
    assert tab.estimate.text.startswith("Nothing was started.") and "does not fit" in tab.estimate.text
    assert tab.estimate.anyway_button.isVisible()
    tab.estimate.anyway_button.click()
    assert not tab.button.isEnabled()
    wait_until(lambda: not desk.runner.is_busy and tab.button.isEnabled())
    (layer,) = desk.viewer.layers
    assert provenance_of(layer)["request"]["seed"] == tab.state.seed == seed
    np.testing.assert_array_equal(layer.data, nv.generate(model, **tab.state.to_request())[0].data)


def test_another_request_takes_the_refusal_back(tab, desk, monkeypatch, wait_until):
    set_free(monkeypatch, 1)
    run(tab, wait_until)
    assert tab.estimate.anyway_button.isVisible()
    set_free(monkeypatch, 2**34)
    tab.state.count = 2
    assert not tab.estimate.anyway_button.isVisible()
    wait_until(lambda: tab.estimate.text.startswith("About "))
    run(tab, wait_until)
    assert len(names(desk)) == 2


def test_the_line_follows_count_and_size(tab, desk, monkeypatch, wait_until):
    set_free(monkeypatch, 2**34)
    wait_until(lambda: "first run" in tab.estimate.text)
    run(tab, wait_until)
    wait_until(lambda: tab.estimate.text.startswith("About "))
    seen = [tab.estimate.text]
    tab.state.count = 1000
    wait_until(lambda: tab.estimate.text not in ("", *seen))
    seen.append(tab.estimate.text)
    tab.state.size_z, tab.state.size_y, tab.state.size_x = 2, 2, 2
    wait_until(lambda: tab.estimate.text not in ("", *seen))
    tab.state.count = 3
    wait_until(lambda: tab.estimate.text not in ("", *seen))


def test_nothing_is_estimated_that_cannot_run(tab, desk, monkeypatch, wait_until):
    import dataclasses

    set_free(monkeypatch, 2**34)
    run(tab, wait_until)
    wait_until(lambda: tab.estimate.text.startswith("About "))
    header = desk.model.header
    desk.model.header = dataclasses.replace(header, config=header.config.model_copy(update={"denoiser": None}))
    wait_until(lambda: not tab.estimate._timer.isActive())
    assert tab.estimate.text == ""


def test_the_viewer_may_lose_the_tab_in_the_middle_of_a_job(tab, desk, monkeypatch, wait_until):
    slow_model(monkeypatch)
    tab.state.count = 50
    tab.button.click()
    wait_until(lambda: any("preview" in name for name in names(desk)))
    tab.close_tab()
    tab.close_tab()
    desk.close()
    assert not any("preview" in name for name in names(desk))


# --- what may be asked ------------------------------------------------------------------------------------------------


def test_a_checkpoint_of_stage_1_alone_says_why_it_cannot(tab, desk):
    import dataclasses

    header = desk.model.header
    desk.model.header = dataclasses.replace(header, config=header.config.model_copy(update={"denoiser": None}))
    assert not tab.button.isEnabled()
    assert "stage 1 alone" in tab.reason.text()
    assert tab.button.toolTip() == tab.reason.text()
    tab.start()
    assert not desk.runner.is_busy


def test_knobs_follow_the_model_and_the_state(tab, desk, wait_until):
    wait_until(lambda: tab.knobs.knobs)
    assert set(tab.knobs.knobs) == set(desk.model.conditions()) - {"organisation"} - {
        name for name, allowed in desk.model.conditions().items() if allowed[0] == allowed[1]
    }
    knob = tab.knobs.knobs["persistence_length_um"]
    knob.box.setChecked(True)
    assert tab.state.condition["persistence_length_um"] == pytest.approx(knob.value)
    knob.row.slider.setValue(1e9)
    assert tab.state.condition["persistence_length_um"] == desk.model.conditions()["persistence_length_um"][1]
    tab.state.fix("persistence_length_um", None)
    assert not knob.box.isChecked()
    combo = tab.findChild(QComboBox, "vqldm-condition-organisation")
    combo.setCurrentIndex(combo.findData("aster"))
    size = middle_voxel_size(desk.model.header.config)
    assert dict(tab.state.condition) == {**size, "organisation": "aster"}
    combo.setCurrentIndex(0)
    assert dict(tab.state.condition) == size


def test_both_ends_of_every_slider_are_accepted_by_the_model(tab, desk, model, wait_until):
    wait_until(lambda: tab.knobs.knobs)
    for end in ("minimum", "maximum"):
        for knob in tab.knobs.knobs.values():
            knob.box.setChecked(True)
            knob.row.slider.setValue(getattr(knob.row.slider, end)())
        nv.generate(model, 1, SHAPE, steps=1, condition=dict(tab.state.condition))


def test_size_is_shown_in_um_and_limited_by_the_window(tab):
    tab.size_form.rows["size_x"].widget.value = 16
    assert tab.state.size_x == 16
    assert "µm (z, y, x)" in tab.extent.text()
    assert tab.size_form.rows["size_x"].widget.max == 16


def has_help(widget) -> bool:
    """Qt shows the help of the nearest parent that has one."""
    if isinstance(widget, SampleTab):
        return False
    return bool(widget.toolTip()) or has_help(widget.parent())


def test_works_at_320_pixels(tab, qtbot, wait_until):
    wait_until(lambda: tab.knobs.knobs)
    tab.conditions.set_open(True)
    tab.advanced.set_open(True)
    assert tab.minimumSizeHint().width() <= 320
    for kind in (QPushButton, QComboBox, QCheckBox):
        for widget in tab.findChildren(kind):
            assert has_help(widget), widget.objectName()


# --- the way ----------------------------------------------------------------------------------------------------------


def test_the_way_is_a_lazy_layer_that_ends_at_the_volume(tab, desk, wait_until):
    tab.state.keeps_way = True
    run(tab, wait_until)
    way, volume = desk.viewer.layers
    assert way.name == "tiny-ldm-seed5-000 (way)"
    assert isinstance(way.data, LazyFrames)
    assert way.data.shape == (4, *SHAPE)
    np.testing.assert_array_equal(way.data.frame(3), volume.data)
    frames = np.asarray(way.data)
    distances = [float(np.square(frame - volume.data).mean()) for frame in frames]
    assert distances[-1] == 0.0
    assert min(distances[:-1]) > 0
    assert list(way.axis_labels) == ["step", "z", "y", "x"]


def test_a_step_of_the_way_is_what_the_decoder_makes_of_it(tab, desk, model, wait_until):
    """The clean estimate after one step, decoded by hand."""
    import torch

    from napari_vqldm.generate import generate_steps

    tab.state.keeps_way = True
    run(tab, wait_until)
    request = tab.state.to_request()
    latents = [step.preview for step in generate_steps(model, **request) if step.preview is not None]
    with torch.no_grad():
        decoded = model.space.decode(torch.from_numpy(latents[1])[None])[0, 0].numpy()
    window = decoded.shape
    z, y, x = (slice((n - s) // 2, (n - s) // 2 + s) for n, s in zip(window, SHAPE, strict=True))
    np.testing.assert_allclose(desk.viewer.layers[0].data.frame(1), decoded[z, y, x], atol=1e-5)


def test_every_volume_has_its_way_and_undo_takes_all(tab, desk, wait_until):
    tab.state.keeps_way, tab.state.count = True, 2
    run(tab, wait_until)
    assert sum("(way)" in name for name in names(desk)) == 2
    desk.undo.undo()
    assert names(desk) == []


# --- camera -----------------------------------------------------------------------------------------------------------


def recording(desk):
    return next((layer for layer in desk.viewer.layers if layer.name.endswith("(camera)")), None)


def test_camera_says_why_it_waits(tab):
    assert not tab.camera.switch.isEnabled()
    assert "generate one first" in tab.camera.reason.text()


def test_the_recording_equals_generate_with_that_camera(tab, desk, model, wait_until, tmp_path):
    run(tab, wait_until)
    sample = desk.viewer.layers[0]
    clean = sample.data.copy()
    tab.camera.switch.click()
    wait_until(lambda: recording(desk) is not None)
    tab.camera.sliders["photons"].slider.setValue(20)
    tab.camera.sliders["blur_um"].slider.setValue(0.1)
    wait_until(lambda: not desk.runner.is_busy)
    camera = CameraConfig(photons=20, blur_um=0.1)
    (expected,) = nv.generate(model, 1, SHAPE, seed=5, camera=camera)
    layer = recording(desk)
    np.testing.assert_array_equal(layer.data, expected.data)
    np.testing.assert_array_equal(sample.data, clean)
    np.testing.assert_allclose(layer.scale, sample.scale)
    tab.camera.copy.python_action.trigger()
    np.testing.assert_array_equal(layer.data, script_bits(QApplication.clipboard().text(), tmp_path))


def test_sixty_fast_moves_end_at_the_last_and_use_one_layer(tab, desk, wait_until):
    from napari_vqldm.record import record
    from napari_vqldm.volume import Volume

    run(tab, wait_until)
    sample = desk.viewer.layers[0]
    tab.camera.switch.click()
    for photons in range(10, 70):
        tab.camera.sliders["photons"].slider.setValue(photons)
    wait_until(lambda: not desk.runner.is_busy)
    volume = Volume(sample.data, tuple(sample.scale), provenance_of(sample), sample.name)
    np.testing.assert_array_equal(recording(desk).data, record(volume, CameraConfig(photons=69)).data)
    assert len(desk.viewer.layers) == 2


def test_the_recording_follows_the_next_sample_and_the_selection(tab, desk, wait_until):
    run(tab, wait_until)
    tab.camera.switch.click()
    wait_until(lambda: recording(desk) is not None)
    first = recording(desk)
    tab.state.seed = 6
    run(tab, wait_until)
    wait_until(lambda: recording(desk).name == "tiny-ldm-seed6-000 (camera)")
    assert recording(desk) is first
    desk.viewer.layers.selection.active = desk.viewer.layers[0]
    wait_until(lambda: recording(desk).name == "tiny-ldm-seed5-000 (camera)")
    assert provenance_of(recording(desk))["request"]["source"]["request"]["seed"] == 5


def test_a_recording_of_another_size_gets_a_new_layer(tab, desk, wait_until):
    run(tab, wait_until)
    tab.camera.switch.click()
    wait_until(lambda: recording(desk) is not None)
    tab.state.size_x = 16
    run(tab, wait_until)
    wait_until(lambda: recording(desk) is not None and recording(desk).data.shape == (4, 8, 16))
    assert sum(name.endswith("(camera)") for name in names(desk)) == 1


def test_deleting_the_sample_ends_recording_and_keeps_the_recording(tab, desk, wait_until):
    run(tab, wait_until)
    tab.camera.switch.click()
    wait_until(lambda: recording(desk) is not None)
    bits = recording(desk).data.copy()
    desk.viewer.layers.remove(desk.viewer.layers[0])
    tab.camera.sliders["photons"].slider.setValue(3)
    wait_until(lambda: not desk.runner.is_busy)
    np.testing.assert_array_equal(recording(desk).data, bits)
    assert not tab.camera.sliders["photons"].isEnabled()


def test_contrast_of_the_user_stays(tab, desk, wait_until):
    run(tab, wait_until)
    tab.camera.switch.click()
    wait_until(lambda: recording(desk) is not None)
    automatic = tuple(recording(desk).contrast_limits)
    tab.camera.sliders["photons"].slider.setValue(500)
    wait_until(lambda: not desk.runner.is_busy)
    assert tuple(recording(desk).contrast_limits) != automatic
    recording(desk).contrast_limits = (50.0, 300.0)
    tab.camera.sliders["photons"].slider.setValue(10)
    wait_until(lambda: not desk.runner.is_busy)
    assert tuple(recording(desk).contrast_limits) == (50.0, 300.0)


def test_a_closed_tab_leaves_no_callback_and_is_freed(viewer, tiny_checkpoints, qtbot, wait_until):
    desk = Desk(viewer)
    desk.model.open(tiny_checkpoints["ldm"])
    before = len(viewer.layers.events.inserted.callbacks)
    tab = SampleTab(desk)
    assert len(viewer.layers.events.inserted.callbacks) > before
    tab.close_tab()
    assert len(viewer.layers.events.inserted.callbacks) == before
    reference = weakref.ref(tab.state)
    tab.deleteLater()
    qtbot.wait(10)
    desk.close()
    del tab
    gc.collect()
    assert reference() is None
