"""Measure finished runs of the seed's presets: ``python benchmarks/seed_runs.py RUN [RUN ...] [--sample]``.

With ``--sample`` each run is sampled with DDPM-1000 and DDIM-50 from the same noise. Without, the kept latents are
decoded, with and without nearest codes where there is a codebook, and measured beside simulated volumes of the run's
own distribution that no training saw: a CPU does. `render_seed_runs.py` writes the results into docs/training.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from napari_vqldm.checkpoint import Model, load_checkpoint
from napari_vqldm.coding import decode_latent
from napari_vqldm.generate import draw_start, plan_sampling, sample_starts
from napari_vqldm.metrics.distribution import (
    diversity,
    intensity_wasserstein,
    lateral_spectrum,
    spectrum_distance_db,
)
from napari_vqldm.metrics.filaments import median_length_um, trace_filaments
from napari_vqldm.pictures import png_bytes
from napari_vqldm.simulation import simulate
from napari_vqldm.training.folder import read_json, read_metrics
from napari_vqldm.training.show import volumes_sheet

RESULTS = Path(__file__).parent / "results"
SEED = 4_000_000
REFERENCE_SEEDS = (5_000_000, 6_000_000)  # the reference, and another draw of it
SAMPLINGS = (("ddpm", 1000), ("ddim", 50))
SHOWN = 3
KEPT_POINTS = 60  # of a curve, for the page

Array = np.ndarray
Scores = dict[str, Any]


def sample(run: Path, count: int, device: str, precision: str) -> Path:
    """Sample the latents of both samplers and keep them, with what the checkpoint says of itself, in the run folder."""
    model = load_checkpoint(run / "checkpoint.safetensors", device)
    kept: dict[str, torch.Tensor] = {}
    facts: dict[str, Any] = {
        "preset": model.header.training.preset,
        "steps": model.header.training.steps,
        "minutes": model.header.training.minutes,
        "parameters": model.header.card.parameters,
        "gate": model.header.card.gates["autoencoder"].model_dump(),
        "samples": count,
        "precision": precision,
        "seconds": {},
    }
    for sampler, steps in SAMPLINGS:
        sampling = plan_sampling(model, None, steps, sampler, None, None, precision)  # type: ignore[arg-type]
        starts = [draw_start(model, SEED, index) for index in range(count)]
        began = time.perf_counter()
        latents = torch.empty(0)
        for step in sample_starts(model, starts, sampling):
            latents = step.latent
        name = f"{sampler.upper()}-{steps}"
        kept[name] = latents.float().cpu().contiguous()
        facts["seconds"][name] = round(time.perf_counter() - began, 2)
        print(run.name, name, facts["seconds"][name], "s", flush=True)
    path = run / "samples.safetensors"
    save_file({name: latents.half() for name, latents in kept.items()}, path, {"facts": json.dumps(facts)})
    return path


def decoded(model: Model, latents: torch.Tensor, requantize: bool) -> list[Array]:
    """Decode latents (N, C, d, h, w) one by one."""
    found = []
    for latent in latents.float():
        for step in decode_latent(model.space, latent[None], requantize=requantize):
            if step.result is not None:
                found.append(step.result[0, 0].numpy())
    return found


def measured(volumes: Sequence[Array], reference: Sequence[Array], voxel_size_um: tuple[float, float, float]) -> Scores:
    """Filaments, spectrum, brightness and variety of one set beside the reference."""
    traces = [trace_filaments(volume, voxel_size_um) for volume in volumes]
    volume_um3 = float(np.prod(volumes[0].shape) * np.prod(voxel_size_um))
    lengths = np.concatenate([trace.lengths_um for trace in traces])
    spectra = [lateral_spectrum(list(kind), voxel_size_um) for kind in (volumes, reference)]
    return {
        "length_density_um_per_um3": float(np.mean([trace.lengths_um.sum() for trace in traces])) / volume_um3,
        "median_length_um": float(median_length_um(lengths)) if len(lengths) else None,
        "spectrum_distance_db": spectrum_distance_db(*spectra),
        "intensity_w1": intensity_wasserstein(list(volumes), list(reference)),
        "diversity": diversity(list(volumes)),
        "mean": float(np.mean([volume.mean() for volume in volumes])),
    }


def measure_run(run: Path, device: str) -> tuple[Scores, np.ndarray]:
    """Decode, measure and draw what `sample` kept; needs the autoencoder alone."""
    model = load_checkpoint(run / "autoencoder.safetensors", device)
    simulation = model.config.simulation
    if simulation is None:
        raise SystemExit(f"{run}: expected a model of simulated volumes")
    with safe_open(str(run / "samples.safetensors"), framework="pt") as file:
        facts = json.loads(file.metadata()["facts"])
        kept = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    voxel, count = simulation.voxel_size_um, facts["samples"]
    reference, other = (
        [v.clean.data for v in simulate(count, seed, simulation, noisy=False)] for seed in REFERENCE_SEEDS
    )
    rows: dict[str, Scores] = {"simulated, another draw": measured(other, reference, voxel)}
    sheet = [("simulated", [(f"volume {i}", v) for i, v in enumerate(reference[:SHOWN])])]
    ways = {"": False} if model.config.family == "ldm" else {"": False, ", nearest codes": True}
    for name, latents in kept.items():
        for way, requantize in ways.items():
            volumes = decoded(model, latents, requantize)
            rows[name + way] = measured(volumes, reference, voxel)
            sheet.append((name + way, [(f"sample {i}", v) for i, v in enumerate(volumes[:SHOWN])]))
            print(run.name, name + way, json.dumps(rows[name + way]), flush=True)
    record = read_json(run / "run.json")
    scores = facts | {
        "changes": read_json(run / "changes.json") or [],
        "latent_scale": model.header.latent.scale[0],
        "circumstances": {key: record[-1][key] for key in ("device", "torch", "napari_vqldm")},
        "reconstruction": read_json(run / "results/autoencoder.json")["table"],
        "rows": rows,
        "curves": curves(run / "metrics.jsonl"),
        "watchers": [line for line in read_metrics(run / "metrics.jsonl") if "watcher" in line],
    }
    return scores, volumes_sheet(sheet, voxel, f"{facts['preset']}: simulated, then samples")


def curves(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Every quantity of metrics.jsonl as at most KEPT_POINTS means of neighboring lines."""
    found: dict[str, list[tuple[int, float]]] = {}
    for line in read_metrics(path):
        for name, value in line.items():
            if name not in ("step", "stage", "seconds", "watcher", "message", "value") and isinstance(value, float):
                found.setdefault(f"{line['stage']}/{name}", []).append((line["step"], value))
    shorter = {}
    for name, points in found.items():
        groups = np.array_split(np.asarray(points), min(KEPT_POINTS, len(points)))
        shorter[name] = [(int(group[-1, 0]), float(f"{group[:, 1].mean():.5g}")) for group in groups]
    return shorter


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument(
        "--sample", action="store_true", help="sample and keep the latents in the run folders, on a GPU"
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for NAME.json and NAME.png")
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    options = parser.parse_args(arguments)
    for run in options.runs:
        if options.sample:
            sample(run, options.count, options.device, options.precision)
            continue
        options.out.mkdir(parents=True, exist_ok=True)
        scores, sheet = measure_run(run, options.device)
        (options.out / f"{scores['preset']}.json").write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
        (options.out / f"{scores['preset']}.png").write_bytes(png_bytes(sheet))
    return 0


if __name__ == "__main__":
    sys.exit(main())
