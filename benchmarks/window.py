"""A real window with the dock, for `dock.py`: what keeps its thread busy is watched."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any

PLUGIN, WIDGET = "napari-vqldm", "VQ-LDM Microtubules"
TICK_MS = 5
TIMEOUT_S = 300.0


class Window:
    """A viewer with the dock, and what is watched: gaps of the event loop, own slots."""

    last: Window | None = None

    def __init__(self) -> None:
        import napari
        from qtpy.QtCore import Qt, QTimer
        from qtpy.QtWidgets import QApplication

        self._napari_s, self._depth = 0.0, 0
        self._watch_napari()
        self.viewer = napari.Viewer()
        self.viewer.window.resize(1400, 900)
        self.app = QApplication.instance()
        self.gaps: list[float] = []
        self.slots: list[tuple[float, float]] = []  # seconds in all, without those inside napari
        self._napari_s, self._depth = 0.0, 0
        self._last = time.perf_counter()
        self.timer = QTimer()
        self.timer.setTimerType(Qt.TimerType.PreciseTimer)
        self.timer.timeout.connect(self._tick)
        Window.last = self
        self.pump(1.0)

    def close(self) -> None:
        """End as a user does: Qt does not survive a window that is open when Python ends."""
        self.viewer.close()
        self.pump(0.5)

    def open(self) -> float:
        """Open the dock; returns the seconds until it is shown."""
        began = time.perf_counter()
        _, self.dock = self.viewer.window.add_plugin_dock_widget(PLUGIN, WIDGET)
        self.app.processEvents()
        seconds = time.perf_counter() - began
        self._watch_slots()
        return seconds

    def pump(self, seconds: float) -> None:
        """Run the event loop for a while."""
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            self.app.processEvents()
            time.sleep(0.001)

    def wait(self, condition: Callable[[], Any], what: str) -> None:
        """Run the event loop until a condition holds."""
        end = time.perf_counter() + TIMEOUT_S
        while not condition():
            if time.perf_counter() > end:
                raise SystemExit(f"timed out waiting for {what}: {self.dock.errors.report}")
            self.app.processEvents()
            time.sleep(0.001)

    def idle(self) -> None:
        """Run the event loop until no job runs."""
        self.wait(lambda: not self.dock.desk.runner.is_busy, "the job")

    @contextmanager
    def watched(self) -> Iterator[dict[str, float]]:
        """Collect gaps and slots of what happens inside; the result is filled in at the end."""
        found: dict[str, float] = {}
        self.pump(0.3)
        self.gaps, self.slots, self._last = [], [], time.perf_counter()
        began = time.perf_counter()
        self.timer.start(TICK_MS)
        yield found
        self.pump(0.05)
        self.timer.stop()
        gaps = sorted(self.gaps)
        found["seconds"] = round(time.perf_counter() - began, 3)
        found["longest_gap_ms"] = round(1e3 * gaps[-1], 1)
        found["p99_gap_ms"] = round(1e3 * gaps[int(0.99 * (len(gaps) - 1))], 1)
        found["longest_slot_ms"] = round(1e3 * max((slot for slot, _ in self.slots), default=0.0), 1)
        found["longest_own_slot_ms"] = round(1e3 * max((own for _, own in self.slots), default=0.0), 1)

    def click(self, action: Callable[..., Any], *arguments: Any) -> Any:
        """Do what a click or a delivery does, as a slot that is timed."""
        began, in_napari = time.perf_counter(), self._napari_s
        try:
            return action(*arguments)
        finally:
            seconds = time.perf_counter() - began
            self.slots.append((seconds, seconds - (self._napari_s - in_napari)))

    def in_napari(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Time a function of napari, from outside: one that calls another counts once."""

        @wraps(function)
        def call(*arguments: Any, **keywords: Any) -> Any:
            began = time.perf_counter()
            self._depth += 1
            try:
                return function(*arguments, **keywords)
            finally:
                self._depth -= 1
                if not self._depth:
                    self._napari_s += time.perf_counter() - began

        return call

    def _tick(self) -> None:
        now = time.perf_counter()
        self.gaps.append(now - self._last)
        self._last = now

    def _watch_slots(self) -> None:
        """Time everything that comes back from the inference thread: each callback of each delivery."""
        runner = self.dock.desk.runner
        run = runner.run
        names = ("on_step", "on_done", "on_failure", "on_cancelled")

        def watched_run(title: str, work: Any, **options: Any) -> Any:
            timed = {k: partial(self.click, v) for k, v in options.items() if k in names and v is not None}
            return run(title, work, **options | timed)

        runner.run = watched_run

    def _watch_napari(self) -> None:
        """Time what napari does with layers and canvases; before it makes any of them."""
        from napari._vispy.canvas import VispyCanvas
        from napari.components import LayerList, ViewerModel
        from napari.layers import Image

        inside = [
            (ViewerModel, "add_layer"),
            (LayerList, "insert"),
            (LayerList, "remove"),
            (VispyCanvas, "_update_scenegraph"),
            (VispyCanvas, "on_draw"),
            (Image, "refresh"),
        ]
        for kind, name in inside:
            setattr(kind, name, self.in_napari(getattr(kind, name)))
        Image.data = type(Image.data)(Image.data.fget, self.in_napari(Image.data.fset))
        Image.visible = property(Image.visible.fget, self.in_napari(Image.visible.fset))
