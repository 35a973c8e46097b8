"""Layers of one run of the Sample tab: the preview that becomes a volume, the volumes, and how they formed."""

from __future__ import annotations

import itertools
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_vqldm.errors import VqldmError
from napari_vqldm.plugin.compat import bare
from napari_vqldm.plugin.desk import Desk
from napari_vqldm.plugin.layers import add_series, add_volume, set_volume
from napari_vqldm.plugin.layers.lazy_frames import LazyFrames
from napari_vqldm.plugin.tabs.sample.work import Preview, VolumeDone, WayKept, title_of

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_vqldm.plugin.layers.add import Limits

_serials = itertools.count()


class SampleRun:
    """What one click on Generate adds to the viewer.

    Parameters
    ----------
    desk : Desk
        Viewer, cache and undo.
    ways : list of LazyFrames
        The frames of a way are noted here: whoever owns the list closes them with the dock.

    Attributes
    ----------
    samples : list of str
        Names of the volumes, as they were added.
    """

    def __init__(self, desk: Desk, ways: list[weakref.ref[LazyFrames]]) -> None:
        self.desk, self.ways = desk, ways
        self.samples: list[str] = []
        self._added: list[weakref.ref[Any]] = []
        self._preview: weakref.ref[Any] | None = None
        self._is_preview_unwanted = False
        self._limits: Limits | None = None

    def show_preview(self, step: Preview) -> None:
        """Show a rough picture in the one preview layer; a user who deletes it does not want it."""
        viewer = self._viewer()
        if viewer is None or self._is_preview_unwanted:
            return
        layer = self._preview_layer()
        if layer is None:
            if self._preview is not None:
                self._is_preview_unwanted = True
                return
            layer = add_volume(viewer, step.volume, kind="preview", limits=step.limits)
            self._preview = weakref.ref(layer)
        else:
            layer.data = step.volume.data
            if not np.allclose(layer.scale, step.volume.voxel_size_um, rtol=1e-9, atol=0):
                layer.scale = step.volume.voxel_size_um
            if self._limits is not None and np.allclose(layer.contrast_limits, self._limits):
                layer.contrast_limits = step.limits
            else:
                return  # the user has chosen the contrast
        self._limits = step.limits

    def add(self, step: VolumeDone) -> Image | None:
        """Add a finished volume, and how it formed where that was kept; None when the viewer is gone."""
        viewer = self._viewer()
        if viewer is None:
            return None
        preview = self._preview_layer()
        self._preview = None
        if step.way is not None:
            way = self._add_way(viewer, step.way, step.limits)
            self._note(way)
            if preview is not None:  # below the volume, as where there was no preview; the volume stays selected
                viewer.layers.move(len(viewer.layers) - 1, viewer.layers.index(preview))
                viewer.layers.selection.active = preview
        layer = add_volume(viewer, step.volume, limits=step.limits) if preview is None else self._fill(preview, step)
        self.samples.append(layer.name)
        self._note(layer)
        return layer

    def finish(self) -> None:
        """Remove the preview and make the volumes one group of undo."""
        self.hide_preview()
        viewer = self._viewer()
        layers = [layer for reference in self._added if (layer := reference()) is not None]
        if viewer is not None and layers:
            self.desk.added(title_of(self.samples), layers)
        self._added = []

    def _fill(self, layer: Image, step: VolumeDone) -> Image:
        """Make the preview layer the one of the volume: napari needs half a second to take a layer out."""
        set_volume(layer, step.volume, name=step.volume.name)
        layer.scale = step.volume.voxel_size_um
        if self._limits is not None and np.allclose(layer.contrast_limits, self._limits):
            layer.contrast_limits_range = layer.contrast_limits = step.limits
        return layer

    def hide_preview(self) -> None:
        """Remove the preview layer; the next preview adds one again."""
        layer, viewer = self._preview_layer(), self._viewer()
        if layer is not None and viewer is not None:
            viewer.layers.remove(layer)
            self._preview = None

    def _add_way(self, viewer: Any, way: WayKept, limits: Limits) -> Image:
        """Add the clean estimates as a 4D layer that decodes what is looked at; rough pictures stand in for it."""
        desk, key = self.desk, ("way", next(_serials))
        for index, picture in enumerate(way.stand_ins):
            desk.frames.put((*key, index), picture)
        way = replace(way, stand_ins=())  # from here on the budget of the cache decides
        frames = LazyFrames(
            len(way.latents),
            way.volume.shape,
            way.decode,
            lambda index: desk.frames.get((*key, index)),
            desk,
            title="Decode a step of the way",
        )
        layer = add_series(
            viewer,
            frames,
            way.volume.voxel_size_um,
            name=f"{way.volume.name} (way)",
            limits=limits,
            step_label="step",
            provenances=way.records,
        )
        layer.visible = False  # it would lie over the volume
        frames.attach(layer)
        self.ways.append(weakref.ref(frames))
        return layer

    def _note(self, layer: Image) -> None:
        self._added.append(weakref.ref(layer))

    def _preview_layer(self) -> Any:
        layer, viewer = self._preview() if self._preview is not None else None, self._viewer()
        if layer is None or viewer is None:
            return None
        return layer if any(layer is other for other in viewer.layers) else None

    def _viewer(self) -> Any:
        try:
            return bare(self.desk.viewer)
        except VqldmError:
            return None
