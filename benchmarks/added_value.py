"""What a generative model adds over sampling the simulator: ``python benchmarks/added_value.py [--quick]``.

The simulator answers "what could a stack look like"; a trained model also answers for the stack that is given. Measured
are restoration (each tier of MT-Sim v1), latents (size and what is left after the way through them), regeneration
(a latent is noised up to a strength and denoised again, as in SDEdit, Meng et al. 2022, arXiv:2108.01073) and
adaptation (stage 1 trained on for minutes on another microscope). Writes results/added_value.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_vqldm.checkpoint import Model, load_checkpoint
from napari_vqldm.coding import exact_math
from napari_vqldm.diffusion.process import FlowProcess
from napari_vqldm.errors import VqldmError
from napari_vqldm.files import atomic_path
from napari_vqldm.generate import denoiser_of, draw_start
from napari_vqldm.intensity import IntensityScale
from napari_vqldm.metrics.agreement import centre_line_agreement
from napari_vqldm.metrics.fidelity import bootstrap_interval
from napari_vqldm.metrics.filaments import trace_filaments
from napari_vqldm.reconstruct import encode
from napari_vqldm.report import fidelity
from napari_vqldm.report.parallel import Workers
from napari_vqldm.report.samples import askable
from napari_vqldm.sampling import initial_noise
from napari_vqldm.simulate.mt_sim import TIERS, BenchmarkVolume, Split, mt_sim_split, mt_sim_volumes
from napari_vqldm.training.config import TrainConfig, load_train_config
from napari_vqldm.training.run import run_training
from napari_vqldm.volume import Float3, Volume
from napari_vqldm.zoo import available, resolve

OUT = Path(__file__).parent / "results" / "added_value.json"
STRENGTHS = (0.3, 0.5, 0.7, 0.85, 0.95, 1.0)  # time up to which a latent is noised; 1: nothing is left of it
DRAWS = 2
SEED = 640_500
UNIT = IntensityScale(0.0, 1.0)  # simulated volumes are in filament units
PARTS = ("restoration", "latents", "regeneration", "adaptation")
RESTORED = ("psnr_clean_unit_range_db", "foreground_psnr_unit_range_db", "ssim3d_unit_range", "centre_line_f1")


def mean(values: Sequence[float]) -> dict[str, float]:
    """Mean with its 95 % bootstrap interval."""
    found = bootstrap_interval(np.asarray(values, np.float64))
    return {"value": found.value, "low": found.low, "high": found.high}


def restoration(model: Model, volumes: Sequence[BenchmarkVolume], split: Split, workers: Workers) -> dict[str, Any]:
    """What comes out of noisy volumes, beside the input and a Gaussian filter."""
    table: dict[str, Any] = {}
    for found in fidelity.fidelity_scores(model, volumes, split, workers):
        table = found or table
    rows = table["rows"]
    return {name: {key: rows[name][key] for key in RESTORED} for name in ("model", "noisy", "gaussian")}


def latents(model: Model, volumes: Sequence[BenchmarkVolume], split: Split) -> dict[str, Any]:
    """Bytes of a 16-bit stack and of its latent file."""
    sizes = []
    with tempfile.TemporaryDirectory() as folder:
        for number, truth in enumerate(volumes):
            latent = encode(model, Volume(truth.noisy, split.voxel_size_um), intensity=UNIT)
            sizes.append(latent.save(Path(folder) / f"{number}.safetensors").stat().st_size)
    stack = 2 * volumes[0].noisy.size
    return {"stack_bytes": stack, "latent_bytes": float(np.mean(sizes)), "ratio": stack / float(np.mean(sizes))}


@torch.no_grad()
def regenerated(
    model: Model, truths: Sequence[BenchmarkVolume], strength: float, draw: int, steps: int
) -> Iterator[np.ndarray]:
    """Volumes from the latents of noisy ones, noised to time ``strength`` and walked back along the flow (Euler)."""
    seeds = [SEED + DRAWS * number + draw for number in range(len(truths))]
    wanted = [askable(model, truth.parameters.condition_values())[0] for truth in truths]
    starts = [draw_start(model, seed, 0, asked) for seed, asked in zip(seeds, wanted, strict=True)]
    vectors = [start.conditions.vector for start in starts if start.conditions.vector is not None]
    condition = torch.stack(vectors).to(model.device) if vectors else None
    latent = torch.cat([model.space.encode(torch.from_numpy(t.noisy)[None, None].to(model.device)) for t in truths])
    noise = torch.stack([initial_noise(seed, 0, tuple(latent.shape[1:])) for seed in seeds]).to(model.device)
    process = FlowProcess(model.config.diffusion)  # of both bundled models
    grid = process.shift(torch.linspace(1.0, 0.0, steps + 1, dtype=torch.float64)).tolist()
    times = [strength, *(t for t in grid if t < strength)]

    def alike(t: float) -> torch.Tensor:
        return torch.full((len(truths),), t, device=model.device)

    with exact_math(model.device, "fp32"):
        x = process.noisy(latent, noise, alike(strength))
        for t, following in pairwise(times):
            x = x + (following - t) * denoiser_of(model)(x, alike(t), condition).float()
        for row in x:
            yield model.space.decode(row[None], requantize=model.config.diffusion.requantize)[0, 0].cpu().numpy()


def compared(voxel_size_um: Float3, item: tuple[BenchmarkVolume, list[np.ndarray]]) -> dict[str, list[float]]:
    """F1 of every draw with the truth, of two draws with each other, and length over true length."""
    truth, volumes = item
    true_um = sum(float(np.linalg.norm(np.diff(c, axis=0), axis=1).sum()) for c in truth.centre_lines)
    traces = [trace_filaments(volume, voxel_size_um) for volume in volumes]
    return {
        "kept_f1": [centre_line_agreement(t.filaments, truth.centre_lines).f1 for t in traces],
        "alike_f1": [centre_line_agreement(traces[0].filaments, traces[1].filaments).f1],
        "length_ratio": [float(t.lengths_um.sum()) / true_um for t in traces],
    }


def regeneration(
    model: Model, volumes: Sequence[BenchmarkVolume], split: Split, steps: int, workers: Workers
) -> dict[str, Any]:
    """For every strength: filaments kept (F1 with the truth), alike in two draws (F1 between them), density."""
    result = {}
    for strength in STRENGTHS:
        draws = [regenerated(model, volumes, strength, draw, steps) for draw in range(DRAWS)]
        items = ((truth, list(pair)) for truth, *pair in zip(volumes, *draws, strict=True))
        found: dict[str, list[float]] = {}
        for scores in workers.map(partial(compared, split.voxel_size_um), items):
            for key, numbers in scores.items():
                found.setdefault(key, []).extend(numbers)
        result[f"{strength:g}"] = {key: mean(numbers) for key, numbers in found.items()}
        print(f"  strength {strength:g}: {result[f'{strength:g}']}", file=sys.stderr, flush=True)
    return result


def adapted_config(name: str, device: torch.device, steps: int, volumes: int) -> TrainConfig:
    """Stage 1 of a bundled model, trained on for the microscope of the hard tier with what a laptop has time for."""
    config = load_train_config(name)
    values = config.model_dump()
    values["name"] = f"{name}-adapted"
    values["gate"], values["seed"] = "record", SEED  # of no benchmark
    values["precision"] = config.precision if device.type == "cuda" else "32-true"  # bf16 is slow on most CPUs
    values["latents"] |= {"precision": values["precision"], "augmentations": 1}  # for the scale of the latent alone
    values["model"] |= {"simulation": mt_sim_split("hard", "train").simulation.model_dump()}
    values["model"] = {k: v for k, v in values["model"].items() if v is not None and k not in ("denoiser", "diffusion")}
    values["data"] |= {"num_volumes": volumes, "gain_range": (1.0, 1.0)}
    values["autoencoder"] |= {"steps": steps, "init_from": name, "warmup_steps": max(1, steps // 10), "batch_size": 4}
    # A fifth of the rate at most, and an average over the last tenth: what was learned before is to stay.
    values["autoencoder"] |= {"learning_rate": 2e-4, "ema_decay": 0.97, "kl_warmup_steps": 0}
    return TrainConfig.model_validate(values)


def adaptation(
    name: str,
    device: torch.device,
    volumes: Sequence[BenchmarkVolume],
    split: Split,
    steps: int,
    num_volumes: int,
    workers: Workers,
) -> dict[str, Any]:
    """Restoration of the hard tier by a model that was trained on for it; `restoration` has it as it was before."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        config = adapted_config(name, device, steps, num_volumes)
        run_training(config, folder, stages=["autoencoder", "latents"])
        seconds = time.perf_counter() - start
        model = load_checkpoint(Path(folder) / "autoencoder.safetensors", device)
        rows = restoration(model, volumes, split, workers)
    return {"steps": steps, "volumes": num_volumes, "seconds": round(seconds), "model": rows["model"]}


def of_model(
    name: str,
    options: argparse.Namespace,
    splits: Mapping[str, Split],
    sets: Mapping[str, Sequence[BenchmarkVolume]],
    workers: Workers,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Measure the parts that are asked for of one bundled model."""
    model = load_checkpoint(resolve(name), options.device)
    if "restoration" in options.parts:
        yield "restoration", {t: restoration(model, sets[t], splits[t], workers) for t in TIERS}
    if "latents" in options.parts:
        yield "latents", latents(model, sets["standard"], splits["standard"])
    if "regeneration" in options.parts:
        steps = 2 if options.quick else model.config.diffusion.steps
        chosen = sets["standard"][: options.regenerated]
        found = regeneration(model, chosen, splits["standard"], steps, workers)
        yield "regeneration", {"count": len(chosen)} | found
    if "adaptation" in options.parts:
        steps, bank = (2, 16) if options.quick else (options.adapt_steps, options.adapt_volumes)
        yield (
            "adaptation",
            adaptation(name, model.device, sets["hard"], splits["hard"], steps, bank, workers),
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write; 0 when done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="bundled names; default: all")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what is measured; default: all")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--count", type=int, default=32, help="volumes that are restored, of each tier")
    parser.add_argument("--regenerated", type=int, default=16, help="volumes that are regenerated")
    parser.add_argument("--adapt-steps", type=int, default=400, help="of stage 1")
    parser.add_argument("--adapt-volumes", type=int, default=200, help="simulated volumes that stage 1 is trained on")
    parser.add_argument("--workers", type=int, default=1, help="processes that trace and compare")
    parser.add_argument("--quick", action="store_true", help="shows that everything runs, proves nothing")
    parser.add_argument("--out", type=Path, default=None, help=f"default {OUT}, with --quick none; other parts stay")
    options = parser.parse_args(arguments)
    if options.quick:
        options.count, options.regenerated = 2, 1
    out = options.out or (None if options.quick else OUT)
    result: dict[str, Any] = {"models": {}}
    if out is not None and out.is_file():
        result = json.loads(out.read_text(encoding="utf-8"))
    try:
        splits = {tier: mt_sim_split(tier, "test") for tier in TIERS}
        sets = {tier: list(mt_sim_volumes(split, range(options.count))) for tier, split in splits.items()}
        with Workers(options.workers) as workers:
            for name in options.models or available():
                for part, found in of_model(name, options, splits, sets, workers):
                    found = {"device": options.device, "count": options.count} | found
                    print(f"{name} {part} {json.dumps(found)}", file=sys.stderr, flush=True)
                    result["models"].setdefault(name, {})[part] = found
                    if out is not None:  # after every part: a run may be cut short
                        with atomic_path(out, force=True) as temporary:
                            temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    except VqldmError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
