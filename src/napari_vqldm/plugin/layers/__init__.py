"""Layers in and out: describe one, take a snapshot for a job, add results. One name for the modules behind it."""

from napari_vqldm.plugin.layers.add import (
    ChannelAxis,
    Kind,
    add_series,
    add_volume,
    limits_of,
    placement,
    set_volume,
)
from napari_vqldm.plugin.layers.info import KEY, LayerInfo, describe, provenance_of, shown_channel, shown_time
from napari_vqldm.plugin.layers.regions import box_of_shapes, box_of_view
from napari_vqldm.plugin.layers.source import Box, LayerSource, snapshot
from napari_vqldm.plugin.layers.transform import Transform, write_voxel_size

__all__ = [
    "KEY",
    "Box",
    "ChannelAxis",
    "Kind",
    "LayerInfo",
    "LayerSource",
    "Transform",
    "add_series",
    "add_volume",
    "box_of_shapes",
    "box_of_view",
    "describe",
    "limits_of",
    "placement",
    "provenance_of",
    "set_volume",
    "shown_channel",
    "shown_time",
    "snapshot",
    "write_voxel_size",
]
