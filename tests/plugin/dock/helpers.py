"""What tests of the whole dock do in it and ask of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.key_bindings import coerce_keybinding

from napari_vqldm.plugin.keys import KEYS
from napari_vqldm.plugin.settings import PLUGIN

if TYPE_CHECKING:
    import napari

    from napari_vqldm.plugin.dock import Dock

WIDGET = "VQ-LDM Microtubules"
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


def bound(viewer: Any) -> list[str]:
    """Which of our keys do something in a viewer."""
    return [key for key in KEYS if coerce_keybinding(key) in viewer.keymap]


def notices_of(dock: Dock) -> list[str]:
    heard: list[str] = []
    dock.desk.noticed.connect(heard.append)
    dock.desk.runner.noted.connect(lambda _job, text: heard.append(text))
    return heard


def remove(dock: Dock) -> None:
    dock.desk.viewer.window.remove_dock_widget(dock)
