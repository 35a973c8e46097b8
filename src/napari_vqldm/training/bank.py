"""A bank of simulated clean volumes, made once, memory-mapped, resumable chunk by chunk.

Simulation costs more than a training step, so scenes are reused; crop, flips, turns and photon noise are drawn afresh
at every use. By the presets `ldm` and `vq-ldm` each of 8,000 volumes is cropped once or twice in stage 1 and encoded
twice in stage 2, and either encoding is seen some 20 times in stage 3 (docs/simulator.md). Volume i of a seed is the
same whatever the size of the bank.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_vqldm.config import SimulationConfig, to_json
from napari_vqldm.errors import TrainingError
from napari_vqldm.processes import MOST_WORKERS, POLL_SECONDS, become_worker, interrupts_held_back
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
        known = {"folder": bank_name(config, seed)}
        write_json(record, known)
    return VolumeBank(folder.cache / known["folder"], num_volumes, held_out)


@dataclass(frozen=True)
class _Chunk:
    """One file of a bank: volumes ``first`` to ``first + count`` of the seed."""

    path: Path
    first: int
    count: int

    def is_missing(self) -> bool:
        """Tell whether it has to be made; a smaller bank may have left a short chunk."""
        return not self.path.exists() or len(np.load(self.path, mmap_mode="r")) < self.count


def build_bank(
    bank: VolumeBank, config: SimulationConfig, seed: int, device: str, check: Callable[[], None], workers: int = 1
) -> Iterator[BankStep]:
    """Simulate what is missing. ``check`` is called between volumes and may raise to stop the build.

    A chunk is complete when its ``.npy`` file exists; the parameters are written before it. Two or more ``workers``
    are processes of one thread each that image on the CPU whatever ``device`` is: drawing the filaments costs as much
    as imaging them, and a GPU waits for it. They are spawned: a script that trains needs an
    ``if __name__ == "__main__"`` around it.

    Raises
    ------
    TrainingError
        If a worker dies.
    """
    counts = {"train": (bank.num_volumes, 0), "held_out": (bank.held_out, HELD_OUT_START)}
    chunks = [
        _Chunk(bank.folder / f"{part}-{start:06d}.npy", offset + start, min(CHUNK, count - start))
        for part, (count, offset) in counts.items()
        for start in range(0, count, CHUNK)
    ]
    missing = [chunk for chunk in chunks if chunk.is_missing()]
    total = bank.num_volumes + bank.held_out
    done = total - sum(chunk.count for chunk in missing)
    yield BankStep(done, total)
    if workers > 1 and len(missing) > 1:
        for count in _build_in_processes(missing, config, seed, check, min(workers, len(missing), MOST_WORKERS)):
            done += count
            yield BankStep(done, total)
        return
    simulator = Simulator(config, device=device)
    for chunk in missing:
        for count in _build_chunk(chunk, simulator, seed, check):
            done += count
            yield BankStep(done, total)


def _build_chunk(chunk: _Chunk, simulator: Simulator, seed: int, check: Callable[[], None]) -> Iterator[int]:
    """Simulate and write one chunk; yields the number of volumes done since the last one."""
    volumes, entries = [], []
    for first in range(0, chunk.count, SIMULATED_AT_ONCE):
        check()
        indices = range(chunk.first + first, chunk.first + min(first + SIMULATED_AT_ONCE, chunk.count))
        batch = simulator.sample(seed, indices, noisy=False)
        volumes.append(batch.clean[:, 0].cpu().numpy().astype(np.float16))
        entries += [{"condition": p.condition_values(), "sample": p.to_dict()} for p in batch.parameters]
        yield len(indices)
    write_json(chunk.path.with_suffix(".json"), entries)
    save_array(chunk.path, np.concatenate(volumes))


def _build_in_processes(
    chunks: Sequence[_Chunk], config: SimulationConfig, seed: int, check: Callable[[], None], workers: int
) -> Iterator[int]:
    """Simulate chunks side by side; yields the volumes of each finished one."""
    context = multiprocessing.get_context("spawn")  # a fork would inherit the state of a GPU, which it must not touch
    stopped = context.RawValue("b", 0)  # without a lock, which a worker might hold when it is killed
    with ProcessPoolExecutor(workers, context, _start_worker, (config, seed, stopped)) as pool:
        try:
            with interrupts_held_back():  # the workers start with the first chunk
                waiting = {pool.submit(_work, chunk): chunk.count for chunk in chunks}
            while waiting:
                check()
                for future in wait(waiting, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED).done:
                    future.result()
                    yield waiting.pop(future)
        except BrokenProcessPool:
            check()  # a signal to all processes ends the workers first
            raise TrainingError(
                "a simulating process died, perhaps for lack of memory: run again with a smaller data.workers"
            ) from None
        finally:
            stopped.value = 1
            pool.shutdown(wait=True, cancel_futures=True)


def _start_worker(config: SimulationConfig, seed: int, stopped: Any) -> None:
    become_worker()
    _worker.update(simulator=Simulator(config), seed=seed, stopped=stopped)


_worker: dict[str, Any] = {}  # of a worker process: its simulator, its seed, and whether to stop


def _work(chunk: _Chunk) -> None:
    def check() -> None:
        if _worker["stopped"].value:
            raise CancelledError

    for _ in _build_chunk(chunk, _worker["simulator"], _worker["seed"], check):
        pass


def bank_name(config: SimulationConfig, seed: int) -> str:
    """Hash configuration, seed and simulator code to a folder name: volumes of an older simulator are not mixed in."""
    digest = hashlib.sha256(f"{to_json(config)} {seed} {CHUNK}".encode())
    for path in sorted(Path(inspect.getfile(Simulator)).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return f"bank-{digest.hexdigest()[:12]}"
