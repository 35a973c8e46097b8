"""What is seen: every tab in a narrow dock, in both themes and magnified; canvases that show what they should."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qtpy.QtCore import QPoint, QSettings, Qt
from qtpy.QtWidgets import QAbstractButton, QCheckBox, QComboBox, QLabel, QWidget
from superqt import QElidingLabel

from napari_vqldm.plugin.dock import NARROW, TABS

if TYPE_CHECKING:
    from napari_vqldm.plugin.dock import Dock

SIZE = (0.22, 0.2, 0.2)
PICTURES = os.environ.get("VQLDM_SCREENSHOTS")  # a folder, to look at what the tests saw

Wait = Callable[..., None]


def keep(image: np.ndarray, name: str) -> None:
    if PICTURES:
        from skimage.io import imsave

        imsave(Path(PICTURES) / f"{name}.png", image, check_contrast=False)


# --- layout -----------------------------------------------------------------------------------------------------------


def visible(root: QWidget, kind: type[QWidget]) -> Iterator[Any]:
    for widget in root.findChildren(kind):
        if widget.isVisibleTo(root):
            yield widget


def called(widget: Any) -> str:
    text = widget.text() if hasattr(widget, "text") else ""
    return f"{type(widget).__name__} {widget.objectName()} {text!r}".strip()


def overflows(page: Any) -> list[str]:
    """Widgets of a tab that reach beyond its right edge: nobody can scroll there."""
    tab, width = page.widget(), page.viewport().width()
    found = [called(tab)] if tab.width() > width else []
    for widget in visible(tab, QWidget):
        right = widget.mapTo(tab, QPoint(0, 0)).x() + widget.width()
        if right > width and "scroll" not in widget.objectName() and widget.parent() is not None:
            found.append(f"{called(widget)} by {right - width}")
    return found


def cut_labels(root: QWidget) -> list[str]:
    """Buttons and labels that are narrower than their words."""
    found = []
    for button in visible(root, QAbstractButton):
        is_short = button.width() < button.sizeHint().width() and bool(button.text())
        if is_short and not (isinstance(button, QCheckBox) and button.toolTip()):
            found.append(f"{called(button)}: {button.width()} of {button.sizeHint().width()}")
    for label in visible(root, QLabel):
        words = label.fontMetrics().horizontalAdvance(label.text())
        if isinstance(label, QElidingLabel) or not label.text() or label.textFormat() == Qt.TextFormat.RichText:
            continue
        if label.wordWrap():
            if label.height() < label.heightForWidth(label.width()) - 1:
                found.append(f"{called(label)}: {label.height()} of {label.heightForWidth(label.width())} high")
        elif label.width() < words:
            found.append(f"{called(label)}: {label.width()} of {words}")
    for box in visible(root, QComboBox):
        if box.width() < box.minimumSizeHint().width():
            found.append(called(box))
    return found


def make_narrow(dock: Dock, width: int = NARROW, height: int = 900) -> None:
    dock.parent().setFloating(True)
    dock.parent().resize(width, height)


def problems_of(dock: Dock, title: str) -> dict[str, list[str]]:
    dock.show_tab(title)
    page = dock.tabs.currentWidget()
    return {"beyond the edge": overflows(page), "cut": cut_labels(dock)}


@pytest.fixture
def filled(shown_dock: Dock, tiny_checkpoints: dict[str, Path], wait_until: Wait) -> Dock:
    return fill(shown_dock, tiny_checkpoints["vq-ldm"], wait_until)


def fill(dock: Dock, checkpoint: Path, wait_until: Wait) -> Dock:
    """Open everything that can be: a sample with its recording, comparisons, two ends, a run, a count, all folds."""
    viewer = dock.desk.viewer
    dock.desk.model.device, dock.desk.model.threads = "cpu", 1
    dock.open_model(checkpoint)
    state = dock.sample_tab.state
    state.size_z, state.size_y, state.size_x = 8, 16, 16
    state.steps = 2
    dock.sample_tab.button.click()
    wait_until(lambda: not dock.desk.runner.is_busy)
    dock.sample_tab.camera.switch.click()
    data = np.random.default_rng(0).normal(100, 5, (8, 16, 16)).astype(np.float32)
    data[3:5, 6:9] += 100
    cell = viewer.add_image(data, name="a layer with a very long name that nobody wants to read", scale=SIZE,
                            units=("um",) * 3, contrast_limits=(80, 230))  # fmt: skip
    dock.reconstruct_tab.input.choose(cell)
    dock.reconstruct_tab.button.click()
    wait_until(lambda: not dock.desk.runner.is_busy)
    measure = dock.tab("Measure")
    measure.measure_all()
    wait_until(lambda: not dock.desk.runner.is_busy)
    for row in range(2):
        measure.volumes_box.volumes.cellWidget(row, 1).setCurrentIndex(1 + row)
    follow_a_run(dock.tab("Training"), wait_until)
    codebook = dock.tab("Codebook")
    codebook.count(cell)
    wait_until(lambda: not dock.desk.runner.is_busy)
    codebook.choose(int(codebook.state.found.usage.everywhere.counts.argmax()))
    for title in TABS:
        for child in dock.show_tab(title).findChildren(QWidget):
            if type(child).__name__ == "Fold":
                child.set_open(True)
    wait_until(lambda: not dock.desk.runner.is_busy)  # atoms that are looked at now
    return dock


def follow_a_run(tab: Any, wait_until: Wait) -> None:
    """A run with curves and a watcher that has much to say; its folder is not remembered for the user."""
    folder = Path(tempfile.mkdtemp(prefix="a run with a very long name that nobody wants to read "))
    QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, str(folder))
    config = {"name": "tiny", "model": {"denoiser": {}}, "autoencoder": {"steps": 40}}
    (folder / "config.json").write_text(json.dumps(config))
    words = "latents are 9 times too large for the denoiser, and grow: lower the learning rate and start again"
    lines = [
        {"stage": "autoencoder", "step": 10, "loss": 2.0, "discriminator_feature_matching_loss": 0.5, "kl": 0.1},
        {"stage": "autoencoder", "step": 20, "loss": 1.0, "held_out_psnr_unit_range_db": 20.0},
        {"stage": "autoencoder", "step": 20, "watcher": "scale_drift", "message": words},
    ]
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    tab.follow(folder)
    wait_until(lambda: "loss" in tab.curves.lines and tab.troubles.text())
    tab.following.close()
    shutil.rmtree(folder)


@pytest.mark.parametrize("theme", [pytest.param("dark", marks=[pytest.mark.slow, pytest.mark.both_bindings]), "light"])
def test_everything_fits_into_a_narrow_dock(filled: Dock, theme: str, qtbot: Any) -> None:
    filled.desk.viewer.theme = theme
    make_narrow(filled)
    found = {}
    for title in TABS:
        filled.show_tab(title)
        qtbot.wait(150)  # wrapped lines find their height
        for what, widgets in problems_of(filled, title).items():
            if widgets:
                found[f"{title}, {what}"] = widgets
        keep(_pixels(filled), f"{title}-{theme}".lower())
    assert filled.width() <= NARROW
    assert found == {}


def _pixels(widget: QWidget) -> np.ndarray:
    from napari._qt.utils import QImg2array

    return np.asarray(QImg2array(widget.grab().toImage()))


@pytest.mark.slow
@pytest.mark.both_bindings
def test_both_themes_are_followed(filled: Dock, qtbot: Any) -> None:
    """Light and dark differ, and words stand out from their ground in both."""
    viewer, brightness = filled.desk.viewer, {}
    for theme in ("dark", "light"):
        viewer.theme = theme
        qtbot.wait(100)
        for title in TABS:
            filled.show_tab(title)
            qtbot.wait(50)
            gray = _pixels(filled.tabs)[..., :3].mean(axis=-1)
            brightness[theme, title] = np.median(gray)
            assert np.ptp(gray) > 100, (theme, title)
    for title in TABS:
        assert brightness["light", title] > brightness["dark", title] + 100, title


MAGNIFIED = """
import importlib.util, json, sys
import napari
from qtpy.QtCore import QElapsedTimer

spec = importlib.util.spec_from_file_location("screens", sys.argv[1])
screens = importlib.util.module_from_spec(spec)
spec.loader.exec_module(screens)
viewer = napari.Viewer(show=True)
_, dock = viewer.window.add_plugin_dock_widget("napari-vqldm", "VQ-LDM Microtubules")
app = napari.qt.get_qapp()

def wait(ms):
    clock = QElapsedTimer()
    clock.start()
    while clock.elapsed() < ms:
        app.processEvents()

def wait_until(condition):
    while not condition():
        app.processEvents()

screens.fill(dock, sys.argv[2], wait_until)

found = {}
screens.make_narrow(dock, height=580)
for title in screens.TABS:
    dock.show_tab(title)
    wait(300)
    for what, widgets in screens.problems_of(dock, title).items():
        if widgets:
            found[f"{title}, {what}"] = widgets
    screens.keep(screens._pixels(dock), f"{title}-magnified".lower())
told = {"ratio": dock.devicePixelRatioF(), "width": dock.width(), "layers": len(viewer.layers), "found": found}
print("\\n" + json.dumps(told), flush=True)
viewer.close()
"""


@pytest.mark.slow
@pytest.mark.both_bindings
def test_everything_fits_at_200_percent(tiny_checkpoints: dict[str, Path]) -> None:
    environment = {**os.environ, "QT_SCALE_FACTOR": "2"}
    done = subprocess.run(
        [sys.executable, "-c", MAGNIFIED, __file__, str(tiny_checkpoints["vq-ldm"])],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["ratio"] == 2 and result["width"] <= NARROW and result["layers"] == 8
    assert result["found"] == {}


# --- canvases ---------------------------------------------------------------------------------------------------------


def picture(viewer: Any, wait_until: Wait, name: str) -> np.ndarray:
    """The canvas, once it shows something."""
    seen: list[np.ndarray] = []

    def is_drawn() -> bool:
        seen.append(viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(float))
        return float(seen[-1].std()) > 0

    wait_until(is_drawn)
    keep(seen[-1].astype(np.uint8), name)
    return seen[-1]


@pytest.mark.parametrize("ndisplay", [2, 3])
def test_a_sample_is_seen(shown_dock: Dock, tiny_checkpoints: dict[str, Path], wait_until: Wait, ndisplay: int) -> None:
    viewer, tab = shown_dock.desk.viewer, shown_dock.sample_tab
    shown_dock.open_model(tiny_checkpoints["ldm"])
    viewer.dims.ndisplay = ndisplay
    tab.state.steps, tab.state.shows_preview = 2, False
    tab.seed_box.seed = 1  # the weights are random: some seeds paint nearly nothing
    empty = viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(float)
    tab.button.click()
    wait_until(lambda: len(viewer.layers) == 1 and not shown_dock.desk.runner.is_busy)
    image = picture(viewer, wait_until, f"sample-{ndisplay}d")
    height, width = image.shape[:2]
    middle = image[height // 3 : -height // 3, width // 3 : -width // 3]
    assert middle.std() > 5 and len(np.unique(middle.mean(axis=-1).round())) > 4
    assert empty.std() < middle.std()
    viewer.layers[0].visible = False
    assert np.abs(viewer.screenshot(canvas_only=True, flash=False)[..., :3] - image).max() > 20


@pytest.mark.slow
@pytest.mark.both_bindings
@pytest.mark.parametrize("ndisplay", [pytest.param(2, marks=pytest.mark.slow), 3])
def test_side_by_side_shows_three_different_cells(filled: Dock, wait_until: Wait, ndisplay: int) -> None:
    viewer, tab = filled.desk.viewer, filled.reconstruct_tab
    viewer.dims.ndisplay = ndisplay
    filled.show_tab("Reconstruct")
    tab.compare_panel.controls.side_button.click()
    wait_until(lambda: tab.compare_panel.modes.name == "side" and not filled.desk.runner.is_busy)
    image = picture(viewer, wait_until, f"side-by-side-{ndisplay}d")
    cells = np.array_split(image[:, : image.shape[1] // 3 * 3], 3, axis=1)
    for cell in cells:
        assert cell[len(cell) // 8 :].std() > 2  # below the name of the layer
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert np.abs(cells[one] - cells[other]).mean() > 1
    assert tab.compare_panel.controls.side_button.text() == "End compare"
