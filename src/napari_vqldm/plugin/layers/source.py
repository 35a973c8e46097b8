"""What a job takes from a layer: a copy of everything but the voxels, which are read on the thread that computes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_vqldm.errors import ChoiceError, ShapeError, VolumeError, VqldmError
from napari_vqldm.files.provenance import NAMESPACE, frame_record, to_jsonable
from napari_vqldm.plugin.compat import bare
from napari_vqldm.plugin.layers.file import find_in_file
from napari_vqldm.plugin.layers.info import LayerInfo, describe, full_resolution, provenance_of
from napari_vqldm.plugin.layers.transform import Transform, transform_of
from napari_vqldm.volume import Float3, Int3, Volume, check_voxel_size

if TYPE_CHECKING:
    from napari.layers import Layer

    from napari_vqldm.recipe import FileInput

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]

BYTES_PER_VOXEL = 16  # float32 four times: the layer, its copy, and what a verb holds beside it
_ALWAYS_FINE_BYTES = 2**28


@dataclass(frozen=True)
class LayerSource:
    """One volume of a layer, chosen but not read. It holds the array of the layer, never the layer.

    Attributes
    ----------
    name : str
        Of the layer.
    info : LayerInfo
        The whole layer.
    data : array-like
        All axes, full resolution: NumPy, dask or zarr.
    time, channel : int or None
        What was chosen; None where the layer has no such axis.
    box : tuple or None
        ((z0, z1), (y0, y1), (x0, x1)) in voxels, half-open; None for the whole volume.
    voxel_size_um : tuple of float
        (z, y, x).
    transform : Transform
        Of the whole layer, before the box.
    contrast_limits : tuple of float
        As shown.
    provenance : mapping or None
        Record of the layer; None for foreign layers.
    path : str or None
        File that the layer was opened from.
    reader_plugin : str or None
        Plugin that opened it.
    """

    name: str
    info: LayerInfo
    data: Any
    time: int | None
    channel: int | None
    box: Box | None
    voxel_size_um: Float3
    transform: Transform
    contrast_limits: tuple[float, float]
    provenance: Mapping[str, Any] | None
    path: str | None
    reader_plugin: str | None

    @property
    def full_shape(self) -> Int3:
        """Voxels (Z, Y, X) of the whole volume."""
        z, y, x = (self.info.shape[axis] for axis in self.info.spatial_axes)
        return z, y, x

    @property
    def shape(self) -> Int3:
        """Voxels (Z, Y, X) that `read` returns."""
        if self.box is None:
            return self.full_shape
        z, y, x = (stop - start for start, stop in self.box)
        return z, y, x

    @property
    def offset(self) -> Int3:
        """First voxel (z, y, x) of the box."""
        if self.box is None:
            return 0, 0, 0
        z, y, x = (start for start, _ in self.box)
        return z, y, x

    def read(self) -> Volume:
        """Read the voxels, on any thread; of lazy data only the chosen part is computed.

        Returns
        -------
        Volume
            float32, (Z, Y, X). Its provenance is the record of the layer, of a foreign layer one of verb ``"read"``.
            Whether the voxels are still those of the record, its ``voxels_sha256`` tells.

        Raises
        ------
        VolumeError
            If the part does not fit in memory, is constant, or holds NaN or infinite values.
        """
        # The record of a box names the volume that it is cut from, so that volume has to be there.
        cuts_recorded = self.box is not None and self.provenance is not None and not self.info.is_lazy
        shape = self.full_shape if cuts_recorded else self.shape
        _check_memory(shape, self.name)
        try:
            data = np.asarray(self.data[self._index(None if cuts_recorded else self.box)])
            is_recorded = self.provenance is not None and (cuts_recorded or self.box is None)
            record = self.provenance if is_recorded and self.provenance is not None else self._foreign_record()
            volume = Volume(data, self.voxel_size_um, record, self.name)
        except MemoryError:
            raise VolumeError(f"{self.name!r} does not fit in memory: choose a region") from None
        except (VolumeError, ShapeError) as error:
            raise type(error)(f"{self.name!r}: {error}") from None
        if cuts_recorded and self.box is not None:
            from napari_vqldm.crop import crop

            volume = crop(volume, self.box)
        low = volume.data.min()
        if low == volume.data.max():
            raise VolumeError(
                f"{self.name!r}: every voxel equals {low:g}: it holds no structure: choose another layer or region"
            )
        return volume

    @property
    def file_input(self) -> FileInput | None:
        """The file and the part of it that hold this volume; None when `read_volume` cannot find it there.

        Only the header of the file is read. A layer that was edited since differs from its file: see `is_in_file`.
        """
        from napari_vqldm.recipe import FileInput

        part = find_in_file(self.path, self.name, self.info, self.time, self.channel)
        if part is None or self.path is None:
            return None
        return FileInput(
            path=self.path, channel=part.channel, time=part.time, voxel_size_um=self.voxel_size_um, box=self.box
        )

    def is_in_file(self, volume: Volume) -> bool:
        """Tell whether the file still holds the voxels that `read` returned; it is read for that."""
        from napari_vqldm.files import read_volume

        part = find_in_file(self.path, self.name, self.info, self.time, self.channel)
        if part is None or self.path is None:
            return False
        try:
            found = read_volume(self.path, channel=part.channel, time=part.time, voxel_size_um=self.voxel_size_um).data
        except VqldmError:
            return False
        inside = found[tuple(slice(start, stop) for start, stop in self.box)] if self.box is not None else found
        return np.array_equal(inside, volume.data)

    def _index(self, box: Box | None) -> tuple[int | slice, ...]:
        """Index into all axes of the data."""
        index: list[int | slice] = [0] * len(self.info.shape)
        for axis, chosen in ((self.info.time_axis, self.time), (self.info.channel_axis, self.channel)):
            if axis is not None and chosen is not None:
                index[axis] = chosen
        for i, axis in enumerate(self.info.spatial_axes):
            index[axis] = slice(None) if box is None else slice(*box[i])
        return tuple(index)

    def _foreign_record(self) -> dict[str, Any]:
        """Say which part of which layer was read."""
        source = {
            "layer": self.name,
            "file": None if self.path is None else Path(self.path).name,
            "dtype": np.dtype(self.data.dtype).name,
            "shape": self.info.shape,
            "time": self.time,
            "channel": self.channel,
            "box": self.box,
        }
        kept = {key: value for key, value in source.items() if value is not None}
        return {"software": NAMESPACE, "verb": "read", "source": to_jsonable(kept)}


def snapshot(
    layer: Layer,
    *,
    time: int | None = None,
    channel: int | None = None,
    box: Box | None = None,
    voxel_size_um: Float3 | None = None,
) -> LayerSource:
    """Take from a layer what a job needs, on the GUI thread and without reading voxels.

    Parameters
    ----------
    layer : napari layer
        It may be changed, renamed or deleted afterwards.
    time, channel : int, optional
        Index from 0; needed when the layer holds several.
    box : tuple, optional
        ((z0, z1), (y0, y1), (x0, x1)) in voxels, half-open.
    voxel_size_um : tuple of float, optional
        (z, y, x); replaces what the layer says, needed when it says nothing.

    Raises
    ------
    VolumeError
        If the layer cannot be used, or the time point or channel does not exist.
    ChoiceError
        If a choice or the voxel size is missing.
    ShapeError
        If the box leaves the volume or has an axis of fewer than 2 voxels.
    """
    layer = bare(layer)
    info = describe(layer)
    if not info.is_usable:
        raise VolumeError(info.reason)
    time = _chosen(info, time, info.num_times, info.time_axis, "time point")
    channel = _chosen(info, channel, info.num_channels, info.channel_axis, "channel")
    if voxel_size_um is None and info.voxel_size_um is None:
        raise ChoiceError(f"{info.name!r} states no voxel size: give it in micrometres, z, y and x")
    low, high = layer.contrast_limits
    source = LayerSource(
        name=info.name,
        info=info,
        data=full_resolution(layer),
        time=time,
        channel=channel,
        box=None if box is None else _checked_box(box, info),
        voxel_size_um=check_voxel_size(info.voxel_size_um if voxel_size_um is None else voxel_size_um),
        transform=transform_of(layer, info.spatial_axes),
        contrast_limits=(float(low), float(high)),
        provenance=_record_of(layer, time),
        path=None if layer.source.path is None else str(layer.source.path),
        reader_plugin=layer.source.reader_plugin,
    )
    return source


def _chosen(info: LayerInfo, index: int | None, count: int, axis: int | None, word: str) -> int | None:
    """Index along a leading axis; None without the axis."""
    if axis is None:
        if index not in (None, 0):
            raise VolumeError(f"{info.name!r} holds one {word}, got {index}: choose 0")
        return None
    if index is None:
        if count > 1:
            raise ChoiceError(f"{info.name!r} holds {count} {word}s: choose one, 0 to {count - 1}")
        return 0
    if not 0 <= index < count:
        raise VolumeError(f"{info.name!r} holds no {word} {index}: choose one, 0 to {count - 1}")
    return index


def _checked_box(box: Box, info: LayerInfo) -> Box:
    """Return the box as plain integers, inside the volume."""
    plain = tuple((int(start), int(stop)) for start, stop in box)
    for (start, stop), axis, letter in zip(plain, info.spatial_axes, "zyx", strict=True):
        size = info.shape[axis]
        if not 0 <= start < stop <= size or stop - start < 2:
            raise ShapeError(
                f"expected a region of at least 2 voxels inside 0 to {size} along {letter} of {info.name!r}, "
                f"got {start} to {stop}: choose a larger region on the layer"
            )
    z, y, x = plain
    return z, y, x


def _record_of(layer: Layer, time: int | None) -> Mapping[str, Any] | None:
    """Record of one volume: of a series that we made, that of the frame."""
    record = provenance_of(layer)
    return None if record is None else frame_record(record, time) or None


def _check_memory(shape: Int3, name: str) -> None:
    """Refuse a volume that does not fit into the memory of this computer."""
    from napari_vqldm.memory import available_bytes

    needed = BYTES_PER_VOXEL * math.prod(shape)
    free = available_bytes() if needed > _ALWAYS_FINE_BYTES else None
    if free is not None and needed > free:
        raise VolumeError(
            f"{name!r} has {' x '.join(map(str, shape))} voxels and takes about {needed / 2**30:.1f} GiB of memory, "
            f"{free / 2**30:.1f} GiB are free: choose a region"
        )
