"""What a trained extractor knows of validation volumes: a quick look; the gate is benchmarks/features_gate.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from napari_vqldm.metrics.frechet import whitened_frechet
from napari_vqldm.training.features.config import FeatureTrainConfig
from napari_vqldm.training.features.loop import Trained
from napari_vqldm.training.features.losses import standardize
from napari_vqldm.training.features.views import TARGETS, Drawn, ViewMaker, draw, fixed

Array = npt.NDArray[np.float64]

# What is done to one half of the validation volumes before it is compared with the other half.
CHANGES: dict[str, dict[str, float]] = {
    "none": {},
    "photons 70": {"photons": 70.0},
    "photons 35": {"photons": 35.0},
    "blur before 0.05 um": {"blur_before": 0.05},
    "blur before 0.1 um": {"blur_before": 0.1},
    "blur after 0.1 um": {"blur_after": 0.1},
    "gain 1.2": {"gain": 1.2},
    "scramble 0.25": {"scramble": 0.25},
    "scramble 1": {"scramble": 1.0},
    "haze 0.2": {"haze": 0.2},
}


@torch.no_grad()
def judge(
    config: FeatureTrainConfig, maker: ViewMaker, trained: Trained
) -> tuple[dict[str, Any], npt.NDArray[np.float32]]:
    """Return a summary, and the features (N, 64) of the validation volumes at 100 photons.

    ``head_r2``: explained variance of each target by the heads; ``linear_r2``: by a linear map fitted on the other half
    of the validation volumes; ``frechet``: excess over the floor between two halves, one of them changed.
    """
    rows = maker.bank.validation
    drawn = draw(config, np.random.default_rng(7), len(rows))
    features, standardized, known, guessed, organisation_hits = [], [], [], [], []
    for first in range(0, len(rows), config.pairs):
        part = slice(first, first + config.pairs)
        views = maker.views(rows[part], _part(drawn, part), np.random.default_rng(first), count=1)
        f = trained.net(views.volumes)
        values, logits = trained.heads(f)
        features.append(f.cpu().double().numpy())
        standardized.append(standardize(views.targets, trained.mean, trained.sd).cpu().double().numpy())
        known.append(views.known.cpu().numpy() > 0)
        guessed.append(values.cpu().double().numpy())
        asked = views.organisation >= 0
        organisation_hits += (logits.argmax(1) == views.organisation)[asked].cpu().tolist()
    table, truth, asked_for = np.concatenate(features), np.concatenate(standardized), np.concatenate(known)
    heads, half = np.concatenate(guessed), len(rows) // 2
    linear = _linear_guess(table, truth, half)
    summary: dict[str, Any] = {
        "steps": trained.steps,
        "seconds": round(trained.seconds, 1),
        "head_r2": {name: _r2(truth[:, i], heads[:, i], asked_for[:, i]) for i, name in enumerate(TARGETS)},
        "linear_r2": {name: _r2(truth[half:, i], linear[:, i], asked_for[half:, i]) for i, name in enumerate(TARGETS)},
        "organisation_accuracy": round(float(np.mean(organisation_hits)), 4) if organisation_hits else None,
        "feature_sd": [round(float(s), 3) for s in np.quantile(table.std(axis=0), (0.0, 0.5, 1.0))],
        "effective_dimensions": round(_effective_dimensions(table), 1),
    }
    plain = _features(config, maker, trained, rows, {})
    reference, other = plain[:half], rows[half:]
    summary["frechet_excess"] = {
        name: round(whitened_frechet(_features(config, maker, trained, other, change), reference).excess, 3)
        for name, change in CHANGES.items()
    }
    return summary, plain


def _features(
    config: FeatureTrainConfig,
    maker: ViewMaker,
    trained: Trained,
    rows: npt.NDArray[np.int64],
    change: dict[str, float],
) -> npt.NDArray[np.float32]:
    """Features of central crops under one camera; the noise is a function of the row."""
    parts = []
    for first in range(0, len(rows), config.pairs):
        part = rows[first : first + config.pairs]
        views = maker.views(part, fixed(len(part), **change), np.random.default_rng(part[0]), count=1, turn=False)
        parts.append(trained.net(views.volumes).float().cpu().numpy())
    return np.concatenate(parts)


def _part(drawn: Drawn, part: slice) -> Drawn:
    return Drawn(**{name: values[part] for name, values in vars(drawn).items()})


def _linear_guess(features: Array, truth: Array, half: int) -> Array:
    """Ridge regression fitted on the first half, applied to the second."""
    mean, sd = features[:half].mean(0), features[:half].std(0) + 1e-9
    design = np.concatenate([(features - mean) / sd, np.ones((len(features), 1))], axis=1)
    known, rest = design[:half], design[half:]
    weights = np.linalg.solve(known.T @ known + 1.0 * np.eye(known.shape[1]), known.T @ truth[:half])
    guess: Array = rest @ weights
    return guess


def _r2(truth: Array, guess: Array, asked: npt.NDArray[np.bool_]) -> float | None:
    if asked.sum() < 3 or truth[asked].var() == 0:
        return None
    return round(float(1.0 - np.mean((truth[asked] - guess[asked]) ** 2) / truth[asked].var()), 4)


def _effective_dimensions(features: Array) -> float:
    """Participation ratio of the covariance's eigenvalues."""
    values = np.clip(np.linalg.eigvalsh(np.cov(features.T)), 0.0, None)
    return float(values.sum() ** 2 / max((values**2).sum(), 1e-30))
