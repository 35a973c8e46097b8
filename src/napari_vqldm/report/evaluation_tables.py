"""The tables of an evaluation: scorecards with limits, distances with floors, filaments, reconstructions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from napari_vqldm.report.fidelity import MICRO_MS3IM, ROWS
from napari_vqldm.report.page import Section, Table
from napari_vqldm.report.standards import GENERATION, RECONSTRUCTION, TOO_NEAR_SDS, Standard

FILAMENTS = (
    ("length_density_um_per_um3", "length density, um/um³"),
    ("median_length_um", "median connected length, um"),
    ("length_weighted_um", "length-weighted median, um"),
    ("mean_curvature_per_um", "mean curvature, 1/um"),
    ("persistence_length_um", "apparent persistence length, um"),
    ("nematic_order", "in-plane order, 0 to 1"),
    ("z_alignment", "out of plane, mean tz²"),
    ("junctions_per_um3", "junctions, 1/um³"),
    ("ends_per_um3", "ends, 1/um³"),
    ("width_lateral_um", "filament width, lateral, um"),
    ("width_axial_um", "filament width, axial, um"),
)
BIAS_OF_REAL = (
    "This bias was measured on simulated volumes of the standard tier: on these stacks it is not known, and dense "
    "bundles, as in spindles, are traced worst."
)
DISTANCES = (
    ("frechet", "Frechet distance, 64 features"),
    ("kid", "kernel distance"),
    ("coverage", "coverage"),
    ("recall", "recall"),
    ("precision", "precision"),
    ("density", "density"),
    ("spectrum_lateral_db", "lateral spectrum, dB"),
    ("spectrum_axial_db", "axial spectrum, dB"),
    ("intensity_w1", "intensity W1 / sd"),
    ("morphology_frechet", "Frechet distance of morphology"),
    ("vendi_ratio", "variety (Vendi) / reference"),
)
FIDELITY = {
    "psnr_clean_unit_range_db": "PSNR to the truth, dB",
    "psnr_noisy_unit_range_db": "PSNR to the input, dB",
    "noise_ceiling_db": "noise ceiling, dB",
    "noise_gap_db": "PSNR to the input minus ceiling, dB",
    "foreground_psnr_unit_range_db": "PSNR in the foreground, dB",
    "ssim3d_unit_range": "SSIM 3D",
    "ms_ssim3d_unit_range": "MS-SSIM 3D",
    MICRO_MS3IM: "MicroMS3IM, mean over planes",
    "cutoff_ratio_lateral": "lateral resolution kept",
    "cutoff_ratio_axial": "axial resolution kept",
    "centre_line_f1": "centre-line F1",
    "cl_dice": "clDice",
}


def scorecard_section(scores: Mapping[str, Any]) -> Section:
    """How clearly every set is told from another draw of the reference."""
    rows = scores["rows"]

    def cell(name: str, number: str) -> str:
        row = rows[name]
        text = with_interval(row["scorecard"][number], row.get("scorecard_intervals", {}).get(number))
        return f"{text}\n{row['verdicts'][number]}" if name == "candidate" else text

    blind: dict[str, list[str]] = {}
    for key, reason in scores.get("no_verdict", {}).items():
        blind.setdefault(reason, []).append(GENERATION[key].title)
    table = Table(
        ("", *rows),
        tuple((standard.title, *(cell(name, key) for name in rows)) for key, standard in GENERATION.items()),
        note=" ".join(f"No verdict: {', '.join(titles)} {reason}." for reason, titles in blind.items()),
    )
    limits = next(iter(GENERATION.values()))  # all of them count in the same unit
    text = (
        "How clearly each set is told from another draw of the reference, in standard deviations of such draws: about "
        '0 is as good as real. Beside the candidate stand another draw of the reference ("another seed": the '
        'simulator itself; "other half": other real stacks) and sets that are wrong on purpose; a '
        "number on which a wrong set looks good says nothing alone. In parentheses the 95 % interval over volumes; "
        f"verdicts go by the value alone: up to {limits.excellent:g} excellent, up to {limits.acceptable:g} "
        f"acceptable, above {limits.poor:g} poor, below {TOO_NEAR_SDS:g} nearer than any other draw. More volumes tell "
        "smaller differences: compare these numbers within one page only."
    )
    noise = scores.get("noise", {}).get("note")
    return Section("Scorecard", text, table=table, missing=(f"Candidate: {noise}",) if noise else ())


def distances_section(scores: Mapping[str, Any]) -> Section:
    """The distances themselves, beside their floor."""
    rows = scores["rows"]
    floor, spread = scores["floors"]["mean"], scores["floors"]["sd"]
    table = Table(
        ("", "floor", *rows),
        tuple(
            (
                title,
                f"{number_text(floor[key])} ± {number_text(spread[key])}",
                *(with_interval(row["distances"][key], row.get("intervals", {}).get(key)) for row in rows.values()),
            )
            for key, title in DISTANCES
        ),
        note="Intervals: 95 %, from subsets of the volumes of both sets, centred on the value. They are meant for "
        "independent volumes: those of repeated volumes are too narrow, those of changed copies too wide.",
    )
    text = "The distances themselves. Coverage, recall and precision are not 1 for equal sets: compare with the floor."
    return Section("Distances to the reference", text, table=table)


def filaments_section(scores: Mapping[str, Any]) -> Section:
    """What the tracer finds in every set."""
    is_real = scores["track"] == "real stacks"
    sets = {"reference": scores["reference"]["numbers"]}
    sets |= {name: row["numbers"] for name, row in scores["rows"].items()}
    table = Table(
        ("", *sets),
        tuple((title, *(value_text(numbers[key]) for numbers in sets.values())) for key, title in FILAMENTS),
        note=" ".join([*(f"{line}." for line in scores["tracer_bias"]), *([BIAS_OF_REAL] if is_real else [])]),
    )
    text = "What one frozen tracer finds in every set, with 95 % intervals over volumes."
    candidate = scores["rows"].get("candidate")
    if candidate is not None:
        around = candidate.get("relative_intervals", {})
        over = [
            f"{name.replace('_', ' ')} {percent_text(value, around.get(name))}"
            for name, value in candidate["relative_to_reference"].items()
        ]
        text += f" Candidate over reference: {', '.join(over)}."
    return Section("Filaments, in micrometres", text, table=table)


def reconstruction_sections(found: Mapping[str, Any]) -> list[Section]:
    """The judged numbers of reconstructions with their limits, then all numbers beside the simple filters."""
    around = found.get("scorecard_intervals", {})
    judged = Table(
        ("", "model", "verdict", "excellent", "acceptable", "poor"),
        tuple(
            (
                f"{RECONSTRUCTION[name].title}{f', {unit}' if (unit := RECONSTRUCTION[name].unit) else ''}",
                with_interval(value, around.get(name)),
                found["verdicts"][name],
                *_limits(RECONSTRUCTION[name]),
            )
            for name, value in found["scorecard"].items()
        ),
    )
    names = [n for n in (*ROWS, "clean") if n in found["rows"]]
    keys = [key for key in FIDELITY if any(key in found["rows"][n] for n in names)]
    body = tuple((FIDELITY[key], *(value_text(found["rows"][n].get(key)) for n in names)) for key in keys)
    columns = "; ".join(f"{n}: {ROWS[n]}" for n in names if n in ROWS)
    return [
        Section(
            "Reconstruction",
            f"{found['volumes']} simulated volumes, whose noise-free truth is known. Means over volumes with 95 % "
            "intervals; the limits were fixed before.",
            table=judged,
        ),
        Section(
            "Reconstruction, beside simple filters",
            f"Columns: {columns}; clean: the truth's own image.",
            table=Table(("", *names), body, note=" ".join(found.get("notes", []))),
        ),
    ]


def _limits(standard: Standard) -> tuple[str, str, str]:
    sign, against = ("≤", ">") if standard.lower_is_better else ("≥", "<")
    return f"{sign} {standard.excellent:g}", f"{sign} {standard.acceptable:g}", f"{against} {standard.poor:g}"


def number_text(value: Any) -> str:
    """Three digits, without an exponent below a million; a dash where there is no number."""
    if value is None or (isinstance(value, float) and value != value):
        return "-"
    if not isinstance(value, float):
        return str(value)
    text = f"{value:.3g}"
    return f"{float(text):.0f}" if "e+" in text and abs(value) < 1e6 else text


def with_interval(value: Any, around: Mapping[str, Any] | None) -> str:
    """A number and, on a second line, its interval, where there is one."""
    if value is None or around is None or around.get("low") is None or around.get("high") is None:
        return number_text(value)
    return f"{number_text(value)}\n({number_text(around['low'])} to {number_text(around['high'])})"


def value_text(found: Any) -> str:
    """A plain number, or one with ``value``, ``low`` and ``high``, or the ``reason`` why it has no finite value."""
    if isinstance(found, Mapping):
        return str(found["reason"]) if "reason" in found else with_interval(found.get("value"), found)
    return number_text(found)


def percent_text(value: float | None, around: Mapping[str, Any] | None) -> str:
    """A relative difference, with its interval where there is one."""
    if value is None or value != value:
        return "-"
    if around is None or around.get("low") is None or around.get("high") is None:
        return f"{100 * value:+.0f}\u00a0%"
    return f"{100 * value:+.0f}\u00a0% ({100 * around['low']:+.0f} to {100 * around['high']:+.0f}\u00a0%)"
