"""Layers in and out: describe one, take a snapshot for a job, add results. One name for the modules behind it."""

from napari_vqldm.plugin.add_layers import Kind, add_series, add_volume, limits_of, placement, set_volume
from napari_vqldm.plugin.layer_info import KEY, LayerInfo, describe, provenance_of, shown_time
from napari_vqldm.plugin.layer_source import Box, LayerSource, snapshot
from napari_vqldm.plugin.layer_transform import Transform
from napari_vqldm.plugin.regions import box_of_shapes, box_of_view

__all__ = [
    "KEY",
    "Box",
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
    "shown_time",
    "snapshot",
]
