"""The rows beside a candidate: halves of a reference, a wrong simulator, copies that every honest score must tell."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from napari_vqldm.errors import ConfigError
from napari_vqldm.metrics.degradations import blur, noise_only, phase_scramble
from napari_vqldm.report.folders import folder_windows
from napari_vqldm.report.parallel import Workers
from napari_vqldm.report.scores import LEAST_VOLUMES
from napari_vqldm.report.sets import VOXEL_SIZE_UM, Array, VolumeSet, as_set
from napari_vqldm.report.standards import BLURRED, NOISE, REPEATED, SCRAMBLED
from napari_vqldm.simulate.mt_sim import BenchmarkVolume, Split, mt_sim_split, mt_sim_volumes, record
from napari_vqldm.volume import Float3

BLUR_UM = 0.07  # standard deviation of the blurred copy, 0.7 lateral voxels: what a weak autoencoder does
DENSER = 1.25  # times the filament of the tier, in the row of a wrong simulator


def other_split(split: Split) -> Split:
    """Return a split of the same tier whose volumes are in neither draw of the reference.

    Not the reference ``split``, not the other draw of it (``val``; ``test`` where ``val`` is the reference), and never
    ``train``: a model may have seen those volumes.
    """
    return mt_sim_split(split.tier, "extractor" if split.name != "extractor" else "test")


def simulated(split: Split, count: int, workers: Workers) -> Iterator[BenchmarkVolume]:
    """Make the first ``count`` volumes of a split, as `mt_sim_volumes` does."""
    return workers.map(partial(_simulated, split), range(count))


def _simulated(split: Split, index: int) -> BenchmarkVolume:
    return next(mt_sim_volumes(split, [index]))


def recorded(clean: Sequence[Array], split: Split, workers: Workers) -> list[Array]:
    """Record noise-free volumes (Z, Y, X) with the tier's camera, volume i with noise i, as `record` does."""
    return list(workers.map(partial(_recorded, split), enumerate(clean)))


def _recorded(split: Split, numbered: tuple[int, Array]) -> Array:
    index, volume = numbered
    return next(record([volume], replace(split, camera_seed=split.camera_seed + index)))


def real_references(folder: Path, count: int, voxel_size_um: Float3 | None) -> tuple[VolumeSet, VolumeSet]:
    """Read real windows and deal them out to two sets of one size, whole files where there are at least four.

    Raises
    ------
    ConfigError
        If there are too few windows.
    """
    found = folder_windows(folder, 2 * count, voxel_size_um)
    numbers = sorted(set(found.files))
    halves: tuple[list[Array], list[Array]] = ([], [])
    origins: tuple[list[int], list[int]] = ([], [])
    if len(numbers) >= 4:
        note = "Real against real compares files with other files."
        for window, file in zip(found.windows, found.files, strict=True):
            half = numbers.index(file) % 2
            halves[half].append(window)
            origins[half].append(file)
    else:
        note = "Real against real compares windows of the same few files, which is flattering: add stacks."
        turn = dict.fromkeys(numbers, 0)
        for window, file in zip(found.windows, found.files, strict=True):
            halves[turn[file]].append(window)
            origins[turn[file]].append(file)
            turn[file] = 1 - turn[file]
    size = min(map(len, halves))
    if size < LEAST_VOLUMES:
        raise ConfigError(
            f"{folder}: expected at least {2 * LEAST_VOLUMES} windows of 6.4 x 12.8 x 12.8 um, to compare one half "
            f"with the other, got {len(found.windows)}: add stacks"
        )
    first, second = (len(set(files[:size])) for files in origins)
    dealt = f"The reference is {size} windows of {first} files, the other half {size} windows of {second} files."
    return (
        VolumeSet(str(folder), halves[0][:size], "files", notes=(*found.notes, dealt, note)),
        VolumeSet("the other half", halves[1][:size], "files"),
    )


def denser(split: Split, size: int, workers: Workers) -> VolumeSet:
    """Simulate the tier with more filament: what a wrong parameter of a simulator costs."""
    low, high = split.simulation.length_density_um_per_um3
    changed = split.simulation.model_copy(update={"length_density_um_per_um3": (low * DENSER, high * DENSER)})
    other = other_split(split)
    wrong = Split(split.tier, other.name, other.seed, other.count, changed, other.camera_seed)
    return as_set("more filament", list(simulated(wrong, size, workers)))


def degraded(reference: VolumeSet, split: Split | None, workers: Workers) -> dict[str, VolumeSet]:
    """Return copies of the reference that every honest score must tell from it.

    Noise-free volumes are changed before the camera where they are known; else the volumes themselves.
    """
    source = reference.clean if split is not None else reference.volumes
    batch = torch.from_numpy(np.stack(source))[:, None]
    generator = torch.Generator().manual_seed(1)
    changed: dict[str, Callable[[], Tensor]] = {
        BLURRED: lambda: blur(batch, BLUR_UM, VOXEL_SIZE_UM),
        SCRAMBLED: lambda: phase_scramble(batch, 1.0, generator),
        REPEATED: lambda: batch[torch.arange(len(batch)) % max(len(batch) // 8, 1)],
        NOISE: lambda: torch.zeros_like(batch) if split is not None else noise_only(batch, generator),
    }
    sets = {}
    for number, (name, make) in enumerate(changed.items()):
        volumes = [v.numpy() for v in make()[:, 0]]
        if split is not None:
            noise = Split(split.tier, split.name, split.seed, split.count, split.simulation,
                          split.camera_seed + 100_000 * (number + 1))  # fmt: skip
            volumes = recorded(volumes, noise, workers)
        sets[name] = VolumeSet(name, volumes, reference.track)
    return sets
