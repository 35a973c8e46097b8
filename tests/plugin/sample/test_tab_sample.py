"""The Sample tab with a real viewer, a real inference thread and tiny models."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from qtpy.QtWidgets import QApplication, QCheckBox, QComboBox, QPushButton
from tests.plugin.sample.helpers import SHAPE, changed_model, names, run, script_bits

import napari_vqldm as nv
from napari_vqldm.condition_ranges import middle_voxel_size
from napari_vqldm.plugin.desk import Desk
from napari_vqldm.plugin.layers import provenance_of
from napari_vqldm.plugin.layers.lazy_frames import LazyFrames
from napari_vqldm.plugin.tabs.sample.tab import SampleTab

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


@pytest.mark.parametrize("family", [pytest.param("ldm", marks=pytest.mark.slow), "vq-ldm"])
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
    assert tab.state.seed == 5
    run(tab, wait_until)
    assert tab.state.seed != 5
    assert tab.seed_box.seed == tab.state.seed
    seeds = [provenance_of(layer)["request"]["seed"] for layer in desk.viewer.layers]
    assert seeds == [5, tab.state.seed]


@pytest.mark.slow
@pytest.mark.both_bindings
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


@pytest.mark.slow
@pytest.mark.both_bindings
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

    def is_freed():
        gc.collect()
        return reference() is None

    wait_until(is_freed)  # Qt deletes when it comes to it
