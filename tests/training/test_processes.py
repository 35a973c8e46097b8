"""Two processes with half the batch each take the same steps as one process with the whole batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from torch import Tensor

from napari_vqldm.training.folder import read_metrics
from napari_vqldm.training.resume import load_state
from napari_vqldm.training.run import run_training

STEPS = 10
# Everything that looks at more than one sample: k-means start, restarts, moving averages, adversary and its balance.
COMMON: dict[str, Any] = {
    "device": "cpu",
    "autoencoder__steps": STEPS,
    "autoencoder__save_every": STEPS,
    "autoencoder__crop": [8, 16, 16],
    "autoencoder__perceptual_weight": 0.3,
    "autoencoder__adversarial_weight": 0.5,
    "autoencoder__adversarial_start": 2,
    "autoencoder__adversarial_ramp": 2,
    "autoencoder__adaptive_weight": True,
    "autoencoder__feature_matching_weight": 0.1,
    "autoencoder__discriminator_channels": 4,
    "autoencoder__discriminator_layers": 1,
    "denoiser__steps": STEPS,
    "denoiser__save_every": STEPS,
}
CODEBOOKS = {"codebook_size": 16, "restart_after": 2}


def changes(family: str, kind: str) -> dict[str, Any]:
    if family == "ldm":
        return COMMON
    return COMMON | {"model__autoencoder__quantizer": CODEBOOKS | {"kind": kind}}


def run_twice(family: str, kind: str, precision: str, tmp_path: Path, cache: Path, tiny: SimpleNamespace) -> list[Path]:
    """Run the tiny training in one process with batches of 4, and in two with batches of 2."""
    folders = []
    for processes in (1, 2):
        share = {f"{stage}__batch_size": 4 // processes for stage in ("autoencoder", "denoiser")}
        values = tiny.values(family, **changes(family, kind), **share, devices=processes, precision=precision)
        toml = tiny.write_toml(tmp_path / f"tiny-{processes}.toml", values | {"name": "tiny"})
        out = tmp_path / f"run-{processes}"
        if processes == 1:
            run_training(toml, out, cache=cache, console=Console(quiet=True))
        else:
            command = [
                sys.executable,
                "-m",
                "napari_vqldm.training",
                str(toml),
                "--out",
                str(out),
                "--cache",
                str(cache),
            ]
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            subprocess.run(command, check=True, env=environment, capture_output=True, timeout=300)
        folders.append(out)
    return folders


def largest_difference(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[name].double() - b[name].double()).abs().max()) for name in a)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("family, kind", [("ldm", ""), ("vq-ldm", "gradient"), ("vq-ldm", "ema")])
def test_in_64_bits_weights_agree_to_the_last_digits(
    family: str, kind: str, tmp_path: Path, bank_cache: Path, tiny: SimpleNamespace
) -> None:
    one, two = run_twice(family, kind, "64-true", tmp_path, bank_cache, tiny)
    for stage in ("autoencoder", "denoiser"):
        a, b = (load_state(folder / f"state/{stage}.safetensors") for folder in (one, two))
        assert a is not None and b is not None and a.record["step"] == b.record["step"] == STEPS
        for part in ("model", "average", "extra"):
            if not a.part(part):
                continue
            difference = largest_difference(a.part(part), b.part(part))
            print(f"{family} {kind} {stage} {part}: largest difference of 64-bit weights {difference:.1e}")
            assert difference < 1e-8
    if family == "vq-ldm":
        lines = [line for line in read_metrics(two / "metrics.jsonl") if line["stage"] == "autoencoder"]
        assert sum(line.get("restarted", 0) for line in lines) > 0  # or nothing was compared
    else:
        assert any(line.get("adversarial_weight", 0) > 0 for line in read_metrics(two / "metrics.jsonl"))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "family, kind, limit",
    [("ldm", "", 1e-4), ("vq-ldm", "gradient", 0.1)],  # one vector between two codes that falls to the other side
)
def test_in_32_bits_losses_stay_together(
    family: str,
    kind: str,
    limit: float,
    tmp_path: Path,
    bank_cache: Path,
    tiny: SimpleNamespace,
    capsys: pytest.CaptureFixture[str],
) -> None:
    one, two = run_twice(family, kind, "32-true", tmp_path, bank_cache, tiny)
    losses = [
        {
            (line["stage"], line["step"], name): value
            for line in read_metrics(folder / "metrics.jsonl")
            for name, value in line.items()
            if "loss" in name
        }
        for folder in (one, two)
    ]
    assert losses[0].keys() == losses[1].keys()
    differences = {key: abs(losses[0][key] - losses[1][key]) for key in losses[0]}
    difference = max(differences.values())
    # Before the codebook starts nothing can fall to the other side of a border.
    before = [value for (stage, step, _), value in differences.items() if stage == "autoencoder" and step <= 2]
    assert before and max(before) < 1e-5
    with capsys.disabled():
        print(f"\n{family}: largest difference of {len(losses[0])} losses in 32 bits: {difference:.1e}")
    assert difference < limit
