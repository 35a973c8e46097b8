"""The one layer that shows the frames of a way, updated in place."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_vqldm.errors import VqldmError
from napari_vqldm.plugin.compat import bare
from napari_vqldm.plugin.layers import LayerSource, add_volume, set_volume
from napari_vqldm.plugin.tabs.interpolate.parts import Frame

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_vqldm.plugin.desk import Desk
    from napari_vqldm.plugin.layers.add import Limits

PREVIEW = " (preview)"


class WayLayer:
    """Shows frames in a layer that it adds with the first one; a layer that the user deleted is added again.

    Parameters
    ----------
    desk : Desk
        Viewer and undo.
    name : str
        Of the layer.
    like : LayerSource or None
        Where the frames lie.
    on_removed : callable
        Called when the user deletes the layer.
    """

    def __init__(self, desk: Desk, name: str, like: LayerSource | None, on_removed: Callable[[], None]) -> None:
        self.desk, self.name, self.like = desk, name, like
        self.frame: Frame | None = None
        self._layer: weakref.ref[Image] | None = None
        self._on_removed = on_removed
        self._events = bare(desk.viewer).layers.events
        self._events.removed.connect(self._on_layers)

    @property
    def layer(self) -> Image | None:
        """The layer while it is in the viewer."""
        layer = self._layer() if self._layer is not None else None
        return layer if layer is not None and any(layer is other for other in self._layers()) else None

    def show(self, frame: Frame, limits: Limits) -> None:
        """Show a frame; contrast is set once, and stays as the user wants it."""
        self.frame = frame
        layer = self.layer
        if layer is None:
            layer = add_volume(self.desk.viewer, frame.volume, name=self.name, like=self.like)
            self._layer = weakref.ref(layer)
            self.set_limits(limits)
            self.desk.added(f"Interpolate {self.name}", [layer])
            return
        set_volume(layer, frame.volume)
        size = frame.volume.voxel_size_um
        if self.like is None and not np.allclose(layer.scale, size, rtol=1e-9, atol=0):
            layer.scale = size  # seeds that draw their own voxel size

    def set_limits(self, limits: Limits) -> None:
        """Set the contrast."""
        layer = self.layer
        if layer is not None:
            layer.contrast_limits_range = limits
            layer.contrast_limits = limits

    def close(self) -> None:
        """Let go of the viewer; a layer that is left with a preview says so in its name."""
        self._on_removed = lambda: None
        try:
            self._events.removed.disconnect(self._on_layers)
        except (ValueError, RuntimeError):
            pass
        try:
            layer = self.layer
        except VqldmError:  # the viewer is gone
            return
        if layer is not None and self.frame is not None and self.frame.quality == "preview":
            layer.name = layer.name + PREVIEW

    def _layers(self) -> Any:
        return bare(self.desk.viewer).layers

    def _on_layers(self, event: Any) -> None:
        layer = self._layer() if self._layer is not None else None
        if layer is not None and event.value is layer:
            self._layer = None
            self._on_removed()
