"""How much memory is free; when it runs out: recognize it, give memory back, and go on in smaller tiles.

Nothing here imports torch: without it there is no device but the CPU.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

import psutil

from napari_vqldm.errors import MemoryLimitError, ShapeError, VqldmError

LEAST_VOXELS = 2**15  # at once; below it the halo of a tile is all that is computed
_SIGNS = (
    "out of memory",  # CUDA and MPS
    "can't allocate memory",  # torch on the CPU of Linux and macOS
    "not enough memory: you tried to allocate",  # and of Windows
    "alloc_failed",  # cuDNN and cuBLAS
)
_CGROUP = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")

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
    if isinstance(error, VqldmError):
        return isinstance(error, MemoryLimitError)
    text = str(error).lower()
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"  # torch's
        or any(sign in text for sign in _SIGNS)
    )


def available_bytes(device: str = "cpu") -> int | None:
    """Return the memory that new work may take on a device.

    Parameters
    ----------
    device : str
        ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.

    Returns
    -------
    int or None
        Bytes; None where it is not known.
    """
    if device == "cpu":
        return _available_main_memory()
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    if device.startswith("cuda") and torch.cuda.is_available():
        free, _ = torch.cuda.mem_get_info(torch.device(device))
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # ours, and empty
        return int(free + kept)
    if device.startswith("mps") and torch.backends.mps.is_available():
        return int(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    return None


def _available_main_memory() -> int:
    """Free main memory: of the system, or of the job or container if that gets less."""
    return min([_system_free(), *_cgroups_free()])


def _system_free() -> int:
    return int(psutil.virtual_memory().available)


def _cgroups_free() -> Iterator[int]:
    """What this process may still take in each limited control group that it is in (Linux, version 2).

    Limits of Slurm and systemd lie in the group of the process or above it; a container sees its own as the root.
    """
    try:
        lines = _OWN_CGROUP.read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        lines = []
    own = next((line[len("0::/") :] for line in lines if line.startswith("0::/")), "")
    group = _CGROUP / own
    for folder in [group, *group.parents]:
        if not folder.is_relative_to(_CGROUP):
            return
        free = _cgroup_free(folder)
        if free is not None:
            yield free


def _cgroup_free(folder: Path) -> int | None:
    """What the processes of one control group may still take together; None without a limit."""
    try:
        limit = (folder / "memory.max").read_text(encoding="ascii").strip()
        used = int((folder / "memory.current").read_text(encoding="ascii"))
        parts = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
        cached = int(parts.get("inactive_file", 0))  # given up when memory is wanted
        return None if limit == "max" else max(0, int(limit) - used + cached)
    except (OSError, ValueError):
        return None


def free_memory() -> None:
    """Collect what nothing refers to, and give back what the devices keep in reserve; imports no torch."""
    gc.collect()
    trim_heap()
    empty_device_caches()


def empty_device_caches() -> None:
    """Give back the memory that PyTorch keeps in reserve on GPUs. PyTorch is not imported for this."""
    torch = sys.modules.get("torch")
    if torch is None:
        return
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


def trim_heap() -> None:
    """Give pages that lie free in the C library's heap back to the system; does nothing but with glibc.

    Tensors of a few MiB leave holes there, by chance up to 100 MiB after a step of the bundled denoisers, that would
    stay with the process. Costs about 10 ms after such a step, 2 % of it.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    if sys.platform != "linux":
        return None
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # another C library
        return None


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
        If the smallest tiles do not fit either, or the model cannot work in tiles.
    """
    is_again = False
    while True:
        try:
            yield from make_steps(max_voxels)
            return
        except ShapeError as error:
            if not is_again:
                raise
            raise MemoryLimitError(f"memory ran out, and smaller tiles are no way: {error}") from None
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            needed = _first_line(error)
        # Outside the handler: the error and the arrays that its frames hold are gone by now.
        free_memory()
        if max_voxels // 2 < least:
            raise MemoryLimitError(
                f"expected memory for {max_voxels:,} voxels at once, the smallest tiles, got too little{needed}: close "
                "other programs, choose a smaller region, or use another device"
            )
        max_voxels //= 2
        is_again = True
        yield SmallerTiles(max_voxels, f"Memory ran out: starting again in tiles of {max_voxels:,} voxels at most.")


def _first_line(error: BaseException) -> str:
    """What an error says of the memory that it wanted, in brackets; empty if it says nothing."""
    lines = str(error).strip().splitlines()
    return f" ({lines[0][:160]})" if lines else ""
