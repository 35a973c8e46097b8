"""What the Measure tab asks of the inference thread: a generator of steps. No Qt, and torch only when it runs."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from napari_vqldm.errors import VqldmError
from napari_vqldm.plugin.inference.engine import Engine
from napari_vqldm.plugin.layers.source import LayerSource

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from napari_vqldm.measure import Measurement

Work = Callable[[Engine], Iterator[Any]]


@dataclass(frozen=True)
class Progress:
    """One step of ``total``."""

    index: int
    total: int


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
        Named as the layer.
    segments : ndarray
        (N, 2, 3): start and way of short pieces of all centre lines, in voxels (z, y, x) whose centres are whole
        numbers, at most half a voxel long along each axis.
    owner : ndarray
        (N,): which filament each piece belongs to, from 0.
    """

    index: int
    total: int
    number: int
    found: Measurement
    segments: npt.NDArray[np.float32]
    owner: npt.NDArray[np.int64]


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
                volume = replace(source.read(), name=source.name)
                for step in measure_steps(volume):
                    ended, total = number * step.total + step.index, len(sources) * step.total
                    if step.result is None:
                        yield Progress(ended, total)
                    else:
                        yield Measured(ended, total, number, step.result, *segments_of(step.result))
            except VqldmError as error:
                if len(sources) == 1:
                    raise
                failed.append(str(error))
        return failed

    return work


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
