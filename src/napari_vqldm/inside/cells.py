"""Where the cells of a latent lie in the stack that was encoded, exactly: resampling, padding, half a voxel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_vqldm.volume import Float3, Int3

if TYPE_CHECKING:
    from napari_vqldm.reconstruct import Latent


@dataclass(frozen=True, eq=False)
class CellImage:
    """One number for every cell of a latent, to be shown over its stack.

    Attributes
    ----------
    data : ndarray
        (d, h, w).
    cell_size_um : tuple of float
        (z, y, x), micrometres.
    translate_um : tuple of float
        Centre of the first cell minus the centre of the first voxel of the stack, (z, y, x), micrometres.
    name : str
        What the numbers are.
    """

    data: npt.NDArray[Any]
    cell_size_um: Float3
    translate_um: Float3
    name: str


def cell_geometry(latent: Latent, factor: Int3) -> tuple[Float3, Float3]:
    """Return size and place of the cells of a latent.

    Parameters
    ----------
    latent : Latent
        Its grids and padding.
    factor : tuple of int
        Voxels (z, y, x) of a cell.

    Returns
    -------
    cell_size_um, translate_um : tuple of float
        As in `CellImage`.
    """
    axes = zip(factor, latent.coded_voxel_size_um, latent.padding.before, latent.voxel_size_um, strict=True)
    # The grids of stack and coded volume share their outer faces, not their first centres.
    size, translate = zip(*((f * c, (f / 2 - before) * c - own / 2) for f, c, before, own in axes), strict=True)
    return (size[0], size[1], size[2]), (translate[0], translate[1], translate[2])


def padded_cells(latent: Latent, factor: Int3) -> npt.NDArray[np.bool_]:
    """Tell which cells (d, h, w) hold padding: some or all of their voxels were continued by reflection."""
    axes = []
    for cells, f, before, size in zip(latent.grid, factor, latent.padding.before, latent.coded_shape, strict=True):
        first = np.arange(cells) * f - before  # voxel of the coded grid
        axes.append((first < 0) | (first + f > size))
    z, y, x = axes
    return np.asarray(z[:, None, None] | y[:, None] | x)
