"""The scorecard of a checkpoint in words: what each number measures, on which volumes, and what it is worth. No torch.

The one source of these names: the card in the dock, `napari-vqldm info` and the pages of the benchmarks read them here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from napari_vqldm.report.standards import GENERATION, RECONSTRUCTION, Standard

Rows = tuple[tuple[str, str], ...]

RELEASE = "limits for release"
# Of the gates of a bundled model; names of judged numbers of evaluations are in `report.standards`.
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
_GATE = {"value", "rule", "limit", "passed"}
_JUDGED = {"value", "low", "high", "verdict"}


@dataclass(frozen=True)
class Score:
    """One number of a scorecard.

    Attributes
    ----------
    measured : str
        What it is about, one of `ORDER`.
    on : str
        On which volumes, or by which limits.
    note : str
        How numbers of its kind are read; empty where they explain themselves.
    title, text : str
        Name with unit; value and verdict.
    path : tuple of str
        Keys that lead to it.
    """

    measured: str
    on: str
    note: str
    title: str
    text: str
    path: tuple[str, ...]

    @property
    def row(self) -> tuple[str, str]:
        """Name and value."""
        return self.title, self.text


@dataclass(frozen=True)
class ScoreGroup:
    """Scores of one kind: ``heading`` and ``note`` say what they measure, and on which volumes."""

    heading: str
    note: str
    rows: Rows


def gate_title(name: str) -> str:
    """Name a gate of a bundled model, with its unit; one that is not known by the words of its key."""
    return _gate_names(name)[1]


def read_scores(scorecard: Mapping[str, Any]) -> list[Score]:
    """Put the gates and the judged numbers of a scorecard into words, in its order.

    What has another form, and all of a damaged scorecard, is left out: see `untold`.
    """
    scores = []
    for name, gate in _mapping(scorecard.get("gates")).items():
        if isinstance(gate, Mapping) and gate.keys() >= _GATE:
            judged = "passed" if gate["passed"] else "missed"
            text = f"{_number(gate['value'])} (wanted {gate['rule']} {_number(gate['limit'])}): {judged}"
            measured, title = _gate_names(name)
            on = f"{RELEASE}, simulated track" if measured in ("Reconstruction", "Samples") else RELEASE
            scores.append(Score(measured, on, "", title, text, ("gates", name)))
    for data, result in _mapping(scorecard.get("evaluation")).items():
        on = f"{data}, {'simulated' if str(data).startswith('MT-Sim') else 'real'} track"
        for part, (measured, standards, note) in PARTS.items():
            for name, entry in _mapping(_mapping(result).get(part)).items():
                if isinstance(entry, Mapping) and {"verdict", "value"} <= entry.keys():
                    path = ("evaluation", data, part, name)
                    scores.append(Score(measured, on, note, _title(name, standards), _judged(entry), path))
    return scores


def group_scores(scores: Sequence[Score]) -> tuple[ScoreGroup, ...]:
    """Put scores of one kind together, in the order of `ORDER`."""
    groups: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
    for score in scores:
        groups.setdefault((score.measured, score.on, score.note), []).append(score.row)
    return tuple(
        ScoreGroup(f"{measured}: {on}", note, tuple(groups[measured, on, note]))
        for measured, on, note in sorted(groups, key=lambda key: ORDER.index(key[0]))
    )


def untold(scorecard: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a scorecard `read_scores` does not put into words, in the same nesting."""
    told = {score.path: _GATE if score.path[0] == "gates" else _JUDGED for score in read_scores(scorecard)}

    def left(value: Any, path: tuple[str, ...]) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {key: left(entry, (*path, key)) for key, entry in value.items() if key not in told.get(path, ())}

    return {key: left(value, (key,)) for key, value in scorecard.items()}


def _gate_names(name: str) -> tuple[str, str]:
    """What a gate is about, and its name."""
    return GATES.get(name, ("Other", _words(name)))


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
