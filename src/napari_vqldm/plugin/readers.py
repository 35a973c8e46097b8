"""Readers that claim only what this package wrote: checkpoints, and volumes that carry our provenance.

Whether a file is ours is told from its first bytes, without torch and within milliseconds. Everything else is left to
other readers; the dock opens any stack.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from napari_vqldm.card import MAX_HEADER_BYTES, METADATA_KEY
from napari_vqldm.errors import FileError
from napari_vqldm.files import TIFF_STARTS
from napari_vqldm.files.provenance import NAMESPACE, axis_of, is_series
from napari_vqldm.files.tiff import has_our_record
from napari_vqldm.plugin.layers.data import LayerData, layer_data, series_data

Reader = Callable[..., list[Any]]

_NOTHING: list[Any] = [(None,)]  # how a reader says that it did its work and adds no layer


def get_checkpoint_reader(path: str | Sequence[str]) -> Reader | None:
    """Return a reader that opens the dock with this checkpoint, or None when the file is no checkpoint of ours."""
    file = _only_path(path)
    return open_checkpoint if file is not None and is_checkpoint(file) else None


def get_volume_reader(path: str | Sequence[str]) -> Reader | None:
    """Return a reader of OME-TIFF and OME-Zarr volumes with our provenance, or None for everything else."""
    file = _only_path(path)
    return read_layers if file is not None and is_our_volume(file) else None


def open_checkpoint(path: str | Sequence[str], **_: Any) -> list[Any]:
    """Open the dock of the current viewer and hand the checkpoint over; adds no layer.

    Raises
    ------
    FileError
        If there is no viewer, as when a script calls the reader.
    """
    from napari import current_viewer

    from napari_vqldm.plugin.commands import open_dock

    file = _only_path(path)
    viewer = current_viewer()
    if viewer is None or file is None:
        raise FileError(f"{path}: a model opens in the dock of a napari viewer: from Python use napari_vqldm.load")
    open_dock(viewer).open_model(file)
    return _NOTHING


def read_layers(path: str | Sequence[str], **_: Any) -> list[LayerData]:
    """Read a volume, or a series of ours, as an image layer with voxel size in micrometres and provenance.

    See `napari_vqldm.files.read_volume` for the errors; a series that does not fit in memory is refused.
    """
    return [_read_layer(file) for file in ([path] if isinstance(path, str) else path)]


def _read_layer(path: str) -> LayerData:
    from napari_vqldm.files import open_stack, read_series, read_volume
    from napari_vqldm.plugin.opening.work import check_memory
    from napari_vqldm.plugin.state.open_volume import content_of

    stack = open_stack(path)
    if not is_series(stack.provenance) or "T" not in stack.axes:
        return layer_data(read_volume(path))
    content = content_of(path, stack)
    check_memory(content, content.num_times)
    return series_data(read_series(path), content.num_times, axis_of(stack.provenance))


def is_checkpoint(path: Path) -> bool:
    """Whether a file starts as a checkpoint of ours: a safetensors header with our model card."""
    if path.suffix.lower() != ".safetensors":
        return False
    start = _start(path, 8)
    if len(start) < 8:
        return False
    (length,) = struct.unpack("<Q", start)
    if not 2 <= length <= MAX_HEADER_BYTES:
        return False
    # The key stands once, as a JSON string, before any tensor or after them: the header is small enough to look at all.
    return b'"' + METADATA_KEY.encode() + b'"' in _start(path, 8 + length)[8:]


def is_our_volume(path: Path) -> bool:
    """Whether an OME-TIFF or OME-Zarr carries provenance of this package."""
    try:
        if path.is_dir():
            return _has_zarr_provenance(path)
    except OSError:
        return False
    return path.suffix.lower() in (".tif", ".tiff") and _start(path, 4) in TIFF_STARTS and has_our_record(path)


def _only_path(path: str | Sequence[str]) -> Path | None:
    """The path, when there is exactly one; lists are files to be stacked, which is not for us."""
    if isinstance(path, str):
        return Path(path)
    return Path(path[0]) if len(path) == 1 else None


def _start(path: Path, count: int) -> bytes:
    """The first bytes of a regular file; nothing where it cannot be read."""
    try:
        if not path.is_file():  # a pipe would block
            return b""
        with path.open("rb") as stream:
            return stream.read(count)
    except OSError:
        return b""


def _has_zarr_provenance(path: Path) -> bool:
    """Our record is an attribute beside that of OME."""
    text = _start(path / "zarr.json", MAX_HEADER_BYTES)
    try:
        attributes = json.loads(text)["attributes"]
        return "ome" in attributes and "provenance" in attributes[NAMESPACE]
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
