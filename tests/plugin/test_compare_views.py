"""Views of an input and its reconstruction: what they show, and that they put everything back."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from napari_vqldm.plugin.compare.blink import Blink
from napari_vqldm.plugin.compare.canvases import SeparateCanvases
from napari_vqldm.plugin.compare.grid import SideBySide
from napari_vqldm.plugin.compare.looks import LinkedLook, VisibleOnly
from napari_vqldm.plugin.compare.plots import ComparisonPlots
from napari_vqldm.plugin.compare.sync import CameraLock, SliceLock
from napari_vqldm.plugin.compare.wipe import Wipe, WipedArray
from napari_vqldm.plugin.compare.words import (
    ceiling_text,
    cutoff_of,
    numbers_text,
    plane_text,
    series_text,
    spectrum_text,
)
from napari_vqldm.plugin.compat import camera_of, grid_of

SHAPE = (6, 24, 20)


def add(viewer: Any, name: str, seed: int, top: float = 1.0) -> Any:
    data = np.random.default_rng(seed).random(SHAPE).astype(np.float32) * top
    return viewer.add_image(data, name=name, contrast_limits=(0.0, top), scale=(0.2, 0.1, 0.1), units=("um",) * 3)


@pytest.fixture
def layers(viewer: Any) -> tuple[Any, Any, Any, Any]:
    """Input, another layer, reconstruction, residual."""
    return add(viewer, "in", 0), add(viewer, "other", 1), add(viewer, "out", 2, 3.0), add(viewer, "rest", 3)


def cells(viewer: Any) -> dict[str, tuple[int, int]]:
    grid = grid_of(viewer)
    return {layer.name: grid.position(i, viewer.layers) for i, layer in enumerate(viewer.layers) if layer.visible}


def links() -> int:
    from napari.layers.utils import _link_layers

    return len(_link_layers._UNLINKERS)


# --- looks ------------------------------------------------------------------------------------------------------------


def test_a_linked_look_is_shared_and_given_back(layers: tuple[Any, ...]) -> None:
    source, _, result, _ = layers
    before, num_links = list(result.contrast_limits), links()
    look = LinkedLook([source, result])
    assert list(result.contrast_limits) == list(source.contrast_limits)
    result.contrast_limits = (0.1, 0.6)
    assert list(source.contrast_limits) == [0.1, 0.6]
    source.gamma = 0.5
    assert result.gamma == 0.5
    look.close()
    look.close()
    assert list(result.contrast_limits) == before and links() == num_links
    source.gamma = 0.8
    assert result.gamma == 1.0


def test_links_of_the_user_stay(layers: tuple[Any, ...]) -> None:
    from napari.experimental import link_layers

    source, _, result, _ = layers
    link_layers([source, result], ("gamma",))
    LinkedLook([source, result]).close()
    source.gamma = 0.7
    assert result.gamma == 0.7


def test_only_some_layers_are_visible_for_a_while(viewer: Any, layers: tuple[Any, ...]) -> None:
    source, other, result, rest = layers
    rest.visible = False
    alone = VisibleOnly(viewer, [source, rest])
    assert [layer.visible for layer in layers] == [True, False, False, True]
    viewer.layers.remove(result)
    alone.close()
    assert [source.visible, other.visible, rest.visible] == [True, True, False]


# --- side by side -----------------------------------------------------------------------------------------------------


def test_side_by_side_puts_three_layers_in_one_row(viewer: Any, layers: tuple[Any, ...]) -> None:
    source, _, result, rest = layers
    view = SideBySide(viewer, [source, result, rest])
    assert cells(viewer) == {"in": (0, 0), "out": (0, 1), "rest": (0, 2)}
    assert list(result.contrast_limits) == list(source.contrast_limits)
    assert list(rest.contrast_limits) == [0.0, 1.0]
    view.end()


def test_side_by_side_keeps_its_order_whatever_the_list_says(viewer: Any, layers: tuple[Any, ...]) -> None:
    source, _, result, rest = layers
    viewer.layers.move(viewer.layers.index(source), len(viewer.layers))
    SideBySide(viewer, [source, result, rest])
    found = cells(viewer)
    assert found["in"] < found["out"] < found["rest"]


@pytest.mark.parametrize("ndisplay", [2, 3])
def test_side_by_side_puts_everything_back(viewer: Any, layers: tuple[Any, ...], ndisplay: int) -> None:
    source, _, result, rest = layers
    grid = grid_of(viewer)
    grid.stride, grid.shape = -2, (3, 1)
    viewer.dims.ndisplay = ndisplay
    rest.visible = False
    ended: list[bool] = []
    view = SideBySide(viewer, [source, result, rest], lambda: ended.append(True))
    viewer.dims.ndisplay = 5 - ndisplay
    view.end()
    view.end()
    assert (grid.enabled, grid.stride, tuple(grid.shape)) == (False, -2, (3, 1))
    assert viewer.dims.ndisplay == ndisplay
    assert [layer.visible for layer in layers] == [True, True, True, False]
    assert not any(layer.name_overlay.visible for layer in layers)
    assert ended == [True]


@pytest.mark.parametrize("victim", [0, 2, 3])
def test_side_by_side_ends_when_one_of_its_layers_is_deleted(viewer: Any, layers: tuple[Any, ...], victim: int) -> None:
    source, other, result, rest = layers
    view, num_links = SideBySide(viewer, [source, result, rest]), links()
    assert num_links > 0
    viewer.layers.remove(layers[victim])
    assert not view.is_open and not grid_of(viewer).enabled
    assert other.visible and links() == 0


def test_cells_show_different_pictures(shown_viewer: Any, wait_until: Callable[..., None]) -> None:
    dark, bright = add(shown_viewer, "a", 0, 0.2), add(shown_viewer, "b", 1)
    dark.contrast_limits = (0.0, 1.0)
    view = SideBySide(shown_viewer, [dark, bright])
    picture = shown_viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(float)
    left, right = np.array_split(picture, 2, axis=1)
    assert left.std() > 0 and right.std() > 0
    assert right.mean() > 2 * left.mean()
    view.end()


# --- canvases ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def canvases(shown_viewer: Any, qtbot: Any) -> Any:
    source, result, rest = (add(shown_viewer, name, i) for i, name in enumerate(("in", "out", "rest")))
    view = SeparateCanvases(shown_viewer, source, [result, rest])
    view.dock()
    yield view
    view.end()
    del view
    qtbot.wait(10)  # Qt deletes later


def test_canvases_follow_the_camera_both_ways(shown_viewer: Any, canvases: Any) -> None:
    camera_of(shown_viewer).zoom = 7.0
    assert [camera_of(model).zoom for model in canvases.models] == [7.0, 7.0]
    shown_viewer.dims.ndisplay = 3
    assert [model.dims.ndisplay for model in canvases.models] == [3, 3]
    camera_of(canvases.models[1]).angles = (10.0, 20.0, 30.0)
    assert np.allclose(camera_of(shown_viewer).angles, (10.0, 20.0, 30.0))


def test_slices_are_one_until_they_are_let_go(shown_viewer: Any, canvases: Any) -> None:
    other = canvases.models[0]
    shown_viewer.dims.set_point(0, 0.2)
    assert other.dims.point[0] == pytest.approx(0.2)
    other.dims.set_point(0, 0.6)
    assert shown_viewer.dims.point[0] == pytest.approx(0.6)
    canvases.independent.setChecked(True)
    other.dims.set_point(0, 1.0)
    assert shown_viewer.dims.point[0] == pytest.approx(0.6)
    canvases.independent.setChecked(False)
    assert other.dims.point[0] == pytest.approx(0.6)


def test_canvases_show_copies_that_share_voxels_and_contrast(shown_viewer: Any, canvases: Any) -> None:
    source, result, _ = shown_viewer.layers
    copy = canvases.models[0].layers[0]
    assert copy is not result and np.shares_memory(copy.data, result.data)
    source.contrast_limits = (0.2, 0.4)
    assert list(copy.contrast_limits) == [0.2, 0.4]
    assert [layer.visible for layer in shown_viewer.layers] == [True, False, False]
    result.data = result.data + 1
    assert np.array_equal(copy.data, result.data)


def test_canvases_end_and_leave_nothing(shown_viewer: Any, qtbot: Any) -> None:
    from napari.qt import QtViewer

    source, result = add(shown_viewer, "in", 0), add(shown_viewer, "out", 1)
    before = len(QtViewer._instances)
    view = SeparateCanvases(shown_viewer, source, [result])
    view.dock()
    models = [weakref.ref(model) for model in view.models]
    assert len(QtViewer._instances) == before + 1
    view.end()
    view.end()
    del view

    def is_gone() -> bool:
        gc.collect()
        return len(QtViewer._instances) == before and all(ref() is None for ref in models)

    qtbot.waitUntil(is_gone, timeout=5000)
    assert links() == 0 and result.visible
    camera_of(shown_viewer).zoom = 3.0


def test_closing_the_dock_ends_the_canvases(shown_viewer: Any, qtbot: Any) -> None:
    source, result = add(shown_viewer, "in", 0), add(shown_viewer, "out", 1)
    ended: list[bool] = []
    view = SeparateCanvases(shown_viewer, source, [result], lambda: ended.append(True))
    dock = view.dock()
    qtbot.waitUntil(view.isVisible, timeout=5000)
    dock.destroyOnClose()
    qtbot.waitUntil(lambda: ended == [True], timeout=5000)


def test_deleting_the_layer_ends_the_canvases(shown_viewer: Any, canvases: Any) -> None:
    shown_viewer.layers.remove("out")
    assert canvases.models == []


def test_locks_meet_at_the_last_axes() -> None:
    from napari.components import ViewerModel

    series, stack = ViewerModel(), ViewerModel()
    series.add_image(np.zeros((3, *SHAPE), np.float32), contrast_limits=(0, 1))
    stack.add_image(np.zeros(SHAPE, np.float32), contrast_limits=(0, 1))
    slices, cameras = SliceLock([series, stack]), CameraLock([series, stack])
    series.dims.set_point(1, 4.0)
    assert stack.dims.point[0] == 4.0
    stack.dims.set_point(0, 2.0)
    assert series.dims.point[1] == 2.0
    slices.close(), cameras.close()
    series.dims.set_point(1, 1.0)
    assert stack.dims.point[0] == 2.0


# --- blink and wipe ---------------------------------------------------------------------------------------------------


def test_blink_shows_one_of_the_two_at_a_time(viewer: Any, layers: tuple[Any, ...], qtbot: Any) -> None:
    source, other, result, _ = layers
    shown: list[str] = []
    view = Blink(viewer, source, result, on_shown=lambda layer: shown.append(layer.name))
    view._timer.setInterval(10)
    view.play()
    qtbot.waitUntil(lambda: len(shown) >= 4, timeout=5000)
    assert shown[:4] == ["out", "in", "out", "in"]
    view.pause()
    assert source.visible != result.visible and not other.visible
    was = source.visible
    view.toggle()
    assert source.visible is not was
    view.end()
    assert all(layer.visible for layer in layers) and links() == 0


def test_blink_ends_when_its_layer_is_deleted(viewer: Any, layers: tuple[Any, ...]) -> None:
    source, other, result, _ = layers
    ended: list[bool] = []
    view = Blink(viewer, source, result, on_ended=lambda: ended.append(True))
    view.play()
    viewer.layers.remove(result)
    view.toggle()
    assert ended == [True] and not view.is_playing and other.visible and source.visible


def test_a_wiped_array_is_left_before_and_right_behind_the_divider() -> None:
    rng = np.random.default_rng(0)
    left, right = rng.random(SHAPE, np.float32), rng.random(SHAPE, np.float32)
    wiped = WipedArray(left, right)
    for divider in (0, 7, 20, 3, 12, 99, -5, 10):
        wiped.move(divider)
        inside = min(max(divider, 0), SHAPE[-1])
        assert np.array_equal(wiped.data[..., :inside], left[..., :inside])
        assert np.array_equal(wiped.data[..., inside:], right[..., inside:])


@pytest.mark.parametrize("ndisplay", [2, 3])
def test_a_wipe_is_one_temporary_layer(viewer: Any, layers: tuple[Any, ...], ndisplay: int) -> None:
    source, _, result, _ = layers
    viewer.dims.ndisplay = ndisplay
    count = len(viewer.layers)
    view = Wipe(viewer, source, result, result.data, source.data)
    view.move(0.5)
    layer = viewer.layers[-1]
    assert [entry.visible for entry in viewer.layers] == [False] * count + [True]
    assert np.array_equal(layer.data[..., :10], result.data[..., :10])
    assert np.array_equal(layer.data[..., 10:], source.data[..., 10:])
    assert np.allclose(layer.scale, result.scale) and list(layer.contrast_limits) == list(source.contrast_limits)
    view.end()
    view.end()
    assert len(viewer.layers) == count and all(entry.visible for entry in viewer.layers)


def test_a_wipe_survives_the_deletion_of_its_layers(viewer: Any, layers: tuple[Any, ...]) -> None:
    source, other, result, _ = layers
    view = Wipe(viewer, source, result, result.data, source.data)
    viewer.layers.remove(view.layer)
    view.move(0.7)
    assert other.visible
    view = Wipe(viewer, source, result, result.data, source.data)
    viewer.layers.remove(source)
    view.move(0.2)
    assert [layer.name for layer in viewer.layers] == ["other", "out", "rest"]


# --- numbers and plots ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def comparison() -> Any:
    """Of a noisy simulated stack and its noise-free truth."""
    from napari_vqldm.compare import compare
    from napari_vqldm.config import SimulationConfig
    from napari_vqldm.simulation import simulate

    sample = simulate(1, seed=1, config=SimulationConfig(shape=(12, 48, 48)))[0]
    return compare(sample.noisy, sample.clean)


def test_numbers_say_what_was_measured(comparison: Any) -> None:
    text = numbers_text(comparison)
    assert f"{comparison.psnr_db:.1f} dB" in text and f"{comparison.ssim:.3f}" in text
    assert "perfect noise-free result would score" in ceiling_text(comparison)
    assert f"{comparison.noise_ceiling_db:.1f} dB" in ceiling_text(comparison)
    worst = int(comparison.psnr_per_z_db.argmin())
    assert f"z = {worst} (worst)" in plane_text(comparison)
    assert series_text([comparison]) == ""
    assert "All 2 frames" in series_text([comparison, comparison])


def test_an_identical_volume_is_called_identical(comparison: Any) -> None:
    from napari_vqldm.compare import compare
    from napari_vqldm.volume import Volume

    volume = Volume(np.random.default_rng(0).random(SHAPE, np.float32), (0.2, 0.1, 0.1))
    same = compare(volume, volume)
    assert numbers_text(same) == "Identical to the input, voxel for voxel." and ceiling_text(same) == ""


def test_the_cut_off_is_that_of_the_optics(comparison: Any) -> None:
    from napari_vqldm.config_simulation import OpticsConfig

    assert cutoff_of(OpticsConfig(numerical_aperture=1.4, emission_wavelength_um=0.6)) == pytest.approx(
        4.6667, abs=1e-3
    )
    assert cutoff_of(None) is None
    assert "cut-off" in spectrum_text(comparison, 4.0) and "cut-off" not in spectrum_text(comparison, None)


@pytest.fixture
def plots(qtbot: Any) -> Any:
    """Held until Qt has closed it: a plot must not be collected while it is painted."""
    widget = ComparisonPlots()
    qtbot.addWidget(widget)
    return widget


def test_plots_show_the_numbers_and_a_click_names_a_plane(plots: ComparisonPlots, comparison: Any) -> None:
    from qtpy.QtCore import QPointF

    assert plots.plane_plot is None
    plots.resize(320, 400)
    plots.show_comparison(comparison, 4.0)
    plots.show()
    per_z = plots.curve("per_z")
    assert np.allclose(per_z[1], comparison.psnr_per_z_db)
    frequency, power = plots.curve("output")
    assert np.allclose(frequency, comparison.reconstruction_spectrum.frequency_per_um)
    assert power.max() <= plots.curve("input")[1].max() + 1.0
    chosen: list[int] = []
    plots.plane_chosen.connect(chosen.append)

    where = plots.plane_plot.getViewBox().mapViewToScene(QPointF(5.2, float(per_z[1][5])))
    plots._on_click(SimpleNamespace(scenePos=lambda: where))
    assert chosen == [5]
    plots.show_comparison(None)
    assert len(plots.curve("per_z")[0]) == 0 and plots.plane_label.text() == ""


def test_without_pyqtgraph_the_plots_are_words(
    plots: ComparisonPlots, comparison: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pyqtgraph", None)
    plots.show_comparison(comparison, 4.0)
    assert plots.plane_plot is None
    assert "PSNR per plane" in plots.plane_label.text() and "Power spectrum" in plots.spectrum_label.text()
