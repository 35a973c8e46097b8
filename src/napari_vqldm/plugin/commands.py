"""Commands of the menus and of the command palette: each opens the dock and asks it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from napari_vqldm.errors import VqldmError
from napari_vqldm.plugin.compat import bare
from napari_vqldm.plugin.settings import PLUGIN

if TYPE_CHECKING:
    import napari
    from napari.layers import Layer

    from napari_vqldm.plugin.dock import Dock

WIDGET = "VQ-LDM Microtubules"  # display name in the manifest


def open_dock(viewer: napari.viewer.Viewer) -> Dock:
    """Show the dock of a viewer, made when it is not there yet, and return it."""
    dock_widget, dock = viewer.window.add_plugin_dock_widget(PLUGIN, WIDGET)
    dock_widget.show()
    dock_widget.raise_()
    opened: Dock = bare(dock)
    return opened


def generate_volume(viewer: napari.viewer.Viewer) -> None:
    """Open the tab in which volumes are generated."""
    open_dock(viewer).show_tab("Sample")


def reconstruct_layer(viewer: napari.viewer.Viewer) -> None:
    """Open the tab in which layers are reconstructed."""
    open_dock(viewer).show_tab("Reconstruct")


def compare_layer(viewer: napari.viewer.Viewer) -> None:
    """Show the selected layer beside its reconstruction."""
    _with_selected(viewer, lambda dock, layer: dock.compare(layer))


def measure_layer(viewer: napari.viewer.Viewer) -> None:
    """Measure the filaments of the selected layer."""
    _with_selected(viewer, lambda dock, layer: dock.measure(layer))


def copy_python(viewer: napari.viewer.Viewer) -> None:
    """Put the Python script that computes the selected layer on the clipboard."""
    _with_selected(viewer, lambda dock, layer: dock.copy_python(layer))


def reproduce_layer(viewer: napari.viewer.Viewer) -> None:
    """Compute the selected layer again and say whether the bits are the same."""
    _with_selected(viewer, lambda dock, layer: dock.reproduce(layer))


def _with_selected(viewer: Any, action: Callable[[Dock, Layer], None]) -> None:
    """Run an action of the dock on the selected layer; the dock says what is missing."""
    dock = open_dock(viewer)
    layer = bare(viewer.layers.selection.active)
    if layer is None:
        dock.desk.show_error(VqldmError("no layer is selected: select one layer in the layer list first"))
    else:
        dock.desk.guarded(lambda: action(dock, layer))
