"""Compare estimates with what jobs take: ``python benchmarks/estimates.py [MODEL ...] [--out RESULT.json]``.

Seven jobs of different size, each in a fresh process: the most resident memory beyond that of the process with the
loaded model (Linux), and the time beside an estimate from a self-test in a process before. Wanted: memory within 30 %,
time within a factor of 2. The memory of sampling differs from run to run by holes in the heap: ``--repeats 3`` takes
medians. ``--out`` adds to the file. ``--busy`` counts processor time on one thread instead of wall time, on a machine
that others use.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tables import table

from napari_vqldm.checkpoint import Model
from napari_vqldm.estimate import (
    Estimate,
    estimate_generation,
    estimate_interpolation,
    estimate_reconstruction,
    estimate_uncertainty,
)
from napari_vqldm.generate import generate
from napari_vqldm.interpolate import interpolate
from napari_vqldm.memory import free_memory
from napari_vqldm.reconstruct import reconstruct
from napari_vqldm.self_test import SelfTest, self_test
from napari_vqldm.uncertainty import uncertainty
from napari_vqldm.volume import Volume
from napari_vqldm.zoo import NAMES, load

VOXEL_SIZE_UM, OTHER_VOXEL_SIZE_UM = (0.2, 0.1, 0.1), (0.3, 0.1, 0.1)
MEMORY_SHARE, TIME_FACTOR = 0.3, 2.0
MIB = 2**20


def stack(shape: tuple[int, int, int], voxel_size_um: tuple[float, float, float] = VOXEL_SIZE_UM) -> Volume:
    """Bright lines in noise."""
    data = np.random.default_rng(0).normal(100.0, 5.0, shape).astype(np.float32)
    data[:, ::7] += 100.0
    return Volume(data, voxel_size_um)


def jobs() -> dict[str, tuple[Callable[[Model, SelfTest], Estimate], Callable[[Model], Callable[[], object]]]]:
    """Name of each job: how it is estimated, and how it is prepared; what is prepared is run."""

    def stack_job(shape: tuple[int, int, int], sizes: tuple[float, float, float]) -> Any:
        def prepare(model: Model) -> Callable[[], object]:
            volume = stack(shape, sizes)
            return lambda: reconstruct(model, volume)

        return lambda model, test: estimate_reconstruction(model, shape, sizes, self_test=test), prepare

    def draws(model: Model) -> Callable[[], object]:
        volume = stack((40, 256, 256))
        return lambda: uncertainty(model, volume, 3)

    return {
        "generate one window, 10 steps": (
            lambda model, test: estimate_generation(model, steps=10, self_test=test),
            lambda model: lambda: generate(model, steps=10),
        ),
        "generate 3, heun, 4 steps, guidance 1.5": (
            lambda model, test: estimate_generation(
                model, 3, steps=4, sampler="heun", guidance_scale=1.5, self_test=test
            ),
            lambda model: lambda: generate(model, 3, steps=4, sampler="heun", guidance_scale=1.5),
        ),
        "reconstruct 32 x 128 x 128": stack_job((32, 128, 128), VOXEL_SIZE_UM),
        "reconstruct 40 x 256 x 256, other voxel size": stack_job((40, 256, 256), OTHER_VOXEL_SIZE_UM),
        "reconstruct 64 x 512 x 512": stack_job((64, 512, 512), VOXEL_SIZE_UM),
        "uncertainty of 40 x 256 x 256, 3 draws": (
            lambda model, test: estimate_uncertainty(model, (40, 256, 256), VOXEL_SIZE_UM, 3, self_test=test),
            draws,
        ),
        "interpolate 3 frames between seeds, 5 steps": (
            lambda model, test: estimate_interpolation(model, 3, steps=5, self_test=test),
            lambda model: lambda: interpolate(model, 1, 2, [0.25, 0.5, 0.75], steps=5),
        ),
    }


def status_bytes(key: str) -> int:
    """Return a size from /proc/self/status."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"/proc/self/status has no {key}: this benchmark needs Linux")


def run_job(name: str, model_name: str, test: SelfTest, clock: Callable[[], float]) -> dict[str, float]:
    """Run one job in this process."""
    model = load(model_name)
    estimating, preparing = jobs()[name]
    estimate, job = estimating(model, test), preparing(model)
    free_memory()  # what loading left free in the heap would hide a part of what the job takes
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak counts from here
    before = status_bytes("VmRSS")
    began = clock()
    result = job()
    seconds = clock() - began
    del result
    return {
        "memory_bytes": estimate.memory_bytes,
        "measured_bytes": status_bytes("VmHWM") - before,
        "seconds": estimate.seconds,
        "measured_seconds": seconds,
    }


def in_child(arguments: Sequence[str]) -> Any:
    """Run this script again and return the JSON that it prints last."""
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def is_good(row: dict[str, float]) -> tuple[bool, bool]:
    """Whether memory and time are near enough."""
    memory = abs(row["memory_bytes"] / row["measured_bytes"] - 1.0) <= MEMORY_SHARE
    time_ratio = row["seconds"] / row["measured_seconds"]
    return memory, 1.0 / TIME_FACTOR <= time_ratio <= TIME_FACTOR


def show(name: str, rows: dict[str, dict[str, float]]) -> None:
    """Print the table of one model."""
    cells = []
    for job, row in rows.items():
        memory, seconds = is_good(row)
        cells.append(
            [
                job,
                f"{row['memory_bytes'] / MIB:.0f}",
                f"{row['measured_bytes'] / MIB:.0f}",
                f"{row['memory_bytes'] / row['measured_bytes']:.2f}{'' if memory else ' !'}",
                f"{row['seconds']:.1f}",
                f"{row['measured_seconds']:.1f}",
                f"{row['seconds'] / row['measured_seconds']:.2f}{'' if seconds else ' !'}",
            ]
        )
    print("\n".join(table([name, "MiB told", "MiB taken", "ratio", "s told", "s taken", "ratio"], cells)), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", default=list(NAMES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--busy", action="store_true", help="processor time on one thread")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--jobs", nargs="*", default=list(jobs()), help="of the table alone")
    parser.add_argument("--child", nargs="*", help=argparse.SUPPRESS)  # self-test, or a job and its self-test as JSON
    options = parser.parse_args(arguments)
    threads = 1 if options.busy else options.threads
    torch.set_num_threads(threads)
    clock = time.process_time if options.busy else time.perf_counter
    if options.child is not None:
        time.perf_counter = clock  # the self-test counts alike
        if options.child:
            name, test = options.child
            found: dict[str, Any] = run_job(name, options.models[0], SelfTest.from_dict(json.loads(test)), clock)
        else:
            found = self_test(load(options.models[0])).to_dict()
        print(json.dumps(found))
        return 0
    shared = ["--threads", str(threads), *(["--busy"] if options.busy else [])]
    known = json.loads(options.out.read_text(encoding="utf-8")) if options.out and options.out.exists() else {}
    for model in options.models:
        test = in_child([model, *shared, "--child"])
        rows = {}
        for name in options.jobs:
            runs = [in_child([model, *shared, "--child", name, json.dumps(test)]) for _ in range(options.repeats)]
            rows[name] = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        show(model, rows)
        rows = {**known.get(model, {}).get("jobs", {}), **rows}
        known[model] = {"self_test": test, "jobs": rows, "clock": "processor" if options.busy else "wall"}
    if options.out is not None:
        options.out.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
    return (
        0 if all(all(is_good(known[model]["jobs"][name])) for model in options.models for name in options.jobs) else 1
    )


if __name__ == "__main__":
    sys.exit(main())
