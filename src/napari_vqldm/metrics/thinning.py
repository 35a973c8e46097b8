"""Thin a mask to lines one voxel wide that follow its brightest voxels and keep its topology.

The library routine (Lee's method in scikit-image 0.26) erases straight rods of even width altogether, see
https://github.com/scikit-image/scikit-image/issues/3757; filaments along an axis are such rods.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

NUM_LEVELS = 8  # steps of brightness in which voxels are removed, dimmest first

_OFFSETS = np.array([o for o in np.ndindex(3, 3, 3) if o != (1, 1, 1)]) - 1  # (26, 3)
_CHANGES = np.abs(_OFFSETS).sum(axis=1)  # 1: shares a face, 2: an edge, 3: a corner
_FACES = np.flatnonzero(_CHANGES == 1)
_NEAR = np.flatnonzero(_CHANGES <= 2)  # the 18 neighbors among which background is connected
_STEP = np.abs(_OFFSETS[:, None] - _OFFSETS[None, :])
_TOUCHES_26 = (_STEP.max(axis=2) <= 1).astype(np.float32)  # (26, 26), each touches itself
_TOUCHES_6 = (_STEP.sum(axis=2) <= 1).astype(np.float32)[np.ix_(_NEAR, _NEAR)]  # (18, 18)
_FACES_IN_NEAR = np.flatnonzero(np.isin(_NEAR, _FACES))


def thin(mask: BoolArray, brightness: npt.NDArray[np.floating]) -> BoolArray:
    """Remove voxels from ``mask``, dimmest first, as long as its topology and its free ends stay.

    Parameters
    ----------
    mask : ndarray
        bool, (Z, Y, X). Enclosed cavities are filled first: they would leave surfaces.
    brightness : ndarray
        (Z, Y, X); the result runs along its ridges.

    Returns
    -------
    ndarray
        bool, (Z, Y, X): as many connected parts (voxels touch over faces, edges or corners) and loops as ``mask``.

    Notes
    -----
    A voxel may go when its object neighbors form one part and its background face neighbors are connected among the 18
    nearest (Bertrand and Malandain 1994, doi:10.1016/0167-8655(94)90046-9). The eight sublattices of even and odd
    positions take turns: voxels of one sublattice never touch, so that each can be judged on its own.
    """
    solid = np.pad(ndimage.binary_fill_holes(mask), 1)
    flat = solid.ravel()
    voxels = np.flatnonzero(flat)
    if not voxels.size:
        return np.zeros(mask.shape, bool)
    strides = np.array([solid.shape[1] * solid.shape[2], solid.shape[2], 1])
    offsets = _OFFSETS @ strides
    values = np.pad(np.asarray(brightness, np.float32), 1).ravel()[voxels]
    z, y, x = np.unravel_index(voxels, solid.shape)
    lattice = (z % 2) * 4 + (y % 2) * 2 + x % 2
    levels = np.quantile(values, np.arange(1, NUM_LEVELS + 1) / NUM_LEVELS)
    for level in levels:
        parts = [voxels[(lattice == k) & (values <= level)] for k in range(8)]
        removed = True
        while removed:
            removed = False
            for number, part in enumerate(parts):
                alive = part[flat[part]]
                gone = alive[_removable(flat, alive, offsets)]
                flat[gone] = False
                parts[number] = alive
                removed = removed or gone.size > 0
    result: BoolArray = flat.reshape(solid.shape)[1:-1, 1:-1, 1:-1]
    return result


def _removable(flat: BoolArray, voxels: IntArray, offsets: IntArray) -> BoolArray:
    """Whether each voxel is neither a free end nor needed for the topology."""
    inner = np.logical_and.reduce([flat[voxels + o] for o in offsets[_FACES]])
    border = np.flatnonzero(~inner)
    neighbors = flat[voxels[border][:, None] + offsets]  # (N, 26)
    # The same surroundings occur again and again: each is judged once.
    codes = np.packbits(np.pad(neighbors, ((0, 0), (0, 6))), axis=1).view(np.uint32)[:, 0]
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    distinct = neighbors[first]
    result = np.zeros(len(voxels), bool)
    result[border] = ((distinct.sum(axis=1) > 1) & _is_simple(distinct))[inverse]
    return result


def _is_simple(neighbors: BoolArray) -> BoolArray:
    """Whether removing the center keeps the topology, for neighborhoods (N, 26)."""
    one_object = (_part_of_first(neighbors, neighbors, _TOUCHES_26) == neighbors).all(axis=1)
    background = ~neighbors[:, _NEAR]
    faces = np.zeros_like(background)
    faces[:, _FACES_IN_NEAR] = background[:, _FACES_IN_NEAR]
    one_background = (_part_of_first(background, faces, _TOUCHES_6) | ~faces).all(axis=1)
    result: BoolArray = np.logical_and(one_object, one_background)
    return result


def _part_of_first(members: BoolArray, seeds: BoolArray, touches: npt.NDArray[np.float32]) -> BoolArray:
    """Members connected to the first seed of each row."""
    reached = np.zeros_like(members)
    rows = np.arange(len(members))
    reached[rows, seeds.argmax(axis=1)] = True
    reached &= members
    while True:
        grown = ((reached.astype(np.float32) @ touches) > 0) & members
        if np.array_equal(grown, reached):
            return grown
        reached = grown
