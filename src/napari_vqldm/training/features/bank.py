"""Volumes and labels to learn from, simulated by many processes into one memory-mapped file until time is up."""

from __future__ import annotations

import hashlib
import json
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
from napari_vqldm.training.features.maps import LEAST_CURVATURE_PER_UM, map_shape, scene_maps

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
VALIDATION_START = 10_000_000  # sample indices from here on are never trained on
POLL_SECONDS = 0.5
ROWS = "rows.json"  # written last: a bank without it is not complete
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
    maps : ndarray
        float32 (N, 3, d, h, w), see `maps.MAPS`.
    validation, train : ndarray
        Rows that are complete, by part.
    """

    volumes: npt.NDArray[np.float16]
    labels: npt.NDArray[np.float32]
    maps: npt.NDArray[np.float32]
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
        Receives ``volumes.npy``, ``labels.npy``, ``maps.npy`` and ``rows.json``; files of an earlier run are replaced.
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
    (folder / ROWS).unlink(missing_ok=True)
    np.lib.format.open_memmap(folder / "volumes.npy", "w+", np.float16, shape)
    np.lib.format.open_memmap(folder / "labels.npy", "w+", np.float32, (total, len(SCENE_LABELS)))
    np.lib.format.open_memmap(folder / "maps.npy", "w+", np.float32, (total, *map_shape(config.simulations[0].shape)))
    done: dict[bool, list[int]] = {True: [], False: []}
    start = said = time.perf_counter()
    context = multiprocessing.get_context("spawn")
    pool = context.Pool(workers, _start_worker, (config, str(folder)))
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
    rows = {"drawn_from": _drawn_from(config), "validation": sorted(done[True]), "train": sorted(done[False])}
    (folder / ROWS).write_text(json.dumps(rows), encoding="utf-8")
    return load_feature_bank(config, folder)


def load_feature_bank(config: FeatureTrainConfig, folder: Path) -> FeatureBank:
    """Open the bank that an earlier run has left in ``folder``.

    Raises
    ------
    TrainingError
        If there is none, or it was drawn from other distributions.
    """
    try:
        rows = json.loads((folder / ROWS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(f"{folder}: expected a bank of simulated volumes ({error})") from None
    if rows["drawn_from"] != _drawn_from(config):
        raise TrainingError(f"{folder}: its volumes were drawn from other distributions: give another folder")
    return FeatureBank(
        np.load(folder / "volumes.npy", mmap_mode="r"),
        np.load(folder / "labels.npy"),
        np.load(folder / "maps.npy"),
        np.array(rows["validation"], np.int64),
        np.array(rows["train"], np.int64),
    )


def _drawn_from(config: FeatureTrainConfig) -> str:
    parts = ("simulations", "weights", "simulation_seed", "num_validation", "num_volumes", "chunk")
    return hashlib.sha256(config.model_dump_json(include=set(parts)).encode()).hexdigest()


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


def _start_worker(config: FeatureTrainConfig, folder: str) -> None:
    torch.set_num_threads(1)
    _worker.update(
        simulators=[Simulator(simulation) for simulation in config.simulations],
        seed=config.simulation_seed,
        **{name: np.load(Path(folder) / f"{name}.npy", mmap_mode="r+") for name in ("volumes", "labels", "maps")},
    )


def _simulate_chunk(chunk: _Chunk) -> _Chunk:
    simulator: Simulator = _worker["simulators"][chunk.part]
    for offset in range(chunk.count):
        scene = simulator.scene(_worker["seed"] + chunk.part, chunk.index + offset)
        clean = simulator.render([scene], noisy=False).clean[0, 0].numpy()
        _worker["volumes"][chunk.row + offset] = clean.astype(np.float16)
        _worker["labels"][chunk.row + offset] = scene_labels(scene)
        _worker["maps"][chunk.row + offset] = scene_maps(scene, clean.shape, scene.parameters.voxel_size_um)
    return chunk
