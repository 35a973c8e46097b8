"""The whole dock, opened through the manifest: opening, keys, tools and messages."""

from __future__ import annotations

import json
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.utils.key_bindings import KeymapHandler, coerce_keybinding
from qtpy.QtWidgets import QApplication, QPushButton
from tests.plugin.dock.helpers import (
    Wait,
    add_stack,
    bound,
    generate,
    names,
    notices_of,
    open_dock,
    remove,
    start_long_job,
)

from napari_vqldm.card import read_header
from napari_vqldm.plugin.dock import TABS, dock_of
from napari_vqldm.plugin.inference.jobs import JobState
from napari_vqldm.plugin.keys import KEYS
from napari_vqldm.plugin.settings import PLUGIN

if TYPE_CHECKING:
    import napari

    from napari_vqldm.plugin.dock import Dock

# --- opening ----------------------------------------------------------------------------------------------------------


OPENING = """
import json, sys
import napari, numpy
from qtpy.QtCore import QElapsedTimer

viewer = napari.Viewer(show=True)
viewer.add_image(numpy.random.default_rng(0).normal(size=(8, 16, 16)), scale=(0.2, 0.1, 0.1), units=("um",) * 3)
_, dock = viewer.window.add_plugin_dock_widget("napari-vqldm", "VQ-LDM Microtubules")
loaded = {"open": "torch" in sys.modules}
app = napari.qt.get_qapp()
for title in dock._pages:
    dock.show_tab(title)
    clock = QElapsedTimer()
    clock.start()
    while clock.elapsed() < 400 or dock.desk.runner.is_busy:
        app.processEvents()
    loaded[title] = "torch" in sys.modules
print(json.dumps(loaded), flush=True)
viewer.close()
"""


def test_opening_and_looking_at_every_tab_loads_no_torch() -> None:
    done = subprocess.run([sys.executable, "-c", OPENING], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == dict.fromkeys(["open", *TABS], False)


def test_the_header_says_which_model_is_open_and_where_it_computes(
    dock: Dock, tiny_checkpoints: dict[str, Path]
) -> None:
    assert dock.header.text().startswith("ldm ·")
    dock.open_model(tiny_checkpoints["vq-ldm"])
    dock.desk.model.device = "cpu"
    size = sum(read_header(tiny_checkpoints["vq-ldm"]).card.parameters.values()) / 1e6
    assert dock.header.text() == f"tiny-vq-ldm · vq-ldm · {size:.1f} M parameters · cpu"
    assert str(tiny_checkpoints["vq-ldm"]) in dock.header.toolTip()


def test_tabs_are_made_when_they_are_wanted(dock: Dock) -> None:
    made = [dock.tabs.widget(i).widget() is not None for i in range(dock.tabs.count())]
    assert [dock.tabs.tabText(i) for i in range(dock.tabs.count())] == list(TABS)
    assert made == [True] + [False] * (len(TABS) - 1)
    dock.tabs.setCurrentIndex(2)
    assert dock.tabs.widget(2).widget() is dock.reconstruct_tab
    assert dock.tabs.widget(3).widget() is None


def test_on_the_screen_the_other_tabs_are_made_while_nothing_happens(shown_dock: Dock, wait_until: Wait) -> None:
    wait_until(lambda: all(shown_dock.tabs.widget(i).widget() is not None for i in range(len(TABS))))
    assert shown_dock.tabs.currentIndex() == 0
    assert not shown_dock.desk.runner.is_busy


def test_preferences_reach_the_model_and_the_cache(viewer: napari.Viewer) -> None:
    from napari.settings import get_plugin_settings

    compute = get_plugin_settings(PLUGIN).compute
    compute.device, compute.precision, compute.threads, compute.cache_mib = "cpu", "bf16", 3, 64
    dock = open_dock(viewer)
    spec = dock.desk.model.spec()
    assert (spec.device, spec.precision, spec.threads) == ("cpu", "bf16", 3)
    assert dock.desk.frames.budget_bytes == 64 * 2**20
    dock.desk.model.device = "auto"
    assert get_plugin_settings(PLUGIN).compute.device == "cpu"  # a choice in the dock is for this dock


def test_a_preference_that_changes_counts_at_once_and_alone(dock: Dock) -> None:
    from napari.settings import get_plugin_settings

    compute, model, frames = get_plugin_settings(PLUGIN).compute, dock.desk.model, dock.desk.frames
    model.threads = 2  # chosen in the dock
    dock.model_tab.compute.set_choices("device", ["auto", "cpu"])  # the devices of this machine
    frames.put("frame", np.zeros(2**18, np.float32))
    compute.device = "cuda"
    assert (model.device, model.threads) == ("cuda", 2) and dock.header.text().endswith("cuda")
    compute.precision, compute.threads = "bf16", 5
    assert (model.precision, model.threads) == ("bf16", 5)
    compute.cache_mib = 0
    assert frames.budget_bytes == 0 and len(frames) == 0
    dock.shut_down()
    compute.device, compute.cache_mib = "cpu", 3
    assert model.device == "cuda" and frames.budget_bytes == 0


# --- keys -------------------------------------------------------------------------------------------------------------


def press(viewer: Any, key: str) -> None:
    handler = KeymapHandler()
    handler.keymap_providers = [viewer]
    handler.press_key(key)


def test_keys_act_while_the_dock_is_open(ready: Dock, wait_until: Wait) -> None:
    viewer = ready.desk.viewer
    assert bound(viewer) == list(KEYS)
    press(viewer, "Control-Alt-G")
    wait_until(lambda: len(viewer.layers) == 1 and not ready.desk.runner.is_busy)
    press(viewer, "Control-Alt-Z")
    assert names(viewer) == []
    press(viewer, "Control-Alt-Shift-Z")
    assert len(viewer.layers) == 1
    press(viewer, "Control-Alt-Z")
    job = start_long_job(ready, wait_until)
    press(viewer, "Control-Alt-X")
    wait_until(lambda: not ready.desk.runner.is_busy)
    assert job.state is JobState.CANCELLED and names(viewer) == []
    add_stack(viewer)
    press(viewer, "Control-Alt-R")
    wait_until(lambda: len(viewer.layers) == 2 and not ready.desk.runner.is_busy)
    press(viewer, "Control-Alt-B")
    assert ready.reconstruct_tab.compare_panel.modes.name == "blink"


def test_keys_of_the_user_are_left_alone(shown_viewer: napari.Viewer, wait_until: Wait) -> None:
    pressed = []
    shown_viewer.bind_key("Control-Alt-G", lambda _viewer: pressed.append("mine"))
    dock = open_dock(shown_viewer)
    press(shown_viewer, "Control-Alt-G")
    remove(dock)
    wait_until(lambda: dock_of(shown_viewer) is None)
    press(shown_viewer, "Control-Alt-G")
    assert pressed == ["mine", "mine"]
    assert bound(shown_viewer) == ["Control-Alt-G"]


def test_a_key_that_the_user_binds_later_stays_his(shown_viewer: napari.Viewer, wait_until: Wait) -> None:
    dock, pressed = open_dock(shown_viewer), []
    shown_viewer.bind_key("Control-Alt-G", lambda _viewer: pressed.append("mine"), overwrite=True)
    remove(dock)
    wait_until(lambda: dock_of(shown_viewer) is None)
    press(shown_viewer, "Control-Alt-G")
    assert pressed == ["mine"]


def test_keys_of_napari_are_not_hidden(shown_viewer: napari.Viewer) -> None:
    taken = {str(key) for key in type(shown_viewer).class_keymap}
    for layer_type in ("Image", "Labels", "Points", "Shapes"):
        import napari.layers

        taken |= {str(key) for key in getattr(napari.layers, layer_type).class_keymap}
    assert not taken & {str(coerce_keybinding(key)) for key in KEYS}


# --- tools and messages -----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.both_bindings
def test_free_memory_drops_model_and_frames_and_the_next_job_loads_again(
    ready: Dock, wait_until: Wait, let_go: Callable[..., None]
) -> None:
    heard, kept = notices_of(ready), []

    def note_model(engine: Any) -> Iterator[object]:
        kept.append(weakref.ref(engine._model))
        yield from ()

    generate(ready, wait_until)
    ready.desk.run("look", note_model)
    wait_until(lambda: not ready.desk.runner.is_busy)
    ready.desk.frames.put("frame", np.zeros(5))
    ready.tools.free_button.click()
    wait_until(lambda: not ready.desk.runner.is_busy)
    let_go(*kept)
    assert kept and ready.desk.frames.num_bytes == 0
    assert "Memory is free again" in ready.notice.text() and ready.notice.isVisible()
    generate(ready, wait_until)
    assert heard.count("Loading tiny-ldm...") == 2 and len(ready.desk.viewer.layers) == 2


def test_undo_takes_back_one_run_after_the_other(ready: Dock, wait_until: Wait) -> None:
    viewer, button = ready.desk.viewer, ready.tools.undo_button
    assert not button.isEnabled() and button.toolTip() == "Nothing to take back"
    generate(ready, wait_until, count=2)
    add_stack(viewer)
    generate(ready, wait_until, count=1)
    assert len(viewer.layers) == 4 and "Generate" in button.toolTip()
    button.click()
    button.click()
    assert names(viewer) == ["cell"] and not button.isEnabled()


def test_redo_adds_again_what_was_taken_back_last(ready: Dock, wait_until: Wait) -> None:
    viewer, button = ready.desk.viewer, ready.tools.redo_button
    assert not button.isEnabled() and button.toolTip() == "Nothing was taken back"
    generate(ready, wait_until)
    layer = viewer.layers[0]
    ready.tools.undo_button.click()
    assert button.isEnabled() and button.toolTip().startswith("Add again: Generate ")
    button.click()
    assert list(viewer.layers) == [layer] and not button.isEnabled() and ready.tools.undo_button.isEnabled()
    ready.tools.undo_button.click()
    ready.tools.free_button.click()  # lets go of the layer
    assert not button.isEnabled()
    wait_until(lambda: not ready.desk.runner.is_busy)


def test_an_error_is_shown_with_remedy_and_report_until_the_next_job(ready: Dock, wait_until: Wait) -> None:
    def bad(_engine: Any) -> Iterator[object]:
        yield 1
        raise RuntimeError("the valve is stuck")

    ready.desk.run("Turn the valve", bad)
    wait_until(lambda: not ready.desk.runner.is_busy)
    assert ready.errors.isVisible() and "the valve is stuck" in ready.errors.cause.text()
    assert ready.errors.remedy.text()
    ready.errors.copy_button.click()
    report = QApplication.clipboard().text()
    for words in ("the valve is stuck", "Turn the valve", "Traceback", "napari-vqldm", "torch"):
        assert words in report
    generate(ready, wait_until)
    assert not ready.errors.isVisible() and not ready.progress.isVisible()
    ready.desk.show_error(ValueError("again"))
    assert ready.errors.isVisible()
    ready.errors.dismiss_button.click()
    assert not ready.errors.isVisible()


def test_the_row_shows_the_running_job_and_its_button_stops_it(ready: Dock, wait_until: Wait) -> None:
    job = start_long_job(ready, wait_until)
    assert ready.progress.isVisible() and "Generate 50 volumes" in ready.progress.text
    wait_until(lambda: ready.progress.bar.maximum() > 0)
    assert 0 < ready.progress.bar.value() < ready.progress.bar.maximum()
    ready.progress.cancel_button.click()
    wait_until(lambda: not ready.desk.runner.is_busy)
    assert job.state is JobState.CANCELLED and not ready.progress.isVisible()
    assert names(ready.desk.viewer) == [] and not ready.errors.isVisible()
    assert "nothing was added" in ready.notice.text()
    assert ready.sample_tab.button.isEnabled()


def test_without_layers_every_tab_says_what_to_do(dock: Dock) -> None:
    assert dock.sample_tab.button.isEnabled()  # needs none
    for tab in (dock.reconstruct_tab, dock.interpolate_tab, dock.tab("Measure")):
        assert not tab.button.isEnabled()
        reason = tab.reason.text()
        assert reason and "\n" not in reason and tab.button.toolTip() == reason
    tools = dock.tools
    assert "none" in tools.selected.text()
    assert not any(button.isEnabled() for button in (tools.copy, tools.reproduce_button, tools.save_button))


def test_tools_follow_the_selected_layer(ready: Dock, wait_until: Wait) -> None:
    viewer, tools = ready.desk.viewer, ready.tools
    generate(ready, wait_until)
    assert tools.copy.isEnabled() and tools.reproduce_button.isEnabled() and tools.save_button.isEnabled()
    tools.copy.python_action.trigger()
    assert "nv.generate" in QApplication.clipboard().text() or "generate(" in QApplication.clipboard().text()
    cell = add_stack(viewer)
    viewer.layers.selection.active = cell
    assert "cell" in tools.selected.text()
    assert not tools.copy.isEnabled() and not tools.reproduce_button.isEnabled() and tools.save_button.isEnabled()
    cell.name = "renamed"
    assert "renamed" in tools.selected.text()
    viewer.layers.selection.clear()
    assert not tools.save_button.isEnabled()


def test_save_writes_what_the_reader_brings_back(
    ready: Dock, wait_until: Wait, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer, path = ready.desk.viewer, tmp_path / "saved.ome.tif"
    generate(ready, wait_until)
    monkeypatch.setattr("napari_vqldm.plugin.layer_tools.QFileDialog.getSaveFileName", lambda *_, **__: (str(path), ""))
    ready.tools.save_button.click()
    wait_until(lambda: "Saved" in ready.notice.text())
    (back,) = viewer.open(str(path), plugin=PLUGIN)
    np.testing.assert_array_equal(back.data, viewer.layers[0].data)
    assert back.metadata["napari_vqldm"] == viewer.layers[0].metadata["napari_vqldm"]


def test_every_control_of_the_dock_itself_is_explained(dock: Dock) -> None:
    for button in dock.findChildren(QPushButton):
        if any(page.isAncestorOf(button) for page in (dock.tabs, dock.errors, dock.progress)):
            continue  # tests of their own
        assert button.toolTip() and button.objectName().startswith("vqldm-"), button.text()
