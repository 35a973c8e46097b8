"""The layer that a reconstruction becomes: one volume, or a series whose frames appear as they are done."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_vqldm.errors import VqldmError
from napari_vqldm.files.provenance import series_record
from napari_vqldm.plugin.compare.pair import MadeWith, Pair
from napari_vqldm.plugin.compat import bare
from napari_vqldm.plugin.desk import Desk
from napari_vqldm.plugin.layers import KEY, ChannelAxis, LayerSource, add_series, add_volume, describe
from napari_vqldm.plugin.layers.info import full_resolution
from napari_vqldm.plugin.tabs.reconstruct.work import FrameDone

if TYPE_CHECKING:
    from napari_vqldm.compare import Comparison


class ResultLayer:
    """Collects the frames of one job in one new layer.

    Parameters
    ----------
    desk : Desk
        Of the dock.
    source_layer : Image
        The input; it may be renamed or deleted while the job runs.
    sources : sequence of LayerSource
        One for each frame.
    request : mapping
        From `ReconstructState.to_request`.
    """

    def __init__(
        self, desk: Desk, source_layer: Any, sources: Sequence[LayerSource], request: Mapping[str, Any]
    ) -> None:
        header = desk.model.header
        self.name = f"{sources[0].name} ({header.config.family if header is not None else 'reconstruction'})"
        self._desk = desk
        self._source_layer = weakref.ref(bare(source_layer))
        self._leading_axes = _leading_axes(bare(source_layer))
        self._sources = tuple(sources)
        self._spec, self._request = desk.model.spec(), dict(request)
        self._layer: weakref.ref[Any] | None = None
        self._frames: npt.NDArray[np.float32] | None = None
        self._comparisons: list[Comparison] = []
        self._records: list[Mapping[str, Any]] = []

    def add(self, step: FrameDone) -> bool:
        """Show a frame; False when nobody would see it, because viewer or layer are gone."""
        viewer = self._viewer()
        if viewer is None or (self._layer is not None and not self._is_in(viewer)):
            return False
        if step.file is not None:
            self._desk.remember_input(step.source_sha256, step.file)
        self._comparisons.append(step.comparison)
        self._records.append(step.volume.provenance)
        source = self._sources[step.frame]
        if len(self._sources) == 1:
            layer = add_volume(
                viewer, step.volume, name=self.name, like=source, limits=source.contrast_limits, kind="reconstruction"
            )
            self._layer = weakref.ref(layer)
        else:
            self._add_frame(viewer, step, source)
        return True

    def finish(self, cutoff_per_um: float | None) -> Pair | None:
        """Note the layer for undo; return input and reconstruction, None when one of them is gone or was replaced."""
        viewer, layer = self._viewer(), self._layer() if self._layer is not None else None
        self._frames = None
        if viewer is None or layer is None or not self._is_in(viewer):
            return None
        if len(self._sources) > 1:
            layer.metadata = {**layer.metadata, KEY: series_record(self._records)}
        self._desk.added(f"Reconstruct {self._sources[0].name}", [layer])
        source_layer = self._source_layer()
        if source_layer is None or not any(entry is source_layer for entry in viewer.layers):
            return None
        if full_resolution(source_layer) is not self._sources[0].data:  # the numbers are of voxels that nobody sees
            name = source_layer.name
            self._desk.noticed.emit(f"The voxels of {name!r} were replaced meanwhile: there is no comparison with it.")
            return None
        return Pair(source_layer, layer, self._sources, self._comparisons, self._made_with(), cutoff_per_um)

    def discard(self) -> None:
        """Remove what was shown: nothing half-done stays."""
        viewer, layer = self._viewer(), self._layer() if self._layer is not None else None
        self._layer, self._frames = None, None
        if viewer is not None and layer is not None and layer in viewer.layers:
            viewer.layers.remove(layer)

    def _add_frame(self, viewer: Any, step: FrameDone, source: LayerSource) -> None:
        if self._frames is None:
            self._frames = np.zeros((len(self._sources), *step.volume.shape), np.float32)
            self._frames[step.frame] = step.volume.data
            layer = add_series(
                viewer,
                self._frames,
                step.volume.voxel_size_um,
                name=self.name,
                like=source,
                limits=source.contrast_limits,
                kind="reconstruction",
                **self._leading_axes,
            )
            self._layer = weakref.ref(layer)
            return
        self._frames[step.frame] = step.volume.data
        layer = self._layer() if self._layer is not None else None
        if layer is not None:
            layer.refresh(extent=False)

    def _made_with(self) -> MadeWith:
        """What made the frames: from their record, since a file may hold other weights than when it was opened."""
        made = self._records[0]["request"]
        return MadeWith(self._spec, made["family"], made["model"], made["weights_sha256"], self._request)

    def _is_in(self, viewer: Any) -> bool:
        layer = self._layer() if self._layer is not None else None
        return any(entry is layer for entry in viewer.layers)

    def _viewer(self) -> Any:
        try:
            return bare(self._desk.viewer)
        except VqldmError:
            return None


def _leading_axes(layer: Any) -> dict[str, Any]:
    """Where frames lie along time, and whether there are channels beside it, as ``add_series`` takes it."""
    info = describe(layer)
    time, channel = info.time_axis, info.channel_axis
    if time is None:
        return {}
    step, start, unit, label = _axis(layer, time)
    axes: dict[str, Any] = {"step": step, "start": start, "step_unit": unit, "step_label": label}
    if channel is not None:
        axes["channels"] = ChannelAxis(channel < time, info.num_channels, *_axis(layer, channel))
    return axes


def _axis(layer: Any, axis: int) -> tuple[float, float, str, str]:
    """Step, start, unit and label of one axis."""
    return float(layer.scale[axis]), float(layer.translate[axis]), str(layer.units[axis]), str(layer.axis_labels[axis])
