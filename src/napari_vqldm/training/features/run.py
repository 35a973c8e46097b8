"""One run by the clock: simulate, train every seed, write weights and what they know."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_vqldm.errors import ConfigError, VqldmError
from napari_vqldm.training.features.bank import ROWS, build_feature_bank, load_feature_bank
from napari_vqldm.training.features.config import FeatureTrainConfig, load_feature_config
from napari_vqldm.training.features.judge import judge
from napari_vqldm.training.features.loop import train_extractor
from napari_vqldm.training.features.release import release, save_weights
from napari_vqldm.training.features.views import ViewMaker

RESERVE_S = 40.0  # of the planned time: start of the processes, the bank to the device, summaries
TINY_RESERVE_S = 12.0
TINY_MINUTES = 0.8


def run_features(
    config: FeatureTrainConfig,
    out: Path,
    minutes: float,
    workers: int,
    device: str,
    reserve_s: float = RESERVE_S,
    bank: Path | None = None,
) -> list[Path]:
    """Run everything in ``minutes``; returns the weight files, one per seed.

    Writes ``config.json``, ``metrics.jsonl``, ``mtfeat64-seed*.safetensors``, ``summary.json`` and
    ``validation-seed*.npy`` into ``out``. The simulated volumes (1.3 MB each) lie in a temporary folder meanwhile, or
    stay in ``bank``: a run that finds them there simulates nothing.
    """
    if bank is not None:
        return _run(config, out, bank, minutes, workers, device, reserve_s)
    with tempfile.TemporaryDirectory(prefix="mtfeat-") as folder:
        return _run(config, out, Path(folder), minutes, workers, device, reserve_s)


def _run(
    config: FeatureTrainConfig, out: Path, folder: Path, minutes: float, workers: int, device: str, reserve_s: float
) -> list[Path]:
    start = time.perf_counter()
    planned = 60.0 * minutes - reserve_s
    if planned <= 0:
        raise ConfigError(f"expected more than {reserve_s:.0f} s, got {60 * minutes:.0f} s")
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(config.model_dump(mode="json"), indent=1) + "\n", encoding="utf-8")
    metrics = (out / "metrics.jsonl").open("w", encoding="utf-8")

    def say(line: str) -> None:
        sys.stdout.write(f"[{time.perf_counter() - start:6.1f}] {line}\n")
        sys.stdout.flush()

    def record(numbers: dict[str, Any]) -> None:
        metrics.write(json.dumps(numbers) + "\n")
        metrics.flush()

    torch.backends.cudnn.benchmark = True
    say(f"device {device}, {workers} workers, {minutes:.2f} minutes")
    if (folder / ROWS).exists():
        bank = load_feature_bank(config, folder)
    else:
        bank = build_feature_bank(config, folder, config.simulate_share * planned, workers, say)
    maker = ViewMaker(config, bank, torch.device(device))
    say(f"volumes ready on {device}")
    used = time.perf_counter() - start
    left, shares = planned - used, np.asarray(config.seed_shares) / np.sum(config.seed_shares)
    summary: dict[str, Any] = {"train_volumes": len(bank.train), "validation_volumes": len(bank.validation)}
    files = []
    for seed, share in zip(config.seeds, shares, strict=True):
        trained = train_extractor(config, maker, seed, max(left * share, 1.0), say, record)
        path = out / f"mtfeat64-seed{seed}.safetensors"
        save_weights(trained.net, path, {"seed": seed, "steps": trained.steps})
        files.append(path)
        say(f"seed {seed}: {trained.steps} steps in {trained.seconds:.0f} s, {path.stat().st_size} bytes")
        known, features = judge(config, maker, trained)
        np.save(out / f"validation-seed{seed}.npy", features)
        summary[f"seed{seed}"] = known
        (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
        say(f"seed {seed}: {json.dumps(known)}")
    metrics.close()
    say("done")
    return files


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 0 when done, 2 on a wrong request."""
    parser = argparse.ArgumentParser(prog="training/features.py", description="Train the feature extractor MTFeat-64.")
    parser.add_argument("--out", type=Path, metavar="DIR", help="receives weights and numbers")
    parser.add_argument("--minutes", type=float, help="for everything; it stops by then (default 8.5, --tiny 0.8)")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 1), help="simulating processes")
    parser.add_argument("--config", type=Path, metavar="TOML", help="read over the defaults")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--bank", type=Path, metavar="DIR", help="keep the simulated volumes there, or use those")
    parser.add_argument("--seed", type=int, help="train this one alone, with all of the time")
    parser.add_argument("--tiny", action="store_true", help="rehearsal within a minute on a CPU")
    parser.add_argument(
        "--release", nargs=2, metavar=("FILE", "VERSION"), help="put weights into the package, and stop"
    )
    options = parser.parse_args(arguments)
    try:
        if options.release:
            file, version = options.release
            sys.stdout.write(f"{version} {release(Path(file), version)}\n")
            return 0
        if options.out is None:
            parser.error("--out is required")
        config = load_feature_config(options.config, options.tiny)
        if options.seed is not None:
            config = config.model_copy(update={"seeds": (options.seed,), "seed_shares": (1.0,)})
        minutes = options.minutes or (TINY_MINUTES if options.tiny else 8.5)
        reserve = TINY_RESERVE_S if options.tiny else RESERVE_S
        run_features(config, options.out, minutes, options.workers, options.device, reserve, options.bank)
    except VqldmError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0
