"""The card of a checkpoint in words, without torch and Qt; numbers and verdicts read as in `napari-vqldm info`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from napari_vqldm.card import Header
from napari_vqldm.report.scorecard import Rows, ScoreGroup, group_scores, read_scores


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
    scores = read_scores(card.scorecard)
    return CardText(
        description=card.description,
        warning=_warning(header),
        facts=_facts(header),
        scorecard=tuple(score.row for score in scores),
        score_groups=group_scores(scores),
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


def _span(low: float, high: float) -> str:
    texts = [f"{value:.3g}" for value in (low, high)]
    return texts[0] if texts[0] == texts[1] else f"{texts[0]} to {texts[1]}"
