"""What cannot be reconstructed, and what users and memory do while the Reconstruct tab works."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from tests.plugin.reconstruct.helpers import SIZE, add, expected, loaded, stack

from napari_vqldm.plugin.compat import grid_of
from napari_vqldm.plugin.tabs.reconstruct.tab import ReconstructTab
from napari_vqldm.tiles import MAX_VOXELS
from napari_vqldm.volume import Volume

# --- what cannot be used ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda v: v.add_image(np.zeros((16, 16))), "2D"),
        (lambda v: v.add_image(np.zeros((8, 16, 16, 3), np.uint8), rgb=True), "RGB"),
        (lambda v: v.add_labels(np.zeros((8, 16, 16), int)), "image layer"),
        (lambda v: v.add_points(np.zeros((1, 3))), "image layer"),
    ],
    ids=["2D", "RGB", "labels", "points"],
)
def test_layers_that_cannot_be_used_are_explained(
    viewer: Any, tab: ReconstructTab, make: Callable[[Any], Any], words: str
) -> None:
    make(viewer)
    assert not tab.button.isEnabled() and words in tab.reason.text()
    assert tab.button.toolTip() == tab.reason.text()
    tab.start()
    assert not tab.desk.runner.is_busy


def test_an_empty_viewer_says_what_to_do(tab: ReconstructTab) -> None:
    assert "Open volume" in tab.reason.text() and not tab.button.isEnabled()


def test_a_constant_layer_is_one_failure_and_leaves_nothing(
    viewer: Any, tab: ReconstructTab, idle: Callable[[], None], failures: list[Any]
) -> None:
    add(viewer, data=np.full((8, 24, 24), 7.0, np.float32))
    tab.start()
    idle()
    assert len(failures) == 1 and len(viewer.layers) == 1 and tab.button.isEnabled()


# --- meanwhile --------------------------------------------------------------------------------------------------------


def test_when_memory_runs_out_smaller_tiles_are_tried_and_said(
    viewer: Any, tab: ReconstructTab, idle: Callable[[], None], failures: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_vqldm import reconstruct as _  # noqa: F401

    module = sys.modules["napari_vqldm.reconstruct"]
    steps, tried = module.reconstruct_steps, []

    def short_of_memory(model: Any, volume: Volume, *, max_voxels: int) -> Iterator[Any]:
        tried.append(max_voxels)
        if max_voxels == MAX_VOXELS:
            raise MemoryError
        yield from steps(model, volume, max_voxels=max_voxels)

    monkeypatch.setattr(module, "reconstruct_steps", short_of_memory)
    notes: list[str] = []
    tab.desk.runner.noted.connect(lambda _job, text: notes.append(text))
    add(viewer)
    tab.start()
    idle()
    assert failures == [] and tried == [MAX_VOXELS, MAX_VOXELS // 2]
    assert any("Memory ran out" in note for note in notes)
    assert len(viewer.layers) == 2


def test_a_comparison_without_memory_costs_no_reconstruction(
    viewer: Any, tab: ReconstructTab, idle: Callable[[], None], failures: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_vqldm import compare as _  # noqa: F401

    def short_of_memory(*_volumes: Any) -> Iterator[Any]:
        raise MemoryError
        yield

    monkeypatch.setattr(sys.modules["napari_vqldm.compare"], "compare_steps", short_of_memory)
    notes: list[str] = []
    tab.desk.runner.noted.connect(lambda _job, text: notes.append(text))
    source = add(viewer)
    tab.start()
    idle()
    assert failures == [] and any("not compared" in note for note in notes)
    assert np.array_equal(viewer.layers[-1].data, expected(tab, source.data).data)
    panel = tab.compare_panel
    assert panel.controls.numbers.text() == "Not compared with the input: too little memory was free."
    panel.side_by_side()
    idle()
    assert grid_of(viewer).enabled and failures == []


def test_other_errors_of_a_comparison_are_failures(
    viewer: Any, tab: ReconstructTab, idle: Callable[[], None], failures: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_vqldm import compare as _  # noqa: F401

    def broken(*_volumes: Any) -> Iterator[Any]:
        raise RuntimeError("something else")
        yield

    monkeypatch.setattr(sys.modules["napari_vqldm.compare"], "compare_steps", broken)
    add(viewer)
    tab.start()
    idle()
    assert len(failures) == 1 and len(viewer.layers) == 1


def test_a_long_comparison_shows_progress_and_can_be_cancelled(
    viewer: Any, tab: ReconstructTab, idle: Callable[[], None], monkeypatch: pytest.MonkeyPatch, qtbot: Any
) -> None:
    from napari_vqldm import compare as _  # noqa: F401

    module, begun = sys.modules["napari_vqldm.compare"], []

    def endless(*_volumes: Any) -> Iterator[Any]:
        while True:
            begun.append(len(begun))
            time.sleep(0.01)
            yield module.ComparisonStep(min(len(begun), 5), 7, None)

    monkeypatch.setattr(module, "compare_steps", endless)
    add(viewer)
    tab.start()
    qtbot.waitUntil(lambda: len(begun) > 2, timeout=30_000)
    tab.desk.runner.cancel_all()
    idle()
    assert [layer.name for layer in viewer.layers] == ["cell"] and tab.button.isEnabled()


def test_the_estimate_counts_the_comparison(viewer: Any, tab: ReconstructTab) -> None:
    from napari_vqldm.estimate import estimate_reconstruction

    source = add(viewer)
    ask = tab._ask()
    assert ask is not None
    model = loaded(tab)
    told = ask(model, "fp32", None)
    assert told.seconds == estimate_reconstruction(model, source.data.shape, SIZE, is_compared=True).seconds
    assert told.seconds > estimate_reconstruction(model, source.data.shape, SIZE).seconds


def test_cancel_leaves_nothing(viewer: Any, tab: ReconstructTab, idle: Callable[[], None], qtbot: Any) -> None:
    frames = np.stack([stack(seed) for seed in range(12)])
    add(viewer, "movie", data=frames, scale=(1.0, *SIZE), units=("s", "um", "um", "um"))
    tab.state.frames = "all"
    tab.start()
    qtbot.waitUntil(lambda: len(viewer.layers) == 2, timeout=30_000)
    tab.desk.runner.cancel_all()
    idle()
    assert [layer.name for layer in viewer.layers] == ["movie"]
    assert tab.button.isEnabled() and not tab.desk.undo.can_undo


def set_free(monkeypatch: pytest.MonkeyPatch, num_bytes: int) -> None:
    """Let estimates believe that so much memory is free."""
    from napari_vqldm.estimate import jobs

    monkeypatch.setattr(jobs, "available_bytes", lambda *_: num_bytes)


def test_what_does_not_fit_is_refused_and_runs_anyway(
    viewer: Any, tab: ReconstructTab, idle: Callable[[], None], monkeypatch: pytest.MonkeyPatch, failures: list[Any]
) -> None:
    tab.show()
    source = add(viewer)
    set_free(monkeypatch, 1)
    opened: list[int] = []
    tab.start(then=lambda: opened.append(1))
    idle()
    assert list(viewer.layers) == [source] and failures == []
    assert "does not fit" in tab.estimate.text and tab.estimate.anyway_button.isVisible()
    assert tab.button.isEnabled() and tab.compare_panel.pair is None
    tab.estimate.anyway_button.click()
    idle()
    assert np.array_equal(viewer.layers[-1].data, expected(tab, source.data).data)
    assert opened == [1] and not tab.estimate.anyway_button.isVisible()


def test_an_uncertainty_map_that_does_not_fit_is_refused_and_runs_anyway(
    viewer: Any, tab: ReconstructTab, idle: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    tab.show()
    add(viewer)
    tab.state.draws = 2
    tab.start()
    idle()
    set_free(monkeypatch, 1)
    panel = tab.compare_panel
    panel.controls.uncertainty_wanted.emit()
    idle()
    assert len(viewer.layers) == 2
    assert panel.estimate.text.startswith("Uncertainty map: Nothing was started.")
    assert not tab.estimate.anyway_button.isVisible()
    panel.estimate.anyway_button.click()
    idle()
    assert viewer.layers[-1].name == "cell (uncertainty)"


@pytest.mark.slow
@pytest.mark.both_bindings
def test_the_estimate_follows_layer_frames_and_draws(
    viewer: Any,
    tab: ReconstructTab,
    idle: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    wait_until: Callable[..., None],
) -> None:
    set_free(monkeypatch, 2**34)
    tab.show()
    movie = np.stack([stack(seed) for seed in range(3)])
    add(viewer, "movie", data=movie, scale=(2.0, *SIZE), units=("s", "um", "um", "um"))
    wait_until(lambda: "The model is loaded first" in tab.estimate.text)
    tab.start()
    idle()
    wait_until(lambda: tab.estimate.text.startswith("About ") and "loaded first" not in tab.estimate.text)
    one = tab.estimate.text
    wait_until(lambda: tab.compare_panel.estimate.text.startswith("Uncertainty map: about "))
    few = tab.compare_panel.estimate.text
    movies = np.broadcast_to(movie[:1], (400, *movie.shape[1:]))
    tab.input.choose(add(viewer, "long", data=movies, scale=(2.0, *SIZE), units=("s", "um", "um", "um")))
    tab.state.frames = "all"
    wait_until(lambda: tab.estimate.text not in ("", one))
    tab.state.draws = 256
    wait_until(lambda: tab.compare_panel.estimate.text not in ("", few))


@pytest.mark.parametrize("what", ["rename", "delete input", "delete result", "close tab"])
def test_the_user_may_do_anything_meanwhile(
    viewer: Any, tab: ReconstructTab, idle: Callable[[], None], failures: list[Any], qtbot: Any, what: str
) -> None:
    frames = np.stack([stack(seed) for seed in range(6)])
    source = add(viewer, "movie", data=frames, scale=(1.0, *SIZE), units=("s", "um", "um", "um"))
    tab.state.frames = "all"
    tab.start()
    qtbot.waitUntil(lambda: len(viewer.layers) == 2, timeout=30_000)
    if what == "rename":
        source.name = "other"
    elif what == "delete input":
        viewer.layers.remove(source)
    elif what == "delete result":
        viewer.layers.remove(viewer.layers[-1])
    else:
        tab.close_tab()
        tab.desk.close()
    idle()
    assert failures == []
    names = [layer.name for layer in viewer.layers]
    assert (
        names
        == {
            "rename": ["other", "movie (ldm)"],
            "delete input": ["movie (ldm)"],
            "delete result": ["movie"],
            "close tab": ["movie"],
        }[what]
    )
    assert (tab.compare_panel.pair is not None) == (what == "rename")


def test_undo_takes_the_result_back(viewer: Any, tab: ReconstructTab, idle: Callable[[], None]) -> None:
    add(viewer)
    tab.start()
    idle()
    tab.compare_panel.side_by_side()
    idle()
    assert grid_of(viewer).enabled
    tab.desk.undo.undo()
    tab.desk.undo.undo()
    assert [layer.name for layer in viewer.layers] == ["cell"]
    assert not grid_of(viewer).enabled and tab.compare_panel.pair is None and viewer.layers[0].visible


def test_closing_lets_the_viewer_go(viewer: Any, tab: ReconstructTab, idle: Callable[[], None]) -> None:
    add(viewer)
    tab.start()
    idle()
    tab.compare_panel.blink()
    tab.close_tab()
    tab.close_tab()
    assert all(layer.visible for layer in viewer.layers)
    add(viewer, "later")
    viewer.dims.set_point(0, 0.4)
    viewer.layers.clear()
