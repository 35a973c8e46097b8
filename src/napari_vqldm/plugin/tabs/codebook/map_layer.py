"""The code map of a stack as a Labels layer: every cell has its code, chosen codes light up."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_vqldm.plugin.compat import bare, camera_of
from napari_vqldm.plugin.layers import KEY, LayerSource
from napari_vqldm.plugin.tabs.codebook.cell_layers import cell_transform, record_of_cells

if TYPE_CHECKING:
    from napari_vqldm.inside.codes import CodeMap
    from napari_vqldm.plugin.tabs.codebook.state import CodebookState

LIT = (1.0, 0.85, 0.1, 1.0)  # of chosen codes: seen on gray stacks, while the others are faint
OPACITY = 0.8  # of the layer, on top of those below
FILAMENT_OPACITY, BACKGROUND_OPACITY, DIMMED_OPACITY = 0.6, 0.25, 0.08
FILAMENT_SHARE = 0.25  # a code is shown in 3D when more than this part of its cells holds a filament
_MOST_COLORS = 2**16 - 2  # that napari looks up one by one; of a larger codebook colors repeat after so many
_GOLDEN = 0.61803399


class CodeMapLayer:
    """Adds the code map of a stack to a viewer and lights up what is chosen.

    In 2D all cells are seen, those of background codes fainter. In 3D the background would hide everything: codes are
    shown of which more than `FILAMENT_SHARE` of the cells hold a filament, since a color belongs to a code and not to
    a cell. Where codes are chosen, they light up wherever they stand; the others are faint in 2D and hidden in 3D.

    Parameters
    ----------
    viewer : napari.Viewer
        Gets a new layer; it is referenced weakly, as the layer is.
    code_map : CodeMap
        Of the stack.
    source : LayerSource
        The layer, or region of one, that was encoded: the cells lie exactly on it.
    state : CodebookState
        Says what is chosen.
    """

    def __init__(self, viewer: Any, code_map: CodeMap, source: LayerSource, state: CodebookState) -> None:
        viewer = bare(viewer)
        self.code_map, self.stack_name = code_map, source.name
        self._state, self._is_closed = state, False
        self._viewer = weakref.ref(viewer)
        filament, everywhere = code_map.usage.filament.counts, code_map.usage.everywhere.counts
        self._colors = _colors(min(len(everywhere), _MOST_COLORS))
        shown = filament > FILAMENT_SHARE * everywhere
        self._is_solid = shown if shown.any() else everywhere > 0  # an empty stack shows what it has
        self._table = self._colors_of(self._is_3d())
        layer = viewer.add_labels(
            (code_map.codes + 1).astype(np.uint16 if len(everywhere) < 2**16 else np.uint32),
            name=f"{source.name} ({_called(source)})",
            opacity=OPACITY,
            rendering="translucent",  # without shading, which takes the differences of codes for slopes
            colormap=_colormap(self._table),
            features=_features(code_map),
            metadata={KEY: record_of_cells("code map: codes + 1", code_map.latent, source)},
            **cell_transform(code_map.cell_size_um, code_map.translate_um, source).arguments(),
        )
        self._layer = weakref.ref(bare(layer))
        state.chosen.connect(self.light)
        viewer.dims.events.ndisplay.connect(self._on_ndisplay)

    @property
    def layer(self) -> Any:
        """The layer; None when it was deleted, or removed from the viewer."""
        layer, viewer = self._layer(), self._viewer()
        return layer if layer is not None and viewer is not None and layer in viewer.layers else None

    def light(self) -> None:
        """Show what is chosen; the data of the layer stay as they are."""
        layer = self._layer()  # also one that was taken back: it may be added again
        table = self._colors_of(self._is_3d())
        if layer is not None and not np.array_equal(table, self._table):
            self._table = table
            colormap = _colormap(table)
            colormap.selection, colormap.use_selection = layer.selected_label, layer.show_selected_label
            layer.colormap = colormap

    def places(self, code: int) -> npt.NDArray[np.intp]:
        """Return the cells (n, 3), z, y, x, at which a code stands."""
        return np.argwhere(self.code_map.codes == code)

    def go_to(self, index: int) -> bool:
        """Bring a place of the chosen code to the center of the view, in 2D its plane too.

        Parameters
        ----------
        index : int
            Of `places`; beyond the last one it begins again with the first.

        Returns
        -------
        bool
            False when the layer is gone, not one code is chosen, or it does not stand here.
        """
        layer, viewer, code = self.layer, self._viewer(), self._state.code
        places = self.places(code) if code is not None else np.empty((0, 3), np.intp)
        if layer is None or viewer is None or not len(places):
            return False
        middle = np.asarray(layer.data_to_world(places[index % len(places)]), np.float64) * self._unit_ratios(-1)
        axes = list(range(viewer.dims.ndim - 3, viewer.dims.ndim))
        viewer.dims.set_point(axes, middle.tolist())
        shown = [axis - axes[0] for axis in viewer.dims.displayed if axis >= axes[0]]
        camera = camera_of(viewer)
        camera.center = (*camera.center[: 3 - len(shown)], *(middle[axis] for axis in shown))
        return True

    def to_cells(self, position: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Convert a position in the world of the viewer to one in cells (z, y, x): 0 is the center of the first.

        The layer has to be there.
        """
        point = np.asarray(position, np.float64)[-3:] * self._unit_ratios(1)
        return np.asarray(self.layer.world_to_data(point), np.float64)

    def is_seen(self, codes: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.bool_]:
        """Tell of which codes the cells are seen in 3D while nothing is chosen."""
        return np.asarray(self._is_solid[codes])

    def close(self) -> None:
        """Follow the choice no longer; the layer stays. Safe to call twice."""
        if self._is_closed:
            return
        self._is_closed = True
        self._state.chosen.disconnect(self.light)
        viewer = self._viewer()
        if viewer is not None:
            viewer.dims.events.ndisplay.disconnect(self._on_ndisplay)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _on_ndisplay(self, _event: object = None) -> None:
        self.light()

    def _is_3d(self) -> bool:
        viewer = self._viewer()
        return viewer is not None and viewer.dims.ndisplay == 3

    def _unit_ratios(self, power: int) -> npt.NDArray[np.float64]:
        """What a number of the world is in units of the layer (z, y, x), or with -1 the other way round.

        A viewer with layers in nm and um has one of both for its world.
        """
        from napari_vqldm.files.units import to_um

        layer, viewer = self._layer(), self._viewer()
        units = None if viewer is None else viewer.layers.extent.units
        if layer is None or units is None:
            return np.ones(3)
        pairs = zip(units[-3:], layer.units, strict=True)
        sizes = [(to_um(1.0, str(world)), to_um(1.0, str(own))) for world, own in pairs]
        return np.array([(world / own) ** power if world and own else 1.0 for world, own in sizes])

    def _colors_of(self, is_3d: bool) -> npt.NDArray[np.float32]:
        """Return a color (K, 4) for every code; of a very large codebook for so many as napari takes."""
        table = self._colors.copy()
        is_solid = np.zeros(len(table), bool)
        is_solid[np.flatnonzero(self._is_solid) % len(table)] = True
        lit = [code % len(table) for code in self._state.codes if code < len(self._is_solid)]
        if lit:
            table[:, 3] = 0.0 if is_3d else DIMMED_OPACITY
            table[lit] = LIT
        elif is_3d:
            table[:, 3] = is_solid
        else:
            table[:, 3] = np.where(is_solid, FILAMENT_OPACITY, BACKGROUND_OPACITY)
        return table


def _called(source: LayerSource) -> str:
    """Name what is shown: napari shows the codes of one time point at all of them."""
    return "codes" if source.time is None else f"codes, time point {source.time}"


def _colors(size: int) -> npt.NDArray[np.float32]:
    """Return colors (K, 4) of which neighbours in the codebook differ: hue, then how pale and how dark it is."""
    number = np.arange(size)[:, None]
    hue = number * _GOLDEN % 1.0
    pure = np.clip(np.abs((6.0 * hue + (0.0, 4.0, 2.0)) % 6.0 - 3.0) - 1.0, 0.0, 1.0)
    pale, dark = 0.45 * (number * _GOLDEN**2 % 1.0), 0.4 * (number * _GOLDEN**3 % 1.0)
    return np.concatenate([(1.0 - dark) * (pale + (1.0 - pale) * pure), np.ones((size, 1))], 1).astype(np.float32)


def _colormap(table: npt.NDArray[np.float32]) -> Any:
    """Return a colormap that looks up code + 1 in a table: of a dict, napari takes one color at a time."""
    from napari.utils.colormaps import CyclicLabelColormap

    return CyclicLabelColormap(colors=np.concatenate([np.zeros((1, 4), np.float32), table]))


def _features(code_map: CodeMap) -> dict[str, npt.NDArray[Any]]:
    """Return what napari shows of a cell under the pointer, and lists in its table: one row for each code."""
    filament, everywhere = code_map.usage.filament.counts, code_map.usage.everywhere.counts
    code = np.arange(len(everywhere))
    return {
        "index": code + 1,  # value in the layer
        "code": code,
        "cells": everywhere,
        "filament cells": filament,
        "share": everywhere / max(everywhere.sum(), 1),
    }
