"""Closing the dock, a viewer or napari: what ends, what asks first, and what a dock leaves behind."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from qtpy.QtGui import QCloseEvent
from qtpy.QtWidgets import QDialog, QLabel
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
    use,
)

from napari_vqldm.plugin.dock import TABS, dock_of
from napari_vqldm.plugin.inference.jobs import JobState
from napari_vqldm.plugin.keys import KEYS

if TYPE_CHECKING:
    import napari

    from napari_vqldm.plugin.dock import Dock

THREAD = "napari-vqldm inference"


def inference_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == THREAD]


def press_x(dock: Dock) -> None:
    """Press the X in the title bar that napari puts on every dock."""
    dock.parent().titleBarWidget().close_button.click()


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


@pytest.mark.slow
@pytest.mark.both_bindings
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


def test_a_closed_dock_leaves_nothing_behind(
    shown_viewer: napari.Viewer,
    tiny_checkpoints: dict[str, Path],
    wait_until: Wait,
    let_go: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("napari_vqldm.plugin.tabs.training.tab.remember_run", lambda _path: None)

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
        dock.measure(shown_viewer.layers["cell"])
        dock.tab("Training").follow(tmp_path)
        wait_until(lambda: not dock.desk.runner.is_busy and dock.tab("Training").news is not None)
        tabs = [weakref.ref(dock.tab(title)) for title in TABS]
        looker = dock.tab("Training").following.looker
        kept = [weakref.ref(dock), weakref.ref(dock.desk), weakref.ref(dock.desk.runner), *tabs]
        remove(dock)
        wait_until(lambda: not looker.is_alive)
        return kept

    kept = used_dock()
    let_go(*kept)
    assert len(shown_viewer.layers) == 5  # sample, cell, reconstruction, residual, centre lines
    shown_viewer.layers.selection.active = shown_viewer.layers[0]
    shown_viewer.dims.set_point(0, 0.5)
    shown_viewer.layers.clear()


# --- two viewers ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.both_bindings
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
