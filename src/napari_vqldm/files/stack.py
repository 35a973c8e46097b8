"""From what a file holds, up to (T, C, Z, Y, X), to the one volume that the user asks for. Nothing is guessed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_vqldm.errors import ChoiceError, ShapeError, VolumeError
from napari_vqldm.files.provenance import NAMESPACE, frame_record
from napari_vqldm.volume import Float3, Volume, check_voxel_size

Index = tuple[int | slice, ...]
_UNNAMED = "QI"  # TIFF pages without a meaning, and the axes of a bare array
_BYTES_AT_ONCE = 2**26  # of a series: many small frames for each time that a file is opened, few large ones in memory


@dataclass(frozen=True)
class Stack:
    """One image of a file before a volume is chosen.

    Attributes
    ----------
    axes : str
        One letter per axis: T, C, Z, Y, X, S (color samples), Q or I (no name), others as in the file.
    shape : tuple of int
        Size per axis.
    dtype : dtype
        As stored.
    read : callable
        Takes an index with one integer or full slice per axis and returns the array.
    reads_ranges : bool
        ``read`` takes a range of time points, too, and is quicker for it.
    format : str
        For messages and provenance.
    channel_names : tuple of str
        Empty when unknown.
    voxel_size_um : tuple
        (z, y, x); None where the file does not say.
    provenance : mapping
        Record that this package wrote into the file, of a series one of each volume; empty for foreign files.
    """

    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[Index], npt.NDArray[Any]]
    format: str
    channel_names: tuple[str, ...] = ()
    voxel_size_um: tuple[float | None, float | None, float | None] = (None, None, None)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    reads_ranges: bool = False


@dataclass(frozen=True)
class _Part:
    """What was chosen: the index into the stack, with all axes named."""

    axes: str
    index: tuple[int | slice, ...]
    channel: int
    time: int
    voxel_size_um: Float3


def select_volume(
    stack: Stack,
    *,
    channel: int | str | None,
    time: int | None,
    voxel_size_um: Float3 | None,
    name: str,
    file_name: str,
) -> Volume:
    """Read the chosen channel and time point of ``stack`` as a `Volume`.

    Raises
    ------
    ShapeError
        If there is no z stack: a 2D image, a 2D time series.
    ChoiceError
        If a choice is missing or the voxel size is unknown.
    VolumeError
        If a choice is impossible, or the content cannot be used: RGB, complex, empty, constant, NaN or infinite.
    """
    part = _choose(stack, channel, time, voxel_size_um)
    return _volume(stack, part, stack.read(part.index), part.time, name, file_name)


def select_series(
    stack: Stack, *, channel: int | str | None, voxel_size_um: Float3 | None, name: str, file_name: str
) -> Iterator[Volume]:
    """Read all time points one after the other; each is what `select_volume` gives, with the same errors.

    The file is opened for many of them at once: its header is as long as it has time points, so that opening it for
    each would take a time that grows with their square.
    """
    first = _choose(stack, channel, 0, voxel_size_um)
    if "T" not in first.axes:
        yield _volume(stack, first, stack.read(first.index), 0, name, file_name)
        return
    position = first.axes.index("T")
    count = stack.shape[position]
    voxels = math.prod(n for letter, n in zip(first.axes, stack.shape, strict=True) if letter in "ZYX")
    at_once = max(1, _BYTES_AT_ONCE // (voxels * stack.dtype.itemsize)) if stack.reads_ranges else 1
    # Time as an index takes its axis away; as a range it stays, wherever the file has it.
    kept = [letter for letter in first.axes if letter in "TZYX"]
    for start in range(0, count, at_once):
        stop = min(start + at_once, count)
        times: int | slice = slice(start, stop) if at_once > 1 else start
        data = stack.read((*first.index[:position], times, *first.index[position + 1 :]))
        frames = np.moveaxis(data, kept.index("T"), 0) if at_once > 1 else data[None]
        for time, frame in enumerate(frames, start):
            yield _volume(stack, first, frame, time, name, file_name)


def _choose(stack: Stack, channel: int | str | None, time: int | None, voxel_size_um: Float3 | None) -> _Part:
    """Name the axes and check the choices; no voxel is read."""
    if 0 in stack.shape:
        raise VolumeError(f"expected a volume, got an empty array of shape {stack.shape}")
    if "S" in stack.axes and stack.shape[stack.axes.index("S")] > 1:
        # TIFF writers take an axis of 3 or 4 planes for colors unless they are told otherwise.
        raise VolumeError(
            "expected one intensity per voxel, got an RGB image: split its colors and save one channel; "
            "3 or 4 planes? write the file with photometric='minisblack'"
        )
    if stack.dtype.kind == "c":
        raise VolumeError(f"expected real numbers, got {stack.dtype}: save the magnitude or the real part")
    if stack.dtype.kind not in "uifb":
        raise VolumeError(f"expected numbers, got {stack.dtype}: save the stack as integers or floats")
    axes = _name_axes(stack, channel is not None, time is not None)
    channel_index = _choose_channel(axes, stack, channel)
    time_index = _choose_time(axes, stack.shape, time)
    index: list[int | slice] = []
    for letter, size in zip(axes, stack.shape, strict=True):
        if letter in "ZYX":
            index.append(slice(None))
        elif letter == "C":
            index.append(channel_index)
        elif letter == "T":
            index.append(time_index)
        elif size == 1:
            index.append(0)
        else:
            raise VolumeError(
                f"expected axes among T, C, Z, Y, X, got an axis {letter!r} of size {size} (axes {axes}, "
                f"shape {stack.shape}): save one of them as its own file"
            )
    _check_z(axes, stack.shape)
    return _Part(axes, tuple(index), channel_index, time_index, _voxel_size(stack, voxel_size_um))


def _volume(stack: Stack, part: _Part, data: npt.NDArray[Any], time: int, name: str, file_name: str) -> Volume:
    """Make a volume of the voxels of one time point, whose axes are in the order of the file."""
    kept = [letter for letter in part.axes if letter in "ZYX"]
    data = data.transpose([kept.index(letter) for letter in "ZYX"])
    recorded = frame_record(stack.provenance, time)
    provenance = recorded or _source(stack, file_name, part.axes, part.channel, time)
    volume = Volume(data=data, voxel_size_um=part.voxel_size_um, provenance=provenance, name=name)
    if volume.data.min() == volume.data.max():
        raise VolumeError(f"every voxel equals {volume.data.flat[0]:g}: the volume is constant and holds no structure")
    return volume


def _name_axes(stack: Stack, wants_channel: bool, wants_time: bool) -> str:
    """Give axes without a name the meaning that the choices state; refuse when they do not settle it."""
    axes = list(stack.axes)
    unnamed = [i for i, letter in enumerate(axes) if letter in _UNNAMED]
    long = [i for i in unnamed if stack.shape[i] > 1]
    for i in unnamed:
        axes[i] = "?"  # of size 1: dropped later
    needed = [
        letter
        for letter, wanted in (("T", wants_time), ("C", wants_channel), ("Z", True))
        if wanted and letter not in stack.axes
    ]
    if len(long) > len(needed) or (len(long) > 1 and len(long) != len(needed)):
        sizes = " x ".join(str(n) for n in stack.shape)
        last = stack.shape[long[0]] - 1
        raise ChoiceError(
            f"expected 3 axes (Z, Y, X), got {len(stack.shape)} axes of {sizes} without names: "
            f"choose from the first axis with --channel 0..{last} or --time 0..{last}"
        )
    for i, letter in zip(long, needed[-len(long) :] if len(long) == 1 else needed, strict=False):
        axes[i] = letter
    return "".join(axes)


def _choose_channel(axes: str, stack: Stack, channel: int | str | None) -> int:
    """Index of the chosen channel."""
    count = stack.shape[axes.index("C")] if "C" in axes else 1
    names = stack.channel_names if len(stack.channel_names) == count else ()
    choices = ", ".join(f"{i} {names[i]!r}" if names and names[i] else str(i) for i in range(min(count, 20)))
    choices += f", ... {count - 1}" if count > 20 else ""
    if channel is None:
        if count == 1:
            return 0
        raise ChoiceError(f"holds {count} channels: choose one with --channel: {choices}")
    if isinstance(channel, str):
        exact = [i for i, name in enumerate(names) if name == channel]
        alike = exact or [i for i, name in enumerate(names) if name.lower() == channel.lower()]
        if len(alike) == 1:
            return alike[0]
        if not channel.isdecimal():
            raise VolumeError(f"holds no single channel named {channel!r}: choose one with --channel: {choices}")
        channel = int(channel)
    if not 0 <= channel < count:
        raise VolumeError(f"holds no channel {channel}: choose one with --channel: {choices}")
    return channel


def _choose_time(axes: str, shape: tuple[int, ...], time: int | None) -> int:
    """Index of the chosen time point."""
    count = shape[axes.index("T")] if "T" in axes else 1
    if time is None:
        if count == 1:
            return 0
        if "Z" in axes and shape[axes.index("Z")] > 1:
            raise ChoiceError(f"holds {count} time points: choose one with --time 0..{count - 1}")
        return 0  # refused below as a 2D time series, which says more
    if not 0 <= time < count:
        raise VolumeError(f"holds no time point {time}: choose one with --time 0..{count - 1}")
    return time


def _check_z(axes: str, shape: tuple[int, ...]) -> None:
    """Refuse what is not a z stack."""
    depth = shape[axes.index("Z")] if "Z" in axes else 1
    if depth > 1 and "Y" in axes and "X" in axes:
        return
    other = [f"{letter} of {n}" for letter, n in zip(axes, shape, strict=True) if letter in "TC" and n > 1]
    hint = (
        f"; it has {' and '.join(other)}: if that is really z, save it again with slices "
        "(in ImageJ: Image > Properties)"
        if other
        else ": open the whole z stack"
    )
    raise ShapeError(f"expected a z stack of at least 2 planes, got a 2D image of shape {shape} (axes {axes}){hint}")


def _voxel_size(stack: Stack, given: Float3 | None) -> Float3:
    """Voxel size that the user gives, else that of the file."""
    if given is not None:
        return check_voxel_size(given)
    z, y, x = stack.voxel_size_um
    if z is None or y is None or x is None:
        known = ", ".join(f"{n} = {v:g} um" for n, v in zip("zyx", stack.voxel_size_um, strict=True) if v is not None)
        stated = f"states only {known}" if known else "does not state its voxel size"
        raise ChoiceError(f"the file {stated}: give --voxel-size Z Y X in micrometres")
    return check_voxel_size((z, y, x))


def _source(stack: Stack, file_name: str, axes: str, channel: int, time: int) -> dict[str, Any]:
    """Record of a foreign file: which part of it was read."""
    source: dict[str, Any] = {"file": file_name, "format": stack.format, "dtype": stack.dtype.name, "axes": axes}
    source["shape"] = [int(n) for n in stack.shape]
    if "C" in axes:
        source["channel"] = channel
        if channel < len(stack.channel_names):
            source["channel_name"] = stack.channel_names[channel]
    if "T" in axes:
        source["time"] = time
    return {"software": NAMESPACE, "verb": "read", "source": source}
