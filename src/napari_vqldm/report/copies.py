"""Is a model's sample a copy of what it was trained on? Nearest training volumes, beside those of unseen volumes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_vqldm.checkpoint import Model
from napari_vqldm.coding import exact_math
from napari_vqldm.config import SimulationConfig
from napari_vqldm.metrics.feature_copies import feature_copies
from napari_vqldm.metrics.features import FeatureExtractor
from napari_vqldm.metrics.memorization import NearestPatches, nearest_patches
from napari_vqldm.report.featured import featured
from napari_vqldm.report.folders import windows_of
from napari_vqldm.report.parallel import Workers
from napari_vqldm.report.sets import VOXEL_SIZE_UM, Array
from napari_vqldm.simulate import Simulator

MOST_PAIRS = 3
LEAST_FOR_FEATURES = 256  # training volumes: distances are in their standard deviations, of 64 features


@dataclass(frozen=True)
class CopyPair:
    """A sample and the training volume that holds the patch nearest to one of its own."""

    sample: Array
    training: Array
    sample_index: int
    training_index: int
    correlation: float


@dataclass(frozen=True)
class Copies:
    """What was found: numbers, and the nearest pairs to look at."""

    scores: dict[str, Any]
    pairs: tuple[CopyPair, ...]


def training_volumes(model: Model, count: int, workers: Workers) -> Iterator[Array]:
    """Simulate the first ``count`` volumes that a model was trained on again."""
    simulation = model.config.simulation
    if simulation is None:
        return iter(())
    return workers.map(partial(_training_volume, simulation, model.header.training.seed), range(count))


def _training_volume(simulation: SimulationConfig, seed: int, index: int) -> Array:
    batch = Simulator(simulation).sample(seed, [index], noisy=False)
    return windows_of(batch.clean[0, 0].numpy(), batch.parameters[0].voxel_size_um)[0]


def search_copies(
    model: Model,
    samples: Sequence[Array],
    held_out: Sequence[Array],
    count: int,
    extractor: FeatureExtractor,
    workers: Workers,
) -> Iterator[Copies | None]:
    """Search ``count`` training volumes for each sample: yields None per training volume, the result at the end.

    ``samples`` of the model and ``held_out`` simulated volumes that it never saw are noise-free and of the same
    conditions: only volumes that agree in organisation and density say what a resemblance is worth. ``count`` training
    volumes are searched, from the first; fewer than all may miss the copied one, so the number is in the result. They
    are kept in a temporary file, half precision, 1 MiB each. ``workers`` simulate them; patches are compared on the
    device of the model.
    """
    with tempfile.TemporaryDirectory(prefix="copies-") as folder:
        shape = (count, *samples[0].shape)
        bank = np.lib.format.open_memmap(Path(folder) / "bank.npy", mode="w+", dtype=np.float16, shape=shape)
        features = []
        for index, (volume, row) in enumerate(featured(training_volumes(model, count, workers), extractor)):
            bank[index] = volume
            features.append(row)
            yield None
        with exact_math(model.device, "fp32"):
            found = nearest_patches([*samples, *held_out], (np.asarray(v, np.float32) for v in bank), model.device)
        generated = NearestPatches(found.correlation[: len(samples)], found.training_index[: len(samples)])
        unseen = NearestPatches(found.correlation[len(samples) :], found.training_index[len(samples) :])
        scores = {
            "training_volumes_searched": count,
            "training_volumes": model.header.training.num_volumes,
            "samples": len(samples),
            "patch_correlation": _mean(generated.per_volume),
            "patch_correlation_held_out": _mean(unseen.per_volume),
            "excess": _mean(generated.per_volume) - _mean(unseen.per_volume),
            "highest": _highest(generated.correlation),
            "highest_held_out": _highest(unseen.correlation),
        }
        if count >= LEAST_FOR_FEATURES:
            with exact_math(extractor.device, "fp32"):
                turned = [extractor.oriented(volumes, VOXEL_SIZE_UM) for volumes in (samples, held_out)]
            copies = feature_copies(turned[0], np.stack(features), turned[1])
            scores["feature_distance_ratio"] = _mean(copies.ratio)
            scores["feature_near_share"] = copies.near_share
        pairs = _pairs(samples, bank, generated)
        del bank
    yield Copies(scores, pairs)


def _pairs(samples: Sequence[Array], bank: npt.NDArray[np.float16], found: NearestPatches) -> tuple[CopyPair, ...]:
    best = np.where(np.isfinite(found.correlation), found.correlation, -1.0)
    patch = best.argmax(axis=1)
    order = np.argsort(-best.max(axis=1))[:MOST_PAIRS]
    pairs = []
    for index in order.tolist():
        training = int(found.training_index[index, patch[index]])
        if training >= 0:
            pairs.append(
                CopyPair(
                    samples[index], np.array(bank[training], np.float32), index, training, float(best[index].max())
                )
            )
    return tuple(pairs)


def _mean(values: npt.NDArray[np.float64]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _highest(values: npt.NDArray[np.float64]) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.max()) if finite.size else float("nan")
