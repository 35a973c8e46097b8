"""Boxes of voxels from what the user drew or sees."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_vqldm.errors import VolumeError
from napari_vqldm.files.units import to_um
from napari_vqldm.plugin.compat import bare
from napari_vqldm.plugin.layers.info import LayerInfo, describe

if TYPE_CHECKING:
    from napari.layers import Layer

    from napari_vqldm.plugin.layers.source import Box


def box_of_shapes(shapes_layer: Layer, target_layer: Layer) -> Box:
    """Return the box around the selected shapes in y and x, over all z.

    Parameters
    ----------
    shapes_layer : napari Shapes layer
        Its selected shapes count; when none is selected, its only shape does.
    target_layer : napari Image layer
        Whose voxels are meant. The two layers may have different scales, offsets and rotations.

    Returns
    -------
    tuple
        ((z0, z1), (y0, y1), (x0, x1)) in voxels, half-open, cut to the layer. Every voxel that the shape
        touches counts.

    Raises
    ------
    VolumeError
        If there is no shape, several without a selection, or the shape lies beside the layer.
    """
    from napari.layers import Shapes

    shapes_layer, target_layer = bare(shapes_layer), bare(target_layer)
    if not isinstance(shapes_layer, Shapes):
        raise VolumeError(f"expected a shapes layer, got {shapes_layer.name!r}: choose one with a rectangle on it")
    info = _usable(target_layer)
    outlines = list(shapes_layer.data)
    chosen = sorted(shapes_layer.selected_data) or range(len(outlines))
    if not outlines:
        raise VolumeError(f"{shapes_layer.name!r} holds no shape: add a rectangle around the region")
    if len(chosen) > 1 and not shapes_layer.selected_data:
        raise VolumeError(f"{shapes_layer.name!r} holds {len(outlines)} shapes and none is selected: select one")
    corners = np.concatenate([np.asarray(outlines[i], np.float64) for i in chosen])
    ratio = _unit_ratio(shapes_layer, target_layer)
    points = []
    for corner in corners:
        world = [value * ratio for value in shapes_layer.data_to_world(corner)]
        points.append(_to_data(target_layer, world))
    _, y, x = info.spatial_axes
    low, high = np.min(points, axis=0), np.max(points, axis=0)
    # Voxel i reaches from i - 1/2 to i + 1/2.
    limits = {axis: (math.floor(low[axis] + 0.5), math.ceil(high[axis] + 0.5)) for axis in (y, x)}
    return _box(info, limits, f"the shape lies beside {info.name!r}: move it over the layer")


def box_of_view(viewer: Any, layer: Layer) -> Box:
    """Return the box of what the canvas shows of a layer, over all planes.

    Raises
    ------
    VolumeError
        If the canvas shows 3D, or nothing of the layer.
    """
    viewer, layer = bare(viewer), bare(layer)
    info = _usable(layer)
    if viewer.dims.ndisplay != 2:
        raise VolumeError("the view is 3D: set it to 2D and zoom to the region")
    factors = layer.downsample_factors[layer.data_level] if layer.multiscale else np.ones(layer.ndim)
    low, high = np.asarray(layer.corner_pixels) * factors
    shown = [axis - (viewer.dims.ndim - layer.ndim) for axis in viewer.dims.displayed]
    limits = {
        axis: (math.floor(low[axis]), math.ceil(high[axis] + factors[axis]))
        for axis in shown
        if axis in info.spatial_axes
    }
    return _box(info, limits, f"the view shows nothing of {info.name!r}: move the view over the layer")


def _usable(layer: Layer) -> LayerInfo:
    info = describe(layer)
    if not info.is_usable:
        raise VolumeError(info.reason)
    return info


def _box(info: LayerInfo, limits: dict[int, tuple[int, int]], message: str) -> Box:
    """Cut limits per axis to the layer; whole axes where there are none."""
    box = []
    for axis in info.spatial_axes:
        size = info.shape[axis]
        start, stop = limits.get(axis, (0, size))
        start, stop = max(start, 0), min(stop, size)
        if stop - start < 2:
            raise VolumeError(message)
        box.append((start, stop))
    z, y, x = box
    return z, y, x


def _to_data(layer: Layer, world: list[float]) -> list[float]:
    """Data coordinates of a point that may lack the leading axes of the layer: these do not matter then."""
    missing = layer.ndim - len(world)
    center = np.mean(np.asarray(layer.extent.world), axis=0)
    return [float(value) for value in layer.world_to_data([*center[: max(missing, 0)], *world])]


def _unit_ratio(shapes_layer: Layer, target_layer: Layer) -> float:
    """World units of the target per world unit of the shapes; 1 where either has no unit of length."""
    source, target = (to_um(1.0, str(layer.units[-1])) for layer in (shapes_layer, target_layer))
    return 1.0 if source is None or target is None else source / target
