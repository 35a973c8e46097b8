"""Write one image layer as OME-TIFF or OME-Zarr, with voxel size and provenance: all of it or nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_vqldm.errors import VolumeError
from napari_vqldm.files.provenance import SeriesAxis, is_series
from napari_vqldm.memory import available_bytes
from napari_vqldm.plugin.layers.info import LayerInfo, describe, provenance_of
from napari_vqldm.plugin.layers.lazy_frames import LazyFrames
from napari_vqldm.plugin.layers.source import LayerSource, snapshot
from napari_vqldm.volume import hash_voxels

if TYPE_CHECKING:
    from napari.layers import Layer


@dataclass(frozen=True)
class Progress:
    """One step of ``total``."""

    index: int
    total: int


@dataclass(frozen=True)
class Saved:
    """A file that was written, and the fingerprints of its volumes."""

    path: Path
    fingerprints: tuple[str, ...]


def write_image(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write an image layer; an existing file is replaced, as napari asked before.

    Parameters
    ----------
    path : str
        ``.ome.tif``, ``.ome.tiff``, ``.ome.zarr`` or ``.zarr``.
    data : array-like
        (Z, Y, X), or a pyramid of it, of which the finest level is written as float32; (T, Z, Y, X) of a series of
        ours, with the record of each frame.
    attributes : dict
        Of the layer: scale and units give the voxel size, ``metadata`` the provenance.

    Returns
    -------
    list of str
        The path.

    Raises
    ------
    VolumeError
        If the layer is RGB, 2D, a series of other origin, complex, not finite, or states no voxel size; if a series
        does not fit in memory, or frames of it are still to be decoded, for which the viewer would stand still.
    FileError
        If writing fails. Nothing is left behind.
    """
    from napari.layers import Image

    from napari_vqldm.files import write_series, write_volume

    if isinstance(data, LazyFrames):
        _check_decoded(data, str(attributes.get("name", "layer")))
    layer = Image(data, **attributes)
    info = describe(layer)
    if info.is_usable and len(info.shape) > 3 and not is_our_series(layer, info):
        raise VolumeError(
            f"{info.name!r} has {len(info.shape)} axes: these files hold one volume (z, y, x), or a series that the "
            "dock made: take one time point and channel first"
        )
    if info.is_usable and info.voxel_size_um is None:
        raise VolumeError(
            f"{info.name!r} states no voxel size: set layer.scale (z, y, x) and layer.units = 'um', "
            "or save it as a plain .tif"
        )
    if is_our_series(layer, info):
        _check_memory(frames_of(layer, info))
        layer = Image(np.asarray(data), **attributes)  # of lazy frames no stand-in is written, whatever becomes of them
        volumes = [source.read() for source in frames_of(layer, info)]
        write_series(path, volumes, axis=series_axis(layer, info), force=True)
    else:
        write_volume(path, snapshot(layer).read(), force=True)
    return [path]


def is_our_series(layer: Layer, info: LayerInfo) -> bool:
    """Tell whether a layer holds several volumes in a row, with a record of ours of each."""
    record = provenance_of(layer)
    if not info.is_usable or info.num_times < 2 or info.num_channels != 1 or record is None:
        return False
    return is_series(record) and len(record.get("frames") or ()) == info.num_times


def frames_of(layer: Layer, info: LayerInfo) -> list[LayerSource]:
    """Return what a job takes of each frame of a series; no voxel is read."""
    return [snapshot(layer, time=time) for time in range(info.num_times)]


def series_axis(layer: Layer, info: LayerInfo) -> SeriesAxis | None:
    """Return where the frames of a layer lie along its axis of time; None without one."""
    axis = info.time_axis
    if axis is None:
        return None
    label = str(layer.axis_labels[axis])
    return SeriesAxis(float(layer.scale[axis]), float(layer.translate[axis]), str(layer.units[axis]), label)


def save_work(
    path: Path, sources: Sequence[LayerSource], axis: SeriesAxis | None = None
) -> Callable[[Any], Generator[Progress, None, Saved]]:
    """Return the work that writes one volume, or several as one series along an axis; an existing file is replaced.

    It yields a `Progress` for each volume that was read and returns a `Saved`. Errors are those of `write_image`.
    """

    def work(_engine: Any) -> Generator[Progress, None, Saved]:
        from napari_vqldm.files import write_series, write_volume  # readers of all formats: not for the opening dock

        if len(sources) > 1:
            _check_memory(sources)
        volumes = []
        for index, source in enumerate(sources):
            volumes.append(source.read())
            yield Progress(index, len(sources) + 1)
        if len(volumes) > 1:
            target = write_series(path, volumes, axis=axis, force=True)
        else:
            target = write_volume(path, volumes[0], force=True)
        return Saved(target, tuple(hash_voxels(volume) for volume in volumes))

    return work


def _check_decoded(frames: LazyFrames, name: str) -> None:
    """Refuse frames that are still to be decoded: napari calls writers on the thread that draws."""
    missing = len(frames) - frames.num_ready
    if missing:
        way = "make the layer anew in the dock" if frames.is_closed else "use Save… in the dock, which decodes them"
        raise VolumeError(f"{name!r}: {missing} of its {len(frames)} frames are not decoded: {way}")


def _check_memory(sources: Sequence[LayerSource]) -> None:
    """Refuse a series that does not fit in memory: its frames are written together."""
    needed, free = 4 * sum(math.prod(source.shape) for source in sources), available_bytes()
    if free is not None and needed > free:
        raise VolumeError(
            f"all {len(sources)} frames take about {needed / 2**30:.1f} GiB of memory, {free / 2**30:.1f} GiB are "
            "free: close other programs, or export to files, one for each frame"
        )
