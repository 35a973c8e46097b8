"""Run folders as a training writes them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from napari_vqldm.training.presence import RunProcess
from napari_vqldm.training.volumes import save_volumes

CONFIG = {"name": "tiny", "model": {"denoiser": {}}, "autoencoder": {"steps": 40}, "denoiser": {"steps": 100}}
VOXEL = (0.3, 0.1, 0.1)
SHAPE = (4, 6, 8)


def make_run(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "running.json").write_text(json.dumps(asdict(RunProcess.this())))


def append(folder: Path, stage: str, step: int, **terms) -> None:
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"stage": stage, "step": step, **terms}) + "\n")


def add_samples(folder: Path, step: int, stage: str = "denoiser") -> None:
    first, second = np.full(SHAPE, step, np.float32), np.full(SHAPE, -step, np.float32)
    names = ("sample",) if stage == "denoiser" else ("input", "target", "reconstruction")
    save_volumes(folder / "volumes", stage, step, {name: [first, second] for name in names}, VOXEL)


def drawn(tab, term: str) -> tuple[list[float], list[float]]:
    """What is drawn of a term: steps and values."""
    steps, values = tab.curves.lines[term].getOriginalDataset()
    return list(steps), list(values)
