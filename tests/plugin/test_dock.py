"""The whole dock, opened through the manifest: life, keys, models, messages, two viewers, and what it leaves behind."""

from __future__ import annotations

import gc
import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.utils.key_bindings import KeymapHandler, coerce_keybinding
from qtpy.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from qtpy.QtGui import QCloseEvent, QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QApplication, QDialog, QLabel, QPushButton

from napari_vqldm.card import METADATA_KEY, read_header
from napari_vqldm.plugin.dock import TABS, dock_of
from napari_vqldm.plugin.inference.jobs import JobState
from napari_vqldm.plugin.keys import KEYS
from napari_vqldm.plugin.settings import PLUGIN

if TYPE_CHECKING:
    import napari

    from napari_vqldm.plugin.dock import Dock

WIDGET = "VQ-LDM Microtubules"
THREAD = "napari-vqldm inference"
SHAPE = (4, 8, 8)
SIZE = (0.22, 0.2, 0.2)

Wait = Callable[..., None]


def open_dock(viewer: napari.Viewer) -> Dock:
    return viewer.window.add_plugin_dock_widget(PLUGIN, WIDGET)[1]


def use(dock: Dock, checkpoint: Path) -> Dock:
    """Choose a tiny model and let the Sample tab make small volumes of it."""
    dock.desk.model.device, dock.desk.model.threads = "cpu", 1
    dock.open_model(checkpoint)
    state = dock.sample_tab.state
    state.size_z, state.size_y, state.size_x = SHAPE
    state.steps, state.shows_preview = 2, False  # a preview needs a decoder of its own, fitted first
    return dock


@pytest.fixture
def ready(shown_dock: Dock, tiny_checkpoints: dict[str, Path]) -> Dock:
    """The dock on the screen, with the tiny ldm model."""
    return use(shown_dock, tiny_checkpoints["ldm"])


def generate(dock: Dock, wait_until: Wait, count: int = 1) -> None:
    dock.sample_tab.state.count = count
    dock.sample_tab.button.click()
    wait_until(lambda: not dock.desk.runner.is_busy)


def start_long_job(dock: Dock, wait_until: Wait) -> Any:
    """Start a request of thousands of steps, with a preview, and wait for the first ones."""
    steps: list[int] = []
    dock.desk.runner.progressed.connect(lambda _job, done, *_: steps.append(done))
    state = dock.sample_tab.state
    state.count, state.steps, state.batch, state.shows_preview = 50, 500, 1, True
    dock.sample_tab.button.click()
    wait_until(lambda: steps and max(steps) >= 2)
    return dock.sample_tab._job


def add_stack(viewer: Any, name: str = "cell", seed: int = 0) -> Any:
    data = np.random.default_rng(seed).normal(100, 5, (8, 16, 16)).astype(np.float32)
    data[3:5, 6:9] += 80
    return viewer.add_image(data, name=name, scale=SIZE, units=("um",) * 3, contrast_limits=(80, 200))


def names(viewer: Any) -> list[str]:
    return [layer.name for layer in viewer.layers]


def inference_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == THREAD]


def bound(viewer: Any) -> list[str]:
    """Which of our keys do something in a viewer."""
    return [key for key in KEYS if coerce_keybinding(key) in viewer.keymap]


def press(viewer: Any, key: str) -> None:
    handler = KeymapHandler()
    handler.keymap_providers = [viewer]
    handler.press_key(key)


def failures_of(dock: Dock) -> list[Any]:
    heard: list[Any] = []
    dock.desk.failed.connect(heard.append)
    return heard


def notices_of(dock: Dock) -> list[str]:
    heard: list[str] = []
    dock.desk.noticed.connect(heard.append)
    dock.desk.runner.noted.connect(lambda _job, text: heard.append(text))
    return heard


def remove(dock: Dock) -> None:
    dock.desk.viewer.window.remove_dock_widget(dock)


def press_x(dock: Dock) -> None:
    """Press the X in the title bar that napari puts on every dock."""
    dock.parent().titleBarWidget().close_button.click()


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
    assert made == [True, False, False, False]
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


# --- keys -------------------------------------------------------------------------------------------------------------


def test_keys_act_while_the_dock_is_open(ready: Dock, wait_until: Wait) -> None:
    viewer = ready.desk.viewer
    assert bound(viewer) == list(KEYS)
    press(viewer, "Control-Alt-G")
    wait_until(lambda: len(viewer.layers) == 1 and not ready.desk.runner.is_busy)
    press(viewer, "Control-Alt-Z")
    assert names(viewer) == []
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


# --- closing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("close", [remove, press_x], ids=["remove_dock_widget", "X"])
def test_closing_stops_the_work_and_the_dock_can_be_opened_again(
    ready: Dock, tiny_checkpoints: dict[str, Path], wait_until: Wait, close: Callable[[Dock], None]
) -> None:
    viewer = ready.desk.viewer
    job = start_long_job(ready, wait_until)
    close(ready)
    wait_until(lambda: job.state is JobState.CANCELLED and not inference_threads())
    assert names(viewer) == []  # neither a volume nor a preview
    assert bound(viewer) == [] and dock_of(viewer) is None
    assert not ready.desk.runner.is_busy and not ready.desk.undo.can_undo
    add_stack(viewer)  # what is left of the old dock must not mind
    viewer.layers.clear()
    again = use(open_dock(viewer), tiny_checkpoints["ldm"])
    assert again is not ready and bound(viewer) == list(KEYS)
    generate(again, wait_until)
    assert len(viewer.layers) == 1


def bring_to_front(dock_widget: Any, is_done: Callable[[], bool], wait_until: Wait) -> None:
    """Choose a tab of docks; Qt ignores that until the tabs are laid out."""

    def is_in_front() -> bool:
        dock_widget.raise_()
        return is_done()

    wait_until(is_in_front)


def test_another_dock_in_front_or_hiding_closes_nothing(ready: Dock, wait_until: Wait, qtbot: Any) -> None:
    viewer = ready.desk.viewer
    job = start_long_job(ready, wait_until)
    other = viewer.window.add_dock_widget(QLabel("other"), name="other")
    ready.window().tabifyDockWidget(ready.parent(), other)
    bring_to_front(other, lambda: ready.visibleRegion().isEmpty(), wait_until)
    qtbot.wait(50)
    bring_to_front(ready.parent(), lambda: not ready.visibleRegion().isEmpty(), wait_until)
    ready.parent().hide()
    wait_until(lambda: not ready.isVisible())
    qtbot.wait(50)
    assert job.state is JobState.RUNNING and bound(viewer) == list(KEYS)
    assert dock_of(viewer) is ready
    ready.desk.runner.cancel_all()
    wait_until(lambda: not ready.desk.runner.is_busy)
    ready.sample_tab.state.steps = 2
    generate(ready, wait_until)
    assert len(viewer.layers) == 1


def test_closing_the_viewer_in_the_middle_of_a_job(ready: Dock, wait_until: Wait) -> None:
    job = start_long_job(ready, wait_until)
    ready.desk.viewer.close()
    wait_until(lambda: job.state is JobState.CANCELLED and not inference_threads())
    assert not ready.desk.runner.is_busy


def test_closing_a_viewer_that_was_never_shown(
    viewer: napari.Viewer, tiny_checkpoints: dict[str, Path], wait_until: Wait
) -> None:
    dock = use(open_dock(viewer), tiny_checkpoints["ldm"])
    job = start_long_job(dock, wait_until)
    viewer.close()
    wait_until(lambda: job.state is JobState.CANCELLED and not inference_threads())


class _ByTheWindowSystem(QCloseEvent):
    """What a click on the X of the window sends."""

    def spontaneous(self) -> bool:
        return True


def test_quitting_asks_about_our_job_and_cancels_it(
    ready: Dock, wait_until: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari._qt import qt_main_window

    asked: list[str] = []
    answers = [QDialog.DialogCode.Rejected]

    class Dialog:
        def __init__(self, *_: Any, extra_info: str = "", **__: Any) -> None:
            asked.append(extra_info)

        def exec_(self) -> Any:
            return answers.pop() if answers else QDialog.DialogCode.Accepted

    monkeypatch.setattr(qt_main_window, "ConfirmCloseDialog", Dialog)
    job = start_long_job(ready, wait_until)
    window = ready.window()
    event = _ByTheWindowSystem()
    window.closeEvent(event)
    assert "Generate 50 volumes" in asked[0] and not event.isAccepted()
    assert job.state is JobState.RUNNING
    event = _ByTheWindowSystem()
    window.closeEvent(event)
    assert event.isAccepted()
    wait_until(lambda: job.state is JobState.CANCELLED)
    assert "Generate 50 volumes" in asked[1]


@pytest.fixture
def let_go(wait_until: Wait) -> Callable[..., None]:
    """Wait until weak references are dead."""

    def wait(*references: weakref.ref[Any]) -> None:
        def are_gone() -> bool:
            QApplication.sendPostedEvents(None, 52)  # deferred deletions
            gc.collect()
            return all(reference() is None for reference in references)

        try:
            wait_until(are_gone, timeout=5_000)
        except Exception:
            for reference in references:
                if (kept := reference()) is not None:
                    print(type(kept).__name__, "kept by", [type(r).__name__ for r in gc.get_referrers(kept)])
            raise

    return wait


def test_a_closed_dock_leaves_nothing_behind(
    shown_viewer: napari.Viewer, tiny_checkpoints: dict[str, Path], wait_until: Wait, let_go: Callable[..., None]
) -> None:
    def used_dock() -> list[weakref.ref[Any]]:
        dock = use(open_dock(shown_viewer), tiny_checkpoints["ldm"])
        for title in TABS:
            dock.show_tab(title)
        generate(dock, wait_until)
        add_stack(shown_viewer)
        dock.reconstruct_tab.start()
        wait_until(lambda: not dock.desk.runner.is_busy)
        dock.reconstruct_tab.compare_panel.separate_canvases()
        wait_until(lambda: dock.reconstruct_tab.compare_panel.modes.name == "canvases")
        tabs = [weakref.ref(dock.tab(title)) for title in TABS]
        kept = [weakref.ref(dock), weakref.ref(dock.desk), weakref.ref(dock.desk.runner), *tabs]
        remove(dock)
        return kept

    kept = used_dock()
    let_go(*kept)
    assert len(shown_viewer.layers) == 4  # sample, cell, reconstruction, residual
    shown_viewer.layers.selection.active = shown_viewer.layers[0]
    shown_viewer.dims.set_point(0, 0.5)
    shown_viewer.layers.clear()


# --- two viewers ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_viewers_share_the_model_and_nothing_else(
    make_napari_viewer: Callable[..., napari.Viewer], tiny_checkpoints: dict[str, Path], wait_until: Wait
) -> None:
    first, second = make_napari_viewer(show=True), make_napari_viewer(show=True)
    docks = [use(open_dock(viewer), tiny_checkpoints["ldm"]) for viewer in (first, second)]
    assert docks[0] is not docks[1]
    heard = [notices_of(dock) for dock in docks]
    for dock, count in zip(docks, (1, 2), strict=True):
        dock.sample_tab.state.count = count
        dock.sample_tab.button.click()
    wait_until(lambda: not any(dock.desk.runner.is_busy for dock in docks))
    assert (len(first.layers), len(second.layers)) == (1, 2)
    assert len(inference_threads()) == 1
    assert [note for notes in heard for note in notes if note.startswith("Loading tiny-ldm")] == ["Loading tiny-ldm..."]
    job = start_long_job(docks[0], wait_until)
    remove(docks[0])
    wait_until(lambda: job.state is JobState.CANCELLED and dock_of(first) is None)
    assert dock_of(second) is docks[1] and bound(second) == list(KEYS)
    docks[1].tools.undo_button.click()
    assert (len(first.layers), len(second.layers)) == (1, 0)
    generate(docks[1], wait_until)
    assert (len(first.layers), len(second.layers)) == (1, 1)
    assert not any(note.startswith("Loading tiny-ldm") for note in heard[1][1:])
    first.close()
    generate(docks[1], wait_until)
    assert len(second.layers) == 2


# --- models -----------------------------------------------------------------------------------------------------------


def test_a_model_whose_file_is_deleted_goes_on_and_says_so(
    shown_dock: Dock, tiny_checkpoints: dict[str, Path], tmp_path: Path, wait_until: Wait
) -> None:
    copy = Path(shutil.copy(tiny_checkpoints["ldm"], tmp_path / "mine.safetensors"))
    dock, viewer = use(shown_dock, copy), shown_dock.desk.viewer
    heard, failures = notices_of(dock), failures_of(dock)
    generate(dock, wait_until)
    copy.unlink()
    dock.sample_tab.state.seed = 7
    dock.sample_tab.seed_box.keep_box.setChecked(True)
    generate(dock, wait_until)
    generate(dock, wait_until)
    assert failures == [] and len(viewer.layers) == 3
    assert [note for note in heard if "is gone from its folder" in note] == [
        "mine.safetensors is gone from its folder: the loaded model stays in use"
    ]
    np.testing.assert_array_equal(viewer.layers[1].data, viewer.layers[2].data)
    dock.tools.free_button.click()
    wait_until(lambda: not dock.desk.runner.is_busy)
    generate(dock, wait_until)
    assert len(viewer.layers) == 3  # now it cannot be loaded again
    assert dock.errors.isVisible() and "mine.safetensors" in dock.errors.cause.text()


def newer(folder: Path, source: Path) -> Path:
    data = source.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    content = json.loads(header["__metadata__"][METADATA_KEY])
    header["__metadata__"][METADATA_KEY] = json.dumps({**content, "format_version": 99})
    text = json.dumps(header).encode()
    path = folder / "newer.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    return path


class _Bomb:
    """A pickle that leaves a file behind when somebody loads it."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.trace),)


def pickled(folder: Path, _source: Path) -> Path:
    path = folder / "model.safetensors"
    path.write_bytes(pickle.dumps(_Bomb(folder / "loaded")))
    return path


def torch_file(folder: Path, _source: Path) -> Path:
    path = folder / "model.pt"
    path.write_bytes(pickle.dumps(_Bomb(folder / "loaded")))
    return path


def truncated(folder: Path, source: Path) -> Path:
    path = folder / "half.safetensors"
    path.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    return path


def a_stack(folder: Path, _source: Path) -> Path:
    from napari_vqldm.files import write_volume
    from napari_vqldm.volume import Volume

    return write_volume(folder / "stack.ome.tif", Volume(np.random.default_rng(0).normal(size=SHAPE), SIZE, {}, "s"))


def missing(folder: Path, _source: Path) -> Path:
    return folder / "nowhere.safetensors"


def a_folder(folder: Path, _source: Path) -> Path:
    path = folder / "folder.safetensors"
    path.mkdir()
    return path


BAD_MODELS = {
    "newer format": (newer, "upgrade"),
    "pickle": (pickled, "model.safetensors"),
    "torch file": (torch_file, "model.pt"),
    "truncated": (truncated, "half.safetensors"),
    "wrong suffix": (a_stack, "stack.ome.tif"),
    "missing": (missing, "nowhere.safetensors"),
    "folder": (a_folder, "folder.safetensors"),
}


@pytest.mark.parametrize("case", BAD_MODELS)
def test_a_bad_model_is_one_message_and_the_earlier_one_stays(
    dock: Dock, tiny_checkpoints: dict[str, Path], tmp_path: Path, wait_until: Wait, case: str
) -> None:
    make, words = BAD_MODELS[case]
    use(dock, tiny_checkpoints["ldm"])
    before, heard = dock.header.text(), failures_of(dock)
    dock.open_model(make(tmp_path, tiny_checkpoints["vq-ldm"]))
    (failure,) = heard
    shown = f"{failure.cause} {failure.remedy}"
    assert words in shown.lower() and "\n" not in shown and failure.remedy
    assert "Traceback" not in shown and "Unexpected" not in shown
    assert not (tmp_path / "loaded").exists()
    assert (dock.errors.cause.text(), dock.errors.remedy.text()) == (failure.cause, failure.remedy)
    assert dock.header.text() == before and dock.desk.model.path == tiny_checkpoints["ldm"]
    generate(dock, wait_until)
    assert len(dock.desk.viewer.layers) == 1 and not dock.errors.cause.text()


@pytest.mark.parametrize("case", ["newer format", "truncated"])
def test_a_bad_model_that_is_dropped_on_the_viewer_is_explained_in_the_dock(
    dock: Dock, tiny_checkpoints: dict[str, Path], tmp_path: Path, case: str
) -> None:
    heard = failures_of(dock)
    path = BAD_MODELS[case][0](tmp_path, tiny_checkpoints["ldm"])
    assert dock.desk.viewer.open(str(path), plugin=PLUGIN) == []
    (failure,) = heard
    assert BAD_MODELS[case][1] in f"{failure.cause} {failure.remedy}".lower()
    assert dock.desk.model.name == "ldm"


def test_a_checkpoint_can_be_opened_through_the_viewer_without_a_dock(
    viewer: napari.Viewer, tiny_checkpoints: dict[str, Path]
) -> None:
    assert viewer.open(str(tiny_checkpoints["ldm"]), plugin=PLUGIN) == []
    dock = dock_of(viewer)
    assert dock is not None and dock.desk.model.path == tiny_checkpoints["ldm"]
    assert dock.header.text().startswith("tiny-ldm · ldm") and len(viewer.layers) == 0


def drop(dock: Dock, path: Path) -> bool:
    """Drag a file over the dock and drop it; return whether the dock wants it."""
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path))])
    keys = (Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier)
    entering = QDragEnterEvent(QPoint(5, 5), *keys)
    entering.ignore()  # as Qt sends it
    QApplication.sendEvent(dock, entering)
    if not entering.isAccepted():
        return False
    dropping = QDropEvent(QPointF(5, 5), *keys)
    QApplication.sendEvent(dock, dropping)
    return dropping.isAccepted()


def test_a_checkpoint_dropped_on_the_dock_is_opened(
    dock: Dock, tiny_checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    dock.show_tab("Sample")
    assert drop(dock, tiny_checkpoints["vq-ldm"])
    assert dock.header.text().startswith("tiny-vq-ldm") and dock.tabs.currentIndex() == 0
    assert not drop(dock, tmp_path / "stack.tif")  # left to the viewer
    assert dock.header.text().startswith("tiny-vq-ldm")


def test_another_model_in_the_middle_of_a_run_is_for_the_next_run(
    ready: Dock, tiny_checkpoints: dict[str, Path], wait_until: Wait
) -> None:
    ready.sample_tab.state.count, ready.sample_tab.state.steps = 2, 40
    ready.sample_tab.button.click()
    ready.open_model(tiny_checkpoints["vq-ldm"])
    wait_until(lambda: not ready.desk.runner.is_busy)
    generate(ready, wait_until)
    assert [name.rsplit("-seed", 1)[0] for name in names(ready.desk.viewer)] == ["tiny-ldm"] * 2 + ["tiny-vq-ldm"]


# --- tools and messages -----------------------------------------------------------------------------------------------


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
    for tab in (dock.reconstruct_tab, dock.interpolate_tab):
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
