"""Numbers that belong to MT-Sim v1: ``python benchmarks/mt_sim.py [--unit | --floors | --first] [TIER ...]``.

Writes what noisy, filtered, pooled and blank volumes score on each tier, the same of the first test volume alone (which
the tests compute again), the floors of sets, and fingerprints of the first volumes of every split to the package's
data. ``--unit``: measure the unit of the features instead; ``--floors``: the floors of sets alone, as after a release
of other features; ``--first``: the first test volume alone.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import platform
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_vqldm.files import atomic_path
from napari_vqldm.metrics.feature_unit import measure_unit, save_unit, unit_file
from napari_vqldm.metrics.features import load_extractor
from napari_vqldm.report import fidelity
from napari_vqldm.report.profile import profile
from napari_vqldm.report.scores import DISTANCES, SHARES, floors
from napari_vqldm.report.set_numbers import MEASURES
from napari_vqldm.report.sets import VOXEL_SIZE_UM
from napari_vqldm.simulate.mt_sim import SPLITS, TIERS, fingerprint, mt_sim_split, mt_sim_volumes
from napari_vqldm.volume import Float3

OUT = Path(__file__).parents[1] / "src" / "napari_vqldm" / "simulate" / "data" / "mt-sim-v1-expected.json"
FINGERPRINTS = 2  # volumes of every split
TRACED = ("noisy", "gaussian")  # half a second more each


def first_volume(name: str, sigma: Float3) -> dict[str, dict[str, float | None]]:
    """Score every row but the model's on volume 0 of a tier's test split; None where a number is not finite.

    Parameters
    ----------
    name : str
        Tier.
    sigma : tuple of float
        Width (z, y, x) of the Gaussian filter, voxels.
    """
    split = mt_sim_split(name, "test")
    (truth,) = mt_sim_volumes(split, [0])
    rows = fidelity.row_volumes(None, truth, split.voxel_size_um, sigma)
    found = {
        row: fidelity.score_row(volume, truth, split.voxel_size_um, traced=row in TRACED)
        for row, volume in rows.items()
    }
    return {
        row: {number: value if math.isfinite(value) else None for number, value in numbers.items()}
        for row, numbers in found.items()
    }


def tier_numbers(count: int, name: str, only_floors: bool = False) -> dict[str, Any]:
    """Everything about one tier."""
    torch.set_num_threads(1)
    split = mt_sim_split(name, "test")
    volumes = list(mt_sim_volumes(split, range(count)))
    extractor = load_extractor()
    second = mt_sim_volumes(mt_sim_split(name, "val"), range(count))
    pool = [profile(v.recorded, VOXEL_SIZE_UM, extractor) for vs in (volumes, second) for v in vs]
    floor = floors(pool, count)
    found: dict[str, Any] = {
        "floors": {
            "volumes": count,
            "mean": {n: floor.mean[n] for n in (*DISTANCES, *SHARES)},
            "sd": {n: floor.sd[n] for n in (*DISTANCES, *SHARES, *MEASURES)},
        },
    }
    if only_floors:
        print(f"{name}: done", file=sys.stderr)
        return found
    for table in fidelity.fidelity_scores(None, volumes, split):
        found |= {"reconstruction": table} if table else {}
    found |= {"first_volume": first_volume(name, found["reconstruction"]["gaussian_sigma_voxels"])}
    prints = {
        split_name: [fingerprint(v) for v in mt_sim_volumes(mt_sim_split(name, split_name), range(FINGERPRINTS))]
        for split_name in SPLITS
    }
    print(f"{name}: done", file=sys.stderr)
    return found | {"fingerprints": prints}


def platform_name() -> str:
    """On what the hashes hold to the last bit."""
    return f"torch {torch.__version__}, {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"


def unit(count: int) -> None:
    """Measure the unit of the features on the extractor split."""
    extractor = load_extractor()
    split = mt_sim_split("standard", "extractor")
    rows = extractor((v.recorded for v in mt_sim_volumes(split, range(count))), VOXEL_SIZE_UM)
    path = unit_file(extractor.version)
    save_unit(measure_unit(np.asarray(rows)), path)
    print(f"{path}: {count} volumes", file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write; 0 when done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tiers", nargs="*", default=list(TIERS), help=f"default: {', '.join(TIERS)}")
    parser.add_argument("--count", type=int, default=64, help="volumes of each set")
    parser.add_argument("--unit", action="store_true", help="measure the unit of the features on the extractor split")
    parser.add_argument("--floors", action="store_true", help="measure the floors alone, keep the rest")
    parser.add_argument("--first", action="store_true", help="score the first test volume alone, keep the rest")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args(arguments)
    if options.unit:
        unit(mt_sim_split("standard", "extractor").count)
        return 0
    known = json.loads(OUT.read_text(encoding="utf-8")) if OUT.is_file() else {"tiers": {}}
    tiers = dict(known["tiers"])
    if options.first:
        sigmas = {name: tiers[name]["reconstruction"]["gaussian_sigma_voxels"] for name in options.tiers}
        found = [{"first_volume": first_volume(name, sigma)} for name, sigma in sigmas.items()]
    else:
        with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
            measure = partial(tier_numbers, options.count, only_floors=options.floors)
            found = pool.map(measure, options.tiers, chunksize=1)
    for name, numbers in zip(options.tiers, found, strict=True):
        tiers[name] = tiers.get(name, {}) | numbers
    result = {
        "version": 1,
        "platform": platform_name(),
        "tiers": {name: tiers[name] for name in TIERS if name in tiers},
    }
    with atomic_path(OUT, True) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
