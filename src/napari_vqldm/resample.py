"""Change the voxel size of a volume with a linear operator that keeps constants.

Separable cubic convolution (Keys 1981, doi:10.1109/TASSP.1981.1163711, a = -1/2). When an axis shrinks the kernel is
stretched by the same ratio, so that detail finer than the new voxels is averaged instead of aliased.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from napari_vqldm.errors import ShapeError, VolumeError
from napari_vqldm.memory import available_bytes
from napari_vqldm.volume import Float3, Int3, check_voxel_size

# Float32 copies of the grid that live at once from resampling to the decoded stack: two in the last resampled axis, the
# padded one; later the decoded one, its crop and the latent.
BYTES_PER_VOXEL = 12
_ALWAYS_FINE_BYTES = 2**28


def target_voxel_size(voxel_size_um: Float3, low: Float3, high: Float3) -> Float3:
    """Return the voxel size (z, y, x), um, in [``low``, ``high``] that is nearest to ``voxel_size_um``, per axis."""
    z, y, x = (min(max(v, a), b) for v, a, b in zip(voxel_size_um, low, high, strict=True))
    return z, y, x


def resampled_shape(shape: Int3, source_um: Float3, target_um: Float3) -> Int3:
    """Return the grid (Z, Y, X), at least 2 per axis, that spans the extent of ``shape`` with ``target_um`` voxels."""
    z, y, x = (n if s == t else max(2, round(n * s / t)) for n, s, t in zip(shape, source_um, target_um, strict=True))
    return z, y, x


def check_memory(shape: Int3, voxel_size_um: Float3) -> None:
    """Refuse a grid (Z, Y, X) for coding that does not fit into the memory of this computer.

    Raises
    ------
    VolumeError
        If ``BYTES_PER_VOXEL`` times the grid is more than the free memory; where that is unknown nothing is refused.
    """
    needed = BYTES_PER_VOXEL * math.prod(shape)
    if needed < _ALWAYS_FINE_BYTES:
        return
    free = available_bytes()
    if free is not None and needed > free:
        size = " x ".join(f"{value:.4g}" for value in voxel_size_um)
        raise VolumeError(
            f"on the coded grid, {size} um as the model needs it, the stack has {' x '.join(map(str, shape))} voxels "
            f"and takes about {needed / 2**30:.1f} GiB of memory, {free / 2**30:.1f} GiB are free: check --voxel-size "
            "Z Y X (micrometres), or crop the stack"
        )


def resample(data: npt.NDArray[Any], source_um: Float3, target_um: Float3) -> npt.NDArray[Any]:
    """Resample a volume from voxel size ``source_um`` to ``target_um``, both (z, y, x) in micrometres.

    The physical extent is kept exactly and the new grid holds whole voxels, so the new voxel size is ``target_um`` up
    to half a voxel over the whole axis.

    Parameters
    ----------
    data : ndarray
        Volume (Z, Y, X).
    source_um, target_um : tuple of float
        Voxel sizes before and after.

    Returns
    -------
    ndarray
        (Z', Y', X'), float32 (float64 for float64 input); ``data`` itself when the sizes are equal.

    Raises
    ------
    ShapeError
        If ``data`` is not 3D.
    VolumeError
        If a voxel size is absurd, or the grid does not fit into memory.
    """
    _check_3d(data)
    source, target = check_voxel_size(source_um), check_voxel_size(target_um)
    z, y, x = data.shape
    shape = resampled_shape((z, y, x), source, target)
    check_memory(shape, target)
    return resample_to(data, shape)


def resample_to(data: npt.NDArray[Any], shape: Int3) -> npt.NDArray[Any]:
    """Resample a volume (Z, Y, X) onto the grid ``shape`` that spans the same physical extent.

    Returns
    -------
    ndarray
        Of ``shape``, float32 (float64 for float64 input); ``data`` itself when it has this shape already.

    Raises
    ------
    ShapeError
        If ``data`` is not 3D or ``shape`` has an empty axis.
    """
    _check_3d(data)
    if len(shape) != 3 or min(shape) < 1:
        raise ShapeError(f"expected a grid of three positive sizes (Z, Y, X), got {shape}")
    if data.shape == tuple(shape):
        return data
    result = data.astype(np.float64 if data.dtype == np.float64 else np.float32, copy=False)
    # Shrinking axes first: fewer voxels for the others.
    for axis in sorted(range(3), key=lambda a: shape[a] / data.shape[a]):
        if shape[axis] != result.shape[axis]:
            weights = _weights(result.shape[axis], shape[axis]).astype(result.dtype)
            moved = np.moveaxis(result, axis, 0)
            rows = weights @ moved.reshape(moved.shape[0], -1)
            result = np.moveaxis(rows.reshape(shape[axis], *moved.shape[1:]), 0, axis)
    return np.ascontiguousarray(result)


@lru_cache(maxsize=32)
def _weights(old: int, new: int) -> csr_array:
    """Sparse (new, old) matrix of one axis; every row sums to 1."""
    ratio = old / new
    stretch = max(1.0, ratio)  # > 1 when shrinking: the kernel then also removes what would alias
    centers = (np.arange(new) + 0.5) * ratio - 0.5  # of the new voxels, in old voxels; the outer faces coincide
    taps = np.arange(-int(np.ceil(2 * stretch)), int(np.ceil(2 * stretch)) + 1)
    columns = np.floor(centers).astype(np.int64)[:, None] + taps[None, :]
    values = _cubic((columns - centers[:, None]) / stretch)
    # Taps outside the volume are left out and the rest is scaled up: constants stay constant at the faces too.
    values[(columns < 0) | (columns >= old)] = 0.0
    values /= values.sum(axis=1, keepdims=True)
    rows = np.broadcast_to(np.arange(new)[:, None], columns.shape)
    used = values != 0.0
    return csr_array((values[used], (rows[used], columns[used])), shape=(new, old))


def _cubic(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Keys' cubic convolution kernel with a = -1/2, of support (-2, 2)."""
    d = np.abs(x)
    inner = (1.5 * d - 2.5) * d * d + 1.0
    outer = ((-0.5 * d + 2.5) * d - 4.0) * d + 2.0
    return np.where(d < 1.0, inner, np.where(d < 2.0, outer, 0.0))


def _check_3d(data: npt.NDArray[Any]) -> None:
    """Refuse anything but a non-empty (Z, Y, X) array."""
    if data.ndim != 3 or 0 in data.shape:
        raise ShapeError(f"expected a volume (Z, Y, X), got shape {data.shape}")
