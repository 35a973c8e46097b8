"""What a reconstruction is compared with: three simple filters of the same input, and the correlation of each to it.

A correlation alone says little: on a smooth stack everything correlates. The rows beside it say how much of the input
survives the model's grid, a slight blur, and plain averaging down to the latent grid.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from einops import reduce

from napari_vqldm.metrics.fidelity import gaussian_baseline, pearson
from napari_vqldm.resample import resample_to
from napari_vqldm.tiles import pad_to_multiple
from napari_vqldm.volume import Int3, Volume

GAUSSIAN_SIGMA_VOXELS = 1.0  # of the input grid, every axis; fixed, never tuned to the stack

ROWS = {
    "reconstruction": "the model",
    "identity-resample": "to the model's voxel size and back, no model",
    "gaussian": f"Gaussian filter, sigma {GAUSSIAN_SIGMA_VOXELS:g} voxel on every axis",
    "pooled": "averaged over the latent grid's cells and interpolated back",
}


def compare_to_input(source: Volume, output: Volume, coded_shape: Int3, factor: Int3) -> dict[str, float]:
    """Correlate a reconstruction and three simple filters with the input.

    Parameters
    ----------
    source, output : Volume
        Input and reconstruction on one grid.
    coded_shape : tuple of int
        Grid (Z, Y, X) on which the model worked, before padding.
    factor : tuple of int
        Volume voxels per latent cell, (z, y, x).

    Returns
    -------
    dict
        Pearson correlation to the input for every name in `ROWS`.

    Raises
    ------
    ShapeError
        If the grids of ``source`` and ``output`` differ.
    """
    on_model_grid = resample_to(source.data, coded_shape)
    sigma = (GAUSSIAN_SIGMA_VOXELS,) * 3
    rows: dict[str, npt.NDArray[Any]] = {
        "reconstruction": output.data,
        "identity-resample": resample_to(on_model_grid, source.shape),
        "gaussian": gaussian_baseline(source.data, sigma),
        "pooled": resample_to(_pool(on_model_grid, factor), source.shape),
    }
    return {name: pearson(data, source.data) for name, data in rows.items()}


def _pool(data: npt.NDArray[Any], factor: Int3) -> npt.NDArray[Any]:
    """Average any volume over latent cells: padded to whole cells, cropped again."""
    padded, padding = pad_to_multiple(np.asarray(data, np.float32), factor)
    z, y, x = factor
    cells = reduce(padded, "(d z) (h y) (w x) -> d h w", "mean", z=z, y=y, x=x)
    depth, height, width = padded.shape
    return np.asarray(padding.crop(resample_to(cells, (depth, height, width))))
