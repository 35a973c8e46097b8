"""How fast volumes are simulated: ``python benchmarks/simulation_speed.py [--device cuda] [--workers N]``.

Every tier of MT-Sim v1 and both presets, noise-free volume and recording of 32 x 128 x 128 voxels; a preset is imaged
over its own extent. Without ``--workers``, on one thread: CPU seconds per volume, median and 90th percentile, the cost
of every point spread function that is new on the way included, and how many there were; processor time, so that other
work on the machine hardly counts. On a GPU: volumes per second in batches, drawing the scenes on one core included and
left out. With ``--workers N``: volumes per second of N processes. Writes results/simulation_speed.json, one entry per
device and number of workers; the others stay.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_vqldm.config import SimulationConfig
from napari_vqldm.files.atomic import atomic_path
from napari_vqldm.simulate import Simulator
from napari_vqldm.simulate.presets import PRESETS, preset
from napari_vqldm.simulate.tiers import TIERS, tier

OUT = Path(__file__).parent / "results" / "simulation_speed.json"
WINDOW = (32, 128, 128)
SEED = 20_260
BATCHES = (1, 8, 32)


def distributions() -> dict[str, SimulationConfig]:
    """Tiers, then presets over their own extent, all on the window of the models."""
    found = {name: tier(name) for name in TIERS}
    for name in PRESETS:
        config = preset(name)
        size = tuple(n * s / w for n, s, w in zip(config.shape, config.voxel_size_um, WINDOW, strict=True))
        found[name] = config.model_copy(update={"shape": WINDOW, "voxel_size_um": size})
    return found


def machine(device: str) -> str:
    """Name of the processor and, where it is used, of the GPU."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    gpu = f"{torch.cuda.get_device_name(device)}, " if device != "cpu" else ""
    return f"{gpu}{name}, {os.cpu_count()} cores, torch {torch.__version__}"


def on_one_core(config: SimulationConfig, count: int) -> dict[str, Any]:
    """CPU seconds per volume, one after another as a new process makes them."""
    torch.set_num_threads(1)
    simulator = Simulator(config)
    seconds, widths = [], set()
    for index in range(count):
        start = time.process_time()
        batch = simulator.sample(SEED, [index])
        seconds.append(time.process_time() - start)
        widths.add(batch.parameters[0].psf_width_factor)
    return {
        "volumes": count,
        "psf_widths": len(widths),
        "median_s": round(float(np.median(seconds)), 3),
        "p90_s": round(float(np.percentile(seconds, 90)), 3),
        "mean_s": round(float(np.mean(seconds)), 3),
        "first_s": round(seconds[0], 3),
    }


def on_gpu(config: SimulationConfig, device: str, count: int) -> dict[str, Any]:
    """Volumes per second by batch size: all of it, and rendering and recording of drawn scenes alone."""
    simulator = Simulator(config, device)
    start = time.perf_counter()
    scenes = [simulator.scene(SEED, index) for index in range(count)]
    drawing = (time.perf_counter() - start) / count
    simulator.render(scenes)  # every point spread function once
    found: dict[str, Any] = {"volumes": count, "scene_ms": round(1000 * drawing, 2), "batches": {}}
    for size in BATCHES:
        torch.cuda.synchronize(device)
        start = time.perf_counter()
        for first in range(0, count, size):
            simulator.render(scenes[first : first + size])
        torch.cuda.synchronize(device)
        rendering = (time.perf_counter() - start) / count
        found["batches"][str(size)] = {
            "volumes_per_s": round(1 / (drawing + rendering), 1),
            "rendered_per_s": round(1 / rendering, 1),
        }
    return found


def _simulator(config: str) -> Simulator:
    """One per process and distribution."""
    if config not in _known:
        torch.set_num_threads(1)
        _known[config] = Simulator(SimulationConfig.model_validate_json(config))
    return _known[config]


_known: dict[str, Simulator] = {}


def _one(config: str, index: int) -> int:
    _simulator(config).sample(SEED, [index])
    return index


def in_processes(config: SimulationConfig, workers: int, count: int) -> dict[str, Any]:
    """Volumes per second of processes that have started and seen the first point spread functions."""
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        one = partial(_one, config.model_dump_json())
        pool.map(one, range(4 * workers), chunksize=1)
        start = time.perf_counter()
        pool.map(one, range(4 * workers, 4 * workers + count), chunksize=1)
        seconds = time.perf_counter() - start
    return {"volumes": count, "volumes_per_s": round(count / seconds, 2)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write; 0 when done, 2 on a wrong request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--workers", type=int, default=1, help="processes of one thread, on the CPU")
    parser.add_argument("--count", type=int, help="volumes of each distribution; 40, on a GPU 64, by default")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(arguments)
    if options.device != "cpu" and not torch.cuda.is_available():
        print(f"error: --device {options.device}: no GPU here", file=sys.stderr)
        return 2
    key = f"{options.device}, {options.workers} workers" if options.workers > 1 else options.device
    rows: dict[str, Any] = {}
    found = json.loads(options.out.read_text(encoding="utf-8")) if options.out.is_file() else {}
    for name, config in distributions().items():
        if options.device != "cpu":
            rows[name] = on_gpu(config, options.device, options.count or 2 * BATCHES[-1])
        elif options.workers > 1:
            rows[name] = in_processes(config, options.workers, options.count or 40)
        else:
            rows[name] = on_one_core(config, options.count or 40)
        print(f"{name}: {rows[name]}", file=sys.stderr, flush=True)
        found[key] = {"machine": machine(options.device), "rows": rows}
        with atomic_path(options.out, True) as temporary:  # after each: a run that is cut off leaves what it has
            temporary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
