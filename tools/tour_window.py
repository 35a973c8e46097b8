"""A napari window with the dock, driven as a user does it, and what its pictures must show; see dock_tour.py."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

PLUGIN, WIDGET = "napari-vqldm", "VQ-LDM Microtubules"
SIZE = (1400, 900)  # pixels of the window
COLORS = 128  # of a picture
TIMEOUT_S = 900.0


@contextmanager
def own_settings() -> Iterator[None]:
    """Keep the settings of the user out of the pictures, and the tour out of his settings."""
    from qtpy.QtCore import QSettings

    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAPARI_CONFIG"] = str(Path(folder) / "settings.yaml")  # read when napari is imported
        QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, folder)
        yield


class Tour:
    """A window with the dock, and what a person does to it."""

    def __init__(self, out: Path, *, is_quick: bool, theme: str, dock_width: int, prefix: str = "tour") -> None:
        import napari
        from qtpy.QtCore import Qt
        from qtpy.QtWidgets import QApplication

        self.out, self.is_quick, self.prefix, self.written = out, is_quick, prefix, []
        self.viewer = napari.Viewer(title="napari")
        self.viewer.theme = theme
        self.window = self.viewer.window._qt_window  # no public way to the window: its size and the width of docks
        self.window.resize(*SIZE)
        self.app = QApplication.instance()
        container, self.dock = self.viewer.window.add_plugin_dock_widget(PLUGIN, WIDGET)
        self.window.resizeDocks([container], [dock_width], Qt.Orientation.Horizontal)
        self.desk = self.dock.desk
        self.pump(1.5)
        self.samples: list[Any] = []

    # --- what a person does -------------------------------------------------------------------------------------------

    def pump(self, seconds: float) -> None:
        """Look at the window for a while."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.app.processEvents()
            time.sleep(0.005)

    def wait(self, condition: Callable[[], Any], what: str) -> None:
        """Wait for something; an error in the dock ends the tour."""
        end = time.monotonic() + TIMEOUT_S
        while not condition():
            if self.dock.errors.report:
                raise SystemExit(f"{what}: {self.dock.errors.report}")
            if time.monotonic() > end:
                raise SystemExit(f"{what}: not reached after {TIMEOUT_S:.0f} s")
            self.app.processEvents()
            time.sleep(0.005)

    def idle(self, what: str) -> None:
        """Wait until nothing runs."""
        self.wait(lambda: not self.desk.runner.is_busy, what)
        self.pump(0.5)

    def click(self, button: Any) -> None:
        """Press a button that must be enabled."""
        require(button.isEnabled(), f"{button.objectName()} is disabled: {button.toolTip()}")
        button.click()

    def tab(self, title: str, shown: Any = None) -> Any:
        """Bring a tab to the front, scrolled so that one of its widgets is seen."""
        tab = self.dock.show_tab(title)
        self.pump(0.3)
        area = self.dock.tabs.currentWidget()
        area.verticalScrollBar().setValue(0)
        if shown is not None:
            area.ensureWidgetVisible(shown, 0, 20)
        self.pump(0.2)
        return tab

    def only(self, *layers: Any) -> None:
        """Show these layers alone."""
        for layer in self.viewer.layers:
            layer.visible = layer in layers
        self.viewer.layers.selection.active = layers[-1]

    def look(self, ndisplay: int, angles: tuple[float, float, float] = (10.0, -30.0, 0.0)) -> None:
        """Show a slice or the volume, filling the canvas."""
        self.viewer.dims.ndisplay = ndisplay
        self.viewer.fit_to_view()
        if ndisplay == 3:
            self.scene.camera.angles = angles
        self.pump(0.5)

    @property
    def scene(self) -> Any:
        """Where the camera is: older versions of napari have it at the viewer."""
        return getattr(self.viewer, "scene", self.viewer)

    # --- what a picture must show -------------------------------------------------------------------------------------

    def canvas(self) -> np.ndarray:
        """Pixels of the canvas, gray (height, width)."""
        self.pump(0.3)
        pixels = self.viewer.screenshot(canvas_only=True, flash=False)[..., :3].mean(axis=2)
        require(float(pixels.std()) > 1.0, "the canvas is blank")
        return pixels

    def screen(self) -> Image.Image:
        """The whole window, as the screen shows it."""
        self.pump(0.3)
        return Image.fromarray(self.viewer.screenshot(canvas_only=False, flash=False)).convert("RGB")

    def right_part(self, image: Image.Image) -> Image.Image:
        """Canvas and dock, without the column of layers."""
        left = self.window.centralWidget().x() * image.width // self.window.width()
        return image.crop((left, 0, image.width, image.height))

    def picture(self, name: str) -> None:
        """Write a picture of the whole window with few colors."""
        require(not self.dock.errors.report, f"{name}: {self.dock.errors.report}")
        path = self.out / f"{self.prefix}-{name}.png"
        self.screen().quantize(COLORS, dither=Image.Dither.NONE).save(path, optimize=True)
        self.written.append(path)

    def animation(self, name: str, frames: list[Image.Image]) -> None:
        """Write frames of one size, forth and back, as a GIF with one palette."""
        path = self.out / f"{self.prefix}-{name}.gif"
        middle = frames[len(frames) // 2]
        palette = middle.quantize(COLORS, method=Image.Quantize.MAXCOVERAGE)  # rare colors, too: the chosen tab is blue
        drawn = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
        drawn += drawn[-2:0:-1]
        drawn[0].save(path, save_all=True, append_images=drawn[1:], duration=120, loop=0, optimize=True)
        self.written.append(path)

    def close(self) -> None:
        """Close the window; nothing may be left that runs."""
        self.viewer.close()
        self.app.processEvents()


def require(holds: bool, what: str) -> None:
    """End the tour when something does not hold."""
    if not holds:
        raise SystemExit(what)
