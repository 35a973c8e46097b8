"""The page of an evaluation: scorecard, projections, spectra, filaments in micrometres, copies, uncertainty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from napari_vqldm.pictures import Gray, max_projection, orthogonal_projections, to_gray
from napari_vqldm.report.charts import Curve, line_chart
from napari_vqldm.report.evaluate import Evaluation
from napari_vqldm.report.fidelity import ROWS
from napari_vqldm.report.page import Page, Picture, Section, Table
from napari_vqldm.report.profile import mean_spectrum
from napari_vqldm.report.sets import VOXEL_SIZE_UM, Array
from napari_vqldm.report.standards import GENERATION, RECONSTRUCTION, Standard
from napari_vqldm.volume import Volume

SHOWN = 8  # volumes of each set
RANGE = (0.0, 1.5)  # filament units, the same for every projection

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
    "cutoff_ratio_lateral": "lateral resolution kept",
    "cutoff_ratio_axial": "axial resolution kept",
    "centre_line_f1": "centre-line F1",
    "cl_dice": "clDice",
}


def evaluation_page(found: Evaluation) -> Page:
    """Lay out what was found."""
    s = found.scores
    name = s["candidate"]["name"]
    sections = [_scorecard(found), _projections(found), _numbers(found), _spectra(found), _filaments(found)]
    if "reconstruction" in s:
        sections += _reconstruction(found)
    if found.copies is not None or s.get("card_memorization"):
        sections.append(_copies(found))
    facts = (
        ("candidate", name),
        ("against", s["against"]),
        ("track", s["track"]),
        ("volumes per set", str(s["volumes_per_set"])),
        ("setting", s["effort"]),
        ("features", s["extractor"]["version"]),
        ("created", s["created"]),
    )
    notes = [
        *s["notes"],
        "A floor is what two sets of this size from one distribution score: mean and standard deviation over splits.",
        "Features, tracer and limits are frozen: the tracer's bias, printed with the filaments, is in every row alike.",
        "PSNR and SSIM refer to the range from the 0.1 to the 99.9 percentile of the volume compared with.",
        "Simulated volumes and real stacks are separate tracks: no number of one is evidence for the other.",
    ]
    if s["effort"] == "quick":
        notes.append("Quick setting: few volumes, wide floors. Take --full for numbers that are to be quoted.")
    return Page(f"Evaluation of {name}", _lead(found), tuple(sections), facts, tuple(notes))


def _lead(found: Evaluation) -> str:
    s = found.scores
    rows = s["rows"]
    parts = []
    if "candidate" in rows:
        parts.append("Generated volumes: " + _verdicts(rows["candidate"]["verdicts"], GENERATION))
    if "reconstruction" in s:
        parts.append("Reconstructions: " + _verdicts(s["reconstruction"]["verdicts"], RECONSTRUCTION))
    if "memorization" in s:
        m = s["memorization"]
        parts.append(
            f"Copies: nearest training patches correlate {_num(m['patch_correlation'])}, those of unseen volumes "
            f"{_num(m['patch_correlation_held_out'])} ({m['training_volumes_searched']} training volumes searched)."
        )
    return " ".join(parts)


def _verdicts(verdicts: Mapping[str, str], standards: Mapping[str, Standard]) -> str:
    counts = {kind: [n for n, v in verdicts.items() if v == kind] for kind in ("excellent", "acceptable", "between")}
    poor = [standards[n].title for n, v in verdicts.items() if v == "poor"]
    words = [f"{len(names)} {kind}" for kind, names in counts.items() if names]
    text = ", ".join(words).replace("between", "between acceptable and poor")
    return f"{text or 'nothing acceptable'}{'; poor: ' + ', '.join(poor) if poor else ''}."


def _scorecard(found: Evaluation) -> Section:
    rows = found.scores["rows"]
    names = list(rows)

    def cell(row: str, number: str) -> str:
        value, verdict = rows[row]["scorecard"][number], rows[row]["verdicts"][number]
        return f"{_num(value)} ({verdict})" if row == "candidate" else _num(value)

    table = Table(
        ("", *names, "excellent", "acceptable", "poor"),
        tuple(
            (
                standard.title,
                *(cell(row, number) for row in names),
                *_limits(standard),
            )
            for number, standard in GENERATION.items()
        ),
    )
    text = (
        "How clearly each set is told from another draw of the reference, in standard deviations of such draws: about "
        "0 is as good as real. Beside the candidate stand another real draw and sets that are wrong on purpose; a "
        "number on which a wrong set looks good says nothing alone. More volumes tell smaller differences: compare "
        "these numbers within one page only."
    )
    return Section("Scorecard", text, table=table)


def _limits(standard: Standard) -> tuple[str, str, str]:
    sign, against = ("≤", ">") if standard.lower_is_better else ("≥", "<")
    return f"{sign} {standard.excellent:g}", f"{sign} {standard.acceptable:g}", f"{against} {standard.poor:g}"


def _projections(found: Evaluation) -> Section:
    pictures = []
    for name in ("reference", *found.scores["rows"]):
        volumes = found.sets[name].volumes[:SHOWN]
        title = f"Reference: {found.scores['against']}" if name == "reference" else name
        pictures.append(Picture(_sheet(volumes), title))
    text = (
        f"Maximum along z of the first {SHOWN} volumes of every set, one display range. Look before believing a number."
    )
    return Section("Projections", text, tuple(pictures))


def _sheet(volumes: Sequence[Array]) -> Gray:
    images = [to_gray(max_projection(v, 0), RANGE) for v in volumes]
    while len(images) % 4:
        images.append(np.zeros_like(images[0]))
    rows = [np.hstack(images[i : i + 4]) for i in range(0, len(images), 4)]
    return np.asarray(np.vstack(rows), np.uint8)


def _numbers(found: Evaluation) -> Section:
    s = found.scores
    names = list(s["rows"])
    floor, spread = s["floors"]["mean"], s["floors"]["sd"]
    table = Table(
        ("", "floor", *names),
        tuple(
            (
                title,
                f"{_num(floor[key])} ± {_num(spread[key])}",
                *(_num(s["rows"][row]["distances"][key]) for row in names),
            )
            for key, title in DISTANCES
        ),
    )
    text = "The distances themselves. Coverage, recall and precision are not 1 for equal sets: compare with the floor."
    return Section("Distances to the reference", text, table=table)


def _spectra(found: Evaluation) -> Section:
    charts = []
    for axis in ("lateral", "axial"):
        reference = mean_spectrum([getattr(p, axis) for p in found.profiles["reference"]])
        curves = []
        for name, rows in found.profiles.items():
            if name in ("reference", "noise only", "an eighth, repeated"):
                continue
            power = mean_spectrum([getattr(p, axis) for p in rows]).power
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = 10.0 * np.log10(power / reference.power)
            curves.append(Curve(name, reference.frequency_per_um.tolist(), ratio.tolist()))
        charts.append(line_chart(curves, f"{axis} frequency, cycles/um", "power over that of the reference, dB"))
    text = "0 dB is the reference. Below it at high frequencies: blurred. Above it: noise or detail that is not there."
    return Section("Spectra", text, charts=tuple(charts))


def _filaments(found: Evaluation) -> Section:
    s = found.scores
    sets = {"reference": s["reference"]["numbers"]} | {name: row["numbers"] for name, row in s["rows"].items()}
    table = Table(
        ("", *sets),
        tuple((title, *(_interval(numbers[key]) for numbers in sets.values())) for key, title in FILAMENTS),
        note=" ".join(f"{line}." for line in s["tracer_bias"]),
    )
    text = "What one frozen tracer finds in every set, with 95 % intervals over volumes."
    return Section("Filaments, in micrometres", text, table=table)


def _reconstruction(found: Evaluation) -> list[Section]:
    table = found.scores["reconstruction"]
    names = [n for n in (*ROWS, "clean") if n in table["rows"]]
    keys = list(dict.fromkeys(key for n in names for key in table["rows"][n]))
    body = [(FIDELITY[key], *(_interval(table["rows"][n].get(key)) for n in names)) for key in keys]
    verdict = [f"{RECONSTRUCTION[n].title}: {_num(v)} ({table['verdicts'][n]})" for n, v in table["scorecard"].items()]
    text = (
        f"{table['volumes']} simulated volumes, whose noise-free truth is known. " + "; ".join(verdict) + ". "
        "Columns: " + "; ".join(f"{n}: {ROWS[n]}" for n in names if n in ROWS) + "; clean: the truth's own image."
    )
    sections = [Section("Reconstruction", text, table=Table(("", *names), tuple(body)))]
    if found.spread is not None:
        clean, noisy, output = found.shown
        spread = found.spread.standard_deviation
        u = found.scores["uncertainty"]
        beyond = u["share_beyond_optical_cutoff"]
        views: list[tuple[str, Array, tuple[float, float], tuple[tuple[str, str], ...]]] = [
            ("truth", clean, RANGE, (("beyond optical cut-off", _num(beyond["truth"])),)),
            ("input", noisy, RANGE, (("beyond optical cut-off", _num(beyond["input"])),)),
            ("reconstruction", output, RANGE, (("beyond optical cut-off", _num(beyond["reconstruction"])),)),
            (
                "standard deviation over noise draws",
                spread,
                (0.0, 0.5 * RANGE[1]),
                (("mean", _num(u["mean_sd"])), ("highest", _num(u["highest_sd"]))),
            ),
        ]
        pictures = tuple(
            Picture(orthogonal_projections(Volume(v, VOXEL_SIZE_UM), limits=limits), title, facts)
            for title, v, limits, facts in views
        )
        note = (
            f"One volume recorded {u['noise_draws']} times with other noise: where the reconstructions differ, noise "
            "decides what is shown (white: half of the range). Energy beyond the optical cut-off was seen by no "
            "microscope: in a reconstruction it is the model's own."
        )
        sections.append(Section("Uncertainty", note, pictures))
    return sections


def _copies(found: Evaluation) -> Section:
    s = found.scores
    pictures = []
    if found.copies is not None:
        for pair in found.copies.pairs:
            both = np.hstack([to_gray(max_projection(v, 0), RANGE) for v in (pair.sample, pair.training)])
            title = f"sample {pair.sample_index} and training volume {pair.training_index}"
            pictures.append(Picture(both, title, (("highest patch correlation", _num(pair.correlation)),)))
    rows = [(key.replace("_", " "), _num(value)) for key, value in s.get("memorization", {}).items()]
    text = (
        "Samples (left) and their nearest training volumes (right). Two straight filaments always resemble each other: "
        "only more resemblance than that of unseen volumes of the same conditions would be copying."
    )
    card = s.get("card_memorization") or {}
    if "excess_of_pairs" in card:
        e = card["excess_of_pairs"]
        text += (
            f" The model's card says, from {card.get('generated_volumes', '?')} samples in all "
            f"{card.get('training_volumes', '?')} training volumes: {e['value']:+.3f} "
            f"({e['low']:+.3f} to {e['high']:+.3f}) above unseen volumes."
        )
    table = Table(("", "value"), tuple(rows)) if rows else None
    return Section("Copies of training volumes", text, tuple(pictures), table)


def _num(value: Any) -> str:
    if value is None or (isinstance(value, float) and value != value):
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _interval(found: Mapping[str, Any] | None) -> str:
    if not found or found.get("value") is None:
        return "-"
    return f"{found['value']:.3g} ({found['low']:.3g} to {found['high']:.3g})"
