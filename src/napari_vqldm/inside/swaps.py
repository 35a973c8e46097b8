"""Swap the code of a cell and decode: many cells at once where none of them reaches what is seen of another."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from napari_vqldm.checkpoint import Model
from napari_vqldm.coding import decode_latent
from napari_vqldm.inside.codes import CodeMap
from napari_vqldm.volume import Int3

Block = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class Change:
    """What swapping one cell changes around it.

    Attributes
    ----------
    data : ndarray
        float32, filament units: with the code minus without. Smaller than what is wanted at the faces of a stack.
    place : tuple of slice
        Of ``data`` in an array of ``2 * shown + 1`` cells with the swapped one in the middle, voxels (z, y, x).
    """

    data: npt.NDArray[np.float32]
    place: Block


def together(chosen: Iterable[tuple[CodeMap, Int3]], shown: Int3, field: Int3) -> list[tuple[CodeMap, list[Int3]]]:
    """Group cells that can be swapped at once: no one changes what is shown of another, and it takes less work.

    Parameters
    ----------
    chosen : iterable of (CodeMap, cell)
        Cells (z, y, x).
    shown, field : tuple of int
        Cells (z, y, x) on each side that are shown, and that a voxel depends on.

    Returns
    -------
    list of (CodeMap, list of cells)
        Every cell once.
    """
    groups: list[tuple[CodeMap, list[Int3]]] = []
    apart = [s + f for s, f in zip(shown, field, strict=True)]
    for context, cell in chosen:
        for other, cells in groups:
            if other is context and _is_free(cell, cells, apart) and _is_cheaper(context, cell, cells, apart):
                cells.append(cell)
                break
        else:
            groups.append((context, [cell]))
    return groups


def swap_all(
    model: Model, chosen: Sequence[tuple[CodeMap, Int3]], background: int, shown: Int3, field: Int3, max_voxels: int
) -> Iterator[Change]:
    """Decode the surroundings of cells with their codes and with another one, and return what differs.

    Parameters
    ----------
    model : Model
        A ``vq-ldm``.
    chosen : sequence of (CodeMap, cell)
        Cells (z, y, x) of code maps of this model; those of a map one after the other.
    background : int
        The code that takes the place of theirs.
    shown, field : tuple of int
        Cells (z, y, x) on each side that are returned, and that a voxel depends on.
    max_voxels : int
        As in `napari_vqldm.reconstruct.decode`.

    Returns
    -------
    iterator of Change
        One for every cell; cells that do not reach each other come together.
    """
    reads = [s + f for s, f in zip(shown, field, strict=True)]
    groups = together(chosen, shown, field)
    of: CodeMap | None = None
    whole: npt.NDArray[np.float32] | None = None
    for context, cells in groups:
        if context is not of:
            grid = context.codes.shape
            regions = sum(_size(_region(grid, its, reads)) for other, its in groups if other is context)
            # Where regions overlap, all of the stack is decoded once as it is, in place of every region.
            whole = _decode(model, context.codes, max_voxels) if regions > math.prod(grid) else None
            of = context
        yield from _swapped(model, context, cells, background, shown, reads, max_voxels, whole)


def _swapped(
    model: Model,
    context: CodeMap,
    cells: Sequence[Int3],
    background: int,
    shown: Int3,
    reads: Sequence[int],
    max_voxels: int,
    whole: npt.NDArray[np.float32] | None,
) -> Iterator[Change]:
    """Swap a group at once; ``whole`` is the stack decoded as it is, if that was done."""
    grid, factor = context.codes.shape, model.space.autoencoder.downsampling_factor
    # What is shown changes with cells within the receptive field of its voxels; at the faces the network pads as it
    # does for the whole.
    read = _region(grid, cells, reads)
    without = context.codes[read].copy()
    for cell in cells:
        without[tuple(c - part.start for c, part in zip(cell, read, strict=True))] = background
    as_it_is = _decode(model, context.codes[read], max_voxels) if whole is None else whole[_voxels(read, factor)]
    change = as_it_is - _decode(model, without, max_voxels)
    for cell in cells:
        keep = _region(grid, [cell], shown)
        inner = _block((k.start - r.start, k.stop - r.start) for k, r in zip(keep, read, strict=True))
        outer = _block((k.start - c + s, k.stop - c + s) for k, c, s in zip(keep, cell, shown, strict=True))
        yield Change(change[_voxels(inner, factor)], _voxels(outer, factor))


def _is_free(cell: Int3, cells: Sequence[Int3], apart: Sequence[int]) -> bool:
    """Whether a cell reaches nothing of what is shown of others, and they nothing of its."""
    return all(any(abs(a - b) > far for a, b, far in zip(cell, other, apart, strict=True)) for other in cells)


def _is_cheaper(context: CodeMap, cell: Int3, cells: Sequence[Int3], apart: Sequence[int]) -> bool:
    """Whether one region around all has fewer cells than one around the others and one around this."""
    grid = context.codes.shape
    alone = _size(_region(grid, cells, apart)) + _size(_region(grid, [cell], apart))
    return _size(_region(grid, [*cells, cell], apart)) <= alone


def _region(grid: Sequence[int], cells: Sequence[Int3], margin: Sequence[int]) -> Block:
    """Return the part of a grid that holds cells and a margin around each."""
    axes = zip(grid, margin, zip(*cells, strict=True), strict=True)
    return _block((max(0, min(places) - m), min(n, max(places) + m + 1)) for n, m, places in axes)


def _size(block: Block) -> int:
    return math.prod(part.stop - part.start for part in block)


def _decode(model: Model, codes: npt.NDArray[np.int32], max_voxels: int) -> npt.NDArray[np.float32]:
    """Return what codes (d, h, w) decode to (Z, Y, X), filament units."""
    indices = torch.from_numpy(codes.astype(np.int64))[None].to(model.device)
    with torch.no_grad():
        latent = model.space.embed_codes(indices)
    steps = decode_latent(model.space, latent, max_voxels=max_voxels)
    decoded = next(step.result for step in steps if step.result is not None)
    return np.asarray(decoded[0, 0].numpy(), np.float32)


def _block(edges: Iterable[tuple[int, int]]) -> Block:
    z, y, x = (slice(start, stop) for start, stop in edges)
    return z, y, x


def _voxels(block: Block, factor: Int3) -> Block:
    return _block((s.start * f, s.stop * f) for s, f in zip(block, factor, strict=True))
