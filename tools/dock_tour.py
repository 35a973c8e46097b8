"""Walk through the dock in a real window and take the pictures of docs/tour.md.

    bash tools/with_display.sh python tools/dock_tour.py [--out docs/media] [--quick]

Every step is done as a user does it, through the manifest, the widgets and the bundled models. A step that does not
reach its end, or shows what it should not, ends the script with an error: it is a smoke test, too. What "Copy as
Python" put on the clipboard must stand in docs/tour.md as the same program, so that the page cannot grow old unnoticed.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tour_window import PLUGIN, Tour, own_settings, require

ROOT = Path(__file__).parents[1]
SLIDER_FRAMES = 21
SLIDER_WIDTH = 560  # pixels of the animation
SEEDS = (7, 8)
STEPS_OF_SEEDS = 10  # five frames are sampled: a tour need not wait for the default
THREADS = re.compile(r"torch.set_num_threads\(\d+\)")
DRAWS = 4  # of the uncertainty map
SHORT_TRAINING = (
    "data.num_volumes=16",
    "autoencoder.picture_every=100",
    "denoiser.steps=150",
    "denoiser.picture_every=50",
    "denoiser.check_every=30",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "media")
    parser.add_argument("--quick", action="store_true", help="few denoising steps and frames: does it run at all?")
    parser.add_argument("--theme", default="dark", choices=("dark", "light"))
    parser.add_argument("--dock-width", type=int, default=400, help="pixels")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    with own_settings():
        tour = Tour(chosen.out, is_quick=chosen.quick, theme=chosen.theme, dock_width=chosen.dock_width)
        try:
            for step in STEPS:
                began = time.monotonic()
                step(tour)
                print(f"{step.__name__}: {time.monotonic() - began:.1f} s", flush=True)
        finally:
            tour.close()
    total = sum(path.stat().st_size for path in tour.written)
    print(f"{len(tour.written)} pictures, {total / 2**20:.2f} MiB, in {chosen.out}")


# --- the steps --------------------------------------------------------------------------------------------------------


def model(tour: Tour) -> None:
    """The card of the bundled model, without PyTorch."""
    tab = tour.tab("Model")
    require(tab.card.isVisible() and len(tab.card.sha256.full) == 64, "the card is empty")
    require("torch" not in sys.modules, "opening the dock imports torch")
    tour.picture("model")


def sample(tour: Tour) -> None:
    """Two volumes from fixed seeds; the second one is seen forming."""
    tab = tour.tab("Sample")
    tour.wait(lambda: tab.knobs.knobs, "ranges of the conditions")
    tab.conditions.set_open(True)
    if tour.is_quick:
        tab.state.steps = 2
    for seed in SEEDS:
        tab.seed_box.keep_box.setChecked(True)
        tab.seed_box.seed = seed
        tour.click(tab.button)
        if seed == SEEDS[-1]:
            tour.wait(lambda: is_forming(tour) or not tour.desk.runner.is_busy, "preview")
            require(tour.is_quick or preview(tour) is not None, "no preview")
            if preview(tour) is not None:
                tour.only(preview(tour))
                tour.look(3)
                tour.picture("forming")
        tour.idle(f"sample {seed}")
        tour.samples.append(tour.viewer.layers[-1])
    require(not np.array_equal(tour.samples[0].data, tour.samples[1].data), "two seeds give one volume")
    require(preview(tour) is None, "the preview stays")
    tour.only(tour.samples[0])
    tour.look(3)
    tour.canvas()
    tour.picture("sample")


def is_forming(tour: Tour) -> bool:
    """Whether the better half of the steps is done, so that the preview shows something."""
    bar = tour.dock.progress.bar
    return bar.value() > 0 and bar.value() >= 0.6 * bar.maximum() and preview(tour) is not None


def preview(tour: Tour) -> Any:
    """The layer that shows a volume while it forms."""
    return next((layer for layer in tour.viewer.layers if "preview" in layer.name.lower()), None)


def camera(tour: Tour) -> None:
    """A recording with little light, one slice."""
    tab = tour.dock.sample_tab
    tour.only(tour.samples[0])
    tour.look(2)
    clean = tour.canvas()
    tab.camera.switch.setChecked(True)
    tab.camera.state.photons = 30.0
    tour.wait(lambda: tab.camera.live.layer is not None, "recording")
    tour.idle("recording")
    tour.only(tab.camera.live.layer)
    tour.tab("Sample", tab.camera.switch)
    noisy = tour.canvas()
    require(roughness(noisy) > 1.5 * roughness(clean), "the recording has no noise")
    tour.picture("camera")
    tab.camera.switch.setChecked(False)


def roughness(pixels: np.ndarray) -> float:
    """Mean difference of neighbors."""
    return float(np.abs(np.diff(pixels, axis=1)).mean())


def compare(tour: Tour) -> None:
    """A real stack, its reconstruction and what was lost, side by side."""
    tab = tour.tab("Reconstruct")
    tour.real = tour.viewer.open_sample(PLUGIN, "real")[0]
    tour.only(tour.real)
    tab.input.choose(tour.real)
    tour.click(tab.button)
    tour.idle("reconstruction")
    panel = tab.compare_panel
    require(panel.pair is not None, "no comparison")
    tour.click(panel.controls.side_button)
    tour.idle("residual")
    tour.wait(lambda: panel.modes.name == "side", "side by side")
    require(not tour.dock.progress.isVisible(), "the progress row stays")
    tour.look(2)
    middle = [(n - 1) / 2 for n in tour.real.data.shape]
    tour.viewer.dims.set_point(0, tour.real.data_to_world(middle)[0])
    tour.tab("Reconstruct", panel.controls.uncertainty_button)
    pixels = tour.canvas()
    cells = np.array_split(pixels, 3, axis=1)
    for cell in cells:
        require(float(cell.std()) > 1.0, "an empty cell")
    width = min(cell.shape[1] for cell in cells)
    require(float(np.abs(cells[0][:, :width] - cells[2][:, :width]).mean()) > 1.0, "input and residual look the same")
    tour.picture("compare")


def uncertainty(tour: Tour) -> None:
    """Where the reconstruction is unsure."""
    tab = tour.dock.reconstruct_tab
    panel = tab.compare_panel
    tour.click(panel.controls.side_button)  # ends the view
    tab.state.draws = 2 if tour.is_quick else DRAWS
    tour.click(panel.controls.uncertainty_button)
    tour.idle("uncertainty map")
    layer = tour.viewer.layers[-1]
    require("uncertainty" in layer.name and float(layer.data.max()) > 0, "no uncertainty map")
    tour.only(layer)
    tour.look(2)
    tour.tab("Reconstruct", panel.plots)
    tour.canvas()
    tour.picture("uncertainty")


def interpolate(tour: Tour) -> None:
    """From one sample to the other under the slider."""
    tab = tour.tab("Interpolate")
    tab.ends.a.picker.choose(tour.samples[0])
    tab.ends.b.picker.choose(tour.samples[1])
    tour.click(tab.button)
    tour.idle("encoding")
    tour.wait(lambda: tab.view is not None and tab.view.frame is not None, "the first frame")
    tour.only(tab.view.layer)
    tour.look(3)
    frames, images = [], []
    for t in np.linspace(0, 1, 5 if tour.is_quick else SLIDER_FRAMES):
        move(tour, tab, round(float(t), 3))
        frames.append(np.asarray(tab.view.layer.data).copy())
        images.append(small(tour.right_part(tour.screen())))
    for before, after in pairwise(frames):
        require(not np.array_equal(before, after), "two frames are the same")
    tour.animation("slider", images)
    move(tour, tab, 0.5)
    tour.picture("interpolate")


def small(image: Image.Image) -> Image.Image:
    """A frame of the animation."""
    return image.resize((SLIDER_WIDTH, image.height * SLIDER_WIDTH // image.width), Image.Resampling.LANCZOS)


def move(tour: Tour, tab: Any, t: float) -> None:
    """Move the slider and wait for the full frame."""
    tab.play.slider.setValue(t)
    tab.play.settled.emit()
    tour.wait(lambda: abs(tab.view.frame.t - t) < 1e-3 and tab.view.frame.quality != "preview", f"the frame at {t}")
    tour.pump(0.1)


def seeds(tour: Tour) -> None:
    """From seed to seed: frames are sampled in the background."""
    tab = tour.dock.interpolate_tab
    for box, seed in ((tab.ends.a, 3), (tab.ends.b, 4)):
        box.choice.setCurrentText("Seed")
        box.seed_box.seed = seed
    tab.state.kind = "slerp"
    tab.state.steps = 2 if tour.is_quick else STEPS_OF_SEEDS
    tour.click(tab.button)
    tour.idle("frames between seeds")
    require(len(tab.way.ts) == tab.state.num_frames, "a frame is missing")
    move_sampled(tour, tab, 0.47, 0.5)
    tour.only(tab.view.layer)
    tour.look(3)
    tour.tab("Interpolate", tab.output)
    tour.canvas()
    tour.picture("seeds")


def move_sampled(tour: Tour, tab: Any, asked: float, shown: float) -> None:
    """Move the slider beside a sampled frame, which is shown."""
    tab.play.slider.setValue(asked)
    tour.wait(lambda: abs(tab.view.frame.t - shown) < 1e-3, f"the frame at {shown}")
    require(f"asked {asked}" in tab.play.shown.text(), f"the label says {tab.play.shown.text()!r}")


def copy(tour: Tour) -> None:
    """The script behind a layer; it stands in the tour."""
    tour.only(tour.samples[0])
    tour.dock.tools.copy.python_action.trigger()
    text = tour.app.clipboard().text()
    require("import napari_vqldm" in text, f"the clipboard has {text!r}")
    page = ROOT / "docs" / "tour.md"
    if not tour.is_quick and page.is_file():
        blocks = re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        require(any(same_script(block, text) for block in blocks), f"docs/tour.md shows another script than\n{text}")


def same_script(one: str, other: str) -> bool:
    """Tell whether two programs are the same, but for quotes and the number of cores of the machine."""
    return ast.dump(ast.parse(THREADS.sub("pass", one))) == ast.dump(ast.parse(THREADS.sub("pass", other)))


def reproduce(tour: Tour) -> None:
    """The same bits again."""
    tour.look(3)
    tour.click(tour.dock.tools.reproduce_button)
    tour.idle("reproduction")
    tour.wait(tour.dock.notice.isVisible, "the verdict")
    require("identical" in tour.dock.notice.text(), f"not the same bits: {tour.dock.notice.text()}")
    tour.tab("Sample")
    tour.picture("reproduce")


def measure(tour: Tour) -> None:
    """Filaments of a simulated stack, traced on it."""
    from qtpy.QtCore import Qt

    stack = tour.viewer.open_sample(PLUGIN, "standard")[0]
    tab = tour.tab("Measure")
    tab.picker.choose(stack)
    tour.click(tab.button)
    tour.idle("measurement")
    lines = tour.viewer.layers[-1]
    require("centre lines" in lines.name and len(lines.data) > 100, "no centre lines")
    tab.table.sortByColumn(1, Qt.SortOrder.DescendingOrder)
    tab.table.selectRow(0)
    tour.only(stack, lines)
    tour.look(3)
    tour.tab("Measure")
    tour.canvas()
    tour.picture("measure")


def training(tour: Tour) -> None:
    """A small training, started here and followed until it has generated twice."""
    tour.viewer.layers.clear()  # its volumes would look small beside them
    tab = tour.tab("Training")
    tab.start_fold.set_open(True)
    with tempfile.TemporaryDirectory() as folder:
        tab.start_box.out.setText(str(Path(folder) / "smoke"))
        tab.start_box.overrides.setText(" ".join(SHORT_TRAINING))
        tour.click(tab.start_box.start)
        tour.wait(lambda: len(volumes_of(tab, "autoencoder")) >= 2, "reconstructions")
        tour.click(tab.samples)
        tour.wait(lambda: len(volumes_of(tab, "denoiser")) >= 2, "samples")
        tour.wait(lambda: len(tour.viewer.layers) == 3 and len(tour.viewer.layers[-1].data) >= 2, "layers")
        tour.only(*tour.viewer.layers)
        grid = getattr(tour.viewer, "canvas", tour.viewer).grid  # older versions of napari have it at the viewer
        grid.enabled, grid.shape = True, (1, 3)
        tour.look(3)
        tour.viewer.dims.set_point(0, len(tour.viewer.layers[0].data) - 1)
        tab.start_fold.set_open(False)
        tour.tab("Training")
        require(tab.curves.plot is not None and tab.curves.lines, "no curves")
        tour.canvas()
        tour.picture("training")
        grid.enabled = False
        tab.stop()
        tour.wait(lambda: not tab.started.is_alive, "the end of the training")
        tab.following.close()


def volumes_of(tab: Any, stage: str) -> list[Any]:
    """Files of volumes that the run has written in a stage."""
    return [] if tab.news is None else [file for file in tab.news.volumes if file.stage == stage]


def undo(tour: Tour) -> None:
    """Take back what was added last."""
    before = len(tour.viewer.layers)
    tour.click(tour.dock.tools.undo_button)
    tour.pump(0.5)
    require(len(tour.viewer.layers) < before, "nothing was taken back")


# The real stack comes last: it is larger than the volumes of the model, which would look small beside it.
STEPS = (model, sample, camera, interpolate, seeds, copy, reproduce, measure, compare, uncertainty, undo, training)


if __name__ == "__main__":
    main()
