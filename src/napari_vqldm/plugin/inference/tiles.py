"""Work in tiles, as jobs do it: what runs out of memory starts again with smaller ones and says so. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from napari_vqldm.memory import SmallerTiles, with_smaller_tiles
from napari_vqldm.plugin.inference.jobs import Note
from napari_vqldm.tiles import MAX_VOXELS


def retrying(make_steps: Callable[[int], Iterator[Any]], max_voxels: int | None = None) -> Iterator[Any]:
    """Steps of the core, again with smaller tiles when memory runs out; a retry is told as a note.

    Parameters
    ----------
    make_steps : callable
        Takes the most voxels at once, returns the steps of the work from its start.
    max_voxels : int, optional
        Of the first try; by default as much as the core takes.

    Yields
    ------
    Step or Note
        The steps, and a `Note` before every new start; then the steps count from 0 again.

    Raises
    ------
    MemoryLimitError
        If the smallest tiles do not fit either, or the model cannot work in tiles.
    """
    for step in with_smaller_tiles(make_steps, max_voxels or MAX_VOXELS):
        yield Note(step.text) if isinstance(step, SmallerTiles) else step
