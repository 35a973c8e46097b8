"""Sets of volumes that are compared: a tier of MT-Sim v1, a folder of files, samples of a model.

Everything is brought to filament units and to windows of 32 x 128 x 128 voxels of 0.2 x 0.1 x 0.1 um: features,
traces and spectra of volumes of different size cannot be compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_vqldm.checkpoint import Model
from napari_vqldm.conditions import allowed_conditions, check_conditions
from napari_vqldm.errors import ConfigError, VolumeError
from napari_vqldm.files import list_volumes, read_volume
from napari_vqldm.generate import decode_start, draw_start, plan_sampling, sample_starts
from napari_vqldm.intensity import estimate_intensity
from napari_vqldm.resample import resample
from napari_vqldm.simulate.mt_sim import TIERS, BenchmarkVolume, Split, mt_sim_split, mt_sim_volumes
from napari_vqldm.volume import Float3, Int3

Array = npt.NDArray[np.float32]
Track = Literal["simulated", "files"]

WINDOW: Int3 = (32, 128, 128)
VOXEL_SIZE_UM: Float3 = (0.2, 0.1, 0.1)
LEAST_OF_WINDOW = 0.5  # a volume may be smaller than the window by this factor per axis: it is continued by reflection


@dataclass(frozen=True)
class VolumeSet:
    """Volumes (Z, Y, X) in filament units with the noise of a camera, all of one shape and voxel size.

    Attributes
    ----------
    name : str
        What they are, for the report.
    volumes : list of ndarray
        What is compared.
    track : str
        ``simulated`` or ``files``: results of the two are never mixed in one table.
    clean : list of ndarray
        Noise-free expectations, where they are known.
    simulated : list of BenchmarkVolume
        Volumes of MT-Sim with all of their truth, where that is what they are.
    notes : tuple of str
        What happened on the way here that a reader must know.
    """

    name: str
    volumes: list[Array]
    track: Track
    clean: list[Array] = field(default_factory=list)
    simulated: list[BenchmarkVolume] = field(default_factory=list)
    notes: tuple[str, ...] = ()


def benchmark_set(split: Split, indices: Sequence[int]) -> Iterator[BenchmarkVolume]:
    """Make volumes of MT-Sim v1 one by one."""
    return mt_sim_volumes(split, indices)


def as_set(name: str, volumes: Sequence[BenchmarkVolume]) -> VolumeSet:
    """Return simulated volumes as a set, compared as recorded by the tier's one camera."""
    return VolumeSet(name, [v.recorded for v in volumes], "simulated", [v.clean for v in volumes], list(volumes))


def parse_against(text: str) -> Split | Path:
    """Return what ``--against`` names: a tier, a tier and a split as ``hard:val``, or a folder.

    Raises
    ------
    ConfigError
        If it is neither.
    """
    name, _, split = text.partition(":")
    if name in TIERS:
        return mt_sim_split(name, split or "test")
    folder = Path(text)
    if folder.is_dir():
        return folder
    raise ConfigError(
        f"--against {text}: expected a tier of MT-Sim v1 ({', '.join(TIERS)}; with a split as in standard:val), or a "
        "folder of volumes"
    )


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


def folder_windows(folder: Path, limit: int, voxel_size_um: Float3 | None) -> tuple[list[Array], tuple[str, ...]]:
    """Read windows of the volumes in a folder, in turn from every file, at most ``limit``.

    Returns
    -------
    windows : list of ndarray
        In filament units, by the intensity scale that is estimated from each file.
    notes : tuple of str
        Which files gave how many, and which were left out.

    Raises
    ------
    FileError
        If there is no volume.
    ConfigError
        If none of them is large enough.
    """
    paths = list_volumes(folder)
    per_file: list[list[Array]] = []
    notes: list[str] = []
    for path in paths:
        volume = read_volume(path, voxel_size_um=voxel_size_um)
        scaled = estimate_intensity(volume.data).apply(volume.data)
        try:
            per_file.append(windows_of(scaled, volume.voxel_size_um))
        except VolumeError as error:
            notes.append(f"{path.name} was left out: {error}")
    if not per_file:
        raise ConfigError(f"{folder}: no volume in it is large enough: {notes[0]}")
    # One of each file in turn: a large file must not crowd out the others.
    order = [w[i] for i in range(max(map(len, per_file))) for w in per_file if i < len(w)]
    notes.insert(
        0, f"{len(per_file)} files, {len(order)} windows of 32 x 128 x 128 voxels, {min(limit, len(order))} used"
    )
    notes.append("The intensity scale of each file was estimated from it: brightness is compared only up to that.")
    return order[:limit], tuple(notes)


def askable(model: Model, wanted: Mapping[str, float | str]) -> tuple[dict[str, float | str], bool]:
    """Return conditions that a model can be asked for, nearest to those wanted, and whether one had to be moved."""
    allowed = allowed_conditions(model.config)
    asked: dict[str, float | str] = {}
    moved = False
    for name, value in wanted.items():
        limits = allowed.get(name)
        if limits is None:
            continue
        if isinstance(value, str):
            if value in limits:
                asked[name] = value
            else:
                moved = True
            continue
        low, high = float(limits[0]), float(limits[1])
        asked[name] = min(max(value, low), high)
        moved = moved or not low <= value <= high
    return check_conditions(model.config, asked), moved


def model_samples(
    model: Model, seed: int, conditions: Sequence[Mapping[str, float | str]], steps: int | None
) -> Iterator[Array]:
    """Sample one noise-free volume per entry of ``conditions``, one at a time, with the checkpoint's own sampler."""
    sampling = plan_sampling(model, None, steps, None, None, None, "fp32")
    for index, wanted in enumerate(conditions):
        start = draw_start(model, seed, index, check_conditions(model.config, wanted))
        latent = start.noise
        for step in sample_starts(model, [start], sampling):
            latent = step.latent[0]
        volume = decode_start(model, latent, start, sampling, {}, f"sample-{index}")
        yield windows_of(volume.data, volume.voxel_size_um)[0]
