"""The watchers of today on the recorded trainings of docs/training.md, which went well: not a word."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from napari_vqldm.config import read_toml
from napari_vqldm.training.config import StageName, load_train_config
from napari_vqldm.training.folder import read_metrics
from napari_vqldm.training.watchers import Watch, watchers_for

REPOSITORY = Path(__file__).parents[2]


def said(preset: str, stage: StageName, spoil: float = 1.0) -> set[str]:
    """Names of the watchers that speak when each recorded line stands for the steps since the line before.

    ``spoil`` multiplies the reconstruction loss of the last third.
    """
    changes = read_toml(REPOSITORY / "benchmarks/data/seed_runs.toml")
    watch = Watch(watchers_for(stage, load_train_config(preset, [changes])))
    lines = [
        line
        for line in read_metrics(REPOSITORY / f"docs/media/{preset}-metrics.jsonl")
        if line["stage"] == stage and "watcher" not in line
    ]
    assert len(lines) > 200
    speakers, last, end = set[str](), 0, lines[-1]["step"]
    for line in lines:
        numbers = {name: value for name, value in line.items() if isinstance(value, float)}
        if "l1" in numbers and line["step"] > end * 2 / 3:
            numbers["l1"] *= spoil
        for step in range(last + 1, line["step"] + 1):
            watch.observe(step, {name: torch.tensor(value) for name, value in numbers.items()})
        last = line["step"]
        speakers |= {trouble.watcher for trouble in watch.report(last, numbers)[1]}
    return speakers


@pytest.mark.parametrize("preset", ["seed-ldm", "seed-vq-ldm"])
@pytest.mark.parametrize("stage", ["autoencoder", "denoiser"])
def test_a_training_that_went_well_is_left_in_peace(preset: str, stage: StageName) -> None:
    assert said(preset, stage) == set()


def test_the_same_training_spoiled_is_not() -> None:
    assert "adversarial_instability" in said("seed-ldm", "autoencoder", spoil=4.0)
