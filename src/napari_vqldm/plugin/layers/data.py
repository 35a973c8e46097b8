"""Volumes as layer data tuples: what readers and sample data hand to napari."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_vqldm.errors import VolumeError
from napari_vqldm.files.provenance import SeriesAxis, series_record
from napari_vqldm.plugin.layers.add import limits_of, placement, series_placement, shown_axis
from napari_vqldm.plugin.layers.info import KEY
from napari_vqldm.volume import Volume

_LOOK = {
    "colormap": "gray",
    "rendering": "attenuated_mip",
    "attenuation": 0.5,
    "blending": "translucent_no_depth",
}
LayerData = tuple[npt.NDArray[np.float32], dict[str, Any], str]


def layer_data(volume: Volume, name: str | None = None) -> LayerData:
    """Describe a volume as an image layer.

    Parameters
    ----------
    volume : Volume
        What to show.
    name : str, optional
        Of the layer; by default that of the volume.

    Returns
    -------
    tuple
        (data, attributes, ``"image"``): scale, units and labels of the axes z, y, x, fixed contrast limits, and the
        provenance in ``metadata["napari_vqldm"]``, as `napari_vqldm.plugin.layers.add_volume` shows a volume.
    """
    attributes = {
        **_LOOK,
        "name": name or volume.name,
        "contrast_limits": limits_of(volume.data),
        "metadata": {KEY: dict(volume.provenance)},
        **placement(volume),
    }
    return volume.data, attributes, "image"


def series_data(volumes: Iterable[Volume], count: int, axis: SeriesAxis) -> LayerData:
    """Describe volumes of one grid as one image layer (T, Z, Y, X) with the record of each; else as `layer_data`.

    Parameters
    ----------
    volumes : iterable of Volume
        Taken one by one: beside the frames of the layer only one is in memory.
    count : int
        How many they are.
    axis : SeriesAxis
        Where they lie.

    Raises
    ------
    VolumeError
        If there are none.
    """
    frames, first, records = np.empty((0, 0, 0, 0), np.float32), None, []
    for index, volume in enumerate(volumes):
        if first is None:
            first, frames = volume, np.empty((count, *volume.shape), np.float32)
        frames[index] = volume.data
        records.append(volume.provenance)
    if first is None:
        raise VolumeError("expected one volume or more, got none: choose another file")
    shown = [frames[i] for i in sorted({0, count // 2, count - 1})]
    attributes = {
        **_LOOK,
        "name": first.name,
        "contrast_limits": limits_of(np.concatenate(shown)),
        "metadata": {KEY: series_record(records)},
        **series_placement(first, shown_axis(axis)),
    }
    return frames, attributes, "image"
