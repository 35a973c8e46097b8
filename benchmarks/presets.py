"""Presets of the simulator beside real images: ``python benchmarks/presets.py [FOLDER] [--count N]``.

FOLDER holds the public images that `preset_images` names; by default that of the environment variable
NAPARI_VQLDM_REAL_DATA. Real stacks are cut to the extent of the preset, volumes are simulated at the voxel size of
each of them, and both are measured by `preset_measures`. Writes a table, ``results/presets.json`` and one figure per
preset. Spreads are those over images: no interval of a mean.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from preset_images import REAL, Picture, like
from preset_measures import FloatArray, Measured, intensity_distance, measure, shape_of
from presets_figure import figure

from napari_vqldm.errors import VqldmError
from napari_vqldm.files.atomic import atomic_path

HERE = Path(__file__).parent
DEFAULT_OUT = HERE / "results" / "presets.json"
DEFAULT_MEDIA = HERE.parent / "docs" / "media"
SEED = 41_000_000  # far from the seeds that training and benchmarks use
# Cycles per um, inside the band of every image.
LATERAL = {"spindle": np.arange(0.2, 1.41, 0.1), "interphase": np.arange(0.25, 3.51, 0.25)}
AXIAL = np.arange(0.2, 0.66, 0.05)


def measure_all(preset: str, pictures: Sequence[Picture]) -> list[Measured]:
    """Measure every picture of a preset."""
    return [measure(p.data, p.voxel_size_um, filaments=preset == "interphase") for p in pictures]


def compare(preset: str, real: Sequence[Measured], simulated: Sequence[Measured]) -> dict[str, Any]:
    """Put both sets of numbers side by side."""
    numbers = {name: {"real": _spread(real, name), "simulated": _spread(simulated, name)} for name in real[0].numbers}
    spectra = {"lateral": _spectra([m.lateral for m in real], [m.lateral for m in simulated], LATERAL[preset])}
    if real[0].axial is not None:
        spectra["axial"] = _spectra([m.axial for m in real], [m.axial for m in simulated], AXIAL)
    alone = [intensity_distance([m], [other for other in real if other is not m]) for m in real]
    single = [intensity_distance([m], real) for m in simulated]
    return {
        "numbers": numbers,
        "spectra": spectra,
        "intensity_w1": {
            "simulated_pooled": intensity_distance(simulated, real),
            "simulated_alone": [min(single), float(np.median(single)), max(single)],
            "real_alone": [min(alone), float(np.median(alone)), max(alone)],
        },
    }


def _spread(measured: Sequence[Measured], name: str) -> dict[str, Any]:
    """Minimum, median and maximum over those images that have the number."""
    values = np.array([m.numbers[name] for m in measured])
    known = values[np.isfinite(values)]
    if not known.size:
        return {"images": 0, "low": None, "median": None, "high": None}
    return {
        "images": int(known.size),
        "low": float(known.min()),
        "median": float(np.median(known)),
        "high": float(known.max()),
    }


def _spectra(real: Sequence[Any], simulated: Sequence[Any], frequency: FloatArray) -> dict[str, Any]:
    """Shapes of spectra in dB: the range of the real ones, of the simulated ones, and how far their means differ."""
    a, b = (np.array([shape_of(s, frequency) for s in spectra]) for spectra in (real, simulated))
    alone = [_rms(row - np.delete(a, k, axis=0).mean(axis=0)) for k, row in enumerate(a)]
    mean = b.mean(axis=0)
    return {
        "frequency_per_um": frequency.round(3).tolist(),
        "real_low_db": a.min(axis=0).tolist(),
        "real_high_db": a.max(axis=0).tolist(),
        "real_mean_db": a.mean(axis=0).tolist(),
        "simulated_mean_db": mean.tolist(),
        "simulated_low_db": b.min(axis=0).tolist(),
        "simulated_high_db": b.max(axis=0).tolist(),
        "rms_of_means_db": _rms(mean - a.mean(axis=0)),
        "rms_real_alone_db": [min(alone), float(np.median(alone)), max(alone)],
        "share_in_real_range": float(((mean >= a.min(axis=0)) & (mean <= a.max(axis=0))).mean()),
    }


def _rms(values: FloatArray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def table_of(comparison: dict[str, Any]) -> list[str]:
    """Lines of the table: median and range of real and simulated images."""
    lines = [f"{'':18} {'real':>28} {'simulated':>28}"]
    for name, row in comparison["numbers"].items():
        lines.append(f"{name:18} {_text(row['real']):>28} {_text(row['simulated']):>28}")
    for name, s in comparison["spectra"].items():
        low, middle, high = s["rms_real_alone_db"]
        lines.append(
            f"{name + ' spectrum':18} rms {s['rms_of_means_db']:.2f} dB between the means; one real image to the mean "
            f"of the others {middle:.2f} ({low:.2f} to {high:.2f}); inside the real range at "
            f"{s['share_in_real_range']:.0%} of the frequencies"
        )
    w = comparison["intensity_w1"]
    lines.append(
        f"intensity W1       pooled {w['simulated_pooled']:.3f}; one simulated image to all real ones "
        f"{w['simulated_alone'][1]:.3f} ({w['simulated_alone'][0]:.3f} to {w['simulated_alone'][2]:.3f}); one real "
        f"image to the others {w['real_alone'][1]:.3f} ({w['real_alone'][0]:.3f} to {w['real_alone'][2]:.3f})"
    )
    return lines


def _text(spread: dict[str, Any]) -> str:
    if not spread["images"]:
        return "none"
    return f"{spread['median']:.3f} ({spread['low']:.3f} to {spread['high']:.3f})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; 0 when written, 2 on a wrong request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", metavar="FOLDER", help="holds the real images")
    parser.add_argument("--preset", action="append", choices=list(REAL), help="repeatable; default all")
    parser.add_argument("--count", type=int, default=3, help="simulated volumes per real image")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT)
    parser.add_argument("--media", type=Path, default=DEFAULT_MEDIA, help="folder of the figures")
    options = parser.parse_args(arguments)
    named = os.environ.get("NAPARI_VQLDM_REAL_DATA", "")
    folder = options.folder or (Path(named) if named else None)
    if folder is None or options.count < 1:
        print("expected a FOLDER (or NAPARI_VQLDM_REAL_DATA) and a count of 1 or more", file=sys.stderr)
        return 2
    results: dict[str, Any] = {}
    try:
        for name in options.preset or list(REAL):
            real = list(REAL[name](folder))
            simulated = list(like(name, real, options.count, SEED))
            measured = measure_all(name, real), measure_all(name, simulated)
            results[name] = compare(name, *measured) | {"seed": SEED, "real_images": [p.name for p in real]}
            print(f"{name}: {len(real)} real images, {len(simulated)} simulated\n" + "\n".join(table_of(results[name])))
            options.media.mkdir(parents=True, exist_ok=True)
            picture = figure(name, real, simulated, measured, results[name])
            (options.media / f"preset-{name}.png").write_bytes(picture)
    except VqldmError as error:
        print(error, file=sys.stderr)
        return 2
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(options.out, True) as partial:
        partial.write_text(json.dumps({"format": 1, "presets": results}, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
