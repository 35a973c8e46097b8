"""Keep volumes whole in every cell or canvas of a comparison, as long as nobody zooms."""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from napari_vqldm.plugin.compat import bare, camera_of

MARGIN = 0.05  # of a cell, as napari has it


class WholeView:
    """Zoom so that layers fit the smallest view: a slice as it lies, a volume at any rotation.

    napari fits a volume at the rotation that it has: the next turn would cut its corners. The view is fitted again when
    a canvas changes its size or 2D changes to 3D, until somebody zooms.

    Parameters
    ----------
    viewers : sequence of ViewerModel
        The first one has the camera that the others follow; all of them must hold the layers.
    layers : sequence of Image
        What to show, layers of the first viewer.
    strip : float
        Pixels at the top of a view that should stay free.
    """

    def __init__(self, viewers: Sequence[Any], layers: Sequence[Any], strip: float = 0.0) -> None:
        viewers = [bare(viewer) for viewer in viewers]
        self._viewers = [weakref.ref(viewer) for viewer in viewers]
        self._layers = [weakref.ref(bare(layer)) for layer in layers]
        self._strip = strip
        camera = camera_of(viewers[0])
        self._before: tuple[Any, ...] | None = (viewers[0].dims.ndisplay, camera.center, camera.zoom)
        self._fitted = math.nan
        viewers[0].dims.events.ndisplay.connect(self.fit)
        for viewer in viewers:
            viewer.canvas.events.size.connect(self._on_size)
        try:
            self.fit()
        except Exception:  # nobody could close this
            self.close()
            raise

    @property
    def is_fitted(self) -> bool:
        """Whether nobody zoomed since."""
        viewer = self._viewers[0]()
        return viewer is not None and math.isclose(camera_of(viewer).zoom, self._fitted, rel_tol=1e-6)

    def fit(self, _event: Any = None) -> None:
        """Center the layers and make them whole."""
        viewer = self._viewers[0]()
        layers = [layer for ref in self._layers if (layer := ref()) is not None]
        if viewer is None or self._before is None or not layers:
            return
        camera = camera_of(viewer)
        viewer.fit_to_view(layers=layers, margin=MARGIN)
        views = [v.canvas.viewbox_size(v.layers) for ref in self._viewers if (v := ref()) is not None]
        own, height, width = views[0], min(v[0] for v in views), min(v[1] for v in views)
        box, whole = _seen(viewer, layers[0])
        free = max(height - 2 * self._strip, height / 2)
        wanted = min(free / whole[0], width / whole[1])
        camera.zoom *= wanted / min(own[0] / box[0], own[1] / box[1])
        self._fitted = camera.zoom

    def close(self) -> None:
        """Let go of the viewers, and put the camera back where nobody has moved it; safe to call twice."""
        viewer, before = self._viewers[0](), self._before
        was_fitted = self.is_fitted or math.isnan(self._fitted)
        self._before = None
        if before is None:
            return
        for other in (ref() for ref in self._viewers):
            if other is not None:
                other.canvas.events.size.disconnect(self._on_size)
        if viewer is None:
            return
        viewer.dims.events.ndisplay.disconnect(self.fit)
        ndisplay, center, zoom = before
        if was_fitted and viewer.dims.ndisplay == ndisplay:
            camera_of(viewer).center, camera_of(viewer).zoom = center, zoom

    def _on_size(self, _event: Any = None) -> None:
        if self.is_fitted:
            self.fit()


def _seen(viewer: Any, layer: Any) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return (height, width) of a layer in the canvas as it is turned now, and what it needs at any rotation."""
    size = np.ptp(np.asarray(layer.extent.world), axis=0)
    axes = [axis - (viewer.dims.ndim - layer.ndim) for axis in viewer.dims.displayed]
    size = np.array([size[axis] if axis >= 0 else 0.0 for axis in axes])
    size = np.maximum(size, 1e-6 * max(float(size.max()), 1e-6))
    if len(size) < 3:
        height, width = (float(v) for v in size)
        return (height, width), (height, width)
    camera = camera_of(viewer)
    up, view = np.asarray(camera.up_direction), np.asarray(camera.view_direction)
    height, width = (float(np.abs(axis) @ size) for axis in (up, np.cross(view, up)))
    diagonal = float(np.linalg.norm(size))
    return (height, width), (diagonal, diagonal)
