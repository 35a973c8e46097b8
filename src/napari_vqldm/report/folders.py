"""Volumes of a folder, of whatever program, as windows that can be compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_vqldm.errors import ChoiceError, ConfigError, FileError, ShapeError, VolumeError
from napari_vqldm.files import list_volumes, read_volume
from napari_vqldm.intensity import estimate_intensity
from napari_vqldm.report.sets import VOXEL_SIZE_UM, WINDOW, Array
from napari_vqldm.resample import resample
from napari_vqldm.volume import Float3, Volume

LEAST_OF_WINDOW = 0.5  # a volume may be smaller than the window by this factor per axis: it is continued by reflection
LEAST_LIGHT = 0.1  # of that of a file's brightest window: with less there is nothing to compare
LABELS = "-labels"  # our own label images: no intensities
REASONS = 3  # of files that cannot be used, in a message


@dataclass(frozen=True)
class FolderWindows:
    """Windows (32, 128, 128) in filament units.

    Attributes
    ----------
    windows : list of ndarray
        One of each file in turn, the brightest of every file first.
    files : list of int
        From which file each comes.
    noise_free : bool
        Whether the files say of themselves that no camera recorded them.
    estimated : bool
        Whether the intensity scale of any file was estimated.
    notes : tuple of str
        Which files gave how many, and which were left out and why.
    """

    windows: list[Array]
    files: list[int]
    noise_free: bool
    estimated: bool
    notes: tuple[str, ...]


def windows_of(data: npt.NDArray[Any], voxel_size_um: Float3) -> list[Array]:
    """Cut a volume in filament units into as many whole windows as fit, side by side about its centre.

    Raises
    ------
    VolumeError
        If an axis is shorter than half a window, 3.2 x 6.4 x 6.4 um.
    """
    grid = resample(np.asarray(data, np.float32), voxel_size_um, VOXEL_SIZE_UM)
    if any(n < LEAST_OF_WINDOW * w for n, w in zip(grid.shape, WINDOW, strict=True)):
        extent = " x ".join(f"{n * s:.1f}" for n, s in zip(grid.shape, VOXEL_SIZE_UM, strict=True))
        raise VolumeError(f"expected at least 3.2 x 6.4 x 6.4 um, got {extent} um: too small to be compared")
    missing = [max(0, w - n) for n, w in zip(grid.shape, WINDOW, strict=True)]
    if any(missing):
        grid = np.pad(grid, [(n // 2, n - n // 2) for n in missing], mode="symmetric")
    starts = []
    for n, w in zip(grid.shape, WINDOW, strict=True):
        count = n // w
        first = (n - count * w) // 2
        starts.append([first + i * w for i in range(count)])
    return [
        np.ascontiguousarray(grid[z : z + WINDOW[0], y : y + WINDOW[1], x : x + WINDOW[2]], dtype=np.float32)
        for z, y, x in product(*starts)
    ]


def brightest_first(windows: Sequence[Array]) -> tuple[list[Array], int]:
    """Order windows of one file by their light, and leave out those that show next to nothing.

    The light of a window is the sum of its voxels in filament units, which count from the background, clipped at 0.
    Windows with less than ``LEAST_LIGHT`` of that of the brightest are left out. This is a choice: a set of such
    windows shows where the filaments are, and says nothing of how much of a stack is empty.

    Parameters
    ----------
    windows : sequence of ndarray
        (Z, Y, X), filament units.

    Returns
    -------
    tuple
        The windows, brightest first, those of equal light in the given order; and how many were left out.
    """
    light = np.array([np.maximum(window, 0.0).sum(dtype=np.float64) for window in windows])
    order = np.argsort(-light, kind="stable")
    kept = [windows[i] for i in order if light[i] >= LEAST_LIGHT * light[order[0]]]
    return kept, len(windows) - len(kept)


def in_estimated_units(volume: Array) -> Array:
    """Bring a volume to filament units by what is seen of it, as a file of unknown scale is; a constant stays."""
    if volume.min() == volume.max():
        return volume
    return estimate_intensity(volume).apply(volume)


def is_continued(volume: Volume) -> bool:
    """Tell whether a volume is smaller than a window, so that `windows_of` continues it by reflection."""
    return any(
        n * have < 0.99 * w * want
        for n, have, w, want in zip(volume.shape, volume.voxel_size_um, WINDOW, VOXEL_SIZE_UM, strict=True)
    )


def folder_windows(folder: Path, limit: int, voxel_size_um: Float3 | None) -> FolderWindows:
    """Read windows of the volumes in a folder, in turn from every file, at most ``limit``.

    Each file gives its windows as `brightest_first` orders them: where it is larger than a window, the set shows where
    its filaments are, and not its corners.

    Files that cannot be read or are too small are left out and named. Label images, and the noise-free twins of noisy
    volumes, as ``napari-vqldm simulate`` writes them, are left out too. ``voxel_size_um`` is used for files that state
    none. Brightness: filament units of files that say so, else by the scale that is estimated from each file.

    Raises
    ------
    FileError
        If there is no volume.
    ConfigError
        If none of them can be used.
    """
    paths, notes = _intensities(list_volumes(folder))
    per_file: list[list[Array]] = []
    free: list[bool] = []
    failed: list[str] = []
    continued, estimated, dark = 0, 0, 0
    for path in paths:
        try:
            volume = _read(path, voxel_size_um)
            in_units = _is_in_filament_units(volume.provenance)
            data = volume.data if in_units else estimate_intensity(volume.data).apply(volume.data)
            kept, left_out = brightest_first(windows_of(data, volume.voxel_size_um))
        except (ChoiceError, FileError, ShapeError, VolumeError) as error:
            failed.append(f"{path.name} was left out: {error}")
            continue
        per_file.append(kept[:limit])
        dark += left_out
        estimated += not in_units
        continued += is_continued(volume)
        free.append(_is_noise_free(path, volume.provenance))
    if not per_file:
        raise ConfigError(f"{folder}: no volume in it can be compared: {_why(failed, notes)}")
    notes += failed
    if len(set(free)) > 1:
        raise ConfigError(
            f"{folder}: {sum(free)} of its {len(free)} volumes are noise-free, by their own record, the others are "
            "not: put them into folders of their own"
        )
    # One of each file in turn: a large file must not crowd out the others.
    most = max(map(len, per_file))
    order = [(w[i], number) for i in range(most) for number, w in enumerate(per_file) if i < len(w)]
    chosen = order[:limit]
    notes.insert(
        0, f"{len(per_file)} files gave {len(order)} windows of 32 x 128 x 128 voxels; {len(chosen)} are used."
    )
    if dark:
        notes.append(
            f"{dark} more windows were left out: they hold less than {LEAST_LIGHT:.0%} of the light of their file's "
            "brightest window, nothing to compare."
        )
    if estimated:
        notes.append(f"The intensity scale of {estimated} files was estimated: brightness is compared up to that only.")
    if continued:
        notes.append(
            f"{continued} files are smaller than a window and were continued by reflection: lengths, ends and spectra "
            "of them are partly mirrored."
        )
    return FolderWindows([w for w, _ in chosen], [number for _, number in chosen], free[0], estimated > 0, tuple(notes))


def _intensities(paths: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Leave out label images, and clean volumes that lie beside their recordings."""
    names = {path.name for path in paths}

    def kept() -> Iterator[Path]:
        for path in paths:
            stem = path.name.partition(".")[0]
            if not stem.endswith(LABELS) and path.name.replace("-clean.", "-noisy.") not in names - {path.name}:
                yield path

    chosen = list(kept())
    left = len(paths) - len(chosen)
    return chosen, [f"{left} label images and noise-free twins of recordings were left out."] if left else []


def _why(failed: Sequence[str], notes: Sequence[str]) -> str:
    """Say why no file can be used: how many failed, the first reasons, what was left out before."""
    if not failed:
        return " ".join(notes)
    count = f"{len(failed)} files could not be used: " if len(failed) > 1 else ""
    more = [f"and {len(failed) - REASONS} more"] if len(failed) > REASONS else []
    return count + "; ".join([*failed[:REASONS], *more, *notes])


def _read(path: Path, voxel_size_um: Float3 | None) -> Volume:
    """Read one file; the given voxel size only where it states none."""
    try:
        return read_volume(path)
    except ChoiceError:
        if voxel_size_um is None:
            raise
        return read_volume(path, voxel_size_um=voxel_size_um)


def _is_noise_free(path: Path, provenance: Mapping[str, Any]) -> bool:
    """Whether a record says that no camera recorded the volume: generated without one, or the clean twin simulated."""
    request = provenance.get("request")
    if not isinstance(request, Mapping):
        return False
    if provenance.get("verb") == "simulate":
        return path.name.partition(".")[0].endswith("-clean")
    return provenance.get("verb") in ("generate", "interpolate") and not request.get("camera")


def _is_in_filament_units(provenance: Mapping[str, Any]) -> bool:
    """Whether a record says that 1 is the peak of one filament: generated or simulated without a camera of its own."""
    request = provenance.get("request")
    known = provenance.get("verb") in ("generate", "simulate") and isinstance(request, Mapping)
    return bool(known) and not request.get("camera")  # type: ignore[union-attr]
