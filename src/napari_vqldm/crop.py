"""The verb `crop`: a box of a volume."""

from __future__ import annotations

from operator import index

from napari_vqldm.environment import describe_environment
from napari_vqldm.errors import ShapeError
from napari_vqldm.files.provenance import describe_input, make_provenance
from napari_vqldm.volume import Volume, seal

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


def crop(volume: Volume, box: Box) -> Volume:
    """Cut a box out of a volume.

    Parameters
    ----------
    volume : Volume
        Any units.
    box : tuple of three (start, stop)
        Voxels along z, y and x from 0, ``stop`` not included.

    Returns
    -------
    Volume
        Same name, units and voxel size; its corner is not recorded as a place, only in the provenance.

    Raises
    ------
    ShapeError
        If the box has another form, leaves the volume, or has an axis of fewer than 2 voxels.
    """
    checked = _checked(box, volume.shape)
    data = volume.data[tuple(slice(start, stop) for start, stop in checked)].copy()
    provenance = make_provenance(
        "crop", environment=describe_environment("cpu"), **describe_input(volume), box=checked, name=volume.name
    )
    return seal(Volume(data, volume.voxel_size_um, provenance, volume.name))


def _checked(box: Box, shape: tuple[int, int, int]) -> Box:
    """Return the box as plain whole numbers, or say what is wrong with it."""
    try:
        (z0, z1), (y0, y1), (x0, x1) = box
        limits = [(index(a), index(b)) for a, b in ((z0, z1), (y0, y1), (x0, x1))]
    except (TypeError, ValueError):
        raise ShapeError(
            f"expected a box of three (start, stop) in whole voxels along z, y and x, got {box!r}"
        ) from None
    for name, (start, stop), size in zip("zyx", limits, shape, strict=True):
        if not 0 <= start < stop <= size:
            raise ShapeError(
                f"expected a box inside the volume, 0 to {size} along {name}, got {start} to {stop}: "
                "move or shrink the box"
            )
        if stop - start < 2:
            raise ShapeError(f"expected at least 2 voxels per axis, got 1 along {name}: make the box larger")
    z, y, x = limits
    return z, y, x
