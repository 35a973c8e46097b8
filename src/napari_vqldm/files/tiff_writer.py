"""Write OME-TIFF: one volume, a series of volumes, or labels, with voxel size in micrometres and provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt
import tifffile

from napari_vqldm import __version__
from napari_vqldm.errors import ShapeError
from napari_vqldm.files import provenance as records
from napari_vqldm.files.atomic import atomic_path
from napari_vqldm.files.units import TIME_SYMBOLS, time_unit
from napari_vqldm.volume import Volume

_BIGTIFF_FROM = 2**32 - 2**25  # bytes; compressed data could still fit, but must not fail after an hour of work


def write_tiff(path: Path, volume: Volume, *, force: bool = False) -> Path:
    """Write an OME-TIFF: float32, ZYX, zlib, voxel size in micrometres, provenance in its XML.

    Equal volumes give equal bytes. See `napari_vqldm.files.write_volume` for the errors.
    """
    return _write_voxels(path, [volume.data], volume, volume.provenance, "ZYX", force=force)


def write_tiff_series(path: Path, volumes: Sequence[Volume], record: Mapping[str, Any], *, force: bool = False) -> Path:
    """Write volumes of one grid as the time points of an OME-TIFF, TZYX; else as `write_tiff`."""
    return _write_voxels(path, [volume.data for volume in volumes], volumes[0], record, "TZYX", force=force)


def write_labels(path: Path, labels: npt.NDArray[np.int32], volume: Volume, *, force: bool = False) -> Path:
    """Write instance labels (Z, Y, X) as OME-TIFF, int32, with the voxel size, provenance and name of ``volume``.

    Raises
    ------
    ShapeError
        If the labels are no int32 or have another shape than the volume.
    FileError
        As `napari_vqldm.files.write_volume`.
    """
    if labels.dtype != np.int32 or labels.shape != volume.shape:
        raise ShapeError(f"expected labels int32 {volume.shape}, got {labels.dtype} {labels.shape}")
    return _write_voxels(path, [np.ascontiguousarray(labels)], volume, volume.provenance, "ZYX", force=force)


def _write_voxels(
    path: Path,
    frames: Sequence[npt.NDArray[Any]],
    volume: Volume,
    provenance: Mapping[str, Any],
    axes: str,
    *,
    force: bool,
) -> Path:
    """Write the voxels of one or more frames (Z, Y, X) with the size and the name of ``volume``."""
    record = records.encode(provenance)
    # The OME schema wants a UUID per file; one that follows from the content keeps the writer deterministic.
    digest = sha256()
    for frame in frames:
        digest.update(frame.data)
    digest.update(repr((volume.voxel_size_um, record, volume.name)).encode())
    z, y, x = volume.voxel_size_um
    metadata: dict[str, Any] = {
        "axes": axes,
        "UUID": str(UUID(bytes=digest.digest()[:16], version=4)),
        "Creator": f"{records.NAMESPACE} {__version__}",
        "Name": "".join(c for c in volume.name if c.isprintable()) or "volume",
        "Description": record if len(frames) == 1 else f"{len(frames)} volumes",
        "MapAnnotation": {"Namespace": records.NAMESPACE, "provenance": record},
    }
    for axis, size in (("X", x), ("Y", y), ("Z", z)):
        metadata |= {f"PhysicalSize{axis}": repr(size), f"PhysicalSize{axis}Unit": "\u00b5m"}
    times = records.axis_of(provenance)
    if (unit := time_unit(times.unit)) is not None and times.step > 0:
        metadata |= {"TimeIncrement": repr(times.step), "TimeIncrementUnit": TIME_SYMBOLS[unit]}
    shape = volume.shape if axes == "ZYX" else (len(frames), *volume.shape)
    with atomic_path(path, force) as temporary:
        tifffile.imwrite(
            temporary,
            (plane for frame in frames for plane in frame),  # no copy of all frames
            shape=shape,
            dtype=frames[0].dtype,
            ome=True,
            bigtiff=sum(frame.nbytes for frame in frames) >= _BIGTIFF_FROM,
            photometric="minisblack",
            compression="zlib",
            software=f"{records.NAMESPACE} {__version__}",
            metadata=metadata,
        )
    return path
