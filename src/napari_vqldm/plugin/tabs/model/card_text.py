"""The card of a checkpoint in words, without torch and Qt; numbers and verdicts read as in `napari-vqldm info`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from napari_vqldm.card import Header
from napari_vqldm.report.standards import GENERATION, RECONSTRUCTION, Standard

Rows = tuple[tuple[str, str], ...]

RELEASE = "limits for release"
# What the gates of a bundled model measure, and their names; those of evaluations are in `report.standards`.
GATES: dict[str, tuple[str, str]] = {
    "psnr_above_gaussian_db": ("Reconstruction", "PSNR to the noise-free truth, above a Gaussian filter, dB"),
    "psnr_above_pooled_db": ("Reconstruction", "PSNR to the noise-free truth, above pooling to the latent grid, dB"),
    "length_density_um_per_um3_relative_error": ("Samples", "length density, relative error"),
    "median_length_um_relative_error": ("Samples", "median connected length, relative error"),
    "spectrum_distance_db_floors": ("Samples", "lateral spectrum, distance over that of two simulated sets"),
    "intensity_w1_per_sd_floors": ("Samples", "intensity W1, distance over that of two simulated sets"),
    "diversity_ratio": ("Samples", "diversity, over that of simulated volumes"),
    "memorization_excess": ("Samples", "match with training volumes, above that of unseen volumes"),
    "control_spearman": ("Samples", "requested against traced length density, rank correlation"),
    "parameters": ("Size", "parameters"),
    "file_mib": ("Size", "file, MiB"),
    "latent_channels": ("Size", "latent channels"),
    "latent_voxel_per_2_4_4": ("Size", "shortest edge of a latent cell, over 2 × 4 × 4 voxels"),
}
PARTS: dict[str, tuple[str, dict[str, Standard], str]] = {
    "reconstruction": ("Reconstruction", RECONSTRUCTION, "In parentheses the 95 % interval over volumes."),
    "generation": (
        "Samples",
        GENERATION,
        "How clearly samples are told from the reference, in standard deviations (sd) of draws of the reference: about "
        "0 is as good as another draw. In parentheses the 95 % interval.",
    ),
}
ORDER = ("Reconstruction", "Samples", "Size", "Other")


@dataclass(frozen=True)
class ScoreGroup:
    """Scores of one kind: ``heading`` and ``note`` say what they measure, and on which volumes."""

    heading: str
    note: str
    rows: Rows


@dataclass(frozen=True)
class CardText:
    """A card, ready to be shown.

    Attributes
    ----------
    description : str
        One sentence.
    warning : str
        Why its quality is not known; empty when every gate was passed.
    facts, scorecard, training : tuple of (str, str)
        Rows of name and value; those of the scorecard in the order of the card.
    score_groups : tuple of ScoreGroup
        The rows of the scorecard by what they measure.
    memorization, data, limits, license, sha256 : str
        As on the card; empty where it says nothing.
    """

    description: str
    warning: str
    facts: Rows
    scorecard: Rows
    score_groups: tuple[ScoreGroup, ...]
    training: Rows
    memorization: str
    data: str
    limits: str
    license: str
    sha256: str


def card_text(header: Header) -> CardText:
    """Put a card into words."""
    card = header.card
    scores = _scores(card.scorecard)
    return CardText(
        description=card.description,
        warning=_warning(header),
        facts=_facts(header),
        scorecard=tuple(row for _, row in scores),
        score_groups=_grouped(scores),
        training=_training(header),
        memorization=memorization_text(card.memorization),
        data=card.data,
        limits=card.limits,
        license=card.license,
        sha256=card.weights_sha256,
    )


def memorization_text(found: Mapping[str, Any]) -> str:
    """Say whether generated volumes are copies of training volumes, from what the card holds.

    The number is the best correlation of patches with any place of any training volume; it means something only beside
    the same number of volumes that were never trained on.
    """
    try:
        generated, held_out = float(found["generated"]["mean"]), float(found["held_out"]["mean"])
        num, num_training = int(found["generated_volumes"]), int(found["training_volumes"])
    except (KeyError, TypeError, ValueError):
        return "" if not found else "The card holds numbers on memorization that this version cannot read."
    text = (
        f"Best match of a patch in the {num_training} training volumes: {generated:.3f} for {num} generated volumes, "
        f"{held_out:.3f} for simulated volumes that were never trained on."
    )
    pairs = found.get("excess_of_pairs")
    if not isinstance(pairs, Mapping):
        return text
    value, low, high = (float(pairs.get(name, math.nan)) for name in ("value", "low", "high"))
    return f"{text} Difference {value:+.3f} ({low:+.3f} to {high:+.3f}): {_memorization_verdict(low, high)}"


def _memorization_verdict(low: float, high: float) -> str:
    if low > 0:
        return "generated volumes resemble training volumes more than they should."
    if low <= 0 <= high:
        return "no sign of copies."
    return "generated volumes resemble training volumes less than unseen ones do." if high < 0 else "not known."


def _warning(header: Header) -> str:
    gates = header.card.gates
    if header.card.fully_gated:
        return ""
    if not gates:
        return "This checkpoint passed no quality gate: its quality is not known."
    missed = [name for name, gate in gates.items() if gate.kind == "full" and not gate.passed]
    if missed:
        return f"This checkpoint missed the quality gate of its {' and '.join(missed)}: do not trust its volumes."
    return "This checkpoint was tested in a short trial only: its quality is not known."


def _facts(header: Header) -> Rows:
    card, config = header.card, header.config
    low, high = config.voxel_size_range_um
    quantizer = config.autoencoder.quantizer
    parts = ", ".join(f"{name} {count / 1e6:.1f} M" for name, count in card.parameters.items())
    extents = [_span(n * a, n * b) for n, a, b in zip(config.window, low, high, strict=True)]
    rows = [
        ("Family", "ldm: continuous latents" if config.family == "ldm" else "vq-ldm: latents from a codebook"),
        ("Parameters", parts),
        ("Voxel size", f"{' × '.join(_span(a, b) for a, b in zip(low, high, strict=True))} µm (z, y, x)"),
        ("Window", f"{' × '.join(map(str, config.window))} voxels, {' × '.join(extents)} µm"),
        ("Latent", f"{config.autoencoder.latent_channels} channels, one cell for "
         f"{' × '.join(map(str, config.autoencoder.downsampling_factor))} voxels"),
        ("Codebook", f"{quantizer.codebook_size} codes" if quantizer is not None else ""),
        ("Returns", "noise-free volumes" if config.target == "clean" else "noisy stacks, as it was trained on"),
        ("Generates", _sampling(header)),
        ("Quality gates", ", ".join(f"{name}: {_gate(gate)}" for name, gate in card.gates.items()) or "none"),
        ("License", card.license),
    ]  # fmt: skip
    return tuple((name, value) for name, value in rows if value)


def _sampling(header: Header) -> str:
    if header.config.denoiser is None:
        return "no: it reconstructs only"
    diffusion = header.config.diffusion
    return f"yes, by default in {diffusion.steps} steps of {diffusion.sampler}"


def _gate(gate: Any) -> str:
    return f"{'passed' if gate.passed else 'missed'}{'' if gate.kind == 'full' else f' ({gate.kind})'}"


_Key = tuple[str, str, str]  # what is measured, on what, and a note


def _scores(card: Mapping[str, Any]) -> list[tuple[_Key, tuple[str, str]]]:
    """Rows of gates and of evaluations, each with its group; what has another form is left to the command line."""
    scores: list[tuple[_Key, tuple[str, str]]] = []
    for name, gate in _mapping(card.get("gates")).items():
        if isinstance(gate, Mapping) and {"value", "rule", "limit", "passed"} <= gate.keys():
            judged = "passed" if gate["passed"] else "missed"
            text = f"{_number(gate['value'])} (wanted {gate['rule']} {_number(gate['limit'])}): {judged}"
            measured, title = GATES.get(name, ("Other", _words(name)))
            on = f"{RELEASE}, simulated track" if measured in ("Reconstruction", "Samples") else RELEASE
            scores.append(((measured, on, ""), (title, text)))
    for data, result in _mapping(card.get("evaluation")).items():
        on = f"{data}, {'simulated' if str(data).startswith('MT-Sim') else 'real'} track"
        for part, (measured, standards, note) in PARTS.items():
            for name, entry in _mapping(_mapping(result).get(part)).items():
                if isinstance(entry, Mapping) and {"verdict", "value"} <= entry.keys():
                    scores.append(((measured, on, note), (_title(name, standards), _judged(entry))))
    return scores


def _grouped(scores: list[tuple[_Key, tuple[str, str]]]) -> tuple[ScoreGroup, ...]:
    groups: dict[_Key, list[tuple[str, str]]] = {}
    for key, row in scores:
        groups.setdefault(key, []).append(row)
    return tuple(
        ScoreGroup(f"{measured}: {on}", note, tuple(groups[measured, on, note]))
        for measured, on, note in sorted(groups, key=lambda key: ORDER.index(key[0]))
    )


def _title(name: str, standards: Mapping[str, Standard]) -> str:
    """Name a judged number as the page of an evaluation does, with its unit."""
    standard = standards.get(name)
    if standard is None:
        return _words(name)
    return f"{standard.title}, {standard.unit}" if standard.unit else standard.title


def _judged(entry: Mapping[str, Any]) -> str:
    low, high = entry.get("low"), entry.get("high")
    around = "" if low is None or high is None else f" ({_number(low)} to {_number(high)})"
    return f"{_number(entry['value'])}{around}: {entry['verdict']}"


def _training(header: Header) -> Rows:
    training = header.training
    minutes = ", ".join(f"{stage} {value:.3g} min" for stage, value in training.minutes.items())
    steps = ", ".join(f"{stage} {value}" for stage, value in training.steps.items())
    rows = [
        ("Preset", training.preset),
        ("Steps", steps),
        ("Time", minutes),
        ("Device", training.device),
        ("Volumes", str(training.num_volumes) if training.num_volumes else ""),
    ]
    return tuple((name, value) for name, value in rows if value)


def curve_text(header: Header) -> str:
    """Return the training curves as text, for where they cannot be drawn: a line for each."""
    lines = []
    for name, points in header.training.curve.items():
        if points:
            (first_step, first), (last_step, last) = points[0], points[-1]
            lines.append(f"{name}: {first:.4g} at step {first_step}, {last:.4g} at step {last_step}")
    return "\n".join(lines)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _words(name: str) -> str:
    return name.replace("_", " ")


def _number(value: Any) -> str:
    if value is None:
        return "not known"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if value.is_integer() else f"{value:.3g}"


def _span(low: float, high: float) -> str:
    texts = [f"{value:.3g}" for value in (low, high)]
    return texts[0] if texts[0] == texts[1] else f"{texts[0]} to {texts[1]}"
