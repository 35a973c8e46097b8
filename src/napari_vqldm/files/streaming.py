"""Volumes one after the other: given ones and files in any mixture, of which only one is in memory at a time."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from napari_vqldm.errors import ConfigError, FileError, ShapeError, VolumeError
from napari_vqldm.files.volumes import read_volume
from napari_vqldm.volume import Volume

Source = Volume | str | os.PathLike[str]
Read = Callable[[Path], Volume]
T = TypeVar("T")

# What is wrong with one file and not with the request: the others may still be used.
_OF_ONE_FILE = (FileError, ShapeError, VolumeError)


@dataclass(frozen=True)
class Worked(Generic[T]):
    """What came of one volume of many.

    Attributes
    ----------
    index, total : int
        Number from 0, and how many there are as far as known.
    name : str
        Of the volume, or of its file.
    result : object or None
        None where the file could not be used.
    problem : str
        Why not, in one line; empty where there is a result.
    """

    index: int
    total: int
    name: str
    result: T | None
    problem: str = ""


def each_volume(
    sources: Iterable[Source], work: Callable[[int, Volume], T], read: Read = read_volume
) -> Iterator[Worked[T]]:
    """Work on volumes one by one; a file that cannot be read, or not be worked on, is reported and no end.

    Parameters
    ----------
    sources : iterable of Volume or path
        At least one. A file is read when its turn comes, a generator is drawn no further than needed.
    work : callable
        Takes the number of the volume from 0, and the volume.
    read : callable
        Reads one path.

    Returns
    -------
    iterator of Worked

    Raises
    ------
    ConfigError
        If one volume or path comes instead of several, or none.
    FileError
        At the end, if not one file could be used.
    """
    if isinstance(sources, Volume | str | os.PathLike):
        raise ConfigError("expected several volumes or paths, got one: put it into a list")
    return _work(sources, work, read)


def _work(sources: Iterable[Source], work: Callable[[int, Volume], T], read: Read) -> Iterator[Worked[T]]:
    known, used, problems = operator.length_hint(sources), 0, []
    for index, source in enumerate(sources):
        total = max(known, index + 1)
        if isinstance(source, Volume):
            done = Worked(index, total, source.name, work(index, source))
        else:
            done = _file(Path(source), index, total, work, read)
        del source  # not kept while the next one is read
        problems += [done.problem] if done.problem else []
        used += not done.problem
        yield done
    if not used and problems:
        many = f"none of {len(problems)} files can be used, the first: " if len(problems) > 1 else ""
        raise FileError(f"{many}{problems[0]}")
    if not used:
        raise ConfigError("expected at least one volume, got none")


def _file(path: Path, index: int, total: int, work: Callable[[int, Volume], T], read: Read) -> Worked[T]:
    try:
        volume = read(path)
    except _OF_ONE_FILE as error:  # names the file already
        return Worked(index, total, path.name, None, str(error))
    try:
        return Worked(index, total, path.name, work(index, volume))
    except _OF_ONE_FILE as error:  # such as a constant stack
        return Worked(index, total, path.name, None, f"{path}: {error}")
