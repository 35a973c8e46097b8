"""Which voxel belongs to which filament: instance labels from exact centre lines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree

from napari_vqldm.config import Float3, Int3
from napari_vqldm.errors import ShapeError
from napari_vqldm.simulate.filaments import FloatArray

LabelArray = npt.NDArray[np.int32]

_STEP_UM = 0.02  # between the points that stand for a line: at the rim of a label they are off by 0.3 % of a width


def _points_along(line: FloatArray) -> FloatArray:
    """Return points (m, 3) on a polyline, at most `_STEP_UM` apart, its ends included."""
    steps = np.linalg.norm(np.diff(line, axis=0), axis=1)
    arc = np.concatenate([[0.0], np.cumsum(steps)])
    wanted = np.linspace(0.0, arc[-1], max(2, int(np.ceil(arc[-1] / _STEP_UM)) + 1))
    return np.stack([np.interp(wanted, arc, line[:, axis]) for axis in range(3)], axis=1)


def label_filaments(
    lines: Sequence[FloatArray],
    numbers: Sequence[int],
    shape: Int3,
    voxel_size_um: Float3,
    width_um: tuple[float, float],
) -> LabelArray:
    """Label voxels with the filament whose light dominates there.

    A voxel is within a filament where its centre lies in the half-maximum ellipse of the point spread function around
    the centre line: up to half the full widths away. Among several filaments the nearest one, in units of these widths,
    gets the voxel: crossings are cut along the middle. At exactly the same distance either gets it, the same one in
    every run. Filaments that lie closer together than voxels, as in bundles, hide each other: some may own no voxel.
    Brightness plays no part, so a gap in the labelling of a filament still belongs to it.

    Parameters
    ----------
    lines : sequence of ndarray
        (n, 3), um (z, y, x) from the corner of the volume; the centre of voxel i is at (i + 0.5) times the voxel size.
    numbers : sequence of int
        Number of its filament, from 1, for each line.
    shape : tuple of int
        Voxels (z, y, x).
    voxel_size_um : tuple of float
        (z, y, x), um.
    width_um : tuple of float
        Full widths at half maximum (lateral, axial) of an in-plane line, um; see `optics.line_width_um`.

    Returns
    -------
    ndarray
        int32 of ``shape``; 0 where no filament is.

    Raises
    ------
    ShapeError
        If there is not one number of 1 or more per line.
    """
    if len(numbers) != len(lines) or any(number < 1 for number in numbers):
        raise ShapeError(f"expected one number of 1 or more per line, got {len(numbers)} for {len(lines)} lines")
    labels = np.zeros(shape, dtype=np.int32)
    if not lines:
        return labels
    runs = [_points_along(line) for line in lines]
    owner = np.repeat(np.asarray(numbers, dtype=np.int32), [len(run) for run in runs])
    lateral, axial = width_um
    width = np.array([axial, lateral, lateral])
    points = np.concatenate(runs) / width
    size = np.asarray(voxel_size_um)
    near = np.argwhere(_near(points * width, shape, size, 0.5 * width))
    where = (near + 0.5) * size / width
    tree = KDTree(points)
    nearest = np.asarray(tree.query(where, distance_upper_bound=0.5 + 1e-9)[1])
    within = nearest < len(points)  # the tree's way to say: nothing that near
    labels[tuple(near[within].T)] = owner[nearest[within]]
    return labels


def _near(points: FloatArray, shape: Int3, size: FloatArray, reach: FloatArray) -> npt.NDArray[np.bool_]:
    """Tell which voxels (z, y, x) have a point within ``reach`` along every axis, or a little more."""
    near = np.zeros(shape, dtype=bool)
    limit = np.asarray(shape) - 1
    near[tuple(np.clip(np.floor(points / size).astype(np.int64), 0, limit).T)] = True
    for axis in range(3):
        voxels = int(np.ceil(reach[axis] / size[axis]))
        grown = near.copy()
        for shift in range(1, voxels + 1):
            ahead, behind = [slice(None)] * 3, [slice(None)] * 3
            ahead[axis], behind[axis] = slice(shift, None), slice(None, -shift)
            grown[tuple(ahead)] |= near[tuple(behind)]
            grown[tuple(behind)] |= near[tuple(ahead)]
        near = grown
    return near
