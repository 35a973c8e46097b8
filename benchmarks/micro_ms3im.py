"""What MicroMS3IM gives to volumes that know nothing: ``python benchmarks/micro_ms3im.py`` (needs ``microssim``).

A constant, the noisy input and the Gaussian filter against the noise-free truth, first test volumes of every tier of
MT-Sim v1. Writes results/micro_ms3im.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from napari_vqldm.files.atomic import atomic_path
from napari_vqldm.metrics.micro_ms3im import micro_ms3im_slice_mean
from napari_vqldm.report.fidelity import gaussian_sigma, row_volumes
from napari_vqldm.simulate.mt_sim import TIERS, mt_sim_split, mt_sim_volumes

OUT = Path(__file__).parent / "results" / "micro_ms3im.json"
ROWS = ("blank", "noisy", "gaussian")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write; 0 when done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=8, help="volumes of each tier")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    tiers = {}
    for name in TIERS:
        split = mt_sim_split(name, "test")
        scores: dict[str, list[float]] = {row: [] for row in ROWS}
        for truth in mt_sim_volumes(split, range(options.count)):
            rows = row_volumes(None, truth, split.voxel_size_um, gaussian_sigma(split))
            for row in ROWS:
                scores[row].append(micro_ms3im_slice_mean(rows[row], truth.clean))
        tiers[name] = {
            row: {"mean": float(np.mean(found)), "lowest": min(found), "highest": max(found)}
            for row, found in scores.items()
        }
        print(f"{name}: {tiers[name]}", file=sys.stderr, flush=True)
    result = {"volumes": options.count, "microssim": version("microssim"), "tiers": tiers}
    with atomic_path(options.out, True) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
