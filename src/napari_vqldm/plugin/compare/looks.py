"""Give two layers one look, and show some layers alone; both put back what they changed."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from typing import Any

from napari_vqldm.plugin.compat import bare

LINKED = (
    "contrast_limits",
    "gamma",
    "colormap",
    "rendering",
    "attenuation",
    "iso_threshold",
    "interpolation2d",
    "interpolation3d",
)


class LinkedLook:
    """Link contrast, colormap and rendering of layers; the first one gives the look.

    Parameters
    ----------
    layers : sequence of Image
        At least two, of one viewer or of several. Links that the user made before stay when this is closed.
    """

    def __init__(self, layers: Sequence[Any]) -> None:
        from napari.experimental import link_layers

        first, *others = [bare(layer) for layer in layers]
        self._layers = [weakref.ref(layer) for layer in (first, *others)]
        self._before = [(weakref.ref(layer), look_of(layer)) for layer in others]
        self._attributes: set[str] = set()
        try:
            for layer in others:
                _wear(layer, look_of(first))
            self._attributes = {attribute for _, _, attribute in link_layers([first, *others], LINKED)}
        except Exception:  # nobody could close this
            self.close()
            raise

    def close(self) -> None:
        """Unlink, and give the other layers their own look back; safe to call twice."""
        from napari.experimental import unlink_layers

        layers = [layer for ref in self._layers if (layer := ref()) is not None]
        if self._attributes and layers:
            unlink_layers(layers, self._attributes)
        for ref, look in self._before:
            if (layer := ref()) is not None:
                _wear(layer, look)
        self._layers, self._before, self._attributes = [], [], set()


class VisibleOnly:
    """Show these layers of a viewer and hide all others, until it is closed.

    Layers that appear later are left alone, and what the user shows or hides meanwhile is overwritten at the end only
    for layers that were there at the start.
    """

    def __init__(self, viewer: Any, layers: Iterable[Any]) -> None:
        shown = {id(bare(layer)) for layer in layers}
        everything = [bare(layer) for layer in bare(viewer).layers]
        self._before = [(weakref.ref(layer), bool(layer.visible)) for layer in everything]
        try:
            for layer in everything:
                layer.visible = id(layer) in shown
        except Exception:  # nobody could close this
            self.close()
            raise

    def close(self) -> None:
        """Put the visibility back; safe to call twice."""
        for ref, was_visible in self._before:
            if (layer := ref()) is not None:
                layer.visible = was_visible
        self._before = []


def look_of(layer: Any) -> dict[str, Any]:
    """Return what a layer looks like: contrast, colormap, interpolation and rendering."""
    look = {name: getattr(layer, name) for name in LINKED}
    look["contrast_limits"] = list(look["contrast_limits"])
    return look


def _wear(layer: Any, look: dict[str, Any]) -> None:
    """Give a layer a look."""
    for name, value in look.items():
        setattr(layer, name, value)
