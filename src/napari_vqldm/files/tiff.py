"""Read TIFF, ImageJ TIFF and OME-TIFF with the voxel size that each states in its own way."""

from __future__ import annotations

import logging
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import tifffile

from napari_vqldm.errors import FileError
from napari_vqldm.files import provenance as records
from napari_vqldm.files.stack import Index, Stack
from napari_vqldm.files.units import to_um

# What tifffile and the decoders raise on damaged content, found by flipping and cutting bytes of valid files.
_DAMAGE = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    RuntimeError,
    ArithmeticError,
    AssertionError,
    EOFError,
    OSError,
    struct.error,
    zlib.error,
    ElementTree.ParseError,
    tifffile.OmeXmlError,
)
# Damage that tifffile only logs, and then goes on with fewer or blank planes.
_LOGGED_DAMAGE = (
    "page offset",
    "offset to page",
    "tag list of page",
    "corrupted file",
    "circular reference",
    "series raised",
    "TiffTag 270 ",  # the description, which holds voxel size and axes
)
# What the libraries say of a damaged file speaks of buffers and offsets; the chained error keeps it for developers.
_AGAIN = "copy the file again, or save the stack again as OME-TIFF"
_RESOLUTION_UNITS = {2: "inch", 3: "cm", 4: "mm", 5: "um"}  # of the ResolutionUnit tag; 4 and 5 are tifffile's
_MAX_EXPANSION = 5000  # bytes in memory per byte of file: above it the header is damaged, zlib reaches 1032


def read_tiff(path: Path) -> Stack:
    """Describe the image in a TIFF file; pixels are read when a volume is chosen.

    Raises
    ------
    FileError
        If the file is no TIFF, truncated, damaged, needs a missing decoder, or holds several images.
    """
    with _readable(path), tifffile.TiffFile(path) as tif:
        index = _only_series(path, tif)
        series = tif.series[index]
        axes, shape, dtype = series.axes, tuple(int(n) for n in series.shape), series.dtype
        missing = any(page is None for page in series.pages)
        xml_text, is_imagej = tif.ome_metadata, bool(tif.is_imagej)
        cut_xml = xml_text is None and "<OME " in tif.pages.first.description[:1000]
        voxel_size = _tag_voxel_size(tif)
    if dtype is None or math.prod(shape) * dtype.itemsize > _MAX_EXPANSION * path.stat().st_size:
        raise FileError(f"{path}: damaged TIFF: its header promises more data than the file can hold: {_AGAIN}")
    if cut_xml:
        raise FileError(f"{path}: truncated or damaged OME-TIFF: its XML has no end: {_AGAIN}")
    if missing:
        raise FileError(
            f"{path}: some of its planes are missing: {_AGAIN}; if it is one of several files, put them into one folder"
        )
    xml = _parse_xml(path, xml_text)
    image, pixels = _ome_image(xml, index)
    names: tuple[str, ...] = ()
    if pixels is not None:
        voxel_size = _ome_voxel_size(pixels)
        names = tuple(c.get("Name", "") for c in _children(pixels, "Channel"))
    return Stack(
        axes=axes,
        shape=shape,
        dtype=dtype,
        read=lambda chosen: _read_planes(path, index, chosen),
        format="OME-TIFF" if pixels is not None else "ImageJ TIFF" if is_imagej else "TIFF",
        channel_names=names,
        voxel_size_um=voxel_size,
        provenance=_ome_provenance(xml, image),
        reads_ranges=True,
    )


def has_our_record(path: Path) -> bool:
    """Whether a TIFF carries provenance of this package: tags of one page are read, no voxel; False for other files."""
    try:
        with _readable(path), tifffile.TiffFile(path) as tif:
            description = str(tif.pages.first.tags.valueof(270, ""))
    except FileError:
        return False
    return f'Namespace="{records.NAMESPACE}"' in description and 'K="provenance"' in description


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn everything that a damaged file causes, raised or logged by tifffile, into one `FileError`."""
    heard: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("tifffile")
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield
    except tifffile.TiffFileError as error:
        raise FileError(f"{path}: no TIFF file, or damaged at its start: {_AGAIN}") from error
    except MemoryError:
        raise FileError(f"{path}: does not fit in memory: crop it first") from None
    except _DAMAGE as error:
        if "imagecodecs" in str(error):
            raise FileError(f"{path}: its compression needs one more package: pip install imagecodecs") from None
        raise FileError(f"{path}: truncated or damaged TIFF: {_AGAIN}") from error
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
    for message in heard:
        if any(phrase in message for phrase in _LOGGED_DAMAGE):
            raise FileError(f"{path}: truncated or damaged TIFF: {_AGAIN}")


def _only_series(path: Path, tif: tifffile.TiffFile) -> int:
    """Index of the single image of the file, or of the single z stack beside previews and labels."""
    several = list(enumerate(tif.series))
    if len(several) > 1:
        several = [(i, s) for i, s in several if sum(n > 1 for n in s.shape) > 2] or several
    if len(several) == 1:
        return several[0][0]
    if not several:
        raise FileError(f"{path}: the TIFF file holds no image")
    shapes = ", ".join(f"{s.axes} {'x'.join(map(str, s.shape))}" for _, s in several[:5])
    raise FileError(f"{path}: holds {len(several)} images ({shapes}): save the one that you want as its own file")


def _read_planes(path: Path, series_index: int, index: Index) -> npt.NDArray[Any]:
    """Read the chosen part; of a file with many channels and times only the planes that are needed."""
    with _readable(path), tifffile.TiffFile(path) as tif:
        series = tif.series[series_index]
        leading = series.shape[:-2]
        # One page per plane: the usual layout. Others (ImageJ's single-page big files) are read whole.
        if series.axes[-2:] == "YX" and len(series.pages) == math.prod(leading) > 1 and len(index) == series.ndim:
            chosen = np.arange(math.prod(leading)).reshape(leading)[index[:-2]]
            data = (
                series.asarray()
                if chosen.size == math.prod(leading)
                else tif.asarray(key=chosen.ravel().tolist(), series=series_index)
            )
            return np.asarray(data).reshape(*chosen.shape, *series.shape[-2:])
        return np.asarray(series.asarray())[index]


# --- OME-XML ----------------------------------------------------------------------------------------------------------


def _parse_xml(path: Path, text: str | None) -> ElementTree.Element | None:
    """Parse the OME-XML, or None for other files."""
    try:
        return ElementTree.fromstring(text) if text else None
    except (ElementTree.ParseError, ValueError) as error:
        raise FileError(f"{path}: damaged OME-TIFF: its XML cannot be parsed: {_AGAIN}") from error


def _children(parent: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    """Children by local name: the namespace holds the year of the schema and changes."""
    return [child for child in parent if child.tag.rsplit("}", 1)[-1] == name]


def _ome_image(
    xml: ElementTree.Element | None, index: int
) -> tuple[ElementTree.Element | None, ElementTree.Element | None]:
    """The Image element of one series and its Pixels."""
    images = _children(xml, "Image") if xml is not None else []
    pixels = _children(images[index], "Pixels") if index < len(images) else []
    return (images[index], pixels[0]) if pixels else (None, None)


def _ome_voxel_size(pixels: ElementTree.Element) -> tuple[float | None, float | None, float | None]:
    """PhysicalSize attributes in um, (z, y, x); the unit defaults to um in the OME schema."""
    z, y, x = (
        to_um(pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", "\u00b5m")) for axis in "ZYX"
    )
    return z, y, x


def _ome_provenance(xml: ElementTree.Element | None, image: ElementTree.Element | None) -> dict[str, Any]:
    """Our own record from the map annotation, else from the image description; empty for foreign files."""
    if xml is None or image is None:
        return {}
    for group in _children(xml, "StructuredAnnotations"):
        for annotation in _children(group, "MapAnnotation"):
            if annotation.get("Namespace") == records.NAMESPACE:
                for entry in annotation.iter():
                    if entry.get("K") == "provenance":
                        return records.decode(entry.text) or {}
    descriptions = _children(image, "Description")
    record = records.decode(descriptions[0].text) if descriptions else None
    return record if record is not None and record.get("software") == records.NAMESPACE else {}


# --- ImageJ and plain TIFF --------------------------------------------------------------------------------------------


def _tag_voxel_size(tif: tifffile.TiffFile) -> tuple[float | None, float | None, float | None]:
    """Voxel size in um, (z, y, x), from resolution tags and the ImageJ or tifffile description."""
    shaped = tif.shaped_metadata or ({},)
    described: dict[str, Any] = dict(tif.imagej_metadata or shaped[0])
    page = tif.pages.first
    tag_unit = _RESOLUTION_UNITS.get(int(page.tags.valueof("ResolutionUnit", 2 if not tif.is_imagej else 1)))
    unit = described.get("unit") or tag_unit
    z = to_um(described.get("spacing"), described.get("zunit") or unit)
    y = _pixel_size(page.tags.valueof("YResolution"), described.get("yunit") or unit)
    x = _pixel_size(page.tags.valueof("XResolution"), unit)
    return z, y, x


def _pixel_size(resolution: object, unit: str | None) -> float | None:
    """Invert a resolution tag, (pixels, units), to um per pixel."""
    if not isinstance(resolution, tuple) or len(resolution) != 2 or not all(resolution):
        return None
    return to_um(resolution[1] / resolution[0], unit)
