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
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_vqldm.checkpoint import Model, load_checkpoint
from napari_vqldm.coding import exact_math
from napari_vqldm.errors import VqldmError
from napari_vqldm.files import atomic_path
from napari_vqldm.generate import denoiser_of, draw_start
from napari_vqldm.intensity import IntensityScale
from napari_vqldm.metrics.agreement import centre_line_agreement
from napari_vqldm.metrics.fidelity import bootstrap_interval
from napari_vqldm.metrics.filaments import trace_filaments
from napari_vqldm.reconstruct import encode
from napari_vqldm.report import fidelity
from napari_vqldm.report.samples import askable
from napari_vqldm.sampling import initial_noise
from napari_vqldm.simulate.mt_sim import TIERS, BenchmarkVolume, Split, mt_sim_split, mt_sim_volumes
from napari_vqldm.training.config import TrainConfig, load_train_config
from napari_vqldm.training.run import run_training
from napari_vqldm.volume import Volume
from napari_vqldm.zoo import available, resolve

OUT = Path(__file__).parent / "results" / "added_value.json"
STRENGTHS = (0.3, 0.5, 0.7, 0.85, 0.95, 1.0)  # time up to which a latent is noised; 1: nothing is left of it
DRAWS = 2
SEED = 640_500
UNIT = IntensityScale(0.0, 1.0)  # simulated volumes are in filament units
RESTORED = ("psnr_clean_unit_range_db", "foreground_psnr_unit_range_db", "ssim3d_unit_range", "centre_line_f1")


def mean(values: Sequence[float]) -> dict[str, float]:
    """Mean with its 95 % bootstrap interval."""
    found = bootstrap_interval(np.asarray(values, np.float64))
    return {"value": found.value, "low": found.low, "high": found.high}


def restoration(model: Model, volumes: Sequence[BenchmarkVolume], split: Split) -> dict[str, Any]:
    """What comes out of noisy volumes, beside the input and a Gaussian filter."""
    table: dict[str, Any] = {}
    for found in fidelity.fidelity_scores(model, volumes, split):
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
def regenerated(model: Model, truth: BenchmarkVolume, strength: float, seed: int, steps: int) -> np.ndarray:
    """A volume from the latent of a noisy one, noised to time ``strength`` and walked back along the flow (Euler)."""
    latent = model.space.encode(torch.from_numpy(truth.noisy)[None, None].to(model.device))
    wanted, _ = askable(model, truth.parameters.condition_values())
    vector = draw_start(model, seed, 0, wanted).conditions.vector
    condition = None if vector is None else vector[None].to(model.device)
    grid = model.process.shift(torch.linspace(1.0, 0.0, steps + 1, dtype=torch.float64)).tolist()
    times = [strength, *(t for t in grid if t < strength)]
    noise = initial_noise(seed, 0, tuple(latent.shape[1:]))[None].to(model.device)
    with exact_math(model.device, "fp32"):
        x = model.process.noisy(latent, noise, torch.tensor([strength], device=model.device))
        for t, following in pairwise(times):
            x = x + (following - t) * denoiser_of(model)(x, torch.tensor([t], device=model.device), condition).float()
        return model.space.decode(x, requantize=model.config.diffusion.requantize)[0, 0].cpu().numpy()


def regeneration(model: Model, volumes: Sequence[BenchmarkVolume], split: Split, steps: int) -> dict[str, Any]:
    """For every strength: filaments kept (F1 with the truth), alike in two draws (F1 between them), density."""
    result = {}
    for strength in STRENGTHS:
        kept, alike, density = [], [], []
        for number, truth in enumerate(volumes):
            true_um = sum(float(np.linalg.norm(np.diff(c, axis=0), axis=1).sum()) for c in truth.centre_lines)
            traces = [
                trace_filaments(
                    regenerated(model, truth, strength, SEED + DRAWS * number + draw, steps), split.voxel_size_um
                )
                for draw in range(DRAWS)
            ]
            kept += [centre_line_agreement(t.filaments, truth.centre_lines).f1 for t in traces]
            alike.append(centre_line_agreement(traces[0].filaments, traces[1].filaments).f1)
            density += [float(t.lengths_um.sum()) / true_um for t in traces]
        result[f"{strength:g}"] = {"kept_f1": mean(kept), "alike_f1": mean(alike), "length_ratio": mean(density)}
        print(f"  strength {strength:g}: {result[f'{strength:g}']}", file=sys.stderr, flush=True)
    return result


def adapted_config(name: str, steps: int, volumes: int) -> TrainConfig:
    """Stage 1 of a bundled model, trained on for the microscope of the hard tier."""
    config = load_train_config(name)
    split = mt_sim_split("hard", "train")
    values = config.model_dump()
    values["name"] = f"{name}-adapted"
    values["gate"], values["seed"] = "record", SEED  # of no benchmark
    values["model"] |= {"simulation": split.simulation.model_dump(), "denoiser": None, "diffusion": None}
    values["model"] = {key: value for key, value in values["model"].items() if value is not None}
    values["data"] |= {"num_volumes": volumes, "gain_range": (1.0, 1.0)}
    values["autoencoder"] |= {"steps": steps, "init_from": name, "warmup_steps": max(1, steps // 10)}
    values["autoencoder"] |= {"learning_rate": config.autoencoder.learning_rate / 3, "kl_warmup_steps": 0}
    return TrainConfig.model_validate(values)


def adaptation(
    name: str, device: str, volumes: Sequence[BenchmarkVolume], split: Split, steps: int, num_volumes: int
) -> dict[str, Any]:
    """Restoration of the hard tier by a model as it is, and trained on."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        run_training(adapted_config(name, steps, num_volumes), folder, stages=["autoencoder", "latents"])
        seconds = time.perf_counter() - start
        adapted = restoration(load_checkpoint(Path(folder) / "autoencoder.safetensors", device), volumes, split)
    return {"steps": steps, "volumes": num_volumes, "seconds": round(seconds), "model": adapted["model"]}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write; 0 when done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="bundled names; default: all")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--count", type=int, default=32, help="volumes that are restored, of each tier")
    parser.add_argument("--regenerated", type=int, default=16, help="volumes that are regenerated")
    parser.add_argument("--adapt-steps", type=int, default=600, help="of stage 1; 0: none")
    parser.add_argument("--quick", action="store_true", help="shows that everything runs, proves nothing")
    parser.add_argument("--out", type=Path, default=None, help=f"default {OUT}, with --quick none")
    options = parser.parse_args(arguments)
    if options.quick:
        options.count, options.regenerated, options.adapt_steps = 2, 1, min(options.adapt_steps, 2)
    result: dict[str, Any] = {"device": options.device, "count": options.count, "models": {}}
    try:
        splits = {tier: mt_sim_split(tier, "test") for tier in TIERS}
        sets = {tier: list(mt_sim_volumes(split, range(options.count))) for tier, split in splits.items()}
        for name in options.models or available():
            model = load_checkpoint(resolve(name), options.device)
            print(name, file=sys.stderr, flush=True)
            found: dict[str, Any] = {"restoration": {t: restoration(model, sets[t], splits[t]) for t in TIERS}}
            print(f"  restoration {found}", file=sys.stderr, flush=True)
            found["latents"] = latents(model, sets["standard"], splits["standard"])
            chosen = sets["standard"][: options.regenerated]
            found["regeneration"] = regeneration(
                model, chosen, splits["standard"], 2 if options.quick else model.config.diffusion.steps
            )
            if options.adapt_steps:
                found["adaptation"] = adaptation(
                    name,
                    options.device,
                    sets["hard"],
                    splits["hard"],
                    options.adapt_steps,
                    16 if options.quick else 1000,
                )
            result["models"][name] = found
    except VqldmError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    text = json.dumps(result, indent=1) + "\n"
    out = options.out or (None if options.quick else OUT)
    if out is not None:
        with atomic_path(out, force=True) as temporary:
            temporary.write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
