"""Cut a volume into tiles with a halo, and pad it to the grid that a network needs.

A network without statistics over the tile gives the same voxels tiled or whole when every tile reads a halo at least as
wide as the receptive field. At the faces of the volume the read block is clipped, so the network pads there as it does
for the whole volume.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_vqldm.errors import ShapeError
from napari_vqldm.volume import Int3

Block = tuple[slice, slice, slice]

# Volume voxels that go through a network at once, halo included: about 0.5 GiB with the bundled models.
MAX_VOXELS = 2**21


@dataclass(frozen=True)
class Tile:
    """One step of a tiled computation, all slices (z, y, x).

    Attributes
    ----------
    read : tuple of slice
        Block of the volume to compute on: the tile and its halo, clipped to the volume.
    keep : tuple of slice
        The tile inside the read block.
    write : tuple of slice
        The tile inside the volume. The write blocks of a plan cover the volume once.
    """

    read: Block
    keep: Block
    write: Block


def choose_tile(shape: Int3, multiple: Int3, halo: Int3, max_voxels: int) -> Int3:
    """Return the largest tile (z, y, x) below ``max_voxels`` with its halo: the longest axis is halved in turn."""
    tile = list(shape)

    def with_halo() -> int:
        z, y, x = (min(n, t + 2 * h) for n, t, h in zip(shape, tile, halo, strict=True))
        return z * y * x

    while with_halo() > max_voxels and any(t > m for t, m in zip(tile, multiple, strict=True)):
        axis = max(range(3), key=lambda a: tile[a] / multiple[a])
        tile[axis] = -(-tile[axis] // (2 * multiple[axis])) * multiple[axis]
    return tile[0], tile[1], tile[2]


def plan_tiles(shape: Int3, tile: Int3, halo: Int3, multiple: Int3 = (1, 1, 1)) -> list[Tile]:
    """Cut ``shape`` into tiles of at most ``tile`` voxels, of nearly equal size, in z, y, x order.

    Parameters
    ----------
    shape : tuple of int
        Volume (Z, Y, X), a multiple of ``multiple``.
    tile : tuple of int
        Largest tile without its halo; rounded up to ``multiple``.
    halo : tuple of int
        Voxels read beyond each face of a tile; rounded up to ``multiple``.
    multiple : tuple of int
        Starts and ends of all blocks are multiples of it, e.g. the downsampling factor of an encoder.

    Returns
    -------
    list of Tile
        At least one tile.

    Raises
    ------
    ShapeError
        If a size is not positive, the halo is negative, or ``shape`` is no multiple of ``multiple``.
    """
    for n, t, h, m in zip(shape, tile, halo, multiple, strict=True):
        if n < 1 or t < 1 or m < 1 or h < 0:
            raise ShapeError(
                "expected positive shape, tile and multiple and a halo of 0 or more, "
                f"got {shape}, {tile}, {multiple}, {halo}"
            )
        if n % m:
            raise ShapeError(f"expected a shape that is a multiple of {multiple}, got {shape}: pad it first")
    axes = [_cut_axis(n, t, h, m) for n, t, h, m in zip(shape, tile, halo, multiple, strict=True)]
    return [
        Tile(read=(z[0], y[0], x[0]), keep=(z[1], y[1], x[1]), write=(z[2], y[2], x[2])) for z, y, x in product(*axes)
    ]


def _cut_axis(size: int, tile: int, halo: int, multiple: int) -> list[tuple[slice, slice, slice]]:
    """Cut one axis; returns (read, keep, write) per tile."""
    cells = size // multiple
    tile_cells = -(-tile // multiple)
    halo = -(-halo // multiple) * multiple
    count = -(-cells // tile_cells)
    # Equal shares instead of a thin last tile: the halo costs the same for a thin tile as for a thick one.
    edges = [i * cells // count * multiple for i in range(count + 1)]
    cuts = []
    for start, stop in pairwise(edges):
        low, high = max(0, start - halo), min(size, stop + halo)
        cuts.append((slice(low, high), slice(start - low, stop - low), slice(start, stop)))
    return cuts


@dataclass(frozen=True)
class Padding:
    """Voxels added (z, y, x) before and after the volume."""

    before: Int3
    after: Int3

    def crop(self, data: Any) -> Any:
        """Remove the padding from the last three axes of an array or tensor (..., Z, Y, X)."""
        sizes = tuple(data.shape)[-3:]
        cuts = [slice(b, n - a) for b, n, a in zip(self.before, sizes, self.after, strict=True)]
        return data[(..., *cuts)]


def pad_to_multiple(
    data: npt.NDArray[Any], multiple: Int3, minimum: Int3 | None = None
) -> tuple[npt.NDArray[Any], Padding]:
    """Pad the last three axes at their ends, by reflection, up to a multiple and a minimum.

    Parameters
    ----------
    data : ndarray
        (..., Z, Y, X), at least 1 voxel per axis; short axes are reflected as often as needed.
    multiple : tuple of int
        The padded axes are multiples of it.
    minimum : tuple of int, optional
        Smallest padded size; rounded up to ``multiple``.

    Returns
    -------
    padded : ndarray
        ``data`` itself when nothing has to be added.
    padding : Padding
        Its ``crop`` undoes the padding. All of it lies after the volume, so voxel (0, 0, 0) stays where it was.

    Raises
    ------
    ShapeError
        If ``data`` has fewer than three axes or an empty one.
    """
    if data.ndim < 3 or 0 in data.shape:
        raise ShapeError(f"expected (..., Z, Y, X) without empty axes, got shape {data.shape}")
    smallest = minimum or (1, 1, 1)
    added = [-(-max(n, low) // m) * m - n for n, m, low in zip(data.shape[-3:], multiple, smallest, strict=True)]
    padding = Padding(before=(0, 0, 0), after=(added[0], added[1], added[2]))
    if not any(added):
        return data, padding
    # Symmetric (the edge voxel is repeated) rather than reflect: it also works on an axis of one or two voxels.
    widths = [(0, 0)] * (data.ndim - 3) + [(0, a) for a in added]
    return np.pad(data, widths, mode="symmetric"), padding
