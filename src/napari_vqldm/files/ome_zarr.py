"""Read OME-Zarr 0.4 and 0.5, write 0.5. Needs the optional package zarr."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from napari_vqldm.errors import FileError
from napari_vqldm.files import provenance as records
from napari_vqldm.files.atomic import atomic_path
from napari_vqldm.files.stack import Index, Stack
from napari_vqldm.files.units import time_unit, to_um
from napari_vqldm.volume import Volume

_DAMAGE = (ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError, OSError)
_DAMAGED = (
    "damaged OME-Zarr, or of a kind that zarr cannot read: copy the folder again, or save the stack again as OME-TIFF"
)
_CHUNK = (64, 256, 256)  # voxels


def read_ome_zarr(path: Path) -> Stack:
    """Describe the full-resolution level of the image in an OME-Zarr folder.

    Raises
    ------
    FileError
        If zarr is not installed, or the folder is no OME-Zarr image or damaged.
    """
    zarr = _import_zarr(path)
    try:
        node = zarr.open(str(path), mode="r")
        if not isinstance(node, zarr.Group):
            raise FileError(f"{path}: a bare Zarr array without OME metadata: give the folder of the image above it")
        attributes = dict(node.attrs)
        ome: Mapping[str, Any] = attributes.get("ome", attributes)  # 0.5 has its own key, 0.4 lies at the top
        if "multiscales" not in ome:
            raise FileError(f"{path}: no OME-Zarr image: {_what_else(ome)}")
        image = ome["multiscales"][0]
        level = image["datasets"][0]
        array = node[level["path"]]
        axes = "".join(_letter(axis) for axis in image["axes"])
        if len(axes) != array.ndim:
            raise FileError(
                f"{path}: damaged OME-Zarr: {len(axes)} axes are described, the array has {array.ndim}: "
                "save the stack again"
            )
        sizes = _voxel_sizes(image, level)
        channels = ome.get("omero", {}).get("channels", ())
        names = tuple(str(channel.get("label", "")) for channel in channels)
        record = attributes.get(records.NAMESPACE, {}).get("provenance", {})
        shape, dtype = tuple(int(n) for n in array.shape), np.dtype(array.dtype)
    except _DAMAGE as error:
        raise FileError(f"{path}: {_DAMAGED}") from error

    def read(index: Index) -> np.ndarray[Any, Any]:
        try:
            return np.asarray(array[index])
        except _DAMAGE as error:
            raise FileError(f"{path}: {_DAMAGED}") from error

    return Stack(
        axes=axes,
        shape=shape,
        dtype=dtype,
        read=read,
        format="OME-Zarr",
        channel_names=names,
        voxel_size_um=(sizes.get("Z"), sizes.get("Y"), sizes.get("X")),
        provenance=dict(record),
    )


def write_ome_zarr(path: Path, volume: Volume, *, force: bool = False) -> Path:
    """Write an OME-Zarr 0.5 image of one level; see `napari_vqldm.files.write_volume` for the errors."""
    return _write(path, [volume], volume.provenance, is_series=False, force=force)


def write_ome_zarr_series(
    path: Path, volumes: Sequence[Volume], record: Mapping[str, Any], *, force: bool = False
) -> Path:
    """Write volumes of one grid as the time points of an OME-Zarr image; else as `write_ome_zarr`."""
    return _write(path, volumes, record, is_series=True, force=force)


def _write(path: Path, volumes: Sequence[Volume], record: Mapping[str, Any], *, is_series: bool, force: bool) -> Path:
    """Write one volume, or several with an axis of time before z."""
    zarr, first = _import_zarr(path), volumes[0]
    chunks = tuple(min(n, c) for n, c in zip(first.shape, _CHUNK, strict=True))
    axes = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"]
    shape, scale = tuple(first.shape), list(first.voxel_size_um)
    placing: list[dict[str, Any]] = []
    if is_series:
        axis = records.axis_of(record)
        unit = time_unit(axis.unit)
        time_axis = {"name": "t", "type": "time"} | ({} if unit is None else {"unit": unit})
        axes, scale = [time_axis, *axes], [axis.step, *scale]
        if axis.start:
            placing = [{"type": "translation", "translation": [axis.start, 0.0, 0.0, 0.0]}]
        shape, chunks = (len(volumes), *shape), (1, *chunks)
    image = {
        "name": first.name,
        "axes": axes,
        "datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}, *placing]}],
    }
    names = [axis["name"] for axis in axes]
    with atomic_path(path, force) as temporary:
        group = zarr.open_group(str(temporary), mode="w-", zarr_format=3)
        array = group.create_array("0", shape=shape, chunks=chunks, dtype="float32", dimension_names=names)
        for time, volume in enumerate(volumes):
            array[(time, ...) if is_series else ...] = volume.data
        group.attrs["ome"] = {"version": "0.5", "multiscales": [image]}
        group.attrs[records.NAMESPACE] = {"provenance": records.to_jsonable(record)}
    return path


def _import_zarr(path: Path) -> Any:
    """Import zarr, or say how to get it."""
    try:
        return import_module("zarr")
    except ImportError:
        raise FileError(f"{path}: OME-Zarr needs the package zarr: pip install 'napari-vqldm[zarr]'") from None


def _what_else(ome: Mapping[str, Any]) -> str:
    """Say what the folder is instead of an image."""
    if "plate" in ome or "well" in ome:
        return "it is a plate or a well: give the folder of one field"
    if "bioformats2raw.layout" in ome:
        return "it holds several images: give the folder of one, such as the subfolder 0"
    return "the group has no multiscales metadata"


def _letter(axis: Mapping[str, str] | str) -> str:
    """One-letter name of an axis; 0.3 wrote bare strings."""
    name = axis if isinstance(axis, str) else axis["name"]
    return name.upper() if len(name) == 1 else "?"


def _voxel_sizes(image: Mapping[str, Any], level: Mapping[str, Any]) -> dict[str, float | None]:
    """Scale per axis letter in um: that of the level times that of the whole image."""
    axes = image["axes"]
    scale = np.ones(len(axes))
    found = False
    for transformations in (level.get("coordinateTransformations"), image.get("coordinateTransformations")):
        for transformation in transformations or ():
            if transformation.get("type") == "scale":
                scale = scale * np.asarray(transformation["scale"], dtype=np.float64)
                found = True
    if not found:
        return {}
    units = [None if isinstance(axis, str) else axis.get("unit") for axis in axes]
    return {_letter(axis): to_um(float(s), unit) for axis, s, unit in zip(axes, scale, units, strict=True)}
