"""Take the pictures of docs/codes.md: the codes of a simulated stack in a real window.

    bash tools/with_display.sh python tools/codes_tour.py [--out docs/media]

As in dock_tour.py every step is done as a user does it, and one that does not show what it should ends the script.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from tour_window import PLUGIN, Tour, own_settings, require

ROOT = Path(__file__).parents[1]
MODEL = "vq-ldm"
STACK = "standard"  # simulated: what the bundled model was trained on


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "media")
    parser.add_argument("--theme", default="dark", choices=("dark", "light"))
    parser.add_argument("--dock-width", type=int, default=400, help="pixels")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    with own_settings():
        tour = Tour(chosen.out, is_quick=False, theme=chosen.theme, dock_width=chosen.dock_width, prefix="codes")
        try:
            for step in STEPS:
                began = time.monotonic()
                step(tour)
                print(f"{step.__name__}: {time.monotonic() - began:.1f} s", flush=True)
        finally:
            tour.close()
    total = sum(path.stat().st_size for path in tour.written)
    print(f"{len(tour.written)} pictures, {total / 2**20:.2f} MiB, in {chosen.out}")


def count(tour: Tour) -> None:
    """The code map over its stack, and the histogram."""
    tour.dock.open_model(MODEL)
    tour.stack = tour.viewer.open_sample(PLUGIN, STACK)[0]
    tab = tour.tab("Codebook")
    tab.source.picker.choose(tour.stack)
    tour.click(tab.source.button)
    tour.idle("count")
    found = tab.state.found
    require(found is not None and found.is_complete, "nothing is counted")
    (tour.map,) = tab.maps.maps
    require(int(found.usage.everywhere.counts.sum()) == tour.map.layer.data.size, "cells and counts differ")
    tour.only(tour.stack, tour.map.layer)
    tour.look(2)
    tour.viewer.dims.set_point(0, tour.stack.data_to_world([12, 0, 0])[0])
    tab.codes.histogram.sort.setCurrentIndex(tab.codes.histogram.sort.findData("filament"))
    tour.tab("Codebook")
    tour.canvas()
    tour.picture("count")


def code(tour: Tour) -> None:
    """The code that filaments use most: all its places, and its atom."""
    tab = tour.dock.tab("Codebook")
    most = int(np.argmax(tab.state.found.usage.filament.counts))
    before = tour.canvas()
    tab.choose(most)
    details = tab.codes.details
    tour.tab("Codebook", details.layer_button)
    tour.wait(lambda: details.atom is not None, "atom")
    tour.idle("atom")
    require(float(details.atom.volume.data.max()) > 0.05, "the code paints nothing")
    require(float(np.abs(tour.canvas() - before).mean()) > 1.0, "nothing lights up")
    tour.only(tour.stack, tour.map.layer)
    tour.look(3)
    tour.tab("Codebook", details.layer_button)
    tour.canvas()
    tour.picture("code")


def atoms(tour: Tour) -> None:
    """What the codes paint that filaments use most."""
    tab = tour.dock.tab("Codebook")
    gallery = tab.codes.gallery
    tab.codes.gallery_fold.set_open(True)
    gallery.sort.setCurrentIndex(gallery.sort.findData("filament"))
    tour.tab("Codebook", gallery)
    tour.wait(lambda: set(gallery.codes) <= set(tab.codes.maker.atoms), "atoms")
    tour.idle("atoms")
    tour.tab("Codebook", gallery)
    tour.picture("atoms")
    tab.codes.gallery_fold.set_open(False)


def error(tour: Tour) -> None:
    """How far each cell is moved to its code."""
    tab = tour.dock.tab("Codebook")
    tab.choose(None)
    before = len(tour.viewer.layers)
    tour.click(tab.tools.quantization)
    tour.idle("quantization error")
    added: list[Any] = list(tour.viewer.layers)[before:]
    require(len(added) >= 2, "no layers of the quantization error")
    distance = next(layer for layer in added if "quantization error" in layer.name)
    require(float(distance.data.max()) > 0.0, "no quantization error")
    tour.only(distance)
    tour.look(2)
    tour.viewer.dims.set_point(0, tour.stack.data_to_world([12, 0, 0])[0])
    tour.tab("Codebook", tab.tools)
    tour.canvas()
    tour.picture("error")


STEPS = (count, code, atoms, error)


if __name__ == "__main__":
    main()
