"""Write the table of speeds into docs/simulator.md: ``python benchmarks/render_speed.py``.

Takes results/simulation_speed.json, and how often training uses a simulated volume from the presets.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tables import table

from napari_vqldm.training.config import SimulatedData, load_train_config

ROOT = Path(__file__).parent
SPEED = ROOT / "results" / "simulation_speed.json"
PAGE = ROOT.parent / "docs" / "simulator.md"
START, END = "<!-- speed: written by benchmarks/render_speed.py -->", "<!-- end of speed -->"
CORE_S, GPU_PER_S = 0.3, 700.0  # what the simulator was designed for: on one core, on an H100


def on_one_core(found: dict[str, Any]) -> list[str]:
    """Seconds per volume on one core."""
    rows = [
        [
            name,
            *(f"{row[key]:.2f}" for key in ("median_s", "p90_s", "mean_s")),
            str(row["psf_widths"]),
            "yes" if row["p90_s"] <= CORE_S else "median alone" if row["median_s"] <= CORE_S else "**no**",
        ]
        for name, row in found["rows"].items()
    ]
    count = next(iter(found["rows"].values()))["volumes"]
    head = ["s per volume", "median", "90th percentile", "mean", "PSF widths", f"within {CORE_S:g} s"]
    return [f"One core, {count} volumes each; {found['machine']}:", "", *table(head, rows)]


def in_processes(name: str, found: dict[str, Any]) -> list[str]:
    """Volumes per second of several processes."""
    rows = [[key, f"{row['volumes_per_s']:.1f}"] for key, row in found["rows"].items()]
    return [f"{name}; {found['machine']}:", "", *table(["", "volumes per s"], rows)]


def on_gpu(found: dict[str, Any]) -> list[str]:
    """Volumes per second on a GPU by batch size."""
    sizes = list(next(iter(found["rows"].values()))["batches"])
    rows = []
    for name, row in found["rows"].items():
        best = max(part["volumes_per_s"] for part in row["batches"].values())
        cells = [f"{row['batches'][s]['volumes_per_s']:.0f} ({row['batches'][s]['rendered_per_s']:.0f})" for s in sizes]
        rows.append([name, *cells, f"{row['scene_ms']:.0f}", "yes" if best >= GPU_PER_S else "**no**"])
    head = ["volumes per s", *(f"batch {s}" for s in sizes), "scene on one core, ms", f"{GPU_PER_S:g} per s"]
    return [f"{found['machine']}; in parentheses without drawing the scenes:", "", *table(head, rows)]


def reuse() -> list[str]:
    """How often training uses a volume of the bank."""
    rows = []
    for name in ("ldm", "vq-ldm"):
        config = load_train_config(name)
        data, first, codes, last = config.data, config.autoencoder, config.latents, config.denoiser
        if not isinstance(data, SimulatedData):
            continue
        uses = last.steps * last.batch_size / data.num_volumes
        rows.append(
            [
                f"`{name}`",
                f"{data.num_volumes:,}",
                f"{first.steps * first.batch_size / data.num_volumes:.1f}",
                str(codes.augmentations),
                f"{uses:.0f}",
                f"{uses / codes.augmentations:.0f}",
            ]
        )
    head = [
        "preset",
        "volumes",
        "crops of each in stage 1",
        "encodings in stage 2",
        "uses in stage 3",
        "of each encoding",
    ]
    return table(head, rows)


def main() -> int:
    """Write the block; 0 when done."""
    found = json.loads(SPEED.read_text(encoding="utf-8"))
    lines = [START, ""]
    for name, entry in found.items():
        if name == "cpu":
            lines += on_one_core(entry)
        elif "workers" in name:
            lines += in_processes(name, entry)
        else:
            lines += on_gpu(entry)
    lines += ["How often training uses each volume of its bank:", "", *reuse(), END]
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.partition(START)[0], text.partition(END)[2]
    PAGE.write_text(before + "\n".join(lines) + after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
