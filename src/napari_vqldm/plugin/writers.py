"""Write one image layer as OME-TIFF or OME-Zarr, with voxel size and provenance: all of it or nothing."""

from __future__ import annotations

from typing import Any

from napari_vqldm.errors import VolumeError
from napari_vqldm.files import write_volume
from napari_vqldm.plugin.layers.info import describe
from napari_vqldm.plugin.layers.source import snapshot


def write_image(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write an image layer; an existing file is replaced, as napari asked before.

    Parameters
    ----------
    path : str
        ``.ome.tif``, ``.ome.tiff``, ``.ome.zarr`` or ``.zarr``.
    data : array-like
        (Z, Y, X), or a pyramid of it, of which the finest level is written as float32.
    attributes : dict
        Of the layer: scale and units give the voxel size, ``metadata`` the provenance.

    Returns
    -------
    list of str
        The path.

    Raises
    ------
    VolumeError
        If the layer is RGB, 2D, a series, complex, not finite, or states no voxel size.
    FileError
        If writing fails. Nothing is left behind.
    """
    from napari.layers import Image

    layer = Image(data, **attributes)
    info = describe(layer)
    if info.is_usable and len(info.shape) > 3:
        raise VolumeError(
            f"{info.name!r} has {len(info.shape)} axes: these files hold one volume (z, y, x): "
            "take one time point and channel first"
        )
    if info.is_usable and info.voxel_size_um is None:
        raise VolumeError(
            f"{info.name!r} states no voxel size: set layer.scale (z, y, x) and layer.units = 'um', "
            "or save it as a plain .tif"
        )
    write_volume(path, snapshot(layer).read(), force=True)
    return [path]
