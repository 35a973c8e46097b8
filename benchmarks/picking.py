"""Clicks on a code map, for `dock.py`: how long it takes until the chosen code is lit on the canvas."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from window import Window

CLICKS = 10
MISSED_S = 5.0  # a click that chooses nothing in this time hit no cell


def measure_picks(window: Window, stack: Any) -> dict[str, Any]:
    """Count the codes of a layer, then click on filament cells in 2D and 3D; the longest of some clicks."""
    tab = window.dock.show_tab("Codebook")
    tab.count(stack)
    window.idle()
    window.wait(lambda: tab.maps.maps, "the code map")
    clicks, found = Clicks(window, tab), {}
    for ndisplay in (2, 3):
        window.viewer.dims.ndisplay = ndisplay
        window.viewer.reset_view()
        window.pump(1.0)
        rows = [row for cell in clicks.cells(2 * CLICKS) if (row := clicks.measure(cell))][: CLICKS + 1]
        rows = rows[1:]  # for the first one the driver compiles
        worst = {key: round(max(row[key] for row in rows), 1) for key in rows[0]}
        found[f"{ndisplay}d"] = {"clicks": len(rows), **worst}
    return found


class Clicks:
    """Clicks on cells, and when the canvas is painted."""

    def __init__(self, window: Window, tab: Any) -> None:
        from napari_vqldm.plugin.compare.marks import canvas_of

        self.window, self.tab, self.map = window, tab, tab.maps.maps[0]
        self.canvas = canvas_of(window.viewer)
        self.painted, self.chosen = 0.0, 0.0
        self.canvas.events.draw.connect(self._on_draw, position="last")
        tab.state.chosen.connect(self._on_chosen)

    def cells(self, most: int) -> list[Any]:
        """Filament cells: in the plane in view, or in all."""
        import numpy as np

        cells = np.argwhere(self.map.code_map.is_filament)
        if self.window.viewer.dims.ndisplay == 2:
            plane = round(float(self.map.to_cells(self.window.viewer.dims.point)[0]))
            cells = cells[cells[:, 0] == plane]
        return list(np.random.default_rng(0).permutation(cells)[:most])

    def measure(self, cell: Any) -> dict[str, float]:
        """Milliseconds from a click until its code is chosen, until it is lit, and for a frame without a change.

        Empty when the click hit nothing.
        """
        self.tab.state.choose(())
        self.window.idle()
        self.window.pump(0.2)
        began = time.perf_counter()
        self.canvas.native.update()
        self._wait(lambda: self.painted > began)
        plain = self.painted - began
        self.chosen, began = 0.0, time.perf_counter()
        self._click(*self._pixel(cell))
        if not self._wait(lambda: self.chosen and self.painted > self.chosen):
            return {}
        seconds = {
            "click_to_chosen_ms": self.chosen - began,
            "click_to_lit_ms": self.painted - began,
            "plain_frame_ms": plain,
            "lit_beyond_frame_ms": max(0.0, self.painted - began - plain),
        }
        return {name: 1e3 * value for name, value in seconds.items()}

    def _wait(self, condition: Callable[[], Any]) -> bool:
        """Run the event loop until a condition holds; False when it does not."""
        end = time.perf_counter() + MISSED_S
        while not condition() and time.perf_counter() < end:
            self.window.app.processEvents()
        return bool(condition())

    def _click(self, x: int, y: int) -> None:
        from qtpy.QtCore import QPoint, Qt
        from qtpy.QtTest import QTest

        button, key = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
        QTest.mouseClick(self.canvas.native, button, key, QPoint(x, y))

    def _on_draw(self, _event: Any = None) -> None:
        from vispy.gloo import gl

        gl.glFinish()  # else the drawing is ordered, not done
        self.painted = time.perf_counter()

    def _on_chosen(self) -> None:
        """All that the choice changes is changed: this is connected last."""
        self.chosen = time.perf_counter()

    def _pixel(self, cell: Any) -> tuple[int, int]:
        """Pixel (x, y) of the canvas at which the middle of a cell is drawn."""
        view, dims = self.canvas.view, self.window.viewer.dims
        world = [self.map.layer.data_to_world(cell)[axis] for axis in dims.displayed]
        x, y, _, w = (view.transform * view.scene.transform).map(world[::-1])
        return round(float(x / w)), round(float(y / w))
