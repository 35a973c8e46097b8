"""How well a model reconstructs simulated volumes, beside the simple filters that it must beat."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from napari_vqldm.checkpoint import Model
from napari_vqldm.errors import ConfigError
from napari_vqldm.intensity import IntensityScale
from napari_vqldm.metrics.agreement import centre_line_agreement, cl_dice
from napari_vqldm.metrics.fidelity import (
    blank_baseline,
    bootstrap_interval,
    choose_gaussian_sigma,
    gaussian_baseline,
    noise_ceiling_unit_range,
    pooled_baseline,
    psnr_unit_range,
)
from napari_vqldm.metrics.filaments import filament_mask, trace_filaments
from napari_vqldm.metrics.foreground import foreground_psnr_unit_range, tube_mask
from napari_vqldm.metrics.frc import cutoff_ratios
from napari_vqldm.metrics.micro_ms3im import micro_ms3im_slice_mean
from napari_vqldm.metrics.ssim import ms_ssim3d_unit_range, ssim3d_unit_range
from napari_vqldm.metrics.uncertainty import Spread, energy_beyond_cutoff, optical_cutoff, voxel_spread
from napari_vqldm.reconstruct import reconstruct
from napari_vqldm.report.parallel import Workers
from napari_vqldm.report.sets import Array
from napari_vqldm.simulate.camera import camera_in_filament_units, render_camera
from napari_vqldm.simulate.mt_sim import BenchmarkVolume, Split, mt_sim_split, mt_sim_volumes
from napari_vqldm.volume import Float3, Volume

ROWS = {
    "model": "reconstruction by the model",
    "noisy": "the input itself",
    "gaussian": "Gaussian filter, width chosen on other volumes",
    "pooled": "the noise-free volume averaged over 2 x 4 x 4 voxels and interpolated back",
    "blank": "a constant",
}
MICRO_MS3IM = "micro_ms3im_slice_mean"
# Infinite by definition, so that nothing is missing: the input compared with itself.
WITH_ITSELF = {"noisy": ("psnr_noisy_unit_range_db", "noise_gap_db")}
NO_MICRO_MS3IM = "MicroMS3IM is left out: the package microssim is not installed (pip install microssim)."
SIGMA_VOLUMES = 4  # volumes of the val split on which the Gaussian filter is chosen
NOISE_DRAWS = 6
RESAMPLES = 2000


def gaussian_sigma(split: Split) -> Float3:
    """Choose the width of the Gaussian filter (z, y, x), voxels, on volumes of the tier's val split."""
    chosen = list(mt_sim_volumes(mt_sim_split(split.tier, "val"), range(SIGMA_VOLUMES)))
    return choose_gaussian_sigma([v.noisy for v in chosen], [v.clean for v in chosen])


def row_volumes(model: Model | None, truth: BenchmarkVolume, voxel_size_um: Float3, sigma: Float3) -> dict[str, Array]:
    """Return one volume per name of ``ROWS``; without a model, of the others."""
    rows: dict[str, Array] = {}
    if model is not None:
        known = IntensityScale(0.0, 1.0)
        rows["model"] = reconstruct(model, Volume(truth.noisy, voxel_size_um), intensity=known).data
    rows["noisy"] = truth.noisy
    rows["gaussian"] = gaussian_baseline(truth.noisy, sigma)
    rows["pooled"] = pooled_baseline(truth.clean)
    rows["blank"] = blank_baseline(truth.clean)
    return rows


def score_row(volume: Array, truth: BenchmarkVolume, voxel_size_um: Float3, traced: bool) -> dict[str, float]:
    """Compare one volume with the truth; ``traced``: also what a tracer finds, half a second more."""
    clean = truth.clean
    ceiling = noise_ceiling_unit_range(volume, truth.noisy, clean)
    cutoffs = cutoff_ratios(volume, truth.noisy, clean, voxel_size_um)
    scores = {
        "psnr_clean_unit_range_db": psnr_unit_range(volume, clean),
        "psnr_noisy_unit_range_db": ceiling.to_input,
        "noise_ceiling_db": ceiling.ceiling,
        "noise_gap_db": ceiling.gap,
        "foreground_psnr_unit_range_db": foreground_psnr_unit_range(volume, clean, truth.centre_lines, voxel_size_um),
        "ssim3d_unit_range": ssim3d_unit_range(volume, clean),
        "ms_ssim3d_unit_range": ms_ssim3d_unit_range(volume, clean),
        "cutoff_ratio_lateral": cutoffs.lateral,
        "cutoff_ratio_axial": cutoffs.axial,
    }
    if traced:
        found = trace_filaments(volume, voxel_size_um).filaments
        scores["centre_line_f1"] = centre_line_agreement(found, truth.centre_lines).f1
        shape = (volume.shape[0], volume.shape[1], volume.shape[2])
        tubes = tube_mask(truth.centre_lines, shape, voxel_size_um)
        scores["cl_dice"] = cl_dice(filament_mask(volume, voxel_size_um), tubes).value
    return scores


def micro_ms3im(volume: Array, truth: BenchmarkVolume) -> dict[str, float]:
    """MicroMS3IM to the truth, about a second; nothing where the package microssim is not installed.

    Background, range and gain are fitted for each volume apart: a table of them is a mean over volumes like any other.
    """
    try:
        return {MICRO_MS3IM: micro_ms3im_slice_mean(volume, truth.clean)}
    except ConfigError:
        return {}


def fidelity_scores(
    model: Model | None, volumes: Sequence[BenchmarkVolume], split: Split, workers: Workers | None = None
) -> Iterator[dict[str, Any] | None]:
    """Score every row on every volume: yields None after each volume and the table of means at the end.

    Each entry of the table is a mean over volumes with its 95 % bootstrap interval. The row ``clean`` holds what a
    tracer finds in the noise-free image itself: nothing can be expected to beat it. A number that was not finite on
    some volumes is the mean over the rest and says over how many, as ``volumes``. With a model the table also holds
    MicroMS3IM, where it is installed, ``scorecard_intervals`` and ``notes``, which name such numbers.
    """
    size, sigma = split.voxel_size_um, gaussian_sigma(split)
    # The model reconstructs here, on its device; the tracing and comparing, most of the work, is anyone's.
    pairs = ((truth, _output(model, truth, size)) for truth in volumes)
    found: dict[str, list[dict[str, float]]] = {}
    for scores in (workers or Workers()).map(partial(_volume_scores, size, sigma), pairs):
        for name, row in scores.items():
            found.setdefault(name, []).append(row)
        yield None
    table: dict[str, Any] = {name: _means(rows, WITH_ITSELF.get(name, ())) for name, rows in found.items()}
    result: dict[str, Any] = {"gaussian_sigma_voxels": list(sigma), "volumes": len(volumes), "rows": table}
    if model is not None:
        result["scorecard_intervals"] = scorecard_intervals(found)
        result["notes"] = missing_notes(table, len(volumes))
        result["notes"] += [] if MICRO_MS3IM in table["model"] else [NO_MICRO_MS3IM]
    yield result


def _output(model: Model | None, truth: BenchmarkVolume, voxel_size_um: Float3) -> Array | None:
    if model is None:
        return None
    return reconstruct(model, Volume(truth.noisy, voxel_size_um), intensity=IntensityScale(0.0, 1.0)).data


def _volume_scores(
    voxel_size_um: Float3, sigma: Float3, pair: tuple[BenchmarkVolume, Array | None]
) -> dict[str, dict[str, float]]:
    """Score every row on one volume, given what the model made of it."""
    truth, output = pair
    rows = ({} if output is None else {"model": output}) | row_volumes(None, truth, voxel_size_um, sigma)
    scores = {}
    for name, volume in rows.items():
        scores[name] = score_row(volume, truth, voxel_size_um, name in ("model", "noisy", "gaussian"))
        if output is not None:  # without a model these are the benchmark's own numbers, whatever is installed
            scores[name] |= micro_ms3im(volume, truth)
    clean = trace_filaments(truth.clean, voxel_size_um).filaments
    scores["clean"] = {"centre_line_f1": centre_line_agreement(clean, truth.centre_lines).f1}
    return scores


def _means(rows: Sequence[dict[str, float]], with_itself: Sequence[str] = ()) -> dict[str, Any]:
    """Mean and interval of every number; ``volumes`` where it is the mean over fewer than all of them."""
    result: dict[str, Any] = {}
    for name in rows[0]:
        values = np.array([row[name] for row in rows], np.float64)
        finite = values[np.isfinite(values)]
        if finite.size:
            found = bootstrap_interval(finite)
            result[name] = {"value": found.value, "low": found.low, "high": found.high}
        else:
            result[name] = {"value": None, "low": None, "high": None}
        if finite.size < values.size and name not in with_itself:
            result[name]["volumes"] = int(finite.size)
    return result


def missing_notes(table: dict[str, Any], volumes: int) -> list[str]:
    """Name the numbers of `fidelity_scores` that could not be measured on all volumes, one sentence per row and count.

    Parameters
    ----------
    table : dict
        Its ``rows``.
    volumes : int
        How many were scored.
    """
    short: dict[tuple[str, int], list[str]] = {}
    for row, numbers in table.items():
        for name, found in numbers.items():
            if "volumes" in found:
                short.setdefault((row, found["volumes"]), []).append(name)
    return [
        f"{row}: {', '.join(names)} not finite on {volumes - count} of {volumes} volumes; "
        + (f"the mean is over the other {count}." if count else "there is no mean.")
        for (row, count), names in short.items()
    ]


def scorecard(table: dict[str, Any]) -> dict[str, float | None]:
    """Return the numbers that `report.standards.RECONSTRUCTION` judges."""
    rows = table["rows"]

    def value(row: str, name: str) -> float:
        found = rows[row][name]["value"]
        return float("nan") if found is None else float(found)

    return {name: number if number == number else None for name, number in _card(value).items()}


def scorecard_intervals(found: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, float | None]]:
    """95 % bootstrap intervals of `scorecard` over volumes; differences and ratios of rows are taken volume by volume.

    Parameters
    ----------
    found : dict
        Per row of the table the scores of every volume, in one order.

    Notes
    -----
    All numbers are means over volumes, for which the bootstrap is right (`bootstrap_interval`): a resample draws the
    model's and the filter's scores of the same volumes, so that volumes that are hard for both do not widen it.
    """
    columns = {
        (row, name): np.array([scores[name] for scores in rows], np.float64)
        for row, rows in found.items()
        for name in rows[0]
    }

    def card(picked: npt.NDArray[np.intp]) -> dict[str, float]:
        def value(row: str, name: str) -> float:
            values = columns[row, name][picked]
            values = values[np.isfinite(values)]
            return float(np.mean(values)) if values.size else float("nan")

        return _card(value)

    count = len(found["model"])
    rng = np.random.default_rng(0)
    draws = [card(rng.integers(0, count, count)) for _ in range(RESAMPLES)]
    intervals: dict[str, dict[str, float | None]] = {}
    for name in draws[0]:
        values = np.array([draw[name] for draw in draws])
        ends = np.quantile(values, (0.025, 0.975)).tolist() if np.isfinite(values).all() else (None, None)
        intervals[name] = {"low": ends[0], "high": ends[1]}
    return intervals


def _card(value: Callable[[str, str], float]) -> dict[str, float]:
    """Compute the judged numbers from means (row, name); NaN where one is missing."""
    f1, best = value("model", "centre_line_f1"), value("clean", "centre_line_f1")
    psnr = "psnr_clean_unit_range_db"
    return {
        "psnr_clean_above_gaussian_db": value("model", psnr) - value("gaussian", psnr),
        "noise_gap_db": abs(value("model", "noise_gap_db")),
        "ssim": value("model", "ssim3d_unit_range"),
        "ms_ssim": value("model", "ms_ssim3d_unit_range"),
        "cutoff_lateral": value("model", "cutoff_ratio_lateral"),
        "cutoff_axial": value("model", "cutoff_ratio_axial"),
        "f1_ratio": f1 / best if best else float("nan"),
    }


def reconstruction_spread(model: Model, truth: BenchmarkVolume, split: Split, draws: int = NOISE_DRAWS) -> Spread:
    """Reconstruct recordings of one volume that differ in their noise alone; their spread is what noise decides."""
    batch = torch.from_numpy(np.ascontiguousarray(truth.clean))[None, None]
    camera = split.camera.model_copy(
        update={"photons": truth.parameters.photons, "background": truth.parameters.background}
    )

    def draw(index: int) -> npt.NDArray[np.float32]:
        counts = render_camera(batch, camera, split.voxel_size_um, [split.camera_seed + 500_000 + index])
        noisy = camera_in_filament_units(counts, camera)[0, 0].numpy()
        return reconstruct(model, Volume(noisy, split.voxel_size_um), intensity=IntensityScale(0.0, 1.0)).data

    return voxel_spread(draw(i) for i in range(draws))


def uncertainty(
    model: Model, truth: BenchmarkVolume, split: Split
) -> tuple[Spread, tuple[Array, Array, Array], dict[str, Any]]:
    """Say what noise alone decides in a reconstruction, and how much of it no microscope could have seen.

    Returns
    -------
    spread : Spread
        Per voxel, over recordings that differ in their noise.
    shown : tuple of ndarray
        Noise-free volume, its recording, the reconstruction.
    scores : dict
        Mean and highest standard deviation; share of energy beyond the optical cut-off of all three.
    """
    spread = reconstruction_spread(model, truth, split)
    known = IntensityScale(0.0, 1.0)
    output = reconstruct(model, Volume(truth.noisy, split.voxel_size_um), intensity=known).data
    optics, factor = split.simulation.optics, truth.parameters.psf_width_factor
    # Of the emission alone: the strict cut-off of a confocal microscope lies beyond what these voxels can show. What
    # excitation adds beyond it is in the truth's own number, which stands beside.
    cutoff = optical_cutoff(optics.numerical_aperture, optics.emission_wavelength_um * factor, optics.immersion_index)
    volumes = {"reconstruction": output, "truth": truth.clean, "input": truth.noisy}
    beyond = {name: energy_beyond_cutoff(v, split.voxel_size_um, cutoff).share for name, v in volumes.items()}
    scores = {
        "noise_draws": spread.num_draws,
        "mean_sd": float(spread.standard_deviation.mean()),
        "highest_sd": float(spread.standard_deviation.max()),
        "share_beyond_optical_cutoff": beyond,
    }
    return spread, (truth.clean, truth.noisy, output), scores
