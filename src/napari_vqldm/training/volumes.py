"""Volumes of a run for whoever follows it: small float16 files beside the pictures, bounded in number and size."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_vqldm.config import Float3
from napari_vqldm.errors import FileError
from napari_vqldm.training.folder import replace_atomically

MOST_BYTES = 8 * 2**20  # of a file
MOST_FILES = 20  # of a stage; beyond, every second one goes, so that all of the training stays in view
LARGEST_FLOAT16 = 65504.0
VOXEL_SIZE = "voxel_size_um"
_NAME = re.compile(r"(?P<stage>[a-z]+)-(?P<step>\d{6,12})\.npz")


@dataclass(frozen=True)
class VolumeFile:
    """One file of volumes in a run folder.

    Attributes
    ----------
    stage : str
        Of the training.
    step : int
        Steps done when it was written.
    path : Path
        The file.
    stamp : tuple of int
        Time and size: another one tells of another content.
    """

    stage: str
    step: int
    path: Path
    stamp: tuple[int, int]


@dataclass(frozen=True)
class SavedVolumes:
    """Content of one file.

    Attributes
    ----------
    volumes : mapping
        Name to float16 (N, Z, Y, X) in filament units: ``sample``, or ``input``, ``target`` and ``reconstruction``.
    voxel_size_um : tuple of float
        (z, y, x).
    """

    volumes: Mapping[str, npt.NDArray[np.float16]]
    voxel_size_um: Float3


@dataclass(frozen=True)
class VolumeSeries:
    """The volumes of a stage over the steps of its training.

    Attributes
    ----------
    stage : str
        Of the training.
    steps : tuple of int
        One for each frame, rising.
    frames : mapping
        Name to float32 (T, Z, Y, X), filament units.
    voxel_size_um : tuple of float
        (z, y, x).
    """

    stage: str
    steps: tuple[int, ...]
    frames: Mapping[str, npt.NDArray[np.float32]]
    voxel_size_um: Float3


def save_volumes(
    folder: Path, stage: str, step: int, groups: Mapping[str, Sequence[npt.NDArray[Any]]], voxel_size_um: Float3
) -> None:
    """Write STAGE-STEP.npz, and thin out the earlier files of this stage.

    Parameters
    ----------
    folder : Path
        Made when missing.
    stage, step : str, int
        Where the training is.
    groups : mapping
        Name to volumes (Z, Y, X) of one shape, as many in each group. As many are kept as fit in `MOST_BYTES`; where
        not even one does, nothing is written.
    voxel_size_um : tuple of float
        (z, y, x).

    Raises
    ------
    FileError
        If the file cannot be written.
    """
    bytes_each = sum(2 * volumes[0].size for volumes in groups.values() if volumes)
    if not bytes_each or bytes_each > MOST_BYTES:
        return
    count = MOST_BYTES // bytes_each
    content: dict[str, npt.NDArray[Any]] = {VOXEL_SIZE: np.asarray(voxel_size_um, np.float64)}
    for name, volumes in groups.items():
        # Beyond the range of float16 is beyond what a filament unit means: the highest number says enough.
        clipped = np.clip(np.stack(volumes[:count]), -LARGEST_FLOAT16, LARGEST_FLOAT16)
        content[name] = clipped.astype(np.float16)

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **content)

    replace_atomically(folder / f"{stage}-{step:06d}.npz", write)
    files = [file for file in list_volumes(folder) if file.stage == stage]
    if len(files) > MOST_FILES:
        for file in files[-2::-2]:  # the newest stays
            with suppress(OSError):  # held open by a reader: it goes the next time
                file.path.unlink(missing_ok=True)


def list_volumes(folder: Path) -> list[VolumeFile]:
    """Return the files of volumes in a folder by stage and step; none where there is no folder.

    Raises
    ------
    OSError
        If the folder cannot be read.
    """
    files = []
    try:
        paths = list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    for path in paths:
        match = _NAME.fullmatch(path.name)
        if match is None:
            continue
        try:
            known = path.stat()
        except FileNotFoundError:  # replaced or thinned out in this moment
            continue
        files.append(VolumeFile(match["stage"], int(match["step"]), path, (known.st_mtime_ns, known.st_size)))
    return sorted(files, key=lambda file: (file.stage, file.step))


def load_volumes(path: Path) -> SavedVolumes:
    """Read one file.

    Raises
    ------
    FileError
        If it is not a file of `save_volumes`, or cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # a small file may unpack to more than the memory holds
            size = sum(member.file_size for member in archive.infolist())
        if size > 2 * MOST_BYTES:
            raise FileError(f"{path}: expected at most {2 * MOST_BYTES} bytes of volumes, got {size}: remove the file")
        with np.load(path, allow_pickle=False) as file:
            content = {name: file[name] for name in file.files}
        z, y, x = (float(value) for value in content.pop(VOXEL_SIZE))
        shapes = {array.shape for array in content.values()}
    except (FileError, MemoryError):  # for want of memory it is not to be removed
        raise
    except Exception as error:  # noqa: BLE001 - what a damaged archive raises is in no list: zipfile asks for passwords, too
        raise FileError(f"{path}: cannot read volumes of a run ({error}): remove the file") from None
    is_good = all(0 < value < float("inf") for value in (z, y, x)) and len(shapes) == 1
    if (
        not is_good
        or len(min(shapes)) != 4
        or not all(min(array.shape) and array.dtype.kind == "f" for array in content.values())
    ):
        raise FileError(
            f"{path}: expected float volumes (N, Z, Y, X) and their voxel size, got {sorted(shapes)}: remove it"
        )
    return SavedVolumes(content, (z, y, x))


class SeriesReader:
    """Puts the files of a run onto a time axis; each file is read once, in whatever order they come.

    Parameters
    ----------
    number : int
        Which of the volumes of each file; the last one where there are fewer.
    """

    def __init__(self, number: int = 0) -> None:
        self.number = number
        self._known: dict[tuple[Path, tuple[int, int]], SavedVolumes | None] = {}  # None: not readable

    def read(self, files: Sequence[VolumeFile]) -> dict[str, VolumeSeries]:
        """Return the series of each stage.

        A file that cannot be read, or holds other shapes or groups than the newest one, is left out.
        """
        keys = {(file.path, file.stamp) for file in files}
        self._known = {key: content for key, content in self._known.items() if key in keys}
        series = {}
        for stage in dict.fromkeys(file.stage for file in files):
            loaded = [(file.step, self._load(file)) for file in files if file.stage == stage]
            found = [(step, content) for step, content in loaded if content is not None]
            if not found:
                continue
            newest = found[-1][1]
            alike = [(step, content) for step, content in found if _form(content) == _form(newest)]
            frames = {name: np.stack([self._pick(content, name) for _, content in alike]) for name in newest.volumes}
            series[stage] = VolumeSeries(stage, tuple(step for step, _ in alike), frames, newest.voxel_size_um)
        return series

    def _load(self, file: VolumeFile) -> SavedVolumes | None:
        key = (file.path, file.stamp)
        if key not in self._known:
            try:
                self._known[key] = load_volumes(file.path)
            except FileError:
                self._known[key] = None
        return self._known[key]

    def _pick(self, content: SavedVolumes, name: str) -> npt.NDArray[np.float32]:
        volumes = content.volumes[name]
        return np.asarray(volumes[min(self.number, len(volumes) - 1)], np.float32)


def _form(content: SavedVolumes) -> tuple[object, ...]:
    """What must agree for volumes to share an axis."""
    names = sorted(content.volumes)
    return (*names, *(content.volumes[name].shape[1:] for name in names), content.voxel_size_um)
