"""What the Measure tab asks of the inference thread: a generator of steps. No Qt, and torch only when it runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from napari_vqldm.errors import MemoryLimitError, VqldmError
from napari_vqldm.memory import available_bytes
from napari_vqldm.plugin.inference.engine import Engine
from napari_vqldm.plugin.inference.jobs import Progress
from napari_vqldm.plugin.layers.source import LayerSource

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from napari_vqldm.measure import Measurement
    from napari_vqldm.recipe import FileInput
    from napari_vqldm.volume import Int3, Volume

BYTES_PER_VOXEL = 90  # measured on two sizes: 75 to 84 beside the volume itself, a copy of the layer
MIB, GIB = 2**20, 2**30

Work = Callable[[Engine], Iterator[Any]]


@dataclass(frozen=True, eq=False)
class Measured:
    """A measured layer: a step of its job.

    Attributes
    ----------
    index, total : int
        Progress, as of every step.
    number : int
        Which source it belongs to.
    found : Measurement
        Named by `name_of`.
    segments : ndarray
        (N, 2, 3): start and way of short pieces of all centre lines, in voxels (z, y, x) whose centres are whole
        numbers, at most half a voxel long along each axis.
    owner : ndarray
        (N,): which filament each piece belongs to, from 0.
    file : FileInput or None
        Where the measured voxels lie; None where they are in no file.
    """

    index: int
    total: int
    number: int
    found: Measurement
    segments: npt.NDArray[np.float32]
    owner: npt.NDArray[np.int64]
    file: FileInput | None = None


def measure_work(sources: Sequence[LayerSource]) -> Work:
    """Return the work that measures layers one after the other.

    Parameters
    ----------
    sources : sequence of LayerSource
        Each is read when its turn comes.

    Returns
    -------
    callable
        A generator function. It yields `Progress` and one `Measured` for each source, and returns what went wrong with
        others, one sentence each. A single source that cannot be measured raises.
    """

    def work(_engine: Engine) -> Generator[Any, None, list[str]]:
        from napari_vqldm.measure import measure_steps

        failed: list[str] = []
        for number, source in enumerate(sources):
            try:
                check_memory(source.shape, source.name)
                volume = replace(source.read(), name=name_of(source))
                for step in measure_steps(volume):
                    ended, total = number * step.total + step.index, len(sources) * step.total
                    if step.result is None:
                        yield Progress(ended, total)
                    else:
                        pieces = segments_of(step.result)
                        yield Measured(ended, total, number, step.result, *pieces, file_of(source, volume))
            except VqldmError as error:
                if len(sources) == 1:
                    raise
                failed.append(str(error))
        return failed

    return work


def name_of(source: LayerSource) -> str:
    """Return the name of a measured volume: that of its layer, with the channel and the time point of a larger one."""
    parts = (("channel", source.channel, source.info.num_channels), ("time", source.time, source.info.num_times))
    return ", ".join([source.name, *(f"{word} {index}" for word, index, count in parts if count > 1)])


def memory_line(shape: Int3) -> str:
    """Say what measuring a volume (Z, Y, X) takes, and what is free."""
    free = available_bytes()
    return f"About {_size(needed_bytes(shape))} of memory" + ("" if free is None else f" ({_size(free)} free)")


def needed_bytes(shape: Int3) -> int:
    """Return the main memory that measuring a volume (Z, Y, X) takes, bytes."""
    return BYTES_PER_VOXEL * math.prod(shape)


def check_memory(shape: Int3, name: str) -> None:
    """Refuse what does not fit before it is read: a system that runs out of memory ends napari.

    Raises
    ------
    MemoryLimitError
        With the sizes and what to do.
    """
    needed, free = needed_bytes(shape), available_bytes()
    if free is not None and needed > free:
        raise MemoryLimitError(
            f"{name!r} was not measured: it takes about {_size(needed)} of memory, {_size(free)} are free: crop the "
            "layer, or close other programs"
        )


def file_of(source: LayerSource, volume: Volume) -> FileInput | None:
    """Return the file that holds the voxels of a layer, if one does.

    Its voxel size is stated only where the file itself says another one, or none.
    """
    file = source.file_input
    if file is None or not source.is_in_file(volume):
        return None
    from napari_vqldm.files import open_stack

    stated = open_stack(file.path).voxel_size_um
    pairs = zip(stated, source.voxel_size_um, strict=True)
    is_same = all(told is not None and math.isclose(told, used, rel_tol=1e-6) for told, used in pairs)
    return replace(file, voxel_size_um=None) if is_same else file


def segments_of(found: Measurement) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Cut the centre lines into short pieces, as `Measured` describes them.

    A viewer shows a piece in the plane in which it starts: one that crosses several would be missing from the others.
    """
    import numpy as np

    pieces, owner = [np.zeros((0, 2, 3))], [np.zeros(0, np.int64)]
    for number, line in enumerate(found.lines_in_voxels()):
        steps = np.diff(line, axis=0)
        parts = np.maximum(np.ceil(np.abs(steps).max(axis=1) / 0.5), 1).astype(np.int64)
        which = np.repeat(np.arange(len(steps)), parts)
        place = np.arange(len(which)) - np.repeat(np.cumsum(parts) - parts, parts)
        way = steps[which] / parts[which, None]
        pieces.append(np.stack([line[which] + place[:, None] * way, way], axis=1))
        owner.append(np.full(len(which), number))
    return np.concatenate(pieces).astype(np.float32), np.concatenate(owner)


def _size(size: int) -> str:
    return f"{max(size / MIB, 1):.0f} MiB" if size < GIB else f"{size / GIB:.1f} GiB"
