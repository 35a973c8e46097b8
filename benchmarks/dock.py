"""How the dock feels: ``tools/with_display.sh python benchmarks/dock.py [--quick]``.

Each row is measured in a fresh process with a real window (napari, software rendering where there is no GPU):

- opening the dock: seconds from the call to the shown widget, torch not imported; first in a process, and again.
- first sample: seconds from starting Python to the first finished layer, with one click and the defaults.
- per job (sample, reconstruct, side by side), 2D and 3D: the longest time that one delivery or click kept the GUI
  thread ("own slot"), and the longest and 99th percentile gap of the event loop, seen by a timer of 5 ms. What the
  window draws meanwhile is in the gap and not in the slot. The one-time import of torch is a job of its own.
- slider: from a move to the preview and to the full frame that it leads to, and 60 moves in a second: the last frame
  shown is the last one asked for, and how many were decoded.

Writes results/dock.json, one entry per machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

OUT = Path(__file__).parent / "results" / "dock.json"
PLUGIN, WIDGET = "napari-vqldm", "VQ-LDM Microtubules"
TICK_MS = 5
MOVES = 60
TIMEOUT_S = 300.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one repeat, one model")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        name, _, model = chosen.child.partition(":")
        print("\n" + json.dumps(CHILDREN[name](model)), flush=True)
        Window.last.close()
        return
    repeats, models = (1, ["vq-ldm"]) if chosen.quick else (3, ["ldm", "vq-ldm"])
    opened = [child("opening") for _ in range(repeats)]
    result: dict[str, Any] = {
        "opening": {key: median([run[key] for run in opened]) for key in opened[0]},
        "first_sample": {model: child(f"first_sample:{model}") for model in models},
        "jobs": {model: child(f"jobs:{model}") for model in models},
        "slider": {model: child(f"slider:{model}") for model in models},
    }
    found = json.loads(chosen.out.read_text()) if chosen.out.is_file() else {}
    found[machine()] = result
    chosen.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def child(what: str) -> dict[str, Any]:
    """Measure in a fresh process; its last line is the result."""
    started = time.time()
    done = subprocess.run(
        [sys.executable, __file__, "--child", what],
        capture_output=True,
        text=True,
        env={**os.environ, "VQLDM_STARTED": repr(started)},
        timeout=1200,
    )
    if done.returncode:
        raise SystemExit(f"{what} failed:\n{done.stderr[-3000:]}")
    print(f"{what}: {done.stdout.splitlines()[-1]}", file=sys.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{name}, {os.cpu_count()} cores, {platform.system()}"


def median(values: list[Any]) -> Any:
    ordered = sorted(values)
    return ordered[len(ordered) // 2]


# --- in the child -----------------------------------------------------------------------------------------------------


class Window:
    """A viewer with the dock, and what is watched: gaps of the event loop, own slots."""

    last: Window

    def __init__(self) -> None:
        import napari
        from qtpy.QtCore import Qt, QTimer
        from qtpy.QtWidgets import QApplication

        self.viewer = napari.Viewer()
        self.viewer.window.resize(1400, 900)
        self.app = QApplication.instance()
        self.gaps: list[float] = []
        self.slots: list[float] = []
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
        found["longest_slot_ms"] = round(1e3 * max(self.slots, default=0.0), 1)

    def click(self, action: Callable[[], Any]) -> None:
        """Do what a click does, as a slot that is timed."""
        began = time.perf_counter()
        action()
        self.slots.append(time.perf_counter() - began)

    def _tick(self) -> None:
        now = time.perf_counter()
        self.gaps.append(now - self._last)
        self._last = now

    def _watch_slots(self) -> None:
        """Time everything that comes back from the inference thread: each callback of each delivery."""
        runner = self.dock.desk.runner
        run = runner.run
        names = ("on_step", "on_done", "on_failure", "on_cancelled")

        def timed(function: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any) -> Any:
                began = time.perf_counter()
                try:
                    return function(*arguments)
                finally:
                    self.slots.append(time.perf_counter() - began)

            return call

        def watched_run(title: str, work: Any, **options: Any) -> Any:
            return run(title, work, **{k: timed(v) if k in names and v is not None else v for k, v in options.items()})

        runner.run = watched_run


def opening(_model: str) -> dict[str, Any]:
    window = Window()
    first = window.open()
    has_torch = "torch" in sys.modules
    window.viewer.window.remove_dock_widget("all")
    window.pump(0.5)
    again = window.open()
    return {"first_s": round(first, 3), "again_s": round(again, 3), "torch_imported": has_torch}


def first_sample(model: str) -> dict[str, Any]:
    window = Window()
    window.open()
    window.dock.open_model(model)
    window.dock.sample_tab.start()
    window.wait(lambda: _samples(window), "the first volume")
    return {"seconds_from_start": round(time.time() - float(os.environ["VQLDM_STARTED"]), 1)}


def jobs(model: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    window = Window()
    window.open()
    dock = window.dock
    dock.open_model(model)
    with window.watched() as found["import_of_torch_and_model"]:
        dock.sample_tab.state.steps = 1
        window.click(dock.sample_tab.start)
        window.idle()
    dock.sample_tab.state.steps = 10
    for ndisplay in (2, 3):
        window.viewer.dims.ndisplay = ndisplay
        window.pump(1.0)
        with window.watched() as found[f"sample_{ndisplay}d"]:
            window.click(dock.sample_tab.start)
            window.idle()
        with window.watched() as found[f"reconstruct_{ndisplay}d"]:
            dock.reconstruct_tab.input.picker.choose(_samples(window)[-1])
            window.pump(0.1)
            window.click(dock.reconstruct_tab.start)
            window.idle()
        with window.watched() as found[f"side_by_side_{ndisplay}d"]:
            window.click(lambda: dock.compare(_samples(window)[-1]))
            window.idle()
    return found


def slider(model: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    window = Window()
    window.open()
    dock = window.dock
    dock.open_model(model)
    dock.sample_tab.state.steps, dock.sample_tab.state.count = 4, 2
    dock.sample_tab.start()
    window.idle()
    tab = dock.interpolate_tab
    dock.show_tab("Interpolate")
    a, b = _samples(window)[-2:]
    tab.ends.a.picker.choose(a)
    tab.ends.b.picker.choose(b)
    tab.start()
    window.idle()
    window.wait(lambda: tab.view is not None and tab.view.frame is not None, "the first frame")
    for ndisplay in (2, 3):
        window.viewer.dims.ndisplay = ndisplay
        window.pump(1.0)
        previews, fulls = [], []
        with window.watched() as row:
            for t in (place + 0.01 * ndisplay for place in (0.11, 0.29, 0.43, 0.57, 0.71, 0.89)):
                began = time.perf_counter()
                window.click(lambda t=t: tab.play.slider.setValue(t))
                window.wait(lambda t=t: abs(tab.view.frame.t - t) < 1e-6, "a frame")
                previews.append(time.perf_counter() - began)
                tab.play.settled.emit()
                window.wait(lambda t=t: tab.view.frame.quality != "preview", "the full frame")
                fulls.append(time.perf_counter() - began)
        row["move_to_first_frame_ms"] = round(1e3 * median(previews), 1)
        row["move_to_full_frame_ms"] = round(1e3 * median(fulls), 1)
        found[f"single_moves_{ndisplay}d"] = row
        found[f"fast_moves_{ndisplay}d"] = fast_moves(window, tab)
    return found


def fast_moves(window: Window, tab: Any) -> dict[str, Any]:
    """Move the slider 60 times in a second; see which frames arrive."""
    shown: list[float] = []
    show = tab.view.show

    def noted(frame: Any, limits: Any) -> None:
        shown.append(frame.t)
        show(frame, limits)

    tab.view.show = noted
    with window.watched() as row:
        for i in range(MOVES):
            window.click(lambda i=i: tab.play.slider.setValue((i + 1) / (MOVES + 20) + 0.003))
            window.pump(1.0 / MOVES)
        last = tab.state.t
        tab.play.settled.emit()
        window.wait(lambda: tab.view.frame.t == last and tab.view.frame.quality != "preview", "the last frame")
        window.idle()
    del tab.view.show
    return row | {"moves": MOVES, "frames_shown": len(shown), "last_shown_is_last_asked": shown[-1] == last}


def _samples(window: Window) -> list[Any]:
    """Layers of finished volumes."""
    found = []
    for layer in window.viewer.layers:
        record = layer.metadata.get("napari_vqldm")
        if record and record.get("verb") == "generate":
            found.append(layer)
    return found


CHILDREN = {"opening": opening, "first_sample": first_sample, "jobs": jobs, "slider": slider}


if __name__ == "__main__":
    main()
