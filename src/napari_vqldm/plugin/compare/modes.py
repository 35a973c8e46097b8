"""One way of comparing at a time: starting another one ends the one before."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_vqldm.plugin.compare.blink import Blink
from napari_vqldm.plugin.compare.canvases import SeparateCanvases
from napari_vqldm.plugin.compare.grid import SideBySide
from napari_vqldm.plugin.compare.pair import Pair
from napari_vqldm.plugin.compare.wipe import Wipe


class Modes:
    """The view that is open, if any.

    Parameters
    ----------
    viewer : napari.Viewer
        Referenced weakly.
    on_changed : callable
        Called when a view was opened or ended, also when it ended by itself because a layer was deleted.

    Attributes
    ----------
    name : str
        ``"side"``, ``"canvases"``, ``"blink"``, ``"wipe"``, or empty.
    view : SideBySide, SeparateCanvases, Blink, Wipe or None
        The open view.
    """

    def __init__(self, viewer: Any, on_changed: Callable[[], None]) -> None:
        self._viewer = weakref.ref(viewer)
        self._on_changed = on_changed
        self.name = ""
        self.view: Any = None

    def side_by_side(self, pair: Pair, residual: Any) -> None:
        """Show input, reconstruction and residual in one row of cells."""
        layers = [pair.source_layer, pair.reconstruction, residual]
        self._open("side", lambda viewer: SideBySide(viewer, layers, self._ended))

    def separate_canvases(self, pair: Pair, residual: Any) -> None:
        """Show the input here, reconstruction and residual in canvases of their own."""

        def make(viewer: Any) -> SeparateCanvases:
            layers = [pair.reconstruction, residual]
            view = SeparateCanvases(viewer, pair.source_layer, layers, self._ended)
            try:
                view.dock()
            except Exception:
                view.end()
                raise
            return view

        self._open("canvases", make)

    def blink(self, pair: Pair) -> None:
        """Show input and reconstruction in turn."""

        def make(viewer: Any) -> Blink:
            view = Blink(viewer, pair.source_layer, pair.reconstruction, on_ended=self._ended)
            view.play()
            return view

        self._open("blink", make)

    def switch(self) -> None:
        """While blinking: show the other layer and stay there."""
        if self.name == "blink":
            self.view.pause()
            self.view.toggle()

    def wipe(self, pair: Pair, left: npt.NDArray[np.float32], right: npt.NDArray[np.float32]) -> None:
        """Show the voxels of ``left`` and ``right`` with a divider in between."""
        source, reconstruction = pair.source_layer, pair.reconstruction
        self._open("wipe", lambda viewer: Wipe(viewer, source, reconstruction, left, right, self._ended))

    def show_in_wipe(self, left: npt.NDArray[np.float32], right: npt.NDArray[np.float32]) -> None:
        """While wiping: show other voxels of the same shape, such as another frame; the divider stays."""
        if self.name == "wipe":
            self.view.show_voxels(left, right)

    def move_wipe(self, share: float) -> None:
        """Put the divider of the wipe at a share of the width."""
        if self.name == "wipe":
            self.view.move(share)

    def end(self) -> None:
        """End the open view; the viewer is as it was before."""
        if self.view is not None:
            self.view.end()

    def _open(self, name: str, make: Callable[[Any], Any]) -> None:
        viewer = self._viewer()
        if viewer is None:
            return
        ndisplay = viewer.dims.ndisplay
        self.end()
        if viewer.dims.ndisplay != ndisplay:  # from one view to the next the user stays in 2D or 3D
            viewer.dims.ndisplay = ndisplay
        self.view = make(viewer)
        self.name = name
        self._on_changed()

    def _ended(self) -> None:
        self.name, self.view = "", None
        self._on_changed()
