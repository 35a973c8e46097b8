"""Folders whose rank is known, evaluated as files of another program: ``python benchmarks/folders.py [--workers N]``.

Another draw, the simulator with more filament, and degraded copies are written as OME-TIFF without a word of where they
came from and go through `napari-vqldm evaluate FOLDER` one by one. Writes results/folders.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from napari_vqldm.errors import VqldmError
from napari_vqldm.files import write_volume
from napari_vqldm.files.atomic import atomic_path
from napari_vqldm.metrics.degradations import blur, phase_scramble
from napari_vqldm.report.evaluate import evaluate
from napari_vqldm.report.parallel import Workers
from napari_vqldm.report.plan import QUICK
from napari_vqldm.report.rows import BLUR_UM, denser, recorded
from napari_vqldm.report.sets import VOXEL_SIZE_UM
from napari_vqldm.simulate.mt_sim import mt_sim_split, mt_sim_volumes
from napari_vqldm.volume import Volume

OUT = Path(__file__).parent / "results" / "folders.json"
FIRST = 100  # volumes of the extractor split that no row of `evaluate` takes
Array = npt.NDArray[np.float32]


def folders(count: int, workers: Workers) -> Iterator[tuple[str, Sequence[Array]]]:
    """Yield names and recorded volumes (Z, Y, X) of the sets, best first."""
    split = mt_sim_split("standard", "extractor")
    truths = list(mt_sim_volumes(split, range(FIRST, FIRST + count)))
    clean = torch.from_numpy(np.stack([truth.clean for truth in truths]))[:, None]
    draw = recorded([truth.clean for truth in truths], split, workers)
    yield "another draw", draw
    yield "25 % more filament", denser(mt_sim_split("standard", "test"), count, workers).volumes  # of no test volume
    yield "blurred", recorded([v.numpy() for v in blur(clean, BLUR_UM, VOXEL_SIZE_UM)[:, 0]], split, workers)
    yield "an eighth, repeated", [draw[i % max(1, count // 8)] for i in range(count)]
    scrambled = phase_scramble(clean, 1.0, torch.Generator().manual_seed(1))
    yield "phases scrambled", recorded([v.numpy() for v in scrambled[:, 0]], split, workers)


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate every folder and write what came out; 0 when done, 2 on bad input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=QUICK.count, help="volumes a folder")
    parser.add_argument("--workers", type=int, default=1, help="processes that simulate and measure")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(arguments)
    found: dict[str, Any] = {"volumes": options.count, "against": "standard", "folders": {}}
    try:
        with Workers(options.workers) as workers, tempfile.TemporaryDirectory() as parent:
            for name, volumes in folders(options.count, workers):
                folder = Path(parent) / name
                folder.mkdir()
                for number, data in enumerate(volumes):
                    write_volume(folder / f"volume-{number:03d}.ome.tif", Volume(data, VOXEL_SIZE_UM))
                start = time.perf_counter()
                result = evaluate(folder, mt_sim_split("standard", "test"), QUICK, workers=options.workers)
                row = result.scores["rows"]["candidate"]
                found["folders"][name] = {
                    "scorecard": row["scorecard"],
                    "verdicts": row["verdicts"],
                    "frechet": row["distances"]["frechet"],
                }
                seconds = time.perf_counter() - start
                print(f"{name}, {seconds:.0f} s: {found['folders'][name]}", file=sys.stderr, flush=True)
    except VqldmError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    with atomic_path(options.out, force=True) as temporary:
        temporary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
