"""What the frozen tracer gets wrong, against exact truth: ``python benchmarks/tracer_calibration.py [--out JSON]``.

Volumes of the standard tier under one camera are traced; every number of the trace is compared with the same number of
the true centre lines. ``--choose`` first scores other thresholds and smoothings on calibration seeds and prints whether
one is better than the frozen constants. ``--freeze`` writes the bias into the package's ``tracer.json``, which every
report prints; the constants are never written.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scores import interval
from standard64 import Array, Standard, load_standard, record

from napari_vqldm.files.atomic import atomic_path
from napari_vqldm.metrics import tracer_bias
from napari_vqldm.metrics.agreement import centre_line_agreement
from napari_vqldm.metrics.bending import mean_curvature, persistence_length
from napari_vqldm.metrics.filaments import TracerSettings, trace_filaments
from napari_vqldm.metrics.morphology import Morphology, morphology
from napari_vqldm.metrics.morphology_distance import morphology_distance
from napari_vqldm.metrics.skeleton import path_length_um
from napari_vqldm.metrics.width import FilamentWidth, filament_width
from napari_vqldm.simulate import SampleParameters, Simulator

RESULT = Path(__file__).parent / "results" / "tracer.json"
PACKAGED = Path(tracer_bias.__file__).parent / "data" / "tracer.json"
SEED, CAMERA_SEED = 64064011, 651_000_000  # of the volumes on which the bias is measured
CHOICE_SEED, CHOICE_CAMERA_SEED = 64064012, 652_000_000  # of those on which constants are compared
LOW, HIGH, WIDER = (0.15, 0.2, 0.25), (0.35, 0.45, 0.55), (0.8, 1.0, 1.25)  # WIDER: factor of both smoothings
CLEAR_GAIN_F1 = 0.01

Scores = dict[str, Any]
Lines = list[npt.NDArray[np.float64]]


@dataclass(frozen=True)
class Case:
    """One simulated volume: recorded image, exact truth, traced lines and the measurements of both."""

    parameters: SampleParameters
    true_lines: Lines
    traced_lines: Lines
    true: Morphology
    traced: Morphology
    precision: float
    recall: float
    f1: float
    width: FilamentWidth


def simulated(standard: Standard, seed: int, camera_seed: int, index: int) -> tuple[Array, Lines, SampleParameters]:
    """Recorded volume in filament units, true centre lines inside it, parameters."""
    batch = Simulator(standard.simulation).sample(seed, [index], noisy=False)
    (seen,) = record(standard, [batch.clean[0, 0].numpy()], camera_seed + index)
    return seen, batch.centre_lines[0], batch.parameters[0]


def measured(standard: Standard, index: int) -> Case:
    """Trace one volume of the bias set and measure trace and truth."""
    volume, lines, parameters = simulated(standard, SEED, CAMERA_SEED, index)
    size = parameters.voxel_size_um
    extent = tuple(n * s for n, s in zip(volume.shape, size, strict=True))
    traced = list(trace_filaments(volume, size).filaments)
    found = centre_line_agreement(traced, lines)
    return Case(
        parameters,
        lines,
        traced,
        morphology(lines, extent),
        morphology(traced, extent),
        found.precision,
        found.recall,
        found.f1,
        filament_width(volume, traced, size),
    )


# --- bias -------------------------------------------------------------------------------------------------------------


def relative(cases: Sequence[Case]) -> Scores:
    """Traced over true minus 1: sums of lengths, medians of pooled filaments, means over pooled arc, pooled fits."""
    true, traced = ([line for c in cases for line in getattr(c, which)] for which in ("true_lines", "traced_lines"))
    lengths: dict[str, Callable[[Lines], float]] = {
        "length_density": lambda lines: float(sum(path_length_um(x) for x in lines)),
        "median_length": lambda lines: _median_length(lines),
        "mean_curvature": mean_curvature,
        "persistence_length": lambda lines: persistence_length(lines).length_um,
    }
    return {name: measure(traced) / measure(true) - 1.0 for name, measure in lengths.items()}


def _median_length(lines: Lines) -> float:
    """Pieces of truth below the shortest trace are left out: nothing could find them."""
    lengths = np.array([path_length_um(line) for line in lines])
    return float(np.median(lengths[lengths >= TracerSettings().min_length_um]))


def per_volume(cases: Sequence[Case], name: str) -> Scores:
    """Mean of true and traced values of one quantity with intervals, mean and spread of their ratio."""
    pairs = np.array([(getattr(c.true, name), getattr(c.traced, name)) for c in cases], np.float64)
    pairs = pairs[np.isfinite(pairs).all(axis=1)]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = pairs[:, 1] / pairs[:, 0]
    ratio = ratio[np.isfinite(ratio)]
    return {
        "volumes": len(pairs),
        "true": interval(pairs[:, 0].tolist()),
        "traced": interval(pairs[:, 1].tolist()),
        "median_ratio": float(np.median(ratio)),
        "ratio_quartiles": [float(q) for q in np.quantile(ratio, (0.25, 0.75))],
        "correlation": float(np.corrcoef(pairs.T)[0, 1]),
    }


def width_scores(cases: Sequence[Case]) -> Scores:
    """Measured lateral width over that of the optics, where enough stretches were isolated."""
    ratios = [c.width.lateral_um / c.parameters.psf_width_um for c in cases if np.isfinite(c.width.lateral_um)]
    return {
        "volumes": len(ratios),
        "lateral_over_optics": interval(ratios) if ratios else None,
        "lateral_um": interval([c.width.lateral_um for c in cases if np.isfinite(c.width.lateral_um)]),
        "axial_um": interval([c.width.axial_um for c in cases if np.isfinite(c.width.axial_um)]),
    }


def scores(cases: Sequence[Case]) -> Scores:
    """Everything that is reported about the frozen constants."""
    kinds = sorted({c.parameters.organisation for c in cases})
    groups = {kind: [c for c in cases if c.parameters.organisation == kind] for kind in kinds}
    names = ("length_density_um_per_um3", "mean_curvature_per_um", "persistence_length_um", "z_alignment")
    more = ("nematic_order", "junctions_per_um3", "median_branch_length_um", "ends_per_um3", "median_length_um")
    free = groups.get("free", [])
    nominal = [c.traced.persistence_length_um / c.parameters.persistence_length_um for c in free]
    nominal_true = [c.true.persistence_length_um / c.parameters.persistence_length_um for c in free]
    return {
        "relative_bias": relative(cases),
        "relative_bias_by_organisation": {
            kind: relative(group) | {"volumes": len(group)} for kind, group in groups.items()
        },
        "per_volume": {name: per_volume(cases, name) for name in (*names, *more)},
        "persistence_over_parameter_free": {
            "traced_median": _finite_median(nominal),
            "true_lines_median": _finite_median(nominal_true),
            "not_measurable": int(sum(not np.isfinite(x) for x in nominal)),
        },
        "agreement": {name: interval([getattr(c, name) for c in cases]) for name in ("precision", "recall", "f1")},
        "f1_by_organisation": {kind: float(np.mean([c.f1 for c in group])) for kind, group in groups.items()},
        "width": width_scores(cases),
        "distance_traced_to_true": morphology_distance([c.traced for c in cases], [c.true for c in cases]).to_dict(),
        "distance_of_halves_traced": morphology_distance(  # the floor at half the size
            [c.traced for c in cases[::2]], [c.traced for c in cases[1::2]]
        ).to_dict(),
    }


def _finite_median(values: Sequence[float]) -> float | None:
    finite = [v for v in values if np.isfinite(v)]
    return float(np.median(finite)) if finite else None


# --- choice -----------------------------------------------------------------------------------------------------------


def choice(standard: Standard, count: int) -> Scores:
    """Score thresholds and smoothings on the calibration seeds: mean centre-line F1 and bias of the summed length."""
    frozen = TracerSettings()
    volumes = [simulated(standard, CHOICE_SEED, CHOICE_CAMERA_SEED, index) for index in range(count)]
    truth = sum(path_length_um(line) for _, lines, _ in volumes for line in lines)
    rows = []
    for low, high, wider in product(LOW, HIGH, WIDER):
        settings = replace(
            frozen,
            threshold_low=low,
            threshold_high=high,
            smoothing_axial_um=frozen.smoothing_axial_um * wider,
            smoothing_lateral_um=frozen.smoothing_lateral_um * wider,
        )
        f1, length = [], 0.0
        for volume, lines, parameters in volumes:
            trace = trace_filaments(volume, parameters.voxel_size_um, settings)
            f1.append(centre_line_agreement(trace.filaments, lines).f1)
            length += float(trace.lengths_um.sum())
        row = {
            "threshold_low": low,
            "threshold_high": high,
            "smoothing_factor": wider,
            "f1": float(np.mean(f1)),
            "length_bias": length / truth - 1.0,
        }
        rows.append(row)
        print("  " + ", ".join(f"{k} {v:.3f}" for k, v in row.items()), file=sys.stderr, flush=True)
    best = max(rows, key=lambda r: r["f1"])
    now = next(
        r
        for r in rows
        if (r["threshold_low"], r["threshold_high"]) == (frozen.threshold_low, frozen.threshold_high)
        and r["smoothing_factor"] == 1.0
    )
    return {
        "seed": CHOICE_SEED,
        "camera_seed": CHOICE_CAMERA_SEED,
        "volumes": count,
        "rows": rows,
        "best": best,
        "frozen": now,
        "clear_gain": best["f1"] - now["f1"] > CLEAR_GAIN_F1,
    }


# --- command ----------------------------------------------------------------------------------------------------------


def freeze(result: Scores) -> None:
    """Write bias and provenance into the packaged file; its version and constants stay."""
    content = json.loads(PACKAGED.read_text(encoding="utf-8"))
    content["provenance"]["checked_on"] = {k: result[k] for k in ("tier", "camera", "seed", "camera_seed", "volumes")}
    if "choice" in result:
        chosen = result["choice"]
        content["provenance"]["compared_on"] = {
            k: chosen[k] for k in ("seed", "camera_seed", "volumes", "best", "frozen")
        }
    camera = result["camera"]
    content["bias"] = {
        "measured_on": f"{result['volumes']} volumes of tier {result['tier']} under one camera "
        f"({camera['photons']:g} photons, background {camera['background']:g})",
        "overall": result["relative_bias"],
        "by_organisation": result["relative_bias_by_organisation"],
        "centre_line_f1": result["agreement"]["f1"]["value"],
    }
    with atomic_path(PACKAGED, True) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=64, help="volumes")
    parser.add_argument(
        "--choose", type=int, metavar="COUNT", help="also compare constants on COUNT calibration volumes"
    )
    parser.add_argument("--freeze", action="store_true", help="write the bias into the package")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args(arguments)
    standard = load_standard()
    cases = []
    for index in range(options.count):
        cases.append(measured(standard, index))
        if (index + 1) % 8 == 0:
            print(f"  {index + 1}/{options.count} volumes", file=sys.stderr, flush=True)
    result = {
        "format": 1,
        "tracer_version": tracer_bias.VERSION,
        "constants": asdict(TracerSettings()),
        "tier": standard.spec["tier"],
        "camera": standard.spec["camera"],
        "seed": SEED,
        "camera_seed": CAMERA_SEED,
        "volumes": options.count,
        **scores(cases),
    }
    if options.choose:
        result["choice"] = choice(standard, options.choose)
    with atomic_path(options.out, True) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result["relative_bias_by_organisation"] | {"all": result["relative_bias"]}, indent=1))
    if options.freeze:
        freeze(result)
        tracer_bias.tracer_file.cache_clear()
        print("\n".join(tracer_bias.tracer_bias().lines()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
