"""When memory runs out: recognize it, give memory back, and go on in smaller tiles."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from napari_vqldm.errors import MemoryLimitError

LEAST_VOXELS = 2**15  # at once; below it the halo of a tile is all that is computed

S = TypeVar("S")


@dataclass(frozen=True)
class SmallerTiles:
    """The work starts again in smaller tiles.

    Attributes
    ----------
    max_voxels : int
        Volume voxels at once from now on.
    text : str
        One plain sentence for the user.
    """

    max_voxels: int
    text: str


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an exception means that memory ran out."""
    text = str(error).lower()
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"  # torch's, also where torch was not imported by us
        or "out of memory" in text  # CUDA and MPS
        or "can't allocate memory" in text  # torch on the CPU
    )


def free_memory() -> None:
    """Collect what nothing refers to, and give back what the devices keep in reserve; imports no torch."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is None:
        return
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


def with_smaller_tiles(
    make_steps: Callable[[int], Iterator[S]], max_voxels: int, least: int = LEAST_VOXELS
) -> Iterator[S | SmallerTiles]:
    """Run work in tiles; when memory runs out, start again with tiles of half the size.

    Parameters
    ----------
    make_steps : callable
        Takes the most voxels at once, returns the steps of the work from its start.
    max_voxels : int
        Voxels at once of the first try.
    least : int
        Tiles are not made smaller than this.

    Yields
    ------
    S or SmallerTiles
        The steps, and a `SmallerTiles` before every new start; then the steps count from 0 again.

    Raises
    ------
    MemoryLimitError
        If the smallest tiles do not fit either.
    """
    while True:
        try:
            yield from make_steps(max_voxels)
            return
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        # Outside the handler: the error and the arrays that its frames hold are gone by now.
        free_memory()
        if max_voxels // 2 < least:
            raise MemoryLimitError(
                f"expected memory for {max_voxels:,} voxels at once, the smallest tiles, got too little: close other "
                "programs, or choose a smaller region"
            )
        max_voxels //= 2
        yield SmallerTiles(max_voxels, f"Memory ran out: starting again in tiles of {max_voxels:,} voxels at most.")
