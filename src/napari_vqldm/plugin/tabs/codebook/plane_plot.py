"""The codebook as points in a plane: codes that are alike lie close together; size is use, color is filament share."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QEvent, Qt, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_vqldm.plugin.tabs.codebook.parts import cells_text, make_choice, make_line
from napari_vqldm.plugin.tabs.codebook.plots import (
    BACKGROUND_COLOR,
    FILAMENT_COLOR,
    Area,
    PlotInput,
    filament_shares,
    ink_of,
    make_plot,
    paint_frame,
)
from napari_vqldm.plugin.tabs.codebook.state import CodebookState, Found

HEIGHT = 230  # pixels of the plot
NEAR = 10  # pixels around a click
METHODS = (("Main directions (PCA)", "pca"), ("Neighbors (t-SNE)", "tsne"))
LEGEND = "Blue: on filaments; orange: on background. Large: often used; hollow: dead."
WAITING = "t-SNE is laying the codes out; until then this is PCA."
HELP = (
    "Click a point: its code is chosen. Drag: all points inside are. Arrow keys go to the next point in their "
    "direction, Escape chooses none. Ctrl and the wheel, or + and -, zoom; 0 shows all."
)
NO_PLOT = "To see the codes as points in a plane: pip install pyqtgraph."
_SMALLEST, _DEAD = 3, 4  # diameters, pixels
_LARGEST = {64: 17, 1024: 13, 16384: 9}  # diameter by size of the codebook: many points need room
_SHADES = 16  # colors between background and filament: pyqtgraph keeps one picture for each color and size
_MARGIN = 0.06  # of the width, around all points
_DIRECTIONS = {  # columns: x, y
    Qt.Key.Key_Left: (-1.0, 0.0),
    Qt.Key.Key_Right: (1.0, 0.0),
    Qt.Key.Key_Up: (0.0, 1.0),
    Qt.Key.Key_Down: (0.0, -1.0),
}


class PlanePlot(QWidget):
    """Points of all codes, and the choice how they are laid out.

    Attributes
    ----------
    method : str
        What is shown: ``"pca"`` or ``"tsne"``.
    points : ndarray
        (K, 2): x and y of every code.
    plot : pyqtgraph.PlotWidget or None
        None before the first counts, and where pyqtgraph is not installed.
    """

    plane_wanted = Signal(str)  # a method that takes long: answer with `set_plane`

    def __init__(self, state: CodebookState, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("vqldm-codebook-plane")
        self.state = state
        self.method = "pca"
        self.points: npt.NDArray[np.float64] = np.zeros((0, 2))
        self.plot: Any = None
        self.input: PlotInput | None = None
        self._planes: dict[str, npt.NDArray[np.float64]] = {}  # by method, of the codebook that is shown
        self._of: tuple[str, int] | None = None  # whose planes these are: weights, number of codes
        self._awaited = ""  # method that was asked for
        self._dots: Any = None
        self._rings: Any = None
        self._is_tried = False
        self.choice = make_choice("vqldm-codebook-method", "Layout of the codes", "How codes become points", METHODS)
        self.choice.currentIndexChanged.connect(lambda _index: self._on_method())
        self.text = make_line(self, "vqldm-codebook-plane-text")
        self.legend = make_line(self, "vqldm-codebook-plane-legend")
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        for widget in (self.choice, self.text, self.legend):
            self._column.addWidget(widget)
        state.counted.connect(self._show_counts)
        state.chosen.connect(self._show_chosen)
        self._show_counts()

    def set_plane(self, method: str, plane: npt.NDArray[np.float64] | None, problem: str = "") -> None:
        """Show a layout that was asked for; another codebook may have come since, then it is dropped.

        Parameters
        ----------
        method : str
            As in `plane_wanted`.
        plane : ndarray or None
            (K, 2); None where there is none.
        problem : str
            Why there is none, in one line; the layout that was shown stays.
        """
        found = self.state.found
        if found is None or method != self._awaited:
            return
        self._awaited = ""
        if plane is not None and len(plane) == found.num_codes:
            self._planes[method] = np.asarray(plane, np.float64)
        if method in self._planes:
            if self.choice.currentData() == method:
                self._show_plane(method)
            return
        self._set_choice(self.method)
        self.text.setText(problem or "This layout could not be made.")

    def changeEvent(self, event: QEvent) -> None:
        """Follow the theme."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.StyleChange, QEvent.Type.PaletteChange) and self.plot is not None:
            self._draw()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _show_counts(self) -> None:
        """Show what was counted; the layout stays where the codebook is the same."""
        found = self.state.found
        of = None if found is None else (found.weights_sha256, found.num_codes)
        if of != self._of:
            self._of, self._planes, self._awaited = of, {}, ""
            self._set_choice("pca")
            self.text.setText("")
        if found is None:
            self.points = np.zeros((0, 2))
        else:
            self._make_plot()
            if "pca" not in self._planes:
                self._planes["pca"] = _main_directions(found.vectors)
                self._show_plane("pca")
        self.legend.setText("" if found is None else LEGEND if self.plot is not None else NO_PLOT)
        self.choice.setVisible(found is not None and self.plot is not None)
        self._draw()

    def _set_choice(self, method: str) -> None:
        self.choice.blockSignals(True)
        self.choice.setCurrentIndex(self.choice.findData(method))
        self.choice.blockSignals(False)

    def _on_method(self) -> None:
        method = self.choice.currentData()
        if method in self._planes:
            self._show_plane(method)
        elif self.state.found is not None:
            self.text.setText(WAITING)
            if self._awaited != method:
                self._awaited = method
                self.plane_wanted.emit(method)

    def _show_plane(self, method: str) -> None:
        """Show a layout that is there, all of it."""
        self.method, self.points = method, self._planes[method]
        self.text.setText("")
        if self.input is not None:
            (left, bottom), (right, top) = self.points.min(axis=0), self.points.max(axis=0)
            margin = _MARGIN * (max(right - left, top - bottom) or 1.0)
            self.input.show_whole(Area(left - margin, right + margin, bottom - margin, top + margin))
        self._draw()

    def _make_plot(self) -> None:
        if self._is_tried:
            return
        self._is_tried = True
        self.plot = make_plot("vqldm-codebook-points", "Codes in a plane", HELP, HEIGHT)
        if self.plot is None:
            return
        import pyqtgraph

        self.plot.setAspectLocked(True)  # distances are the same in both directions
        self._dots, self._rings = pyqtgraph.ScatterPlotItem(), pyqtgraph.ScatterPlotItem()
        for item in (self._dots, self._rings):
            self.plot.addItem(item, ignoreBounds=True)
        for side in ("left", "bottom"):
            self.plot.hideAxis(side)  # only who is next to whom counts
        self.input = PlotInput(self.plot, self._tip_at)
        self.input.clicked.connect(self._on_click)
        self.input.brushed.connect(self._on_brush)
        self.input.pressed.connect(self._on_key)
        self._column.insertWidget(1, self.plot)

    def _draw(self) -> None:
        """Draw all points: a shade and a size each, dead codes as small rings."""
        if self.plot is None:
            return
        import pyqtgraph

        found, ink = self.state.found, ink_of(self)
        self.plot.setVisible(found is not None)
        paint_frame(self.plot, ink)
        if found is None or len(self.points) != found.num_codes:
            self._dots.setData([], [])
            self._rings.setData([], [])
            return
        faint = QColor(ink)
        faint.setAlphaF(0.6)
        shares = filament_shares(found.usage.filament.counts, found.usage.background.counts)
        brushes = [pyqtgraph.mkBrush(color) for color in _shades()]
        no_brush, thin, ring = pyqtgraph.mkBrush(None), pyqtgraph.mkPen(None), pyqtgraph.mkPen(faint)
        is_dead = (found.usage.everywhere.counts == 0).tolist()
        shade = np.rint(shares * (_SHADES - 1)).astype(int).tolist()
        sizes = self.sizes(found)
        order = np.argsort(-sizes, kind="stable")  # small ones on top of large ones
        self._dots.setData(
            *self.points[order].T,
            size=sizes[order],
            brush=[no_brush if is_dead[k] else brushes[shade[k]] for k in order.tolist()],
            pen=[ring if is_dead[k] else thin for k in order.tolist()],
        )
        self._show_chosen()

    @staticmethod
    def sizes(found: Found) -> npt.NDArray[np.int64]:
        """Return the diameter (K,) of every point, pixels: its area grows with the use of the code."""
        counts = found.usage.everywhere.counts
        part = np.sqrt(counts / max(int(counts.max(initial=0)), 1))
        largest = np.interp(np.log(max(len(counts), 1)), np.log(list(_LARGEST)), list(_LARGEST.values()))
        sizes = np.rint(_SMALLEST + (largest - _SMALLEST) * part).astype(np.int64)
        return np.where(counts > 0, sizes, _DEAD)

    def _show_chosen(self) -> None:
        """Draw a ring around the points of chosen codes."""
        found = self.state.found
        if self.plot is None or found is None or len(self.points) != found.num_codes:
            return
        import pyqtgraph

        codes = np.array(self.state.codes, np.int64)
        pen = pyqtgraph.mkPen(ink_of(self), width=2)
        self._rings.setData(*self.points[codes].T, size=self.sizes(found)[codes] + 5, brush=None, pen=pen)
        code = self.state.code
        said = self._about(code) if code is not None else f"{len(codes)} codes are chosen." if len(codes) else ""
        self.plot.setAccessibleDescription(f"{said} {HELP}".strip())

    # --- mouse and keys -----------------------------------------------------------------------------------------------

    def _on_click(self, x: float, y: float) -> None:
        code = self._nearest(x, y)
        self.state.choose(() if code is None else code)

    def _on_brush(self, area: Area) -> None:
        x, y = self.points.T
        inside = (x >= area.left) & (x <= area.right) & (y >= area.bottom) & (y <= area.top)
        self.state.choose(np.flatnonzero(inside).tolist())

    def _on_key(self, key: Qt.Key, _has_shift: bool) -> None:
        if key == Qt.Key.Key_Escape:
            self.state.choose(())
        if key not in _DIRECTIONS or self.state.found is None or self.input is None:
            return
        code = self.state.code
        if code is None:
            self.state.choose(int(self.state.found.usage.everywhere.counts.argmax()))
            return
        way = self.points - self.points[code]
        along = way @ np.array(_DIRECTIONS[key])
        beside = np.abs(way @ np.array(_DIRECTIONS[key][::-1]))
        distance = np.where((along > 0) & (beside <= along), np.hypot(along, beside), np.inf)
        if np.isfinite(distance).any():
            to = int(distance.argmin())
            self.state.choose(to)
            self.input.bring_into_view(float(self.points[to, 0]), float(self.points[to, 1]))

    def _nearest(self, x: float, y: float) -> int | None:
        """The code whose point lies next to a place of the plot, at most `NEAR` pixels away."""
        if self.plot is None or not len(self.points):
            return None
        distance = np.hypot(*((self.points - (x, y)) / self.plot.getViewBox().viewPixelSize()).T)
        code = int(distance.argmin())
        return code if distance[code] <= NEAR else None

    def _tip_at(self, x: float, y: float) -> str:
        code = self._nearest(x, y)
        return HELP if code is None else self._about(code)

    def _about(self, code: int) -> str:
        found = self.state.found
        return "" if found is None else f"code {code}\n{cells_text(found, code)}"


def _main_directions(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Lay codes (K, C) out by PCA: fast enough to be done here."""
    from napari_vqldm.inside.plane import codebook_plane  # PyTorch comes with it: not before something was counted

    return codebook_plane(vectors)


def _shades() -> list[QColor]:
    """Colors from background to filament."""
    ends = (QColor(BACKGROUND_COLOR), QColor(FILAMENT_COLOR))
    low, high = (np.array((end.red(), end.green(), end.blue())) for end in ends)
    mixed = (low + (high - low) * part for part in np.linspace(0.0, 1.0, _SHADES))
    return [QColor(*(round(float(value)) for value in color)) for color in mixed]
