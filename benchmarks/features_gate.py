"""Release gate of the feature extractor: ``python benchmarks/features_gate.py --second OTHER_SEED.safetensors``.

Stronger degradations must be farther away, above the floor: each is done to two draws, A and B, to A' and B', and its
distance is the mean of A'-B and A-B' less the mean of A-B and A'-B'. Sets that are no samples of anything must be
farther than any model's samples, and an extractor trained from another seed must rank all sets alike. Exit code 0:
passed; 1: not.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from samples import generated_volumes
from scipy.stats import spearmanr
from standard64 import Array, Standard, drawn_conditions, load_standard, record

from napari_vqldm.checkpoint import load_checkpoint
from napari_vqldm.config import SimulationConfig, to_json
from napari_vqldm.errors import VqldmError
from napari_vqldm.files.atomic import atomic_path
from napari_vqldm.metrics import degradations
from napari_vqldm.metrics.features import CURRENT_VERSION, FeatureExtractor, load_extractor
from napari_vqldm.metrics.frechet import frechet_distance, whitened_frechet, whitening
from napari_vqldm.simulate import Simulator
from napari_vqldm.zoo import available, resolve

SPEC_FILE = Path(__file__).parent / "data" / "features_gate.json"
DEFAULT_OUT = Path(__file__).parent / "results" / "features_gate.json"
QUICK_COUNT = {"reference": 24, "other": 12}
COPIES = 10
CHUNK = 8  # volumes per tensor operation

Features = npt.NDArray[np.float32]


@lru_cache(maxsize=2)
def _simulator(config: str) -> Simulator:
    """One per process and distribution: it keeps the transfer functions that it has used."""
    return Simulator(SimulationConfig.model_validate_json(config))


def _simulate(config: str, seed: int, index: int) -> Array:
    torch.set_num_threads(1)
    clean: Array = _simulator(config).sample(seed, [index], noisy=False).clean[0, 0].numpy()
    return clean


def _record(standard: Standard, camera_seed: int, volume: Array) -> Array:
    torch.set_num_threads(1)
    return record(standard, [volume], camera_seed)[0]


@dataclass(frozen=True)
class Gate:
    """What the gate compares: sizes, seeds, strengths, the camera, and the extractors that look at it.

    Volumes are simulated and recorded by the processes of ``pool``.
    """

    spec: dict[str, Any]
    standard: Standard
    extractors: list[FeatureExtractor]
    pool: Pool

    def features(self, recorded: Sequence[Array]) -> list[Features]:
        """Features of one set, per extractor."""
        return [extractor(recorded, self.standard.voxel_size_um) for extractor in self.extractors]

    def clean(self, part: str, count: int, **changes: Any) -> list[Array]:
        """Simulate ``count`` noise-free volumes of the tier; ``changes`` replace keys of its configuration."""
        config = to_json(self.standard.simulation.model_copy(update=changes))
        seed = self.spec["seeds"][part]
        return self.pool.starmap(_simulate, [(config, seed, i) for i in range(count)])

    def recorded(self, clean: Sequence[Array], photons_factor: float = 1.0) -> list[Array]:
        """Record with the fixed camera of the benchmark, or one with fewer photons."""
        camera = self.standard.camera
        dimmed = camera.model_copy(update={"photons": camera.photons * photons_factor})
        standard = Standard(self.standard.spec, self.standard.simulation, dimmed)
        first = self.spec["camera_seed"]
        return self.pool.starmap(_record, [(standard, first + i, v) for i, v in enumerate(clean)])


def changed(gate: Gate, part: str, name: str, strength: float, clean: Sequence[Array]) -> list[Array]:
    """Recorded volumes of a part's set ``clean`` with one degradation; scene changes keep the draws of the part."""
    config, count, size = gate.standard.simulation, len(clean), gate.standard.voxel_size_um

    def scaled(low_high: tuple[float, float]) -> tuple[float, float]:
        return low_high[0] * strength, low_high[1] * strength

    if name in ("higher_density", "lower_density"):
        density = scaled(config.length_density_um_per_um3)
        return gate.recorded(gate.clean(part, count, length_density_um_per_um3=density))
    if name == "shorter_lp":
        return gate.recorded(gate.clean(part, count, persistence_length_um=scaled(config.persistence_length_um)))
    if name == "wider_psf":
        return gate.recorded(gate.clean(part, count, psf_width_factor=scaled(config.psf_width_factor)))
    if name == "fewer_photons":
        return gate.recorded(clean, strength)
    if name == "gain":
        return [volume * np.float32(strength) for volume in gate.recorded(clean)]
    parts = []
    generator = torch.Generator().manual_seed(gate.spec["camera_seed"] + 1)
    for first in range(0, count, CHUNK):
        batch = torch.from_numpy(np.stack(clean[first : first + CHUNK]))[:, None]
        if name == "blur_um":
            batch = degradations.blur(batch, strength, size)
        elif name == "phase_scramble":
            batch = degradations.phase_scramble(batch, strength, generator)
        else:
            batch = degradations.add_haze(batch, strength, generator, size)
        parts += [volume[0].numpy() for volume in batch]
    return gate.recorded(parts)


def collapsed(gate: Gate, clean: Sequence[Array]) -> dict[str, list[Array]]:
    """Sets that are worse than any model: blank, noise, scrambled, a tenth of the volumes ten times."""
    recorded = gate.recorded(clean)
    generator = torch.Generator().manual_seed(gate.spec["camera_seed"] + 2)
    batches = [
        torch.from_numpy(np.stack(recorded[first : first + CHUNK]))[:, None] for first in range(0, len(recorded), CHUNK)
    ]
    return {
        "blank": [v[0].numpy() for b in batches for v in degradations.blank(b)],
        "noise_only": [v[0].numpy() for b in batches for v in degradations.noise_only(b, generator)],
        "phase_scrambled": changed(gate, "other", "phase_scramble", 1.0, clean),
    }


def model_samples(gate: Gate, names: Sequence[str], folder: Path | None, device: str, count: int) -> dict[str, Any]:
    """Recorded samples of models: latents kept by ``bundled.py --keep-samples``, or sampled now."""
    part = gate.standard.spec["generated"]
    sets = {}
    for name in names:
        model = load_checkpoint(resolve(name), device)
        if model.denoiser is None:
            continue
        # A file of kept latents holds all of them: its conditions are compared as a whole.
        size = part["count"] if folder else min(count, part["count"])
        conditions = drawn_conditions(gate.standard, model, part["condition_seed"], size)
        kept = folder / f"{model.name}-generated.safetensors" if folder else None
        volumes = generated_volumes(model, part["seed"], conditions, 1 if device == "cpu" else 16, "fp32", kept)
        sets[f"model {model.name}"] = gate.recorded([v for v, _ in zip(volumes, range(min(count, size)), strict=False)])
    return sets


def judge(
    rows: dict[str, list[Features]],
    mirrored: dict[str, list[Features]],
    strengths: dict[str, list[float]],
    references: list[Features],
    spearman: float,
) -> dict[str, Any]:
    """Distances of all sets and the verdicts on them.

    ``rows``: features per set and extractor; sets of one degradation are called ``name strength``, an unchanged draw
    ``none``, models ``model NAME``. ``mirrored``: the same degradations of as many volumes of the reference. The bias
    grows as sets shrink: sets of different kinds are compared at the size of the smallest one, strengths of one
    degradation with all their volumes.

    Why four distances: a change that moves the mean by d is |r + d|^2 away where two draws are r apart by chance, and
    |r - d|^2 where the other draw is changed. The mean of both is r^2 + d^2 whatever r is; r^2 is what changed and
    unchanged draws are apart from their like, by a chance that is smaller where a change leaves less to vary.
    """
    size = min(len(features[0]) for features in rows.values())
    distance = {
        name: [_distance(own[:size], reference) for own, reference in zip(features, references, strict=True)]
        for name, features in rows.items()
    }
    monotone = {}
    first, second = rows["none"][0], mirrored["none"][0]
    floor = _distance(first, second, references[0])
    for name, values in strengths.items():
        series = [0.0]
        for key in (f"{name} {v:g}" for v in values):
            one, other = rows[key][0], mirrored[key][0]
            across = _distance(one, second, references[0]) + _distance(other, first, references[0])
            series.append((across - floor - _distance(one, other, references[0])) / 2)
        monotone[name] = {
            "excess": [round(v, 3) for v in series],
            "passed": all(a < b for a, b in pairwise(series)),
        }
    models = {name: values[0] for name, values in distance.items() if name.startswith("model ")}
    worst_model = max(models.values(), default=distance["none"][0])
    worse = {
        name: {"distance": round(distance[name][0], 3), "passed": distance[name][0] > worst_model}
        for name in ("blank", "noise_only", "phase_scrambled", "duplicated")
    }
    verdicts = {
        "monotone": all(m["passed"] for m in monotone.values()),
        "collapsed_sets_worse_than_models": bool(models) and all(w["passed"] for w in worse.values()),
    }
    result: dict[str, Any] = {
        "compared_size": size,
        "distances": {name: [round(v, 4) for v in values] for name, values in distance.items()},
        "monotone": monotone,
        "collapsed": worse,
        "models": {name: round(value, 3) for name, value in models.items()},
    }
    if len(references) > 1:
        ours, others = np.array(list(distance.values())).T[:2]
        result["spearman_of_seeds"] = round(float(spearmanr(ours, others).statistic), 4)
        verdicts["seeds_rank_alike"] = result["spearman_of_seeds"] >= spearman
    result["verdicts"] = verdicts
    # Both are part of the gate: a run without models or without a second seed decides nothing.
    result["complete"] = bool(models) and len(references) > 1
    result["passed"] = result["complete"] and all(verdicts.values())
    return result


def _distance(features: Features, reference: Features, unit: Features | None = None) -> float:
    white = whitening(reference if unit is None else unit)
    a, b = white(features), white(reference)
    return frechet_distance(a.mean(0), np.cov(a.T), b.mean(0), np.cov(b.T))


def run_gate(gate: Gate, names: Sequence[str], folder: Path | None, device: str) -> dict[str, Any]:
    """Make all sets, look at them with every extractor, and judge."""
    start = time.perf_counter()
    count = gate.spec["count"]

    def say(text: str) -> None:
        print(f"[{time.perf_counter() - start:6.0f} s] {text}", file=sys.stderr, flush=True)

    reference_clean = gate.clean("reference", count["reference"])
    references = gate.features(gate.recorded(reference_clean))
    say("reference")
    clean = gate.clean("other", count["other"])
    rows = {"none": gate.features(gate.recorded(clean))}
    only_first = replace(gate, extractors=gate.extractors[:1])  # the second one ranks, without the mirrored sets
    mirror_clean = reference_clean[: len(clean)]
    mirrored = {"none": [f[: len(clean)] for f in references]}
    rows["duplicated"] = [
        degradations.duplicate(torch.from_numpy(f), min(COPIES, len(f))).numpy() for f in rows["none"]
    ]
    for name, values in gate.spec["strengths"].items():
        for value in values:
            key = f"{name} {value:g}"
            rows[key] = gate.features(changed(gate, "other", name, value, clean))
            mirrored[key] = only_first.features(changed(gate, "reference", name, value, mirror_clean))
        say(name)
    for name, volumes in (
        *collapsed(gate, clean).items(),
        *model_samples(gate, names, folder, device, count["other"]).items(),
    ):
        rows[name] = gate.features(volumes)
        say(name)
    result = judge(rows, mirrored, gate.spec["strengths"], references, gate.spec["spearman"])
    score = whitened_frechet(rows["none"][0], references[0])  # below 500 rows outside of what its floor is stated for
    result["unchanged"] = {"distance": round(score.distance, 3), "floor": round(score.floor, 3)}
    result["extractors"] = [{"version": e.version, "sha256": e.sha256} for e in gate.extractors]
    result["count"] = count
    result["device"] = device
    result["seconds"] = round(time.perf_counter() - start)
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the gate; 0 passed, 1 failed or incomplete, 2 a wrong request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="bundled names or checkpoints; default: all bundled")
    parser.add_argument("--weights", type=Path, help=f"extractor on trial; default: the released {CURRENT_VERSION}")
    parser.add_argument("--second", type=Path, help="extractor of another seed, which must rank alike")
    parser.add_argument("--samples", type=Path, metavar="DIR", help="latents kept by bundled.py --keep-samples")
    parser.add_argument("--count", type=int, help="volumes per set; the reference gets twice as many")
    parser.add_argument("--quick", action="store_true", help="tiny sets: shows that everything runs, proves nothing")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, default=2, help="processes that simulate and record")
    parser.add_argument("--out", type=Path, help=f"default {DEFAULT_OUT}, with --quick none")
    options = parser.parse_args(arguments)
    spec = json.loads(SPEC_FILE.read_text(encoding="utf-8"))
    if options.quick:
        spec["count"] = QUICK_COUNT
    if options.count:
        spec["count"] = {"reference": 2 * options.count, "other": options.count}
    try:
        extractors = [load_extractor(device=options.device, weights=options.weights)]
        if options.second:
            extractors.append(load_extractor(device=options.device, weights=options.second))
        with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
            gate = Gate(spec, load_standard(), extractors, pool)
            result = run_gate(gate, options.models or list(available()), options.samples, options.device)
    except VqldmError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    text = json.dumps(result, indent=1) + "\n"
    out = options.out or (None if options.quick else DEFAULT_OUT)
    if out is not None:
        with atomic_path(out, force=True) as temporary:
            temporary.write_text(text, encoding="utf-8")
    print(text)
    return 0 if result["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
