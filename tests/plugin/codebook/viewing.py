"""Where cells are on the canvas, and real clicks on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_vqldm.intensity import IntensityScale

FILAMENT_UNITS = IntensityScale(0.0, 1.0)


def show_map(viewer: Any, model: Any, layer: Any, state: Any, **chosen: Any) -> Any:
    """Find the codes of a layer of filament units, and show them."""
    from napari_vqldm.inside.codes import code_map
    from napari_vqldm.plugin.layers import snapshot
    from napari_vqldm.plugin.tabs.codebook.map_layer import CodeMapLayer

    source = snapshot(layer, **chosen)
    found = code_map(model, source.read(), intensity=FILAMENT_UNITS)
    count(state, found)
    return CodeMapLayer(viewer, found, source, state)


def count(state: Any, found: Any) -> None:
    from napari_vqldm.plugin.tabs.codebook.state import Found

    size = len(found.usage.everywhere.counts)
    if state.found is None:
        vectors = np.zeros((size, 2), np.float32)
        state.show(Found("planted", "sha", found.usage, (found,), vectors, False, 0, "layer planted", 1))


def canvas_of(viewer: Any) -> Any:
    from napari_vqldm.plugin.compare.marks import canvas_of as find

    return find(viewer)


def pixel_of(viewer: Any, layer: Any, cell: Sequence[float]) -> tuple[int, int]:
    """Pixel (x, y) of the canvas at which a cell (z, y, x) of a layer is drawn; the world has its units."""
    QApplication.processEvents()
    view = canvas_of(viewer).view
    world = np.asarray(layer.data_to_world(cell))[list(viewer.dims.displayed)]
    x, y, _, w = (view.transform * view.scene.transform).map(world[::-1])
    return round(float(x / w)), round(float(y / w))


def click(
    viewer: Any,
    pixel: tuple[int, int],
    button: Qt.MouseButton = Qt.MouseButton.LeftButton,
    modifiers: Qt.KeyboardModifier = Qt.KeyboardModifier.NoModifier,
    to: tuple[int, int] | None = None,
    *,
    and_back: bool = False,
) -> None:
    """Press and release a button of the mouse; with ``to``, move there in between, or there and back."""
    native = canvas_of(viewer).native
    native.setFocus()
    QTest.mousePress(native, button, modifiers, QPoint(*pixel))
    if to is not None:
        from qtpy.QtCore import QEvent, QPointF
        from qtpy.QtGui import QMouseEvent

        for part in (0.3, 0.6, 1.0, *((0.5, 0.0) if and_back else ())):  # QTest moves without a button
            place = QPointF(*(p + part * (t - p) for p, t in zip(pixel, to, strict=True)))
            move = QMouseEvent(
                QEvent.Type.MouseMove, place, native.mapToGlobal(place), Qt.MouseButton.NoButton, button, modifiers
            )
            QApplication.sendEvent(native, move)
            QTest.qWait(20)  # napari looks at moves every 5 ms
    QTest.mouseRelease(native, button, modifiers, QPoint(*(pixel if to is None or and_back else to)))
    QApplication.processEvents()


def pixels(viewer: Any) -> np.ndarray:
    """What the canvas shows, (height, width, 3), 0 to 255."""
    QApplication.processEvents()
    return np.asarray(viewer.screenshot(canvas_only=True, flash=False))[..., :3].astype(int)


def is_lit(colors: np.ndarray) -> np.ndarray:
    """Which of the colors (..., 3) are the yellow of chosen codes."""
    red, green, blue = np.moveaxis(colors, -1, 0)
    return (red > 170) & (green > 130) & (blue < 90) & (red > green)
