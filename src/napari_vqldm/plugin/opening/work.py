"""Look into a file, and read what was chosen from it, on the inference thread. No Qt."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_vqldm.errors import VolumeError
from napari_vqldm.files.provenance import SeriesAxis
from napari_vqldm.plugin.inference.engine import Engine
from napari_vqldm.plugin.layers.add import Limits, limits_of
from napari_vqldm.plugin.state.open_volume import FileContent, content_of
from napari_vqldm.volume import Volume, hash_voxels

if TYPE_CHECKING:
    from napari_vqldm.recipe import FileInput

Work = Callable[[Engine], Iterator[Any]]


@dataclass(frozen=True)
class ReadStep:
    """One time point was read."""

    index: int
    total: int


@dataclass(frozen=True, eq=False)
class Opened:
    """What was read.

    Attributes
    ----------
    volumes : tuple of Volume
        One for each time point; of a series their voxels are views into ``frames``.
    frames : ndarray or None
        (T, Z, Y, X) of a series.
    inputs : mapping
        Fingerprint of the voxels to the part of the file that holds them.
    limits : tuple of float
        Contrast.
    axis : SeriesAxis
        Where the frames lie: as the dock saved them, else one after the other.
    """

    volumes: tuple[Volume, ...]
    frames: npt.NDArray[np.float32] | None
    inputs: Mapping[str, FileInput]
    limits: Limits
    axis: SeriesAxis


def inspect_work(path: str) -> Work:
    """Return the work that reads the header of a file; its result is a `FileContent`."""

    def work(_engine: Engine) -> Generator[Any, None, Any]:
        from napari_vqldm.files import open_stack

        yield from ()
        return content_of(path, open_stack(path))

    return work


def open_work(content: FileContent, times: Sequence[int | None], request: Mapping[str, Any]) -> Work:
    """Return the work that reads volumes; its result is an `Opened`.

    Parameters
    ----------
    content : FileContent
        Of the file.
    times : sequence
        From `OpenState.times`: one, or all.
    request : mapping
        From `OpenState.to_request`.
    """

    def work(_engine: Engine) -> Generator[Any, None, Any]:
        from napari_vqldm.files import read_series, read_volume
        from napari_vqldm.recipe import FileInput

        check_memory(content, len(times))
        frames: npt.NDArray[np.float32] | None = None
        volumes: list[Volume] = []
        inputs: dict[str, FileInput] = {}
        if len(times) == 1:
            found = iter([read_volume(content.path, time=times[0], **request)])
        else:
            found = read_series(content.path, **request)
        for index, (time, volume) in enumerate(zip(times, found, strict=True)):
            if len(times) > 1:
                if frames is None:
                    frames = np.empty((len(times), *volume.shape), np.float32)
                frames[index] = volume.data
                volume = volume.with_data(frames[index])
            volumes.append(volume)
            inputs[hash_voxels(volume)] = FileInput(path=content.path, time=time, **request)
            yield ReadStep(index, len(times))
        shown = [volumes[i].data for i in sorted({0, len(volumes) // 2, len(volumes) - 1})]
        return Opened(tuple(volumes), frames, inputs, limits_of(np.concatenate(shown)), content.axis)

    return work


def check_memory(content: FileContent, num_volumes: int) -> None:
    """Refuse to read as many volumes of a file as do not fit in memory.

    Raises
    ------
    VolumeError
        With what is needed, and what is free.
    """
    from napari_vqldm.memory import available_bytes

    sizes = [n for letter, n in zip(content.axes, content.shape, strict=True) if letter not in "TC"]
    voxels = math.prod(sizes) // (content.num_times if content.is_time_assumed else 1)
    needed, free = 4 * voxels * (num_volumes + 2), available_bytes()
    if free is not None and needed > free:
        less = "open one time point with Open volume… in the dock" if num_volumes > 1 else "crop the file first"
        raise VolumeError(
            f"{content.name}: takes about {needed / 2**30:.1f} GiB of memory, {free / 2**30:.1f} GiB are free: {less}"
        )
