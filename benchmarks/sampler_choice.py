"""Choose how a model samples: ``python benchmarks/sampler_choice.py MODEL --steps 30 40 --guidance 1 1.5``.

Every combination samples volumes with the conditions of simulated ones; conditions, noise and camera are others than
those of ``bundled.py``, so that nothing is chosen on what is scored there. One row each, beside the simulated volumes
themselves and others of the same tier.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
from samples import generated_volumes
from standard64 import Array, Standard, drawn_conditions, load_standard, record, simulated_twins

from napari_vqldm.checkpoint import Model, load_checkpoint
from napari_vqldm.config import DiffusionConfig
from napari_vqldm.metrics.distribution import intensity_wasserstein
from napari_vqldm.metrics.filaments import length_weighted_median_um, median_length_um, trace_filaments
from napari_vqldm.zoo import resolve

CONDITION_SEED, OTHERS_SEED, NOISE_SEED = 64065001, 64065002, 64065003
CAMERA_SEED = 655_000_000
COLUMNS = "mean intensity | density, um/um3 | median length, um | length-weighted, um | filaments | W1 / sd"


@dataclass(frozen=True)
class Choice:
    """One way to sample."""

    steps: int
    guidance_scale: float
    sampler: str

    def of(self, model: Model) -> Model:
        """Return the model with it as its default."""
        values = model.config.diffusion.model_dump() | {
            "steps": self.steps,
            "guidance_scale": self.guidance_scale,
            "sampler": self.sampler,
        }
        diffusion = DiffusionConfig.model_validate(values)
        config = model.config.model_copy(update={"diffusion": diffusion})
        return replace(model, config=config)

    def __str__(self) -> str:
        return f"{self.sampler}, {self.steps} steps, guidance {self.guidance_scale:g}"


def lengths(volume: Array, voxel_size_um: tuple[float, float, float]) -> tuple[np.ndarray, float]:
    """Lengths of connected filaments, um, and the volume, um3."""
    trace = trace_filaments(volume, voxel_size_um)
    return trace.lengths_um, trace.volume_um3


def row(pool: multiprocessing.pool.Pool, standard: Standard, volumes: list[Array], simulated: list[Array]) -> str:
    """One line of the table."""
    seen = record(standard, volumes, CAMERA_SEED)
    traced = pool.starmap(lengths, [(v, standard.voxel_size_um) for v in seen])
    pooled = np.concatenate([found for found, _ in traced])
    density = np.mean([found.sum() / um3 for found, um3 in traced])
    return (
        f"{np.mean(volumes):.4f} | {density:.3f} | {median_length_um(pooled):.2f} | "
        f"{length_weighted_median_um(pooled):.2f} | {len(pooled) / len(volumes):.0f} | "
        f"{intensity_wasserstein(seen, simulated):.4f}"
    )


def choices(options: argparse.Namespace) -> Iterator[Choice]:
    """Every combination asked for."""
    for sampler, steps, guidance in product(options.sampler, options.steps, options.guidance):
        yield Choice(steps, guidance, sampler)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one row per choice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="bundled name or checkpoint file")
    parser.add_argument("--steps", nargs="+", type=int, default=[40])
    parser.add_argument("--guidance", nargs="+", type=float, default=[1.0])
    parser.add_argument("--sampler", nargs="+", default=["dpmpp_2m_sde"])
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, help="also write the table there")
    options = parser.parse_args(arguments)
    standard = load_standard()
    model = load_checkpoint(resolve(options.model), options.device)
    simulated = simulated_twins(standard, CONDITION_SEED, options.count)
    reference = record(standard, simulated, CAMERA_SEED + 1_000_000)
    conditions = drawn_conditions(standard, model, CONDITION_SEED, options.count)
    lines = []

    def say(name: str, numbers: str) -> None:
        lines.append(f"| {name} | {numbers} |")
        print(lines[-1], flush=True)

    with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
        say(model.name, COLUMNS)
        say("simulated", row(pool, standard, simulated, reference))
        others = simulated_twins(standard, OTHERS_SEED, options.count)
        say("others simulated", row(pool, standard, others, reference))
        for choice in choices(options):
            chosen = choice.of(model)
            volumes = list(generated_volumes(chosen, NOISE_SEED, conditions, options.batch, options.precision))
            say(str(choice), row(pool, standard, volumes, reference))
    if options.out is not None:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
