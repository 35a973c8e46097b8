"""A bank of simulated clean volumes, made once, memory-mapped, resumable chunk by chunk.

Simulation costs more than a training step, so scenes are reused; crop, flips, turns and photon noise are drawn afresh
at every use. Volume i of a seed is the same whatever the size of the bank.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_vqldm.config import SimulationConfig, to_json
from napari_vqldm.simulate import Simulator
from napari_vqldm.training.folder import RunFolder, read_json, save_array, write_json

CHUNK = 16  # volumes of one file
SIMULATED_AT_ONCE = 4
HELD_OUT_START = 10_000_000  # sample indices from here on are never trained on


@dataclass(frozen=True)
class BankStep:
    """Progress of a build."""

    index: int
    total: int


@dataclass(frozen=True)
class VolumeBank:
    """Simulated clean volumes on disk.

    ``folder`` holds chunks ``train-00000.npy`` (n, Z, Y, X), float16, filament units, and ``train-00000.json`` with the
    parameters of each volume; ``held_out-*`` likewise.
    """

    folder: Path
    num_volumes: int
    held_out: int

    @cached_property
    def _chunks(self) -> dict[str, list[npt.NDArray[np.float16]]]:
        counts = {"train": self.num_volumes, "held_out": self.held_out}
        return {
            part: [np.load(self.folder / f"{part}-{start:06d}.npy", mmap_mode="r") for start in range(0, count, CHUNK)]
            for part, count in counts.items()
        }

    @cached_property
    def parameters(self) -> dict[str, list[dict[str, Any]]]:
        """Parameters by part: each entry has "condition" (name to value) and "sample" (everything drawn)."""
        counts = {"train": self.num_volumes, "held_out": self.held_out}
        return {
            part: [
                entry
                for start in range(0, count, CHUNK)
                for entry in json.loads((self.folder / f"{part}-{start:06d}.json").read_text(encoding="utf-8"))
            ]
            for part, count in counts.items()
        }

    def volume(self, part: str, index: int) -> npt.NDArray[np.float16]:
        """Return a memory-mapped clean volume (Z, Y, X), filament units; ``part`` is "train" or "held_out"."""
        volume: npt.NDArray[np.float16] = self._chunks[part][index // CHUNK][index % CHUNK]
        return volume


def bank_for(folder: RunFolder, config: SimulationConfig, seed: int, num_volumes: int, held_out: int) -> VolumeBank:
    """Return the bank of a run: the one that it started with, else the one of this configuration and code."""
    record = folder.path / "cache" / "bank.json"
    known = read_json(record)
    if known is None:
        known = {"folder": f"bank-{_fingerprint(config, seed)}"}
        write_json(record, known)
    return VolumeBank(folder.cache / known["folder"], num_volumes, held_out)


def build_bank(
    bank: VolumeBank, config: SimulationConfig, seed: int, device: str, check: Callable[[], None]
) -> Iterator[BankStep]:
    """Simulate what is missing. ``check`` is called between volumes and may raise to stop the build.

    A chunk is complete when its ``.npy`` file exists; the parameters are written before it.
    """
    simulator = Simulator(config, device=device)
    jobs = [("train", start, min(CHUNK, bank.num_volumes - start), 0) for start in range(0, bank.num_volumes, CHUNK)]
    jobs += [
        ("held_out", start, min(CHUNK, bank.held_out - start), HELD_OUT_START)
        for start in range(0, bank.held_out, CHUNK)
    ]
    total = bank.num_volumes + bank.held_out
    done = 0
    for part, start, count, offset in jobs:
        path = bank.folder / f"{part}-{start:06d}.npy"
        if not path.exists() or len(np.load(path, mmap_mode="r")) < count:  # a smaller bank may have left a short chunk
            volumes, entries = [], []
            for first in range(0, count, SIMULATED_AT_ONCE):
                check()
                indices = range(offset + start + first, offset + start + min(first + SIMULATED_AT_ONCE, count))
                batch = simulator.sample(seed, indices, noisy=False)
                volumes.append(batch.clean[:, 0].cpu().numpy().astype(np.float16))
                entries += [{"condition": p.condition_values(), "sample": p.to_dict()} for p in batch.parameters]
                yield BankStep(done + first + len(indices), total)
            write_json(path.with_suffix(".json"), entries)
            save_array(path, np.concatenate(volumes))
        done += count
        yield BankStep(done, total)


def _fingerprint(config: SimulationConfig, seed: int) -> str:
    """Hash of configuration, seed and simulator code: volumes of an older simulator are not mixed in."""
    digest = hashlib.sha256(f"{to_json(config)} {seed} {CHUNK}".encode())
    for path in sorted(Path(inspect.getfile(Simulator)).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
