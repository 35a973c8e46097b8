"""Volumes as layer data tuples: what readers and sample data hand to napari."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from napari_vqldm.plugin.layers.add import limits_of, placement
from napari_vqldm.plugin.layers.info import KEY
from napari_vqldm.volume import Volume

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
        "name": name or volume.name,
        "contrast_limits": limits_of(volume.data),
        "metadata": {KEY: dict(volume.provenance)},
        "colormap": "gray",
        "rendering": "attenuated_mip",
        "attenuation": 0.5,
        "blending": "translucent_no_depth",
        **placement(volume),
    }
    return volume.data, attributes, "image"
