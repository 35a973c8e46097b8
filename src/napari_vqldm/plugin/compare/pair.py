"""An input and its reconstruction: what the comparison views need to know about them."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_vqldm.plugin.inference.engine import ModelSpec
from napari_vqldm.plugin.layers import describe, shown_channel, shown_time
from napari_vqldm.plugin.layers.source import LayerSource, snapshot

if TYPE_CHECKING:
    from napari_vqldm.compare import Comparison

KINDS = ("residual", "uncertainty")


@dataclass(frozen=True)
class MadeWith:
    """How a reconstruction was made: its maps are made in the same way, whatever is chosen by then.

    Attributes
    ----------
    spec : ModelSpec
        Which model.
    family, model_name, weights_sha256 : str
        Of the weights that were used.
    request : mapping
        Intensity scale and tiles, from `ReconstructState.to_request`.
    """

    spec: ModelSpec
    family: str
    model_name: str
    weights_sha256: str
    request: Mapping[str, Any]


class Pair:
    """One reconstruction beside the layer that it was computed from.

    Layers are referenced weakly: a pair keeps neither of them in memory nor in the viewer.

    Attributes
    ----------
    sources : tuple of LayerSource
        What was read from the input, one for each frame. They hold its array, so a pair is dropped with its layers.
    comparisons : tuple of Comparison
        One for each frame.
    made : MadeWith
        Model and request.
    cutoff_per_um : float or None
        Lateral cut-off of the optics that the model was trained on, cycles/um.
    frame_in_view : int or None
        Frame of the residual that follows the time slider; None when there is none.
    """

    def __init__(
        self,
        source_layer: Any,
        reconstruction: Any,
        sources: Sequence[LayerSource],
        comparisons: Sequence[Comparison],
        made: MadeWith,
        cutoff_per_um: float | None = None,
    ) -> None:
        self._source = weakref.ref(source_layer)
        self._reconstruction = weakref.ref(reconstruction)
        self._is_stale = False
        self._derived: dict[tuple[str, int], weakref.ref[Any]] = {}
        self.sources = tuple(sources)
        self.comparisons = tuple(comparisons)
        self.made = made
        self.cutoff_per_um = cutoff_per_um
        self.frame_in_view: int | None = None

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
        """Whether both layers are still in a viewer, with the voxels that were compared."""
        if self._is_stale:
            return False
        here = list(viewer.layers)
        wanted = (self.source_layer, self.reconstruction)
        return all(layer is not None and any(entry is layer for entry in here) for layer in wanted)

    def mark_stale(self) -> None:
        """One of the layers has other voxels now: no map of the old ones is wanted any more."""
        self._is_stale = True

    def holds(self, layer: Any) -> bool:
        """Whether a layer is the input, the reconstruction, or was computed from both."""
        known = [self.source_layer, self.reconstruction, *(ref() for ref in self._derived.values())]
        return layer is not None and any(entry is layer for entry in known)

    # --- frames -------------------------------------------------------------------------------------------------------

    def frame(self, viewer: Any) -> int:
        """Return the frame that a viewer shows, 0 for a single volume."""
        layer = self.reconstruction
        if not self.is_series or layer is None:
            return 0
        return min(shown_time(viewer, layer, describe(layer)), len(self.sources) - 1)

    def bring_into_view(self, viewer: Any) -> None:
        """Move the sliders of a viewer to the time point and channel of the input that were reconstructed.

        The time of a series stays: all of it was reconstructed.
        """
        layer = self.source_layer
        if layer is None or viewer.dims.ndim < layer.ndim:
            return
        position = list(layer.world_to_data(viewer.dims.point[-layer.ndim :]))
        wanted = self._leading(self.frame(viewer))
        axes = {axis: index for axis, index in wanted if round(float(position[axis])) != index}
        if not axes:
            return
        for axis, index in axes.items():
            position[axis] = index
        place, before = layer.data_to_world(position), viewer.dims.ndim - layer.ndim
        viewer.dims.set_point([before + axis for axis in axes], [place[axis] for axis in axes])

    def elsewhere(self, viewer: Any) -> str:
        """Say that a viewer shows another time point or channel of the input than was reconstructed; else empty."""
        layer = self.source_layer
        if layer is None or not self.is_in(viewer):
            return ""
        source = self.sources[self.frame(viewer)]
        shown, made = [], []
        for word, index, current in (
            ("time point", source.time, shown_time(viewer, layer, source.info)),
            ("channel", source.channel, shown_channel(viewer, layer, source.info)),
        ):
            if index is not None and index != current:
                shown.append(f"{word} {current}")
                made.append(f"{word} {index}")
        if not made:
            return ""
        return f"The sliders show {' and '.join(shown)} of the input; this reconstruction is of {' and '.join(made)}."

    def source(self, frame: int = 0) -> LayerSource:
        """Return what to read of the input."""
        return self.sources[frame]

    def reconstruction_source(self, frame: int = 0) -> LayerSource:
        """Return what to read of the reconstruction, on the grid of the input; read the layer on the GUI thread."""
        voxel_size_um = self.sources[frame].voxel_size_um
        return snapshot(self.reconstruction, time=frame if self.is_series else None, voxel_size_um=voxel_size_um)

    def _leading(self, frame: int) -> Iterator[tuple[int, int]]:
        """Axes of the input before z, y and x, each with what was read there."""
        source = self.sources[frame]
        for axis, index in ((source.info.time_axis, source.time), (source.info.channel_axis, source.channel)):
            if axis is not None and index is not None:
                yield axis, index

    # --- maps ---------------------------------------------------------------------------------------------------------

    def derived(self, kind: str, frame: int, viewer: Any) -> Any:
        """Return the residual or uncertainty layer of a frame, None when there is none in the viewer."""
        ref = self._derived.get((kind, frame))
        layer = None if ref is None else ref()
        return layer if any(entry is layer for entry in viewer.layers) else None

    def add_derived(self, kind: str, frame: int, layer: Any) -> None:
        """Note a layer that was computed from this pair."""
        self._derived[kind, frame] = weakref.ref(layer)
