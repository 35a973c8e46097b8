"""The layer of traced centre lines: short pieces that lie on the image, with the numbers of their filament."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_vqldm.plugin.compat import bare, camera_of

if TYPE_CHECKING:
    from napari_vqldm.plugin.layers import LayerSource
    from napari_vqldm.plugin.tabs.measure.work import Measured

PLAIN = (0.2, 0.9, 1.0, 1.0)
CHOSEN = (1.0, 0.75, 0.1, 1.0)
WIDTH = 0.8  # voxels


class LinesLayer:
    """Adds centre lines to a viewer and shows one of them.

    Pieces, not whole paths: of a path that leaves its plane, napari shows nothing in a 2D view.

    Parameters
    ----------
    viewer : napari.Viewer
        Gets a new layer; it is referenced weakly, as the layer is.
    step : Measured
        What was traced; at least one filament.
    source : LayerSource
        Where it was traced: the lines lie exactly on it.
    """

    def __init__(self, viewer: Any, step: Measured, source: LayerSource) -> None:
        from napari_vqldm.measure.result import filament_names

        names = filament_names()
        columns = {name: np.array([getattr(f, name) for f in step.found.filaments]) for name in names}
        layer = bare(viewer).add_vectors(
            step.segments,
            name=f"{step.found.name} (centre lines)",
            features={"filament" if name == "number" else name: columns[name][step.owner] for name in names},
            edge_color=np.tile(PLAIN, (len(step.segments), 1)),
            edge_width=WIDTH,
            vector_style="line",
            **source.transform.moved(source.offset).arguments(),
        )
        self._layer = weakref.ref(bare(layer))
        self._viewer = weakref.ref(bare(viewer))
        self._owner = step.owner

    @property
    def layer(self) -> Any:
        """The layer; None when it was deleted, or removed from the viewer."""
        layer, viewer = self._layer(), self._viewer()
        return layer if layer is not None and viewer is not None and layer in viewer.layers else None

    def choose(self, filament: int | None) -> bool:
        """Colour one filament, from 0, and bring its middle to the centre of the view; None colours all alike.

        Returns
        -------
        bool
            False when the layer is gone.
        """
        layer, viewer = self.layer, self._viewer()
        if layer is None or viewer is None:
            return False
        colors = np.tile(PLAIN, (len(self._owner), 1))
        if filament is not None:
            mine = np.flatnonzero(self._owner == filament)
            colors[mine] = CHOSEN
            middle = np.asarray(layer.data_to_world(layer.data[mine[len(mine) // 2], 0]), np.float64)
            axes = list(range(viewer.dims.ndim - 3, viewer.dims.ndim))
            viewer.dims.set_point(axes, middle.tolist())
            shown = [axis - axes[0] for axis in viewer.dims.displayed if axis >= axes[0]]
            camera = camera_of(viewer)
            camera.center = (*camera.center[: 3 - len(shown)], *(middle[axis] for axis in shown))
        layer.edge_color = colors
        return True
