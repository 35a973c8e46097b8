"""All numbers by which the bundled models are judged: ``python benchmarks/bundled.py [MODEL ...]``.

MODEL is a bundled name or a checkpoint file; without one, every bundled model. Results are JSON; ``render.py`` turns
them into docs/bundled.md.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from copies import copies_file, copies_scores, counted, keep_copies, kept_copies
from samples import describe, generated_volumes, keep_latents
from scores import (
    Scores,
    baseline_rows,
    control_scores,
    fidelity_rows,
    model_gates,
    set_scores,
    trace_all,
    tracer_scores,
)
from standard64 import (
    QUICK,
    Array,
    SimulatedSet,
    Standard,
    bank_size,
    drawn_conditions,
    kept_bank,
    load_standard,
    record,
    simulated_set,
)

from napari_vqldm import __version__
from napari_vqldm.checkpoint import Model, load_checkpoint
from napari_vqldm.codebook import codebook_usage
from napari_vqldm.coding import Precision
from napari_vqldm.errors import VqldmError
from napari_vqldm.files.atomic import atomic_path
from napari_vqldm.intensity import IntensityScale
from napari_vqldm.metrics.distribution import lateral_spectrum
from napari_vqldm.pictures import Panel, contact_sheet, max_projection, png_bytes, to_gray
from napari_vqldm.reconstruct import reconstruct
from napari_vqldm.volume import Volume
from napari_vqldm.zoo import available, resolve

DEFAULT_OUT = Path(__file__).parent / "results" / "bundled.json"
DISPLAY_RANGE = (0.0, 1.5)  # filament units, the same for every picture


@dataclass(frozen=True)
class Effort:
    """How and on what one run computes.

    ``queries``: volumes of each set, generated and held-out, that are searched for copies; None: all of them.
    ``precision``: of sampling; reconstructions are always made in fp32.
    ``samples``: folder of latents that were sampled elsewhere, and of the copies found there.
    ``cache``: folder of simulated training volumes.
    """

    device: str
    batch: int
    bank: int | None
    queries: int | None
    quick: bool
    pictures: Path | None
    precision: Precision
    samples: Path | None
    cache: Path | None


class Clock:
    """Seconds per part; says on standard error what runs."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._start = time.perf_counter()

    def lap(self, name: str) -> None:
        """Book the time since the last call under ``name``."""
        now = time.perf_counter()
        self.seconds[name] = round(now - self._start, 2)
        self._start = now
        print(f"  {name}: {self.seconds[name]:.1f} s", file=sys.stderr)


def simulated_scores(standard: Standard, clock: Clock) -> tuple[Scores, SimulatedSet]:
    """Baselines, tracer bias and the floor: what needs no model."""
    reference, second, tuning = (simulated_set(standard, name) for name in ("reference", "second", "sigma"))
    clock.lap("simulate")
    rows, sigma = baseline_rows(reference, tuning)
    scores: Scores = {"gaussian_sigma_voxels": sigma, "fidelity": fidelity_rows(rows, reference.clean)}
    clock.lap("baselines")
    spectrum = lateral_spectrum(reference.recorded, standard.voxel_size_um)
    for name, volumes in (("reference", reference.recorded), ("second", second.recorded)):
        traces = trace_all(standard, volumes)
        scores[name] = set_scores(standard, volumes, reference.recorded, traces, spectrum)
        if name == "reference":
            scores["tracer"] = tracer_scores(reference, traces)
    clock.lap("floor")
    return scores, reference


def reconstructions(
    model: Model, standard: Standard, noisy: Sequence[Array], intensity: IntensityScale | None
) -> list[Array]:
    """Reconstruct with the verb; the intensity scale is given, or estimated from each volume."""
    volumes = (Volume(v, standard.voxel_size_um) for v in noisy)
    return [reconstruct(model, volume, intensity=intensity).data for volume in volumes]


def model_scores(
    model: Model,
    standard: Standard,
    simulated: Scores,
    reference: SimulatedSet,
    effort: Effort,
    clock: Clock,
) -> Scores:
    """Everything about one model."""
    spec, config = standard.spec, model.config
    networks = {"autoencoder": model.space.autoencoder, **({"denoiser": model.denoiser} if model.denoiser else {})}
    scores: Scores = {
        "name": model.name,
        "family": config.family,
        "weights_sha256": model.weights_sha256,
        "preset": model.header.training.preset,
        "training_steps": dict(model.header.training.steps),
        "training_minutes": dict(model.header.training.minutes),
        "training_device": model.header.training.device,
        "parameters": sum(p.numel() for n in networks.values() for p in n.parameters()),
        "file_mib": round(model.path.stat().st_size / 2**20, 3),
        "latent_channels": config.autoencoder.latent_channels,
        "downsampling_factor": list(config.autoencoder.downsampling_factor),
        "sampler": config.diffusion.sampler,
        "steps": config.diffusion.steps,
        "guidance_scale": config.diffusion.guidance_scale,
        "sampling_precision": effort.precision,
    }
    rows = {
        "model": reconstructions(model, standard, reference.noisy, IntensityScale(0.0, 1.0)),
        "model_estimated_intensity": reconstructions(model, standard, reference.noisy, None),
    }
    scores["fidelity"] = fidelity_rows(rows, reference.clean)
    clock.lap(f"{model.name} reconstruct")
    if config.family == "vq-ldm":
        noisy, clean = (
            [Volume(v, standard.voxel_size_um) for v in volumes] for volumes in (reference.noisy, reference.clean)
        )
        scores["codebook_size"] = int(model.space.quantizer.codebook.shape[0])
        scores["code_usage"] = codebook_usage(model, noisy, clean).to_dict()
        clock.lap(f"{model.name} code usage")
    if model.denoiser is not None:
        scores |= sample_scores(model, standard, reference, effort, clock)
    scores["gates"] = model_gates(spec, simulated, scores)
    scores["passed"] = all(g["passed"] for g in scores["gates"].values())
    return scores


def sample_scores(
    model: Model,
    standard: Standard,
    reference: SimulatedSet,
    effort: Effort,
    clock: Clock,
) -> Scores:
    """Samples against simulated volumes, memorization, control of the length density."""
    part, control, scores = standard.spec["generated"], standard.spec["control"], {}
    conditions = drawn_conditions(standard, model, part["condition_seed"], part["count"])
    kept, kept_control = kept_files(effort.samples, model) if effort.samples else (None, None)
    volumes = generated_volumes(model, part["seed"], conditions, effort.batch, effort.precision, kept)
    samples = list(counted(volumes, part["count"], "samples"))
    clock.lap(f"{model.name} generate")
    recorded = record(standard, samples, part["camera_seed"])
    spectrum = lateral_spectrum(reference.recorded, standard.voxel_size_um)
    traces = trace_all(standard, recorded)
    scores["generated"] = set_scores(standard, recorded, reference.recorded, traces, spectrum)
    clock.lap(f"{model.name} compare")
    if effort.pictures is not None:
        write_pictures(effort.pictures, model.name, reference.recorded, recorded, clean=(reference.clean, samples))
    if model.config.simulation is not None:
        count, searched = bank_size(model, effort.bank, effort.quick), samples[: effort.queries]
        known = copies_file(effort.samples, model) if effort.samples else None
        if known is not None and known.is_file():
            wanted = describe(model, part["seed"], conditions, effort.precision)
            scores["memorization"] = kept_copies(known, wanted, len(searched), count)
        else:
            scores["memorization"] = copies_scores(model, standard, searched, count, effort.device, effort.cache)
        clock.lap(f"{model.name} memorization")
    levels, asked = control_conditions(standard, model)
    if asked:
        volumes = generated_volumes(model, control["seed"], asked, effort.batch, effort.precision, kept_control)
        answers = record(standard, list(counted(volumes, len(levels), "control")), control["camera_seed"])
        traced = [t.length_density_um_per_um3 for t in trace_all(standard, answers)]
        scores["control"] = control_scores(levels, traced)
        clock.lap(f"{model.name} control")
    return scores


def control_conditions(standard: Standard, model: Model) -> tuple[list[float], list[dict[str, float | str]]]:
    """Length density asked of each volume of the control test, and all its conditions; none for a model without."""
    control = standard.spec["control"]
    levels = [level for level in control["length_density_um_per_um3"] for _ in range(control["per_level"])]
    drawn = drawn_conditions(standard, model, control["condition_seed"], len(levels))
    if not any("length_density_um_per_um3" in c for c in drawn):
        return levels, []
    return levels, [c | {"length_density_um_per_um3": level} for c, level in zip(drawn, levels, strict=True)]


def kept_files(folder: Path, model: Model) -> tuple[Path, Path]:
    """Files of the samples and of those of the control test in ``folder``."""
    return folder / f"{model.name}-generated.safetensors", folder / f"{model.name}-control.safetensors"


def keep_samples(folder: Path, model: Model, standard: Standard, effort: Effort) -> None:
    """Sample what `sample_scores` wants, search it for copies, and write both to ``folder``."""
    part, control = standard.spec["generated"], standard.spec["control"]
    conditions = drawn_conditions(standard, model, part["condition_seed"], part["count"])
    generated, controlled = kept_files(folder, model)
    keep_latents(generated, model, part["seed"], conditions, effort.batch, effort.precision)
    asked = control_conditions(standard, model)[1]
    if asked:
        keep_latents(controlled, model, control["seed"], asked, effort.batch, effort.precision)
    if model.config.simulation is not None:
        volumes = generated_volumes(model, part["seed"], conditions, effort.batch, effort.precision, generated)
        samples = list(counted(volumes, part["count"], "samples"))[: effort.queries]
        count = bank_size(model, effort.bank, effort.quick)
        scores = copies_scores(model, standard, samples, count, effort.device, effort.cache)
        keep_copies(copies_file(folder, model), scores, describe(model, part["seed"], conditions, effort.precision))


def write_pictures(
    folder: Path, name: str, reference: Sequence[Array], samples: Sequence[Array], clean: tuple[Sequence[Array], ...]
) -> None:
    """Contact sheets of the first 16 volumes of each set, maximum along z, one display range for all."""
    folder.mkdir(parents=True, exist_ok=True)
    for suffix, sets in (("camera", (reference, samples)), ("clean", clean)):
        rows = []
        for title, volumes in zip(("Simulated, never trained on", f"Generated by {name}"), sets, strict=True):
            panels = [Panel(to_gray(max_projection(v, 0), DISPLAY_RANGE), str(i)) for i, v in enumerate(volumes[:16])]
            rows += [(title if start == 0 else "", panels[start : start + 8]) for start in range(0, len(panels), 8)]
        (folder / f"{name}-{suffix}.png").write_bytes(png_bytes(contact_sheet(rows)))


def environment(device: str) -> dict[str, Any]:
    """What ran where."""
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.machine()
    packages = ("torch", "monai", "numpy", "scipy", "scikit-image")
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device,
        "device_name": name,
        "threads": torch.get_num_threads(),
        "package": __version__,
        "python": platform.python_version(),
        "versions": {package: metadata.version(package) for package in packages},
    }


def summary(result: dict[str, Any]) -> list[str]:
    """One line per gate."""
    lines = []
    for model in result["models"]:
        for name, g in model["gates"].items():
            verdict = "pass" if g["passed"] else "FAIL"
            parts = "".join(f"; {what} {value:.4g}" for what, value in g.get("parts", {}).items())
            lines.append(f"{model['name']:>8}  {verdict}  {name} {g['value']:.4g} {g['rule']} {g['limit']:.4g}{parts}")
    return lines


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="bundled name or checkpoint file")
    parser.add_argument("--out", type=Path, help=f"result file; default {DEFAULT_OUT}, with --quick none")
    parser.add_argument("--count", type=int, help="volumes per set, default 64")
    parser.add_argument("--generated", type=int, help="samples of each model, default as --count")
    parser.add_argument("--per-level", type=int, help="samples per level of the control test, default 8")
    parser.add_argument("--bank", type=int, help="volumes that the models were trained on, if they do not record it")
    parser.add_argument(
        "--quick-memorization", type=int, metavar="N", help="search N generated and N held-out volumes, not all"
    )
    parser.add_argument("--quick", action="store_true", help="small sets: shows that everything runs, proves nothing")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="write contact sheets")
    parser.add_argument("--keep-samples", type=Path, metavar="DIR", help="sample, search copies, write both, and stop")
    parser.add_argument("--samples", type=Path, metavar="DIR", help="score what --keep-samples wrote there")
    parser.add_argument("--bank-cache", type=Path, metavar="DIR", help="training volumes, kept by a run in RUN/cache")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, help="samples at once; default 1 on the CPU, 16 elsewhere")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of sampling; default fp32")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0 when every gate passes, 1 when one fails, 2 on a wrong request."""
    options, clock = parse(arguments), Clock()
    names = options.models or list(available())
    if not names:
        print("no bundled model in this installation: give a checkpoint file", file=sys.stderr)
        return 2
    batch = options.batch or (1 if options.device == "cpu" else 16)
    try:
        models = [load_checkpoint(resolve(name), options.device) for name in names]
        for model in models:
            if model.denoiser is not None and model.config.simulation is not None:
                count = bank_size(model, options.bank, options.quick)  # refused now, not after half an hour
                if options.bank_cache is not None:
                    kept_bank(model, count, options.bank_cache)
        standard = load_standard(options.count, options.generated, options.per_level, options.quick)
        queries = options.quick_memorization or (QUICK["memorization"] if options.quick else None)
        effort = Effort(
            options.device,
            batch,
            options.bank,
            queries,
            options.quick,
            options.pictures,
            options.precision,
            options.samples,
            options.bank_cache,
        )
        if options.keep_samples is not None:
            for model in models:
                keep_samples(options.keep_samples, model, standard, effort)
            return 0
        simulated, reference = simulated_scores(standard, clock)
        scored = [model_scores(m, standard, simulated, reference, effort, clock) for m in models]
    except VqldmError as error:
        print(error, file=sys.stderr)
        return 2
    result = {
        "format": 1,
        "quick": options.quick,
        "environment": environment(options.device),
        "spec": standard.spec,
        "simulated": simulated,
        "models": scored,
        "seconds": clock.seconds,
    }
    out = options.out or (None if options.quick else DEFAULT_OUT)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(out, True) as temporary:
            temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print("\n".join(summary(result)))
    # A trial run on a handful of volumes is no verdict.
    return 0 if options.quick or all(m["passed"] for m in scored) else 1


if __name__ == "__main__":
    sys.exit(main())
