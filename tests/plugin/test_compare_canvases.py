"""Separate canvases: locked cameras and slices in 2D and 3D, and nothing left behind."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest

from napari_vqldm.plugin.compare.canvases import SeparateCanvases
from napari_vqldm.plugin.compare.sync import CameraLock, SliceLock
from napari_vqldm.plugin.compat import camera_of

pytestmark = [pytest.mark.slow, pytest.mark.both_bindings]  # each test makes two more viewers

SHAPE = (6, 24, 20)


def add(viewer: Any, name: str, seed: int, top: float = 1.0) -> Any:
    data = np.random.default_rng(seed).random(SHAPE).astype(np.float32) * top
    return viewer.add_image(data, name=name, contrast_limits=(0.0, top), scale=(0.2, 0.1, 0.1), units=("um",) * 3)


def links() -> int:
    from napari.layers.utils import _link_layers

    return len(_link_layers._UNLINKERS)


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


def picture(canvas: Any) -> np.ndarray:
    """Pixels of a canvas, gray."""
    from qtpy.QtGui import QImage

    image = canvas.canvas.screenshot().convertToFormat(QImage.Format.Format_Grayscale8)
    bits = image.constBits()
    pixels = np.frombuffer(bits if isinstance(bits, memoryview) else bits.asarray(image.sizeInBytes()), np.uint8)
    return pixels.reshape(image.height(), image.bytesPerLine())[:, : image.width()].astype(float)


def test_canvases_turn_together_in_3d(shown_viewer: Any, canvases: Any, qtbot: Any) -> None:
    shown_viewer.dims.ndisplay = 3
    qtbot.wait(100)
    before = [picture(canvas) for canvas in canvases._canvases]
    assert all(pixels.std() > 1 for pixels in before)
    camera_of(shown_viewer).angles = (15.0, 40.0, 5.0)
    qtbot.wait(100)
    after = [picture(canvas) for canvas in canvases._canvases]
    assert all(np.abs(a - b).mean() > 1 for a, b in zip(before, after, strict=True))
    cameras = [camera_of(model) for model in (shown_viewer, *canvases.models)]
    for name in ("angles", "center"):
        assert all(np.allclose(getattr(camera, name), getattr(cameras[0], name)) for camera in cameras)
    assert len({camera.zoom for camera in cameras}) == 1
    cameras[2].zoom *= 2
    assert cameras[0].zoom == cameras[1].zoom == cameras[2].zoom


def test_canvases_show_whole_volumes_until_somebody_zooms(shown_viewer: Any, canvases: Any, qtbot: Any) -> None:
    shown_viewer.dims.ndisplay = 3
    qtbot.wait(100)
    diagonal = float(np.linalg.norm(np.ptp(np.asarray(shown_viewer.layers[0].extent.world), axis=0)))
    least = min(min(model.canvas.size) for model in canvases.models)
    assert 0.5 * least < diagonal * camera_of(shown_viewer).zoom <= least
    camera_of(shown_viewer).zoom = 99.0
    canvases.resize(canvases.width(), canvases.height() - 40)
    qtbot.wait(100)
    assert camera_of(shown_viewer).zoom == 99.0


def test_canvases_leave_the_dock_of_the_plugin_as_narrow_as_it_is(shown_viewer: Any, qtbot: Any) -> None:
    from qtpy.QtCore import Qt
    from qtpy.QtWidgets import QWidget

    window = shown_viewer.window._qt_window
    window.resize(1000, 800)
    beside = shown_viewer.window.add_dock_widget(QWidget(), name="beside", area="right")
    window.resizeDocks([beside], [320], Qt.Orientation.Horizontal)
    qtbot.waitUntil(lambda: beside.width() == 320, timeout=5000)
    source, result, rest = (add(shown_viewer, name, i) for i, name in enumerate(("in", "out", "rest")))
    least = -1
    while least != (least := window.minimumSizeHint().width()):  # the controls of the layers are laid out
        qtbot.wait(500)
    view = SeparateCanvases(shown_viewer, source, [result, rest])
    view.dock()
    qtbot.waitUntil(view.isVisible, timeout=5000)
    qtbot.wait(100)
    assert beside.width() == 320 and window.minimumSizeHint().width() == least
    assert view.minimumSizeHint().width() <= 320
    view.end()
    del view
    qtbot.wait(10)  # Qt deletes later


def test_canvases_have_titles_and_the_theme_of_the_viewer(shown_viewer: Any, canvases: Any, qtbot: Any) -> None:
    qtbot.waitUntil(lambda: [t.texts for t in canvases.titles] == [["Reconstruction\nout"], ["Residual\nrest"]])
    shown_viewer.theme = "light"
    assert all(np.allclose(m.canvas.background_color, shown_viewer.canvas.background_color) for m in canvases.models)
    assert np.mean(shown_viewer.canvas.background_color[:3]) > 0.5
    shown_viewer.theme = "dark"


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
