"""Input, reconstruction and residual side by side in one canvas: one camera, one contrast, one slice."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from napari_vqldm.plugin.compare.looks import LinkedLook, VisibleOnly
from napari_vqldm.plugin.compare.marks import TITLE_PX, Titles, canvas_of
from napari_vqldm.plugin.compare.whole import WholeView
from napari_vqldm.plugin.compat import bare, grid_of

GRID_FIELDS = ("enabled", "stride", "shape", "spacing")
SPACING = 0.02  # of the size of one cell
ROLES = ("Input", "Reconstruction", "Residual")


class SideBySide:
    """Show layers in one row of cells, from left to right, until it is ended.

    Parameters
    ----------
    viewer : napari.Viewer
        Its grid, its visible layers, its number of displayed axes and its camera are put back at the end, the camera
        unless the user has zoomed.
    layers : sequence of Image
        Input, reconstruction and, where wanted, residual: from left to right. The first two share contrast, colormap
        and rendering. Layers after the first may be moved in the layer list, since cells follow its order.
    on_ended : callable, optional
        Called once, also when one of the layers was deleted.
    """

    def __init__(self, viewer: Any, layers: Sequence[Any], on_ended: Callable[[], None] | None = None) -> None:
        viewer = bare(viewer)
        layers = [bare(layer) for layer in layers]
        self._viewer = weakref.ref(viewer)
        self._shown = [weakref.ref(layer) for layer in layers]
        self._on_ended = on_ended
        grid = grid_of(viewer)
        self._grid_before = {name: getattr(grid, name) for name in GRID_FIELDS}
        self._ndisplay_before = viewer.dims.ndisplay
        self._names_before = [(weakref.ref(layer), _names_shown(layer)) for layer in layers]
        self._visible: VisibleOnly | None = None
        self._look: LinkedLook | None = None
        self._whole: WholeView | None = None
        self.titles: Any = None
        put_in_order(viewer, layers)
        try:
            self._visible = VisibleOnly(viewer, layers)
            self._look = LinkedLook(layers[:2])
            for layer in layers:
                _show_name(layer, False)  # the title has it, at a length that fits
            grid.stride, grid.shape, grid.spacing = 1, (1, -1), SPACING
            grid.enabled = True
            self._whole = WholeView([viewer], layers, TITLE_PX)
            self.titles = Titles(canvas_of(viewer), viewer, list(zip(layers, ROLES, strict=False)))
        except Exception:  # nobody holds a view that was not made: the layers must not stay hidden
            self._on_ended = None
            self.end()
            raise
        viewer.layers.events.removed.connect(self._on_removed)

    @property
    def is_open(self) -> bool:
        """Whether the cells are shown."""
        return self._visible is not None and bool(self._grid_before)

    def end(self) -> None:
        """Put everything back; safe to call twice."""
        if not self._grid_before:
            return
        before, self._grid_before = self._grid_before, {}
        viewer = self._viewer()
        for part in (self._look, self.titles):
            if part is not None:
                part.close()
        for ref, shown in self._names_before:
            if (layer := ref()) is not None:
                _show_name(layer, shown)
        if viewer is not None:
            viewer.layers.events.removed.disconnect(self._on_removed)
            grid = grid_of(viewer)
            for name, value in before.items():
                setattr(grid, name, value)
            if self._visible is not None:
                self._visible.close()
            if viewer.dims.ndisplay != self._ndisplay_before:
                viewer.dims.ndisplay = self._ndisplay_before
        if self._whole is not None:
            self._whole.close()
        if self._on_ended is not None:
            self._on_ended()

    def _on_removed(self, event: Any) -> None:
        if any(ref() is event.value for ref in self._shown):
            self.end()


def put_in_order(viewer: Any, layers: Sequence[Any]) -> None:
    """Move layers in the list of a viewer so that each comes after the one before it; the first one stays."""
    stack = viewer.layers
    for before, layer in pairwise(layers):
        if stack.index(layer) < stack.index(before):
            stack.move(stack.index(layer), stack.index(before) + 1)


def _names_shown(layer: Any) -> bool:
    overlay = getattr(layer, "name_overlay", None)
    return bool(overlay.visible) if overlay is not None else False


def _show_name(layer: Any, visible: bool) -> None:
    """Show or hide the name that napari writes, where this napari can."""
    overlay = getattr(layer, "name_overlay", None)
    if overlay is not None:
        overlay.visible = visible
