"""Fidelity on the filaments alone: errors inside a tube around the true centre lines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from napari_vqldm.errors import ShapeError, VolumeError
from napari_vqldm.metrics.checks import check_pair
from napari_vqldm.metrics.fidelity import Float3, FloatArray, Int3, unit_range

TUBE_WIDTH_VOXELS = 3.0

_PIECE_VOXELS = 0.5  # segments are cut to this length, so that few voxels lie near each piece
_CHUNK = 4096  # pieces at a time


def tube_mask(
    centre_lines: Sequence[FloatArray],
    shape: Int3,
    voxel_size_um: Float3,
    width_voxels: float = TUBE_WIDTH_VOXELS,
) -> npt.NDArray[np.bool_]:
    """Mark the voxels whose centre lies within half of ``width_voxels`` of a centre line.

    Parameters
    ----------
    centre_lines : sequence of ndarray
        Polylines (n, 3), um (z, y, x) from the corner of the volume; the centre of voxel i is at (i + 0.5) times the
        voxel size. They may leave the volume.
    shape : tuple of int
        (Z, Y, X).
    voxel_size_um : tuple of float
        (z, y, x).
    width_voxels : float
        Full width of the tube. Distances count voxels along each axis: with voxels of 0.2 x 0.1 x 0.1 um, three of them
        are 0.6 um along z and 0.3 um across, close to the anisotropy of the image of a filament.

    Returns
    -------
    ndarray
        bool, (Z, Y, X).

    Raises
    ------
    ShapeError
        If a centre line is not (n, 3) or holds a number that is not finite.
    """
    radius = 0.5 * width_voxels
    mask = np.zeros(shape, bool)
    start, delta = _pieces(centre_lines, np.asarray(voxel_size_um, np.float64))
    # A voxel within the radius of a piece is at most this far from the voxel that holds the middle of the piece.
    reach = int(np.floor(radius + 0.5 * _PIECE_VOXELS + 0.5))
    offsets = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    for first in range(0, len(start), _CHUNK):
        a, d = start[first : first + _CHUNK, None], delta[first : first + _CHUNK, None]  # (P, 1, 3)
        voxels = np.rint(a + 0.5 * d).astype(np.int64) + offsets  # (P, O, 3)
        along = np.sum((voxels - a) * d, axis=-1) / np.maximum(np.sum(d * d, axis=-1), 1e-30)
        away = voxels - (a + np.clip(along, 0.0, 1.0)[..., None] * d)
        near = np.sum(away**2, axis=-1) <= radius**2
        near &= ((voxels >= 0) & (voxels < np.asarray(shape))).all(axis=-1)
        mask[tuple(voxels[near].T)] = True
    return mask


def foreground_psnr_unit_range(
    volume: FloatArray,
    reference: FloatArray,
    centre_lines: Sequence[FloatArray],
    voxel_size_um: Float3,
    width_voxels: float = TUBE_WIDTH_VOXELS,
) -> float:
    """Peak signal-to-noise ratio in dB inside a tube around the true centre lines.

    Parameters
    ----------
    volume, reference : ndarray
        (Z, Y, X), the same unit.
    centre_lines, voxel_size_um, width_voxels
        As in `tube_mask`.

    Returns
    -------
    float
        10 log10(1 / MSE) over the voxels of `tube_mask`, infinite for equal volumes. Peak = the p0.1-p99.9 range of
        the *whole* reference, so that the number compares with `psnr_unit_range`.

    Raises
    ------
    ShapeError
        If the shapes differ or a centre line is not (n, 3) or not finite.
    VolumeError
        If a voxel is not finite, the reference has no range or no centre line runs through the volume.

    Notes
    -----
    An empty background cannot raise this number, and detail invented between the filaments cannot lower it: read it
    next to `psnr_unit_range`. It is usually lower, because shot noise grows with the signal.
    """
    check_pair(volume, reference)
    shape = np.shape(reference)
    if len(shape) != 3:
        raise ShapeError(f"expected volumes (Z, Y, X), got shape {shape}")
    mask = tube_mask(centre_lines, (shape[0], shape[1], shape[2]), voxel_size_um, width_voxels)
    if not mask.any():
        raise VolumeError(
            "expected at least one centre line through the volume, got none: without filaments there is no foreground"
        )
    low, high = unit_range(reference)
    difference = (np.asarray(volume)[mask].astype(np.float64) - np.asarray(reference)[mask]) / (high - low)
    error = float(np.mean(difference**2))
    return float("inf") if error == 0.0 else float(-10.0 * np.log10(error))


def _pieces(
    centre_lines: Sequence[FloatArray], voxel_size_um: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Starts and vectors of short pieces of all segments, (P, 3) each, in voxels; voxel centres are integers."""
    starts, deltas = [np.zeros((0, 3))], [np.zeros((0, 3))]
    for line in centre_lines:
        points = np.asarray(line, np.float64)
        if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
            raise ShapeError(f"expected centre lines (n, 3) of finite um (z, y, x), got shape {points.shape}")
        points = points / voxel_size_um - 0.5
        delta = np.diff(points, axis=0)
        parts = np.maximum(np.ceil(np.linalg.norm(delta, axis=1) / _PIECE_VOXELS), 1).astype(np.int64)
        segment = np.repeat(np.arange(len(delta)), parts)
        number = np.arange(len(segment)) - np.repeat(np.cumsum(parts) - parts, parts)
        step = delta[segment] / parts[segment, None]
        starts.append(points[segment] + number[:, None] * step)
        deltas.append(step)
    return np.concatenate(starts), np.concatenate(deltas)
