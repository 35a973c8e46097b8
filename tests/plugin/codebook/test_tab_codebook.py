"""The Codebook tab in a viewer: planted codes come back as counts, maps, places and atoms."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from tests.planted_model import CODES
from tests.plugin.codebook.conftest import FACTOR, SIZE, counts_of, some_codes
from tests.plugin.codebook.viewing import click, is_lit, pixel_of, pixels

UM = ("um",) * 3


def decoded(model: Any, codes: np.ndarray) -> np.ndarray:
    """What the planted decoder makes of codes (d, h, w), in one piece."""
    vectors = model.space.quantizer.codebook.detach()[torch.from_numpy(codes.astype(np.int64))]
    with torch.no_grad():
        return model.space.autoencoder._volumes(vectors.movedim(-1, 0)[None])[0, 0].numpy()


def filament_cells(model: Any, codes: np.ndarray) -> np.ndarray:
    """Cells (d, h, w) whose brightest voxel exceeds 0.3."""
    (d, h, w), (z, y, x) = codes.shape, FACTOR
    return decoded(model, codes).reshape(d, z, h, y, w, x).max(axis=(1, 3, 5)) > 0.3


def test_planted_codes_are_counted_filaments_apart(tab, add_codes, idle, planted_of, desk) -> None:
    codes = some_codes()
    assert not tab.source.button.isEnabled() and "Open" in tab.source.reason.text()
    add_codes(codes)
    assert tab.source.reason.text() == "" and "tiny-vq-ldm" in tab.lead.text()
    tab.source.button.click()
    assert not tab.source.button.isEnabled() and "running" in tab.source.button.toolTip()
    idle()
    found, is_filament = tab.state.found, filament_cells(planted_of, codes)
    assert desk.failures == [] and tab.source.button.isEnabled() and tab.lead.text() == ""
    assert (found.what, found.num_volumes, found.num_codes, found.background_code) == ("layer planted", 1, CODES, 0)
    assert found.usage.filament.counts.tolist() == counts_of(codes[is_filament]).tolist()
    assert found.usage.background.counts.tolist() == counts_of(codes[~is_filament]).tolist()
    histogram = tab.codes.histogram
    histogram.sort.setCurrentIndex(histogram.sort.findData("index"))
    up, down = histogram.counts()
    assert up.tolist() == counts_of(codes[is_filament]).tolist()
    assert down.tolist() == counts_of(codes[~is_filament]).tolist()


def test_the_map_has_every_code_in_its_place(viewer, tab, add_codes, idle) -> None:
    codes = some_codes()
    stack = add_codes(codes, translate=(1.0, 2.0, 3.0))
    tab.count()
    idle()
    layer = viewer.layers[-1]
    assert layer.name == "planted (codes)" and np.array_equal(layer.data, codes + 1)
    middle = [np.mean([first, first + f - 1]) for first, f in zip((2, 8, 12), FACTOR, strict=True)]
    assert layer.data_to_world((1, 2, 3)) == pytest.approx(stack.data_to_world(middle))
    tab.desk.undo.undo()
    assert [one.name for one in viewer.layers] == ["planted"]
    tab.desk.undo.redo()
    tab.choose(4)
    assert tab.maps.maps[0].layer is layer


@pytest.mark.parametrize("ndisplay", [2, 3])
def test_a_click_in_the_viewer_chooses_the_code_and_lights_its_places(
    shown_viewer, planted, tiny_checkpoints, add_codes_to, qtbot, wait_until, ndisplay
) -> None:
    from napari_vqldm.plugin.desk import Desk
    from napari_vqldm.plugin.tabs.codebook.tab import CodebookTab

    viewer, desk = shown_viewer, Desk(shown_viewer)
    desk.model.open(tiny_checkpoints["vq-ldm"])
    tab = CodebookTab(desk)
    qtbot.addWidget(tab)
    codes = np.zeros((3, 6, 5), np.int32)
    codes[1, 2, 3], codes[0, 4, 1], codes[1, 0, 0] = 4, 4, 7
    stack = add_codes_to(viewer, codes)
    tab.count()
    wait_until(lambda: not desk.runner.is_busy)
    stack.visible = False
    layer, (shown,) = viewer.layers[-1], tab.maps.maps
    viewer.dims.ndisplay = ndisplay
    viewer.dims.set_point(0, layer.data_to_world((1, 0, 0))[0])
    viewer.reset_view()
    x, y = pixel_of(viewer, layer, (1, 2, 3))
    assert not is_lit(pixels(viewer))[y, x]
    click(viewer, pixel_of(viewer, layer, (1, 2, 3)))
    assert tab.state.code == 4 and tab.codes.histogram.state.code == 4
    assert shown.places(4).tolist() == [[0, 4, 1], [1, 2, 3]]
    lit = is_lit(np.rint(255 * layer.colormap.map(np.arange(CODES) + 1)[:, :3]))
    assert np.flatnonzero(lit).tolist() == [4]
    assert is_lit(pixels(viewer))[y, x]
    tab.close_tab()
    desk.close()


@pytest.fixture
def add_codes_to() -> Callable[..., Any]:
    from tests.planted_model import planted_volume

    def add(viewer: Any, codes: np.ndarray) -> Any:
        return viewer.add_image(planted_volume(codes, FACTOR).data, name="planted", scale=SIZE, units=UM)

    return add


def test_previous_and_next_go_round_all_places(viewer, tab, add_codes, idle) -> None:
    codes = np.zeros((3, 6, 5), np.int32)
    codes[0, 1, 1], codes[2, 4, 3] = 5, 5
    add_codes(codes)
    tab.count()
    idle()
    tab.choose(5)
    details, layer = tab.codes.details, viewer.layers[-1]
    assert details.places.text() == "2 places in the code map"
    for cell, number in (((0, 1, 1), 1), ((2, 4, 3), 2), ((0, 1, 1), 1)):
        details.next.click()
        assert details.places.text() == f"place {number} of 2 in the code map"
        assert viewer.dims.point[0] == pytest.approx(layer.data_to_world(cell)[0], abs=0.11)
    details.previous.click()
    assert "place 2 of 2" in details.places.text()
    viewer.layers.remove(layer)
    details.next.click()
    assert "No code map is shown" in details.places.text()


def test_all_layers_are_the_sum_of_each(viewer, tab, add_codes, idle, desk) -> None:
    one, two = some_codes(seed=1), some_codes((2, 4, 6), seed=2)
    add_codes(one, "one"), add_codes(two, "two")
    viewer.add_image(np.zeros((6, 8, 8)), name="bare")
    viewer.add_image(np.zeros((6, 8, 8)), scale=SIZE, units=UM, name="empty")
    tab.count_all()
    idle()
    found = tab.state.found
    assert found.usage.everywhere.counts.tolist() == (counts_of(one) + counts_of(two)).tolist()
    assert (found.what, found.num_volumes, found.is_complete, len(found.contexts)) == ("2 layers", 2, True, 2)
    maps = {layer.name: layer.data for layer in viewer.layers if layer.name.endswith("(codes)")}
    assert list(maps) == ["one (codes)", "two (codes)"] and np.array_equal(maps["two (codes)"], two + 1)
    assert "'empty'" in tab.problems.text() and "bare" not in tab.problems.text() and desk.failures == []
    tab.choose(7)
    assert tab.codes.details.places.text() == f"{counts_of(one)[7] + counts_of(two)[7]} places in 2 code maps"
    desk.undo.undo()  # both at once
    assert len(viewer.layers) == 4 and desk.undo.title == ""
    desk.undo.redo()
    tab.show_quantization()
    idle()
    tab.count_all()  # images of cells are no volumes to count; a map is replaced by that of the same layer
    idle()
    names = [layer.name for layer in viewer.layers if layer.name.endswith("(codes)")]
    assert names == ["one (codes)", "two (codes)"] and len(viewer.layers) == 4 + 4 + 2


def test_of_a_series_the_frame_in_view_is_counted(viewer, tab, idle) -> None:
    from tests.planted_model import planted_volume

    frames = [some_codes(seed=seed) for seed in range(3)]
    data = np.stack([planted_volume(codes, FACTOR).data for codes in frames])
    viewer.add_image(data, scale=(1.0, *SIZE), units=("s", *UM), axis_labels=("t", "z", "y", "x"), name="series")
    viewer.dims.set_current_step(0, 2)
    tab.count()
    idle()
    assert np.array_equal(viewer.layers[-1].data, frames[2] + 1)
    assert viewer.layers[-1].name == "series (codes, time point 2)"
    assert tab.state.found.what == "layer series, time point 2"


def test_what_cannot_be_counted_is_said(viewer, tab, desk) -> None:
    viewer.add_labels(np.ones((6, 8, 8), np.uint8), name="labels")
    tab.count(viewer.layers[0])
    assert len(desk.failures) == 1 and not tab.counter.is_running
    viewer.layers.clear()
    viewer.add_image(np.zeros((6, 8, 8)), name="bare")
    assert not tab.source.button.isEnabled() and "no voxel size" in tab.source.reason.text()
    assert not tab.tools.quantization.isEnabled() and "no voxel size" in tab.tools.quantization.toolTip()
    tab.source.choose("folder")
    assert "Choose a folder" in tab.source.reason.text() and not tab.source.button.isEnabled()
    desk.model.header = None
    assert tab.source.reason.text() == "No model is open: choose one on the Model tab."
    assert not tab.codes.isVisible() and not tab.tools_fold.isVisible()


def test_quantization_error_comes_as_layers(viewer, tab, add_codes, idle) -> None:
    codes = some_codes()
    add_codes(codes)
    tab.tools.quantization.click()
    idle()
    names = ["snapped", "unsnapped", "snapped minus unsnapped", "quantization error"]
    assert [layer.name for layer in viewer.layers[1:]] == [f"planted ({name})" for name in names]
    # The encoder leaves (0.25 i, 0) and code i is (0.25 i, 0.01 i).
    assert np.allclose(viewer.layers[-1].data, 0.01 * codes / np.sqrt(2), atol=1e-6)
    tab.desk.undo.undo()
    assert [layer.name for layer in viewer.layers] == ["planted"]


def test_another_model_takes_the_counts_away_and_leaves_the_layers(
    viewer, tab, add_codes, idle, tiny_checkpoints
) -> None:
    add_codes(some_codes())
    tab.count()
    idle()
    tab.choose(4)
    layer = viewer.layers[-1]
    lit = layer.colormap.map(np.arange(CODES) + 1)
    tab.desk.model.device = "cpu"  # the same weights
    assert tab.state.code == 4
    tab.desk.model.open(tiny_checkpoints["ldm"])
    assert tab.state.found is None and tab.maps.maps == [] and layer in viewer.layers
    assert not np.array_equal(layer.colormap.map(np.arange(CODES) + 1), lit)
    assert tab.channels.isVisible() and not tab.codes.isVisible()
    tab.desk.model.open(tiny_checkpoints["vq-ldm"])
    assert tab.state.found is None and tab.codes.isVisible() and not tab.tools.table.isEnabled()


def test_another_model_ends_a_count(tab, add_codes, idle, desk, viewer, tiny_checkpoints) -> None:
    gate = threading.Event()

    def hold(_engine: object) -> Iterator[object]:
        gate.wait(60)
        yield from ()

    add_codes(some_codes())
    desk.run("Hold", hold)
    tab.count()
    assert tab.counter.is_running
    desk.model.open(tiny_checkpoints["ldm"])
    gate.set()
    idle()
    assert tab.state.found is None and len(viewer.layers) == 1 and not tab.counter.is_running


def test_a_closed_tab_follows_nothing_and_can_go(viewer, desk, planted, qtbot, add_codes, wait_until) -> None:
    from napari_vqldm.plugin.tabs.codebook.tab import CodebookTab

    callbacks = len(viewer.mouse_drag_callbacks)
    tab = CodebookTab(desk)
    add_codes(some_codes())
    tab.count()
    wait_until(lambda: not desk.runner.is_busy)
    layer = weakref.ref(viewer.layers[-1])
    tab.close_tab()
    tab.close_tab()
    assert len(viewer.mouse_drag_callbacks) == callbacks
    desk.model_changed.emit()
    viewer.layers.clear()
    desk.undo.clear()
    wait_until(lambda: gc.collect() >= 0 and layer() is None)
    gone = weakref.ref(tab.state)
    tab.deleteLater()
    del tab
    wait_until(lambda: gc.collect() >= 0 and gone() is None)
