"""An input and its reconstruction: what the comparison views need to know about them."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from napari_vqldm.plugin.layers.source import LayerSource, snapshot

if TYPE_CHECKING:
    from napari_vqldm.compare import Comparison

KINDS = ("residual", "uncertainty")


class Pair:
    """One reconstruction beside the layer that it was computed from.

    Layers are referenced weakly: a pair keeps neither of them in memory nor in the viewer.

    Attributes
    ----------
    sources : tuple of LayerSource
        What was read from the input, one for each frame. They hold its array, so a pair is dropped with its layers.
    comparisons : tuple of Comparison
        One for each frame.
    cutoff_per_um : float or None
        Lateral cut-off of the optics that the model was trained on, cycles/um.
    """

    def __init__(
        self,
        source_layer: Any,
        reconstruction: Any,
        sources: Sequence[LayerSource],
        comparisons: Sequence[Comparison],
        cutoff_per_um: float | None = None,
    ) -> None:
        self._source = weakref.ref(source_layer)
        self._reconstruction = weakref.ref(reconstruction)
        self._derived: dict[tuple[str, int], weakref.ref[Any]] = {}
        self.sources = tuple(sources)
        self.comparisons = tuple(comparisons)
        self.cutoff_per_um = cutoff_per_um

    @property
    def source_layer(self) -> Any:
        """The input; None when it is gone."""
        return self._source()

    @property
    def reconstruction(self) -> Any:
        """The reconstruction; None when it is gone."""
        return self._reconstruction()

    @property
    def is_series(self) -> bool:
        """Whether the reconstruction has several frames."""
        return len(self.sources) > 1

    def is_in(self, viewer: Any) -> bool:
        """Whether both layers are still in a viewer."""
        here = list(viewer.layers)
        wanted = (self.source_layer, self.reconstruction)
        return all(layer is not None and any(entry is layer for entry in here) for layer in wanted)

    def holds(self, layer: Any) -> bool:
        """Whether a layer is the input, the reconstruction, or was computed from both."""
        known = [self.source_layer, self.reconstruction, *(ref() for ref in self._derived.values())]
        return layer is not None and any(entry is layer for entry in known)

    def frame(self, viewer: Any) -> int:
        """Return the frame that a viewer shows, 0 for a single volume."""
        if not self.is_series:
            return 0
        layer = self.reconstruction
        axis = viewer.dims.ndim - layer.ndim
        step = layer.world_to_data(viewer.dims.point)[0] if axis >= 0 else 0
        return min(max(round(float(step)), 0), len(self.sources) - 1)

    def source(self, frame: int = 0) -> LayerSource:
        """Return what to read of the input."""
        return self.sources[frame]

    def reconstruction_source(self, frame: int = 0) -> LayerSource:
        """Return what to read of the reconstruction, on the grid of the input; read the layer on the GUI thread."""
        voxel_size_um = self.sources[frame].voxel_size_um
        return snapshot(self.reconstruction, time=frame if self.is_series else None, voxel_size_um=voxel_size_um)

    def derived(self, kind: str, frame: int, viewer: Any) -> Any:
        """Return the residual or uncertainty layer of a frame, None when there is none in the viewer."""
        ref = self._derived.get((kind, frame))
        layer = None if ref is None else ref()
        return layer if any(entry is layer for entry in viewer.layers) else None

    def add_derived(self, kind: str, frame: int, layer: Any) -> None:
        """Note a layer that was computed from this pair."""
        self._derived[kind, frame] = weakref.ref(layer)
