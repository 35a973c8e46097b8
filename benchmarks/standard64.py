"""The volumes of the benchmark: simulated sets, conditions, the training bank. Seeds: data/standard64.json."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from napari_vqldm.checkpoint import Model
from napari_vqldm.config import CameraConfig, Float3, SimulationConfig, validate
from napari_vqldm.errors import ConfigError
from napari_vqldm.simulate import SampleParameters, Simulator, camera_in_filament_units, render_camera, tier
from napari_vqldm.training.bank import VolumeBank, bank_name

Array = npt.NDArray[np.float32]
SPEC_FILE = Path(__file__).parent / "data" / "standard64.json"
QUICK = {"count": 8, "sigma": 4, "per_level": 1, "bank": 24, "memorization": 8}


@dataclass(frozen=True)
class Standard:
    """The benchmark's parameters, validated."""

    spec: dict[str, Any]
    simulation: SimulationConfig
    camera: CameraConfig

    @property
    def voxel_size_um(self) -> Float3:
        """Voxel size (z, y, x) of every volume."""
        return self.simulation.voxel_size_um


@dataclass(frozen=True)
class SimulatedSet:
    """Simulated volumes: noise-free, as drawn with their own photons, and under the one fixed camera."""

    clean: list[Array]
    noisy: list[Array]
    recorded: list[Array]
    parameters: list[SampleParameters]
    true_lengths_um: list[npt.NDArray[np.float64]]  # pieces of center line inside each volume


def load_standard(
    count: int | None = None, generated: int | None = None, per_level: int | None = None, quick: bool = False
) -> Standard:
    """Read the parameters; the options and ``quick`` make the sets smaller for a trial run."""
    spec = json.loads(SPEC_FILE.read_text(encoding="utf-8"))
    if quick:
        count, per_level = count or QUICK["count"], per_level or QUICK["per_level"]
        spec["sigma"]["count"] = QUICK["sigma"]
    for name in ("reference", "second", "generated"):
        spec[name]["count"] = count or spec[name]["count"]
    spec["generated"]["count"] = generated or spec["generated"]["count"]
    spec["control"]["per_level"] = per_level or spec["control"]["per_level"]
    return Standard(spec, tier(spec["tier"]), validate(CameraConfig, spec["camera"], str(SPEC_FILE)))


def record(standard: Standard, clean: Sequence[Array], camera_seed: int) -> list[Array]:
    """Record noise-free volumes with the fixed camera, back in filament units."""
    recorded = []
    for index, volume in enumerate(clean):
        batch = torch.from_numpy(np.ascontiguousarray(volume))[None, None]
        counts = render_camera(batch, standard.camera, standard.voxel_size_um, [camera_seed + index])
        recorded.append(camera_in_filament_units(counts, standard.camera)[0, 0].numpy())
    return recorded


def simulated_set(standard: Standard, name: str) -> SimulatedSet:
    """Simulate one of the sets of the specification, on the CPU: the same bits everywhere."""
    part = standard.spec[name]
    simulator = Simulator(standard.simulation)
    result = SimulatedSet([], [], [], [], [])
    for index in range(part["count"]):
        batch = simulator.sample(part["seed"], [index])
        result.clean.append(batch.clean[0, 0].numpy())
        if batch.noisy is not None:
            result.noisy.append(batch.noisy[0, 0].numpy())
        result.parameters.append(batch.parameters[0])
        lines = batch.centre_lines[0]
        lengths = [float(np.linalg.norm(np.diff(line, axis=0), axis=1).sum()) for line in lines]
        result.true_lengths_um.append(np.array(lengths, np.float64))
    if "camera_seed" in part:
        result.recorded.extend(record(standard, result.clean, part["camera_seed"]))
    return result


def drawn_conditions(standard: Standard, model: Model, seed: int, count: int) -> list[dict[str, float | str]]:
    """Conditions of ``count`` volumes of the standard tier that are simulated nowhere else.

    Only those that the model knows are kept; a model without conditions gets none.
    """
    condition = model.config.denoiser.condition if model.config.denoiser is not None else None
    if condition is None or model.config.simulation is None:
        return [{} for _ in range(count)]
    known = {*condition.names, "organisation"}
    simulator = Simulator(standard.simulation)
    drawn = (simulator.draw_parameters(seed, index).condition_values() for index in range(count))
    return [{name: value for name, value in values.items() if name in known} for values in drawn]


def simulated_twins(standard: Standard, seed: int, count: int) -> list[Array]:
    """Simulate noise-free volumes of the very parameters that `drawn_conditions` of this seed asks for.

    How much a patch resembles another depends on organisation and density first of all: only volumes that agree in
    them say what a resemblance is worth.
    """
    simulator = Simulator(standard.simulation)
    return [simulator.sample(seed, [index], noisy=False).clean[0, 0].numpy() for index in range(count)]


def bank_size(model: Model, wanted: int | None, quick: bool) -> int:
    """Return how many volumes the model was trained on: all of them are searched for copies, and no others.

    Raises
    ------
    ConfigError
        If ``wanted`` contradicts the checkpoint (fewer are allowed for a trial run), or neither says the number.
    """
    known = model.header.training.num_volumes
    if quick:
        wanted = wanted or min(QUICK["bank"], known or QUICK["bank"])
    if not known and not wanted:
        raise ConfigError(
            f"model {model.name} does not record how many volumes it was trained on: give --bank N, the num_volumes of "
            "its training configuration"
        )
    if known and wanted and (wanted > known or (wanted < known and not quick)):
        raise ConfigError(
            f"model {model.name} was trained on {known} volumes, got --bank {wanted}: leave out --bank, "
            "so that exactly the training volumes are searched"
        )
    return wanted or known


def training_bank(model: Model, count: int, device: str, cache: Path | None = None) -> Iterator[Array]:
    """Simulate the first ``count`` volumes that the model was trained on again: its configuration, its training seed.

    ``cache``: folder in which a training run kept them, in half precision; read there instead. See `bank_size` for
    ``count``.
    """
    if model.config.simulation is None:
        raise ConfigError(
            f"model {model.name} was not trained on simulated volumes: its training set cannot be made again"
        )
    if cache is not None:
        bank = kept_bank(model, count, cache)
        return (bank.volume("train", index).astype(np.float32) for index in range(count))
    return _simulated(model, model.config.simulation, count, device)


def kept_bank(model: Model, count: int, cache: Path) -> VolumeBank:
    """Return the training volumes in the folder ``cache`` of a run.

    Raises
    ------
    ConfigError
        If they are not there, or not all of them.
    """
    if model.config.simulation is None:
        raise ConfigError(f"model {model.name} was not trained on simulated volumes")
    folder = cache / bank_name(model.config.simulation, model.header.training.seed)
    if not folder.is_dir():
        raise ConfigError(f"{cache}: holds no volumes of {model.name}: expected {folder}")
    bank = VolumeBank(folder, count, 0)
    try:
        bank.volume("train", count - 1)
    except (OSError, IndexError):
        raise ConfigError(f"{folder}: holds fewer than {count} training volumes: leave out --bank-cache") from None
    return bank


def _simulated(model: Model, simulation: SimulationConfig, count: int, device: str) -> Iterator[Array]:
    seed, simulator = model.header.training.seed, Simulator(simulation, device)
    for index in range(count):
        yield simulator.sample(seed, [index], noisy=False).clean[0, 0].cpu().numpy()
