"""MT-Sim v1: the benchmark's volumes, defined by seeds and made again wherever they are needed.

32 x 128 x 128 voxels of 0.2 x 0.1 x 0.1 um; three tiers, four splits each. The first 64 test volumes of the standard
tier are those on which the bundled models were judged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch

from napari_vqldm.config import CameraConfig, Float3, SimulationConfig
from napari_vqldm.errors import ConfigError
from napari_vqldm.simulate.camera import camera_in_filament_units, render_camera
from napari_vqldm.simulate.filaments import FloatArray
from napari_vqldm.simulate.simulator import SampleParameters, Simulator
from napari_vqldm.simulate.tiers import TIERS, read_data, tier

Array = npt.NDArray[np.float32]
SplitName = Literal["train", "val", "test", "extractor"]
SPLITS: tuple[SplitName, ...] = get_args(SplitName)


@dataclass(frozen=True)
class Split:
    """One split of one tier.

    Attributes
    ----------
    tier, name : str
        Which one.
    seed, count : int
        Volume i is volume i of that seed.
    simulation : SimulationConfig
        What it is drawn from.
    camera_seed : int
        Volume i is recorded by the tier's one camera with the noise of ``camera_seed + i``.
    """

    tier: str
    name: SplitName
    seed: int
    count: int
    simulation: SimulationConfig
    camera_seed: int

    @property
    def camera(self) -> CameraConfig:
        """The one camera under which sets are compared: photons and background are those of no single volume."""
        return self.simulation.camera

    @property
    def voxel_size_um(self) -> Float3:
        """Voxel size (z, y, x) of every volume."""
        return self.simulation.voxel_size_um


@dataclass(frozen=True)
class BenchmarkVolume:
    """One volume in filament units: background 0, peak of one filament 1.

    Attributes
    ----------
    clean : ndarray
        (Z, Y, X), noise-free.
    noisy : ndarray
        Recorded with the photons and the background that were drawn for it: the input of reconstruction.
    recorded : ndarray
        Recorded by the tier's one camera: what sets are compared under.
    centre_lines : list of ndarray
        (n, 3), um (z, y, x) from the corner.
    parameters : SampleParameters
        What it was made from.
    """

    clean: Array
    noisy: Array
    recorded: Array
    centre_lines: list[FloatArray]
    parameters: SampleParameters


def mt_sim_split(tier_name: str = "standard", split: str = "test") -> Split:
    """Return a split of MT-Sim v1.

    Raises
    ------
    ConfigError
        If there is no such tier or split.
    """
    simulation = tier(tier_name)
    for name in SPLITS:
        if name == split:
            data = read_data("mt-sim-v1.json")
            seed = data["seeds"][tier_name][name]
            return Split(tier_name, name, seed, data["splits"][name], simulation, data["camera_seeds"][name])
    raise ConfigError(f"unknown split {split!r}: choose one of {', '.join(SPLITS)}")


def record(clean: Iterable[Array], split: Split) -> Iterator[Array]:
    """Record noise-free volumes (Z, Y, X) with the tier's camera, back in filament units; volume i with noise i."""
    for index, volume in enumerate(clean):
        batch = torch.from_numpy(np.ascontiguousarray(volume, dtype=np.float32))[None, None]
        counts = render_camera(batch, split.camera, split.voxel_size_um, [split.camera_seed + index])
        yield camera_in_filament_units(counts, split.camera)[0, 0].numpy()


def mt_sim_volumes(split: Split, indices: Iterable[int]) -> Iterator[BenchmarkVolume]:
    """Make volumes of a split, one after another, on the CPU.

    Raises
    ------
    ConfigError
        If the split has no such volume.
    """
    simulator = Simulator(split.simulation)
    for index in indices:
        if not 0 <= index < split.count:
            raise ConfigError(f"{split.tier}, {split.name}: expected a volume from 0 to {split.count - 1}, got {index}")
        batch = simulator.sample(split.seed, [index])
        if batch.noisy is None:  # it was asked for
            raise ConfigError(f"{split.tier}: expected a configuration with a camera")
        counts = render_camera(batch.clean, split.camera, split.voxel_size_um, [split.camera_seed + index])
        yield BenchmarkVolume(
            clean=batch.clean[0, 0].numpy(),
            noisy=batch.noisy[0, 0].numpy(),
            recorded=camera_in_filament_units(counts, split.camera)[0, 0].numpy(),
            centre_lines=batch.centre_lines[0],
            parameters=batch.parameters[0],
        )


def fingerprint(volume: BenchmarkVolume) -> dict[str, Any]:
    """Say in a few numbers what a volume is.

    ``sha256`` is over the bytes of the three images. Fourier transforms of another processor may differ in the last bit
    of a number: there the other entries still agree, to about six digits for ``clean``.
    """
    digest = hashlib.sha256()
    for image in (volume.clean, volume.noisy, volume.recorded):
        digest.update(np.ascontiguousarray(image, dtype="<f4").tobytes())
    lengths = [float(np.linalg.norm(np.diff(line, axis=0), axis=1).sum()) for line in volume.centre_lines]
    clean = volume.clean.astype(np.float64)
    return {
        "sha256": digest.hexdigest(),
        "length_um": sum(lengths),
        "clean_mean": float(clean.mean()),
        "clean_sd": float(clean.std()),
        "clean_max": float(clean.max()),
        "recorded_mean": float(volume.recorded.mean(dtype=np.float64)),
    }


__all__ = ["SPLITS", "TIERS", "BenchmarkVolume", "Split", "fingerprint", "mt_sim_split", "mt_sim_volumes", "record"]
