"""What a layer holds and whether it can be used, told from its shape and labels: no voxel is read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_vqldm.files.units import to_um
from napari_vqldm.plugin.compat import bare
from napari_vqldm.volume import Float3

if TYPE_CHECKING:
    from napari.layers import Layer

KEY = "napari_vqldm"  # of the provenance in ``layer.metadata``
TIME_LABELS = ("t", "time", "frame", "frames")
CHANNEL_LABELS = ("c", "ch", "channel", "channels")


@dataclass(frozen=True)
class LayerInfo:
    """One layer, described.

    Attributes
    ----------
    name : str
        As the layer list shows it.
    shape : tuple of int
        All axes, full resolution.
    is_usable : bool
        True when one volume (Z, Y, X) can be taken from the layer.
    reason : str
        Why not, and what to do; empty for usable layers.
    time_axis, channel_axis : int or None
        Position of the axis in ``shape``; None when there is none.
    spatial_axes : tuple of int
        Positions of z, y and x; empty for unusable layers.
    voxel_size_um : tuple of float or None
        (z, y, x) in micrometres; None when the layer states none.
    is_assumed_um : bool
        True when the layer has a scale without a unit of length, and micrometres are assumed.
    is_lazy : bool
        True for data that are read on demand: dask, zarr, memory maps.
    nbytes : int
        Size of the data as stored, full resolution.
    """

    name: str
    shape: tuple[int, ...]
    is_usable: bool
    reason: str = ""
    time_axis: int | None = None
    channel_axis: int | None = None
    spatial_axes: tuple[int, ...] = ()
    voxel_size_um: Float3 | None = None
    is_assumed_um: bool = False
    is_lazy: bool = False
    nbytes: int = 0

    @property
    def num_times(self) -> int:
        """Number of time points; 1 without a time axis."""
        return 1 if self.time_axis is None else self.shape[self.time_axis]

    @property
    def num_channels(self) -> int:
        """Number of channels; 1 without a channel axis."""
        return 1 if self.channel_axis is None else self.shape[self.channel_axis]


def describe(layer: Layer) -> LayerInfo:
    """Describe a layer of any kind.

    Axis labels decide where they name time or channel; else the first axis of four is time, the first two of five are
    time and channel.
    """
    layer = bare(layer)
    name = str(layer.name)
    if not _is_image(layer):
        kind = type(layer).__name__.lower()
        return LayerInfo(name, (), False, f"{name!r} is a {kind} layer: choose an image layer with a z stack")
    data = full_resolution(layer)
    shape = tuple(int(n) for n in data.shape)
    dtype = np.dtype(data.dtype)
    is_lazy = not isinstance(data, np.ndarray) or isinstance(data, np.memmap)
    info = LayerInfo(name, shape, False, is_lazy=is_lazy, nbytes=math.prod(shape) * dtype.itemsize)
    if layer.rgb:
        return _unusable(info, "is an RGB image: choose Split RGB in its context menu, then take one color")
    if dtype.kind not in "uifb":
        return _unusable(info, f"holds {dtype} values: expected real numbers, such as the magnitude")
    labels = [str(label).lower() for label in layer.axis_labels]
    time_axis, channel_axis = _leading_axes(labels)
    spatial = tuple(axis for axis in range(len(shape)) if axis not in (time_axis, channel_axis))
    if len(spatial) < 3:
        return _unusable(info, f"is a 2D image of shape {shape}: open the whole z stack")
    if len(spatial) > 3:
        return _unusable(info, f"has {len(shape)} axes of {_sizes(shape)}: expected time, channel, z, y and x at most")
    order = [labels[axis] for axis in spatial]
    if sorted(order) == ["x", "y", "z"] and order != ["z", "y", "x"]:
        return _unusable(info, f"has its axes in the order {', '.join(order)}: convert it to z, y, x")
    volume_shape = [shape[axis] for axis in spatial]
    if min(volume_shape) < 2:
        return _unusable(info, f"has {_sizes(volume_shape)} voxels in z, y, x: expected at least 2 along each axis")
    voxel_size_um, is_assumed_um = _voxel_size(layer, spatial)
    return LayerInfo(
        name, shape, True, "", time_axis, channel_axis, spatial, voxel_size_um, is_assumed_um, is_lazy, info.nbytes
    )


def provenance_of(layer: Layer) -> dict[str, Any] | None:
    """Return the record that this package stored in a layer; None for foreign layers."""
    record = layer.metadata.get(KEY)
    return dict(record) if isinstance(record, Mapping) and "verb" in record else None


def full_resolution(layer: Layer) -> Any:
    """Return the array of a layer, of a pyramid its finest level."""
    return layer.data[0] if layer.multiscale else layer.data


def _is_image(layer: Layer) -> bool:
    """Tell an image layer by its class; by name, so that states can describe layers where napari is missing."""
    return any(kind.__name__ == "Image" and kind.__module__.startswith("napari.layers") for kind in type(layer).__mro__)


def _leading_axes(labels: list[str]) -> tuple[int | None, int | None]:
    """Positions of time and channel: by label, else the first of four axes, the first two of five."""
    time = next((i for i, label in enumerate(labels) if label in TIME_LABELS), None)
    channel = next((i for i, label in enumerate(labels) if label in CHANNEL_LABELS), None)
    for axis in range(len(labels) - 3):
        if axis in (time, channel) or len(labels) - (time is not None) - (channel is not None) <= 3:
            continue
        if time is None:
            time = axis
        elif channel is None:
            channel = axis
    return time, channel


def _voxel_size(layer: Layer, spatial: tuple[int, ...]) -> tuple[Float3 | None, bool]:
    """Voxel size (z, y, x) in um, and whether its unit is assumed."""
    steps = [abs(float(layer.scale[axis])) for axis in spatial]
    affine = np.asarray(layer.affine.affine_matrix)[:-1, :-1]
    if not np.array_equal(affine, np.eye(len(affine))):  # a registration may hold the voxel size
        # Rotated layers keep their scale; only what the affine stretches along each axis of the data is added.
        stretch = np.linalg.norm(affine @ np.asarray(layer.rotate), axis=0)
        steps = [step * float(stretch[axis]) for step, axis in zip(steps, spatial, strict=True)]
    units = [str(layer.units[axis]) for axis in spatial]
    stated = [to_um(step, unit) for step, unit in zip(steps, units, strict=True)]
    if None not in stated:
        z, y, x = (float(value) for value in stated if value is not None)
        return (z, y, x), False
    if all(step == 1 for step in steps):
        return None, False
    z, y, x = (step if value is None else value for step, value in zip(steps, stated, strict=True))
    return (z, y, x), True


def _unusable(info: LayerInfo, reason: str) -> LayerInfo:
    return LayerInfo(info.name, info.shape, False, f"{info.name!r} {reason}", is_lazy=info.is_lazy, nbytes=info.nbytes)


def _sizes(shape: tuple[int, ...] | list[int]) -> str:
    return " x ".join(map(str, shape))


def shown_time(viewer: Any, layer: Any, info: LayerInfo) -> int:
    """Return the time point of a layer that the viewer shows."""
    return _shown(viewer, layer, info.time_axis, info.num_times)


def shown_channel(viewer: Any, layer: Any, info: LayerInfo) -> int:
    """Return the channel of a layer that the viewer shows."""
    return _shown(viewer, layer, info.channel_axis, info.num_channels)


def _shown(viewer: Any, layer: Any, axis: int | None, count: int) -> int:
    """Index along a leading axis; 0 without the axis, or while the viewer does not have all axes of the layer yet."""
    if axis is None or viewer.dims.ndim < layer.ndim:
        return 0
    point = viewer.dims.point[-layer.ndim :]
    return min(max(round(float(layer.world_to_data(point)[axis])), 0), count - 1)
