"""Volumes of a run as layers with the training as their first axis; they grow while the run goes on."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from napari_vqldm.errors import VqldmError
from napari_vqldm.plugin.layers.add import add_series
from napari_vqldm.training.show import LIMITS
from napari_vqldm.training.volumes import VolumeSeries

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_vqldm.plugin.desk import Desk

KEY = "napari_vqldm_run"  # in the metadata of a layer: folder, and the step of each frame
SHOWN = ("input", "reconstruction", "sample")  # the target of a reconstruction stays in its file
_WORDS = {"input": "input", "reconstruction": "reconstruction", "sample": "samples"}


class RunLayers:
    """The layers of one run.

    Parameters
    ----------
    desk : Desk
        Of the dock.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._layers: dict[tuple[str, str], weakref.ref[Image]] = {}
        self._run = ""
        self._folder = ""

    def begin(self, run: str, folder: str) -> None:
        """Begin with the layers of another run; those that are there stay as they are."""
        self._run, self._folder = run, folder
        self._layers = {}

    def forget_removed(self) -> None:
        """Let layers that the user removed come back with the next volumes."""
        layers = self._desk.viewer.layers
        self._layers = {key: known for key, known in self._layers.items() if known() in layers}

    def show(self, series: Mapping[str, VolumeSeries]) -> list[Image]:
        """Add what is not shown yet, let the others grow; a layer that the user removed does not come back.

        Returns
        -------
        list of Image
            Layers that were added.
        """
        try:
            viewer = self._desk.viewer
        except VqldmError:  # closed in this moment
            return []
        is_at_end = _is_at_end(viewer, self._there(viewer))
        added = []
        for stage, of_stage in series.items():
            for name in SHOWN:
                if name not in of_stage.frames:
                    continue
                known = self._layers.get((stage, name))
                if known is None:
                    layer = self._add(viewer, name, of_stage)
                    self._layers[stage, name] = weakref.ref(layer)
                    added.append(layer)
                elif (layer_there := known()) is not None and layer_there in viewer.layers:
                    self._grow(layer_there, name, of_stage)
        there = self._there(viewer)
        longest = _align(there)
        if added or (is_at_end and there):  # who looked at the newest ones goes on doing so
            _look_at(viewer, longest - 1)
        if added:
            self._desk.added(f"Follow {self._run}", added)
        return added

    def _add(self, viewer: Any, name: str, series: VolumeSeries) -> Image:
        layer = add_series(
            viewer,
            series.frames[name],
            series.voxel_size_um,
            name=f"{self._run}: {_WORDS[name]}",
            limits=LIMITS,
            kind="reconstruction" if name == "reconstruction" else "volume",
        )
        layer.metadata = {**layer.metadata, KEY: self._record(series)}
        return layer

    def _grow(self, layer: Image, name: str, series: VolumeSeries) -> None:
        """Show the frames of now; a run that took the place of another one may have other voxels."""
        layer.data = series.frames[name]
        if tuple(layer.metadata.get(KEY, {}).get("voxel_size_um", ())) != series.voxel_size_um:
            layer.scale = (layer.scale[0], *series.voxel_size_um)
        layer.metadata = {**layer.metadata, KEY: self._record(series)}

    def _there(self, viewer: Any) -> list[Image]:
        """Layers of this run that are in the viewer."""
        known = (reference() for reference in self._layers.values())
        return [layer for layer in known if layer is not None and layer in viewer.layers]

    def _record(self, series: VolumeSeries) -> dict[str, Any]:
        return {
            "folder": self._folder,
            "stage": series.stage,
            "steps": list(series.steps),
            "voxel_size_um": series.voxel_size_um,
        }


def _align(layers: list[Image]) -> int:
    """Put the newest frames of all layers at one place of the slider, its right end; return the most frames.

    The stages of a run write at their own pace: from the left, newest samples and newest reconstructions would never be
    seen together.
    """
    longest = max((len(layer.data) for layer in layers), default=0)
    for layer in layers:
        first = float(longest - len(layer.data))
        if layer.translate[0] != first:
            layer.translate = (first, *layer.translate[1:])
    return longest


def _is_at_end(viewer: Any, layers: list[Image]) -> bool:
    """Whether the newest frames are in view."""
    longest = max((len(layer.data) for layer in layers), default=0)
    return viewer.dims.ndim == 4 and round(float(viewer.dims.point[0])) == longest - 1


def _look_at(viewer: Any, frame: int) -> None:
    """Move the slider; beside layers with more axes the first one is not ours."""
    if viewer.dims.ndim == 4:
        viewer.dims.set_point(0, float(frame))
