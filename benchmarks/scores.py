"""The numbers of the benchmark, as pure functions of volumes; every gate is one `gate` call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats
from standard64 import Array, SimulatedSet, Standard

from napari_vqldm.metrics.distribution import (
    Spectrum,
    diversity,
    intensity_wasserstein,
    lateral_spectrum,
    spectrum_distance_db,
)
from napari_vqldm.metrics.fidelity import (
    blank_baseline,
    bootstrap_interval,
    choose_gaussian_sigma,
    gaussian_baseline,
    pearson,
    pooled_baseline,
    psnr_unit_range,
)
from napari_vqldm.metrics.filaments import (
    FilamentTrace,
    length_weighted_median_um,
    median_length_um,
    trace_filaments,
)
from napari_vqldm.metrics.memorization import NearestPatches

Scores = dict[str, Any]


def gate(value: float, rule: str, limit: float) -> Scores:
    """One pass or fail: ``rule`` is ">=" or "<=". A number that is not finite fails."""
    passed = bool(np.isfinite(value)) and (value >= limit if rule == ">=" else value <= limit)
    return {"value": float(value), "rule": rule, "limit": float(limit), "passed": passed}


def interval(values: Sequence[float], statistic: Callable[[npt.NDArray[np.float64]], float] | None = None) -> Scores:
    """Value with its 95 % bootstrap interval over volumes."""
    found = bootstrap_interval(values, statistic) if statistic else bootstrap_interval(values)
    return {"value": found.value, "low": found.low, "high": found.high}


# --- fidelity ---------------------------------------------------------------------------------------------------------


def fidelity_rows(rows: dict[str, Sequence[Array]], clean: Sequence[Array]) -> Scores:
    """PSNR over the p0.1-p99.9 range of the clean volume, dB, and Pearson correlation to it, per row."""
    return {
        name: {
            "psnr_unit_range_db": interval([psnr_unit_range(v, c) for v, c in zip(volumes, clean, strict=True)]),
            "pearson": interval([pearson(v, c) for v, c in zip(volumes, clean, strict=True)]),
        }
        for name, volumes in rows.items()
    }


def baseline_rows(reference: SimulatedSet, tuning: SimulatedSet) -> tuple[dict[str, Sequence[Array]], list[float]]:
    """Volumes of the rows blank, noisy, Gaussian and pooled, and the chosen sigma (voxels)."""
    sigma = choose_gaussian_sigma(tuning.noisy, tuning.clean)
    rows: dict[str, Sequence[Array]] = {
        "blank": [blank_baseline(c) for c in reference.clean],
        "noisy": reference.noisy,
        "gaussian": [gaussian_baseline(n, sigma) for n in reference.noisy],
        "pooled": [pooled_baseline(c) for c in reference.clean],
    }
    return rows, list(sigma)


# --- sets under one camera --------------------------------------------------------------------------------------------


def trace_all(standard: Standard, volumes: Sequence[Array]) -> list[FilamentTrace]:
    """Trace every volume with the calibrated constants."""
    return [trace_filaments(v, standard.voxel_size_um) for v in volumes]


def trace_scores(lengths_um: Sequence[npt.NDArray[np.float64]], volume_um3: float) -> Scores:
    """Length density, median and length-weighted median of filaments of a set; filaments are pooled over volumes."""

    def pooled(function: Callable[[npt.NDArray[np.float64]], float]) -> Scores:
        def of_volumes(numbers: npt.NDArray[np.float64]) -> float:
            return function(np.concatenate([lengths_um[int(i)] for i in numbers]))

        return interval([float(i) for i in range(len(lengths_um))], of_volumes)

    return {
        "length_density_um_per_um3": interval([float(x.sum()) / volume_um3 for x in lengths_um]),
        "median_length_um": pooled(median_length_um),
        "length_weighted_median_um": pooled(length_weighted_median_um),
        "filaments_per_volume": float(np.mean([len(x) for x in lengths_um])),
    }


def set_scores(
    standard: Standard,
    volumes: Sequence[Array],
    reference: Sequence[Array],
    traces: Sequence[FilamentTrace],
    reference_spectrum: Spectrum,
) -> Scores:
    """One set against the reference set, both recorded by the same camera."""
    return {
        **trace_scores([t.lengths_um for t in traces], traces[0].volume_um3),
        "spectrum_distance_db": spectrum_distance_db(
            lateral_spectrum(volumes, standard.voxel_size_um), reference_spectrum
        ),
        "intensity_w1_per_sd": intensity_wasserstein(volumes, reference),
        "diversity": diversity(volumes),
    }


def tracer_scores(reference: SimulatedSet, traces: Sequence[FilamentTrace]) -> Scores:
    """What the tracer finds against the exact truth of the reference set."""
    true = np.array([p.length_density_um_per_um3 for p in reference.parameters])
    traced = np.array([t.length_density_um_per_um3 for t in traces])
    kinds = [p.organisation for p in reference.parameters]
    return {
        "length_bias": float(traced.sum() / true.sum() - 1.0),
        "length_bias_by_organisation": {
            kind: float(np.mean([r for r, k in zip(traced / true, kinds, strict=True) if k == kind]) - 1.0)
            for kind in sorted(set(kinds))
        },
        "spearman_true_traced": _spearman(true, traced),
        "truth": trace_scores([x[x >= 0.5] for x in reference.true_lengths_um], traces[0].volume_um3),
    }


# --- memorization, control --------------------------------------------------------------------------------------------


def memorization_scores(found: NearestPatches, num_generated: int) -> Scores:
    """Generated volumes come first, held-out simulated ones after them; NaN rows (no structure) are left out."""

    def part(rows: slice) -> Scores:
        volumes = NearestPatches(found.correlation[rows], found.training_index[rows]).per_volume
        if not volumes.size:
            return {"mean": float("nan"), "low": float("nan"), "high": float("nan"), "max": float("nan")}
        scores = interval(volumes.tolist())
        highest = float(np.nanmax(found.correlation[rows]))
        return {"mean": scores["value"], "low": scores["low"], "high": scores["high"], "max": highest}

    scores = {"generated": part(slice(None, num_generated)), "held_out": part(slice(num_generated, None))}
    halves = found.correlation[:num_generated], found.correlation[num_generated:]
    if halves[0].shape == halves[1].shape:  # volume i of both has the same parameters
        pairs = [
            float(np.nanmean(a) - np.nanmean(b))
            for a, b in zip(*halves, strict=True)
            if np.isfinite(a).any() and np.isfinite(b).any()
        ]
        if pairs:
            scores["excess_of_pairs"] = interval(pairs)
    return scores


def control_scores(requested: Sequence[float], traced: Sequence[float]) -> Scores:
    """Requested against traced length density, over volumes and over the mean of each level."""
    levels = sorted(set(requested))
    means = [float(np.mean([t for r, t in zip(requested, traced, strict=True) if r == level])) for level in levels]
    return {
        "levels": levels,
        "traced_mean": means,
        "spearman_volumes": _spearman(requested, traced),
        "spearman_levels": _spearman(levels, means),
    }


def _spearman(a: Sequence[float] | npt.NDArray[np.float64], b: Sequence[float] | npt.NDArray[np.float64]) -> float:
    if len(set(a)) < 2 or len(set(b)) < 2:
        return 0.0
    return float(stats.spearmanr(a, b).statistic)


# --- gates ------------------------------------------------------------------------------------------------------------


def model_gates(spec: Scores, simulated: Scores, model: Scores) -> Scores:
    """Every pass or fail of one model. ``simulated`` and ``model`` are the parts of the result file."""
    limits, gates = spec["gates"], {}

    def psnr_above(name: str, limit: float) -> Scores:
        """The lower of both rows: nobody tells a real stack's intensity scale."""
        baseline = simulated["fidelity"][name]["psnr_unit_range_db"]["value"]
        parts = {
            what: float(model["fidelity"][row]["psnr_unit_range_db"]["value"] - baseline)
            for what, row in (("intensity known", "model"), ("estimated", "model_estimated_intensity"))
        }
        worst = float(np.min(list(parts.values())))  # NaN stays NaN
        return gate(worst, ">=", limit) | {"parts": parts}

    gates["parameters"] = gate(model["parameters"], "<=", limits["max_parameters"])
    gates["file_mib"] = gate(model["file_mib"], "<=", limits["max_file_mib"])
    coarse = [f / g for f, g in zip(model["downsampling_factor"], limits["downsampling_factor"], strict=True)]
    gates["latent_voxel_per_2_4_4"] = gate(min(coarse), ">=", 1.0)
    if model["family"] == "ldm":
        gates["latent_channels"] = gate(model["latent_channels"], "<=", limits["ldm_max_latent_channels"])
        gates["psnr_above_gaussian_db"] = psnr_above("gaussian", limits["ldm_above_gaussian_db"])
    else:
        gates["psnr_above_pooled_db"] = psnr_above("pooled", limits["vq_ldm_above_pooled_db"])
    if "generated" not in model:
        return gates
    generated, reference, second = model["generated"], simulated["reference"], simulated["second"]
    for name, limit in (
        ("length_density_um_per_um3", "density_relative"),
        ("median_length_um", "median_length_relative"),
    ):
        relative = abs(generated[name]["value"] / reference[name]["value"] - 1.0)
        gates[f"{name}_relative_error"] = gate(relative, "<=", limits[limit])
    for name, limit in (("spectrum_distance_db", "spectrum_floors"), ("intensity_w1_per_sd", "wasserstein_floors")):
        gates[f"{name}_floors"] = gate(generated[name] / second[name], "<=", limits[limit])
    gates["diversity_ratio"] = gate(generated["diversity"] / reference["diversity"], ">=", limits["diversity_ratio"])
    if "memorization" in model:
        copies = model["memorization"]
        excess = copies["generated"]["mean"] - copies["held_out"]["mean"]
        gates["memorization_excess"] = gate(excess, "<=", limits["memorization_margin"])
    if "control" in model:
        gates["control_spearman"] = gate(model["control"]["spearman_volumes"], ">=", limits["control_spearman"])
    return gates
