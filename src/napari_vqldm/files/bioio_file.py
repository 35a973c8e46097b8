"""Vendor formats (CZI, LIF, ND2, ...) through the optional package bioio and its readers."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from napari_vqldm.errors import FileError
from napari_vqldm.files.stack import Index, Stack
from napari_vqldm.files.units import to_um

# Suffix -> package with the reader.
READERS = {
    ".czi": "bioio-czi",
    ".lif": "bioio-lif",
    ".nd2": "bioio-nd2",
    ".dv": "bioio-dv",
    ".r3d": "bioio-dv",
    ".sldy": "bioio-sldy",
    ".lsm": "bioio-bioformats",
    ".oib": "bioio-bioformats",
    ".oif": "bioio-bioformats",
    ".oir": "bioio-bioformats",
    ".ims": "bioio-bioformats",
    ".vsi": "bioio-bioformats",
}


def read_vendor(path: Path) -> Stack:
    """Describe the image in a vendor file.

    Raises
    ------
    FileError
        If bioio or the reader of this format is not installed, the file is damaged, or it holds several scenes.
    """
    reader = READERS[path.suffix.lower()]
    install = f"reading {path.suffix} files needs bioio: pip install bioio {reader}, or save the stack as OME-TIFF"
    try:
        image_class = import_module("bioio").BioImage
        unsupported = import_module("bioio_base.exceptions").UnsupportedFileFormatError
    except ImportError:
        raise FileError(f"{path}: {install}") from None
    try:
        image = image_class(path)
        scenes = tuple(image.scenes)
        if len(scenes) > 1:
            listed = ", ".join(repr(scene) for scene in scenes[:5])
            raise FileError(f"{path}: holds {len(scenes)} images ({listed}): save the one you want as its own file")
        axes = str(image.dims.order)
        names = tuple(str(name) for name in image.channel_names or ())
        sizes, properties = image.physical_pixel_sizes, getattr(image, "dimension_properties", None)
        z, y, x = (to_um(getattr(sizes, axis), _unit(properties, axis)) for axis in "ZYX")
        shape = tuple(int(n) for n in image.shape)
        dtype = np.dtype(image.dtype)
    except unsupported:
        raise FileError(f"{path}: {install}") from None
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError, OSError, ImportError) as error:
        raise FileError(f"{path}: {_unreadable(error)}") from None

    def read(index: Index) -> np.ndarray[Any, Any]:
        chosen = {letter: i for letter, i in zip(axes, index, strict=True) if isinstance(i, int)}
        kept = "".join(letter for letter in axes if letter not in chosen)
        try:
            return np.asarray(image.get_image_data(kept, **chosen))
        except (ValueError, RuntimeError, OSError) as error:
            raise FileError(f"{path}: {_unreadable(error)}") from None

    return Stack(
        axes=axes,
        shape=shape,
        dtype=dtype,
        read=read,
        format=f"bioio {path.suffix.lower()}",
        channel_names=names,
        voxel_size_um=(z, y, x),
    )


def _unreadable(error: Exception) -> str:
    """Say what to do; the reader's own words stay, they may name a program that it needs."""
    detail = " ".join(str(error).split())[:120] or type(error).__name__
    return f"bioio cannot read it ({detail}): copy the file again, or save the stack as OME-TIFF"


def _unit(properties: object, axis: str) -> str:
    """Unit of one axis; bioio states micrometres where its reader states none."""
    unit = getattr(getattr(properties, axis, None), "unit", None)
    return str(unit) if unit else "um"
