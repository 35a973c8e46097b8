"""Read and write volumes: TIFF, OME-TIFF, ImageJ TIFF, OME-Zarr, `.npy`, and vendor formats through bioio.

The names are loaded on first use: whoever wants a record or a unit need not wait for the readers of all formats.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_vqldm.files.atomic import atomic_path
    from napari_vqldm.files.centre_lines import CentreLines, read_centre_lines, write_centre_lines
    from napari_vqldm.files.tiff_writer import write_labels
    from napari_vqldm.files.volumes import (
        READABLE_SUFFIXES,
        TIFF_STARTS,
        list_volumes,
        open_stack,
        read_series,
        read_volume,
        write_series,
        write_volume,
    )

_HOME = {
    "READABLE_SUFFIXES": "volumes",
    "TIFF_STARTS": "volumes",
    "CentreLines": "centre_lines",
    "atomic_path": "atomic",
    "list_volumes": "volumes",
    "open_stack": "volumes",
    "read_centre_lines": "centre_lines",
    "read_series": "volumes",
    "read_volume": "volumes",
    "write_centre_lines": "centre_lines",
    "write_labels": "tiff_writer",
    "write_series": "volumes",
    "write_volume": "volumes",
}

__all__ = [
    "READABLE_SUFFIXES",
    "TIFF_STARTS",
    "CentreLines",
    "atomic_path",
    "list_volumes",
    "open_stack",
    "read_centre_lines",
    "read_series",
    "read_volume",
    "write_centre_lines",
    "write_labels",
    "write_series",
    "write_volume",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
