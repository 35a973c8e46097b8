"""Commands of the menus, and checkpoints that are dropped on the viewer, reach the dock."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_vqldm.card import read_header
from napari_vqldm.plugin import commands
from napari_vqldm.plugin.settings import PLUGIN

if TYPE_CHECKING:
    import napari

    from napari_vqldm.plugin.dock import Dock


@pytest.fixture
def execute(viewer: napari.Viewer) -> Callable[[str], Any]:
    """Run a command as a menu does: napari hands it the viewer."""
    from napari._app_model import get_app_model

    return lambda name: get_app_model().commands.execute_command(f"{PLUGIN}.{name}").result()


def tab_of(dock: Dock) -> str:
    return dock.tabs.tabText(dock.tabs.currentIndex())


def failures_of(dock: Dock) -> list[Any]:
    heard: list[Any] = []
    dock.desk.failed.connect(heard.append)
    return heard


def test_opening_twice_gives_one_dock(viewer: napari.Viewer) -> None:
    first = commands.open_dock(viewer)
    assert commands.open_dock(viewer) is first
    assert len(viewer.window.dock_widgets) == 1


@pytest.mark.parametrize("name, tab", [("generate_volume", "Sample"), ("reconstruct_layer", "Reconstruct")])
def test_command_opens_its_tab(viewer: napari.Viewer, execute: Callable[[str], Any], name: str, tab: str) -> None:
    execute(name)
    assert tab_of(commands.open_dock(viewer)) == tab


@pytest.mark.parametrize("name", ["compare_layer", "measure_layer", "copy_python", "reproduce_layer"])
def test_command_without_a_layer_says_so(viewer: napari.Viewer, execute: Callable[[str], Any], name: str) -> None:
    heard = failures_of(commands.open_dock(viewer))
    execute(name)
    (failure,) = heard
    assert "no layer is selected" in failure.cause


def test_measure_measures_the_selected_layer(
    viewer: napari.Viewer, execute: Callable[[str], Any], wait_until: Callable[..., None]
) -> None:
    data = np.zeros((12, 24, 48), np.float32)
    data[5:7, 12:14, 4:44] = 1.0
    for name in ("cell", "other"):
        viewer.add_image(data, name=name, scale=(0.2, 0.1, 0.1), units=("um",) * 3)
    viewer.layers.selection.active = viewer.layers["cell"]
    dock = commands.open_dock(viewer)
    execute("measure_layer")
    assert tab_of(dock) == "Measure"
    results = dock.tab("Measure").volumes_box.results
    wait_until(lambda: results and not dock.desk.runner.is_busy)
    assert [result.found.name for result in results] == ["cell"]


def test_copy_python_of_a_foreign_layer_says_so(viewer: napari.Viewer, execute: Callable[[str], Any]) -> None:
    viewer.add_image(np.random.default_rng(0).normal(size=(4, 6, 5)), name="foreign")
    heard = failures_of(commands.open_dock(viewer))
    execute("copy_python")
    (failure,) = heard
    assert "foreign" in failure.cause


def test_opening_a_checkpoint_hands_it_to_the_dock(viewer: napari.Viewer, tiny_checkpoints: dict[str, Path]) -> None:
    path = tiny_checkpoints["vq-ldm"]
    assert viewer.open(str(path), plugin=None) == []  # no question: no other reader claims it
    dock = commands.open_dock(viewer)
    assert tab_of(dock) == "Model"
    assert dock.desk.model.header == read_header(path)
    assert len(viewer.layers) == 0
