"""Volumes and labels to learn from, simulated by many processes into one memory-mapped file until time is up."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from napari_vqldm.config_base import ORGANISATIONS
from napari_vqldm.errors import TrainingError
from napari_vqldm.metrics.bending import mean_curvature
from napari_vqldm.simulate import Scene, Simulator
from napari_vqldm.training.features.config import FeatureTrainConfig

# Labels of the scene, in the order of the columns; the last one is the number of the organisation.
SCENE_LABELS = (
    "log_density",
    "log_persistence_length",
    "log_curvature",
    "lateral_order",
    "axial_order",
    "psf_width",
    "organisation",
)
LEAST_CURVATURE_PER_UM = 0.01  # straighter filaments look straight in 12.8 um
VALIDATION_START = 10_000_000  # sample indices from here on are never trained on
POLL_SECONDS = 0.5
MOST_PATIENCE = 3.0  # times the planned time, where it was too short for a few batches


@dataclass(frozen=True)
class FeatureBank:
    """Simulated noise-free volumes.

    Attributes
    ----------
    volumes : ndarray
        Memory-mapped float16 (N, D, H, W), filament units.
    labels : ndarray
        float32 (N, 7), see `SCENE_LABELS`.
    validation, train : ndarray
        Rows that are complete, by part.
    """

    volumes: npt.NDArray[np.float16]
    labels: npt.NDArray[np.float32]
    validation: npt.NDArray[np.int64]
    train: npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Chunk:
    """Rows ``row`` to ``row + count`` are volumes ``index`` to ``index + count`` of simulation ``part``."""

    row: int
    count: int
    index: int
    part: int
    validation: bool


def scene_labels(scene: Scene) -> list[float]:
    """Return the labels of a scene; order parameters are weighted by length inside the volume.

    The lateral one is |<exp(2 i angle)>| over the lateral parts of the pieces (1: parallel), the axial one is the mean
    squared z component of their directions.
    """
    p = scene.parameters
    pieces = [np.diff(line, axis=0) for line in scene.centre_lines() if len(line) > 1]
    lateral, axial, curvature = 0.0, 0.0, 0.0
    if pieces:
        step = np.concatenate(pieces)
        length = np.linalg.norm(step, axis=1)
        flat = step[:, 1] + 1j * step[:, 2]
        size = np.abs(flat)
        doubled = flat**2 / np.maximum(size, 1e-12)  # length times exp(2 i angle)
        lateral = float(np.abs(doubled.sum()) / max(size.sum(), 1e-12))
        curvature = float(np.nan_to_num(mean_curvature(scene.centre_lines())))  # NaN: stubs alone
        axial = float((step[:, 0] ** 2 / np.maximum(length, 1e-12)).sum() / max(length.sum(), 1e-12))
    return [
        float(np.log(p.length_density_um_per_um3)),
        float(np.log(p.persistence_length_um)),
        # Of the filaments that are there: a persistence length alone says little about the few of a sparse scene.
        float(np.log(max(curvature, LEAST_CURVATURE_PER_UM))),
        lateral,
        axial,
        p.psf_width_um,
        float(ORGANISATIONS.index(p.organisation)),
    ]


def build_feature_bank(
    config: FeatureTrainConfig, folder: Path, seconds: float, workers: int, say: Callable[[str], None]
) -> FeatureBank:
    """Simulate the validation volumes, then training volumes until ``seconds`` are over or all are there.

    Parameters
    ----------
    config : FeatureTrainConfig
        Distributions, counts and seed.
    folder : Path
        Receives ``volumes.npy`` and ``labels.npy``; files of an earlier run are replaced.
    seconds : float
        After that no further chunk is waited for, once there are a few batches; after three times that in any case.
    workers : int
        Processes of one thread each; they are spawned, so the calling script needs ``if __name__ == "__main__"``.
    say : callable
        Takes a line of progress.

    Raises
    ------
    TrainingError
        If time is up before there is enough for a training step.
    """
    folder.mkdir(parents=True, exist_ok=True)
    total = config.num_validation + config.num_volumes
    shape = (total, *config.simulations[0].shape)
    files = folder / "volumes.npy", folder / "labels.npy"
    np.lib.format.open_memmap(files[0], "w+", np.float16, shape)
    np.lib.format.open_memmap(files[1], "w+", np.float32, (total, len(SCENE_LABELS)))
    done: dict[bool, list[int]] = {True: [], False: []}
    start = said = time.perf_counter()
    context = multiprocessing.get_context("spawn")
    pool = context.Pool(workers, _start_worker, (config, str(files[0]), str(files[1])))
    try:
        finished = pool.imap_unordered(_simulate_chunk, list(_chunks(config)))
        while True:
            try:
                chunk: _Chunk = finished.next(timeout=POLL_SECONDS)
                done[chunk.validation] += range(chunk.row, chunk.row + chunk.count)
            except multiprocessing.TimeoutError:
                if any(process.exitcode for process in multiprocessing.active_children()):
                    raise TrainingError("a simulating process died: start again with fewer workers") from None
            except StopIteration:
                break
            now = time.perf_counter()
            if now - said > 5.0:
                rate = (len(done[True]) + len(done[False])) / (now - start)
                say(f"simulate {now - start:5.0f} s  {len(done[False])} volumes  {rate:.1f} /s")
                said = now
            late = now - start > seconds
            if (late and _enough(config, done)) or now - start > MOST_PATIENCE * seconds:
                break
    finally:
        pool.terminate()
        pool.join()
    if not _enough(config, done):
        raise TrainingError(
            f"{len(done[False])} training and {len(done[True])} validation volumes in {seconds:.0f} s are too few: "
            "give more minutes or more workers"
        )
    say(f"simulated {len(done[False])} training and {len(done[True])} validation volumes")
    return FeatureBank(
        np.load(files[0], mmap_mode="r"),
        np.load(files[1]),
        np.array(sorted(done[True]), np.int64),
        np.array(sorted(done[False]), np.int64),
    )


def _enough(config: FeatureTrainConfig, done: dict[bool, list[int]]) -> bool:
    """Tell whether there is enough for a training step and for a summary; ``done`` rows by validation or not."""
    return len(done[False]) >= 2 * config.pairs and len(done[True]) >= min(16, config.num_validation)


def _chunks(config: FeatureTrainConfig) -> Iterator[_Chunk]:
    """Validation first; the parts take turns by weight, so that a bank cut short is mixed like a whole one."""
    row = 0
    share = np.asarray(config.weights) / np.sum(config.weights)
    for validation, count in ((True, config.num_validation), (False, config.num_volumes)):
        given = np.zeros(len(share))
        for first in range(0, count, config.chunk):
            size = min(config.chunk, count - first)
            part = int(np.argmax(share * (given.sum() + 1.0) - given))
            given[part] += 1.0
            index = first + (VALIDATION_START if validation else 0)
            yield _Chunk(row, size, index, part, validation)
            row += size


_worker: dict[str, Any] = {}  # of a simulating process


def _start_worker(config: FeatureTrainConfig, volumes: str, labels: str) -> None:
    torch.set_num_threads(1)
    _worker.update(
        simulators=[Simulator(simulation) for simulation in config.simulations],
        seed=config.simulation_seed,
        volumes=np.load(volumes, mmap_mode="r+"),
        labels=np.load(labels, mmap_mode="r+"),
    )


def _simulate_chunk(chunk: _Chunk) -> _Chunk:
    simulator: Simulator = _worker["simulators"][chunk.part]
    for offset in range(chunk.count):
        scene = simulator.scene(_worker["seed"] + chunk.part, chunk.index + offset)
        clean = simulator.render([scene], noisy=False).clean[0, 0].numpy()
        _worker["volumes"][chunk.row + offset] = clean.astype(np.float16)
        _worker["labels"][chunk.row + offset] = scene_labels(scene)
    return chunk
