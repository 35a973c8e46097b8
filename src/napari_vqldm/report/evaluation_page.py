"""The page of an evaluation: scorecard, projections, spectra, filaments in micrometres, copies, uncertainty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from napari_vqldm.metrics.uncertainty import Spread
from napari_vqldm.pictures import Gray, max_projection, orthogonal_projections, to_gray
from napari_vqldm.report.charts import Curve, line_chart
from napari_vqldm.report.evaluate import Evaluation
from napari_vqldm.report.evaluation_tables import (
    distances_section,
    filaments_section,
    number_text,
    reconstruction_sections,
    scorecard_section,
    value_text,
)
from napari_vqldm.report.page import Page, Picture, Section, Table
from napari_vqldm.report.profile import mean_spectrum
from napari_vqldm.report.sets import VOXEL_SIZE_UM, Array
from napari_vqldm.report.standards import GENERATION, NO_VERDICT, RECONSTRUCTION, Standard, Verdict
from napari_vqldm.volume import Volume

SHOWN = 8  # volumes of each set
RANGE = (0.0, 1.5)  # filament units, the same for every projection


def evaluation_page(found: Evaluation) -> Page:
    """Lay out what was found."""
    s = found.scores
    name = s["candidate"]["name"]
    sections = [scorecard_section(s), _projections(found), distances_section(s), _spectra(found), filaments_section(s)]
    if "reconstruction" in s:
        sections += reconstruction_sections(s["reconstruction"])
    if found.spread is not None:
        sections.append(_uncertainty(found, found.spread))
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
        ours, unseen = number_text(m["patch_correlation"]), number_text(m["patch_correlation_held_out"])
        parts.append(
            f"Copies: nearest training patches correlate {ours}, those of unseen volumes {unseen} "
            f"({m['training_volumes_searched']} training volumes searched)."
        )
    return " ".join(parts)


def _verdicts(verdicts: Mapping[str, str], standards: Mapping[str, Standard]) -> str:
    def titles(kind: Verdict) -> list[str]:
        return [standards[name].title for name, verdict in verdicts.items() if verdict == kind]

    counts = {"excellent": "excellent", "acceptable": "acceptable", "between": "between acceptable and poor"}
    counted = [f"{n} {words}" for kind, words in counts.items() if (n := list(verdicts.values()).count(kind))]
    # What speaks against a set is named: too near is no merit, and a number that is missing is no verdict.
    named: dict[str, list[str]] = {
        "poor": titles("poor"),
        "nearer than any draw": titles("too near"),
        "not measured": titles("unknown"),
        f"no verdict ({NO_VERDICT})": titles("no verdict"),
    }
    parts = [", ".join(counted)] if counted else []
    if not counted and (named["poor"] or named["nearer than any draw"]):
        parts.append("nothing acceptable")
    parts += [f"{words}: {', '.join(found)}" for words, found in named.items() if found]
    return "; ".join(parts) + "."


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


def _uncertainty(found: Evaluation, noise: Spread) -> Section:
    clean, noisy, output = found.shown
    u = found.scores["uncertainty"]
    beyond = u["share_beyond_optical_cutoff"]
    views: list[tuple[str, Array, tuple[float, float], tuple[tuple[str, str], ...]]] = [
        ("truth", clean, RANGE, (("beyond optical cut-off", number_text(beyond["truth"])),)),
        ("input", noisy, RANGE, (("beyond optical cut-off", number_text(beyond["input"])),)),
        ("reconstruction", output, RANGE, (("beyond optical cut-off", number_text(beyond["reconstruction"])),)),
        (
            "standard deviation over noise draws",
            noise.standard_deviation,
            (0.0, 0.5 * RANGE[1]),
            (("mean", number_text(u["mean_sd"])), ("highest", number_text(u["highest_sd"]))),
        ),
    ]
    pictures = tuple(
        Picture(orthogonal_projections(Volume(v, VOXEL_SIZE_UM), limits=limits), title, facts)
        for title, v, limits, facts in views
    )
    note = (
        f"One volume recorded {u['noise_draws']} times with other noise: where the reconstructions differ, noise "
        "decides what is shown (white: half of the range). Energy beyond the optical cut-off: of emission "
        "alone where the microscope is confocal, whose image has a little there, too (see the truth). What a "
        "reconstruction has more than the truth is the model's own."
    )
    return Section("Uncertainty", note, pictures)


def _copies(found: Evaluation) -> Section:
    s = found.scores
    pictures = []
    if found.copies is not None:
        for pair in found.copies.pairs:
            both = np.hstack([to_gray(max_projection(v, 0), RANGE) for v in (pair.sample, pair.training)])
            title = f"sample {pair.sample_index} and training volume {pair.training_index}"
            pictures.append(Picture(both, title, (("highest patch correlation", number_text(pair.correlation)),)))
    rows = [(key.replace("_", " "), value_text(value)) for key, value in s.get("memorization", {}).items()]
    text = (
        "Samples (left) and their nearest training volumes (right). Two straight filaments always resemble each other: "
        "only more resemblance than that of unseen volumes of the same conditions would be copying. Feature distance "
        "ratio: to training volumes over that to unseen ones, toward 0 for copies; above 1 where, as here, unseen "
        "volumes share the conditions of the samples. Feature near share: samples nearer to a training volume than "
        "99 % of unseen ones are."
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
