"""Peak GPU memory and time of a training step: ``python benchmarks/training_memory.py [--out RESULT.json]``.

A few steps of each stage of some presets, as they are and with what makes them fit into less. Needs a GPU.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from napari_vqldm.training.config import merged, parse_setting
from napari_vqldm.training.folder import read_metrics
from napari_vqldm.training.run import run_training

STEPS = 30
COMMON = (
    "gate='record'",
    "data.num_volumes=64",
    "data.held_out=2",
    *(f"{stage}.{key}={value}" for stage in ("autoencoder", "denoiser") for key, value in (
        ("steps", STEPS), ("log_every", 10), ("check_every", 1000), ("save_every", 1000), ("picture_every", 1000))),
    "autoencoder.kmeans_after=5",
    "autoencoder.adversarial_start=0",
    "denoiser.compile=false",
)  # fmt: skip
CASES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("ldm", "as it is", ()),
    ("seed-ldm", "as it is", ()),
    ("seed-ldm", "two parts", ("autoencoder.accumulate=2", "denoiser.accumulate=2")),
    (
        "seed-ldm",
        "activations again",
        ("autoencoder.checkpoint_activations=true", "denoiser.checkpoint_activations=true"),
    ),
    (
        "seed-ldm",
        "four parts and activations again",
        (
            "autoencoder.accumulate=4",
            "denoiser.accumulate=4",
            "autoencoder.checkpoint_activations=true",
            "denoiser.checkpoint_activations=true",
        ),
    ),
    ("seed-ldm", "32 bits", ("precision='32-true'",)),
    ("seed-vq-ldm", "as it is", ()),
)


def measure(preset: str, settings: Sequence[str], cache: Path) -> dict[str, Any]:
    """Train some steps and read what they logged; the first lines hold the start and are left out."""
    changes: dict[str, Any] = {}
    for text in (*COMMON, *settings):
        changes = merged(changes, parse_setting(text))
    for stage in ("autoencoder", "denoiser"):
        changes = merged(changes, {stage: {"init_from": None}})
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        run_training(preset, out, cache=cache, console=Console(quiet=True), changes=[changes])
        for stage in ("autoencoder", "denoiser"):
            lines = [line for line in read_metrics(out / "metrics.jsonl") if line["stage"] == stage and "lr" in line]
            late = lines[-2:]
            found[stage] = {
                "memory_gib": max(line["memory_gib"] for line in late),
                "milliseconds": round(1000 * (late[1]["seconds"] - late[0]["seconds"]) / 10, 1),
            }
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/training_memory.json")
    options = parser.parse_args(arguments)
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        for preset, name, settings in CASES:
            rows.append(
                {"preset": preset, "how": name, "settings": list(settings), **measure(preset, settings, Path(cache))}
            )
            print(json.dumps(rows[-1]), flush=True)
    result = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "rows": rows}
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
