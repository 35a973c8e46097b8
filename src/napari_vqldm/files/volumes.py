"""Read and write one volume, whatever the format."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from napari_vqldm.errors import FileError, ShapeError, VolumeError
from napari_vqldm.files.atomic import is_zarr_folder
from napari_vqldm.files.bioio_file import READERS, read_vendor
from napari_vqldm.files.numpy_file import read_npy
from napari_vqldm.files.ome_zarr import read_ome_zarr, write_ome_zarr, write_ome_zarr_series
from napari_vqldm.files.provenance import SeriesAxis, series_record
from napari_vqldm.files.stack import Stack, select_series, select_volume
from napari_vqldm.files.tiff import read_tiff
from napari_vqldm.files.tiff_writer import write_tiff, write_tiff_series
from napari_vqldm.volume import Float3, Volume

_TIFF = (".tif", ".tiff")
READABLE_SUFFIXES = (*_TIFF, ".npy", ".zarr", *READERS)
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # classic and BigTIFF, both byte orders


def read_volume(
    path: str | os.PathLike[str],
    *,
    channel: int | str | None = None,
    time: int | None = None,
    voxel_size_um: Float3 | None = None,
) -> Volume:
    """Read one 3D volume.

    Parameters
    ----------
    path : path
        TIFF, ImageJ TIFF, OME-TIFF, `.npy`, an OME-Zarr folder, or a vendor format when bioio is installed.
    channel : int or str, optional
        Index from 0, or name, of the channel; needed when the file holds several.
    time : int, optional
        Index from 0 of the time point; needed when the file holds several.
    voxel_size_um : tuple of float, optional
        (z, y, x) in micrometres; replaces what the file says, needed when it says nothing.

    Returns
    -------
    Volume
        float32, (Z, Y, X), in the units of the file. ``provenance`` is the record that `write_volume` stored, or which
        part of which foreign file was read.

    Raises
    ------
    FileError
        If the path is missing, a plain folder, of an unknown format, truncated or damaged.
    ShapeError
        If the file holds no z stack of at least 2 voxels per axis.
    ChoiceError
        If a choice or the voxel size is missing.
    VolumeError
        If a choice is impossible, or the content is RGB, complex, empty, constant or not finite.
    """
    path = Path(path)
    stack = open_stack(path)
    try:
        return select_volume(
            stack,
            channel=channel,
            time=time,
            voxel_size_um=voxel_size_um,
            name=_stem(path),
            file_name=path.name,
        )
    except (ShapeError, VolumeError) as error:
        raise type(error)(f"{path}: {error}") from None
    except MemoryError:
        raise FileError(f"{path}: does not fit in memory: crop it first") from None


def read_series(
    path: str | os.PathLike[str], *, channel: int | str | None = None, voxel_size_um: Float3 | None = None
) -> Iterator[Volume]:
    """Read all time points of a file one after the other: much quicker than `read_volume` for each.

    Parameters
    ----------
    path, channel, voxel_size_um
        As in `read_volume`.

    Yields
    ------
    Volume
        What `read_volume` returns with ``time`` 0, 1, ...: one of a file without time. Copy the voxels of those that
        are kept: they may be a view of several.

    Raises
    ------
    FileError, ShapeError, ChoiceError, VolumeError
        As in `read_volume`, for the first time point that cannot be read.
    """
    path = Path(path)
    stack = open_stack(path)
    try:
        yield from select_series(
            stack, channel=channel, voxel_size_um=voxel_size_um, name=_stem(path), file_name=path.name
        )
    except (ShapeError, VolumeError) as error:
        raise type(error)(f"{path}: {error}") from None
    except MemoryError:
        raise FileError(f"{path}: does not fit in memory: crop it first") from None


def open_stack(path: str | os.PathLike[str]) -> Stack:
    """Describe what a file holds, before a volume is chosen and without reading its pixels.

    Raises
    ------
    FileError
        If the path is missing, a plain folder, of an unknown format, truncated or damaged.
    """
    path = Path(path)
    return _reader(path)(path)


def write_volume(path: str | os.PathLike[str], volume: Volume, *, force: bool = False) -> Path:
    """Write a volume with its voxel size and provenance.

    Parameters
    ----------
    path : path
        ``.ome.tif``, ``.ome.tiff``, ``.tif`` or ``.tiff`` give OME-TIFF (float32, zlib); ``.zarr`` gives OME-Zarr 0.5.
    volume : Volume
        Values are stored bit for bit.
    force : bool
        Replace an existing file.

    Returns
    -------
    Path
        Where the volume is now.

    Raises
    ------
    FileError
        If the suffix is unknown, the file exists and ``force`` is not set, or writing fails. Nothing is left behind.
    """
    path = Path(path)
    if _writes_zarr(path):
        return write_ome_zarr(path, volume, force=force)
    return write_tiff(path, volume, force=force)


def write_series(
    path: str | os.PathLike[str], volumes: Sequence[Volume], *, axis: SeriesAxis | None = None, force: bool = False
) -> Path:
    """Write volumes of one grid as the time points of one file, each with its own provenance.

    `read_volume` with ``time`` gives one back, `read_series` all, bit for bit and with their records.

    Parameters
    ----------
    path, force
        As in `write_volume`.
    volumes : sequence of Volume
        Two or more. The first one names the image.
    axis : SeriesAxis, optional
        Where they lie in time, or along what else. It is kept in the record; other programs see steps of time.

    Returns
    -------
    Path
        Where they are now.

    Raises
    ------
    ShapeError
        If there are fewer than two, or they differ in their grid or voxel size.
    VolumeError
        If one is constant: no file could give it back.
    FileError
        As in `write_volume`.
    """
    path, grids = Path(path), {(volume.shape, volume.voxel_size_um) for volume in volumes}
    if len(volumes) < 2 or len(grids) != 1:
        raise ShapeError(f"expected two or more volumes of one grid, got {len(volumes)} of {len(grids)} grids")
    for time, volume in enumerate(volumes):
        if volume.data.min() == volume.data.max():
            raise VolumeError(
                f"{path}: every voxel of time point {time} equals {volume.data.flat[0]:g}: "
                "it could not be opened again: leave it out"
            )
    record = series_record([volume.provenance for volume in volumes], axis)
    if _writes_zarr(path):
        return write_ome_zarr_series(path, volumes, record, force=force)
    return write_tiff_series(path, volumes, record, force=force)


def list_volumes(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the files in ``folder``, not below it, that `read_volume` may read, sorted by name; hidden ones left out.

    Raises
    ------
    FileError
        If ``folder`` is missing, no folder, unreadable, or holds no such file.
    """
    folder = Path(folder)
    if not folder.is_dir():
        problem = "not a folder" if folder.exists() else "no such folder"
        raise FileError(f"{folder}: {problem}: give a folder of volumes")
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise FileError(f"{folder}: cannot list: {error.strerror}") from None
    found = [
        path
        for path in entries
        if path.suffix.lower() in READABLE_SUFFIXES
        and not path.name.startswith(".")
        and path.is_dir() == (path.suffix.lower() == ".zarr")
    ]
    if not found:
        raise FileError(f"{folder}: no volumes: expected files ending in {', '.join(READABLE_SUFFIXES)}")
    return found


def _writes_zarr(path: Path) -> bool:
    """Choose between OME-Zarr and OME-TIFF by the suffix."""
    suffix = path.suffix.lower()
    if suffix not in (*_TIFF, ".zarr"):
        raise FileError(f"{path}: cannot write {suffix or 'a file without suffix'}: use .ome.tif or .zarr")
    return suffix == ".zarr"


def _reader(path: Path) -> Callable[[Path], Stack]:
    """Choose the reader by suffix, or by the first bytes when the suffix is unknown."""
    suffix = path.suffix.lower()
    try:
        if path.is_dir():
            if is_zarr_folder(path):
                return read_ome_zarr
            raise FileError(f"{path}: is a folder without an OME-Zarr image: give one file")
        with path.open("rb") as stream:
            start = stream.read(4)
    except FileNotFoundError:
        raise FileError(f"{path}: no such file") from None
    except OSError as error:
        raise FileError(f"{path}: cannot read: {error.strerror}") from None
    if not start:
        raise FileError(f"{path}: the file is empty")
    if suffix in READERS:
        return read_vendor
    if suffix == ".npy":
        return read_npy
    if suffix in _TIFF or start in TIFF_STARTS:
        return read_tiff
    raise FileError(f"{path}: unknown format: expected {', '.join(READABLE_SUFFIXES)}")


def _stem(path: Path) -> str:
    """File name without its suffixes."""
    name = path.name
    for suffix in (".ome.tif", ".ome.tiff", ".ome.zarr", path.suffix):
        if suffix and name.lower().endswith(suffix.lower()) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name
