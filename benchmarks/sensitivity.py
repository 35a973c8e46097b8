"""What every score sees: ``python benchmarks/sensitivity.py`` writes results/sensitivity.json.

Sets that differ from simulated volumes in one thing each are scored against them, as `napari-vqldm evaluate` scores a
model: which numbers tell which difference, and which do not.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_vqldm.config import SimulationConfig
from napari_vqldm.files import atomic_path
from napari_vqldm.metrics.degradations import blur, phase_scramble
from napari_vqldm.metrics.features import load_extractor
from napari_vqldm.report.profile import Profile, profile
from napari_vqldm.report.scores import DISTANCES, distances, floors
from napari_vqldm.report.set_numbers import set_numbers
from napari_vqldm.report.sets import VOXEL_SIZE_UM, Array
from napari_vqldm.simulate.mt_sim import Split, mt_sim_split, mt_sim_volumes, record
from napari_vqldm.volume import Float3

OUT = Path(__file__).parent / "results" / "sensitivity.json"
NUMBERS = ("length_density_um_per_um3", "mean_curvature_per_um", "persistence_length_um", "median_length_um",
           "width_lateral_um", "width_axial_um")  # fmt: skip
AE_BLUR_VOXELS: Float3 = (0.5, 0.7, 0.7)


def times(low_high: tuple[float, float], factor: float) -> tuple[float, float]:
    """Scale a range."""
    return low_high[0] * factor, low_high[1] * factor


@dataclass(frozen=True)
class Change:
    """One difference: of the distribution, of the camera's photons, or of the noise-free volumes."""

    name: str
    split: str = "train"
    simulation: Callable[[SimulationConfig], dict[str, Any]] = lambda c: {}
    photons: float = 1.0
    volume: Callable[[torch.Tensor, int], torch.Tensor] = lambda v, i: v


def ae_blur(volume: torch.Tensor, index: int) -> torch.Tensor:
    """Blur as a weak autoencoder does: along z apart from the plane."""
    lateral = blur(volume, AE_BLUR_VOXELS[1] * VOXEL_SIZE_UM[1], (1e3, VOXEL_SIZE_UM[1], VOXEL_SIZE_UM[2]))
    return blur(lateral, AE_BLUR_VOXELS[0] * VOXEL_SIZE_UM[0], (VOXEL_SIZE_UM[0], 1e3, 1e3))


def scramble(volume: torch.Tensor, index: int) -> torch.Tensor:
    """Keep the spectrum, lose the filaments."""
    return phase_scramble(volume, 1.0, torch.Generator().manual_seed(index))


def denser(factor: float, config: SimulationConfig) -> dict[str, Any]:
    """More filament."""
    return {"length_density_um_per_um3": times(config.length_density_um_per_um3, factor)}


def softer(config: SimulationConfig) -> dict[str, Any]:
    """Half of the persistence length."""
    return {"persistence_length_um": times(config.persistence_length_um, 0.5)}


def wider(config: SimulationConfig) -> dict[str, Any]:
    """A point spread function 15 % wider."""
    return {"psf_width_factor": times(config.psf_width_factor, 1.15)}


CHANGES = (
    Change("none, another seed", "val"),
    Change("none, a third seed"),
    Change("density + 10 %", simulation=partial(denser, 1.1)),
    Change("density + 25 %", simulation=partial(denser, 1.25)),
    Change("persistence length halved", simulation=softer),
    Change("photons halved", photons=0.5),
    Change("blur of a weak autoencoder", volume=ae_blur),
    Change("PSF 15 % wider", simulation=wider),
    Change("phases scrambled", volume=scramble),
)


def volumes_of(change: Change, count: int) -> Iterator[Array]:
    """Recorded volumes of one row."""
    split = mt_sim_split("standard", change.split)
    changed = split.simulation.model_copy(update=change.simulation(split.simulation))
    camera = changed.camera.model_copy(update={"photons": changed.camera.photons * change.photons})
    split = replace(split, simulation=changed.model_copy(update={"camera": camera}))
    for index, volume in enumerate(mt_sim_volumes(split, range(count))):
        clean = change.volume(torch.from_numpy(volume.clean)[None, None], index)[0, 0].numpy()
        one = Split(split.tier, split.name, split.seed, split.count, split.simulation, split.camera_seed + index)
        yield from record([clean], one)


def measured(count: int, number: int) -> list[Profile]:
    """Profiles of one row; -1: the reference."""
    torch.set_num_threads(1)
    change = Change("reference", "test") if number < 0 else CHANGES[number]
    extractor = load_extractor()
    rows = [profile(v, VOXEL_SIZE_UM, extractor) for v in volumes_of(change, count)]
    print(f"{change.name}: done", file=sys.stderr)
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure all rows and write them; 0 when done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=64, help="volumes of each set")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(arguments)
    with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
        found = pool.map(partial(measured, options.count), range(-1, len(CHANGES)), chunksize=1)
    reference, rows = found[0], found[1:]
    floor = floors([*reference, *rows[0]], options.count)
    known = set_numbers(reference)
    table = []
    for change, chosen in zip(CHANGES, rows, strict=True):
        numbers = set_numbers(chosen)
        row: dict[str, Any] = {
            "change": change.name,
            **{n: _finite(distances(chosen, reference)[n]) for n in DISTANCES},
        }
        for name in NUMBERS:
            value, wanted = numbers[name]["value"], known[name]["value"]
            row[f"{name}_relative"] = None if value is None or not wanted else value / wanted - 1.0
        table.append(row)
    result = {"volumes": options.count, "floors": {n: _finite(floor.mean[n]) for n in DISTANCES}, "rows": table}
    with atomic_path(options.out, True) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


if __name__ == "__main__":
    sys.exit(main())
