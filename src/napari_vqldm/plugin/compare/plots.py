"""Two small plots of a comparison, with pyqtgraph where it is installed and as text where it is not."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QEvent, Qt, Signal
from qtpy.QtGui import QColor, QPalette
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_vqldm.plugin.compare.words import plane_text, spectrum_text

if TYPE_CHECKING:
    from napari_vqldm.compare import Comparison

HEIGHT = 170  # pixels of one plot
BOTTOM = 44  # pixels of ticks and label below it: pyqtgraph cuts the label
_BOTTOM_POWER = 1e-12  # of the largest: the logarithm of nothing


class ComparisonPlots(QWidget):
    """PSNR per plane, and power spectra of input and reconstruction.

    Nothing of pyqtgraph is imported before the first comparison is shown.
    """

    plane_chosen = Signal(int)  # z index that was clicked

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("vqldm-comparison-plots")
        self._comparison: Comparison | None = None
        self._cutoff: float | None = None
        self._plane = 0
        self._items: dict[str, Any] = {}  # made once: the scene of a plot must not lose items while it is painted
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self.plane_label, self.spectrum_label = _label("vqldm-plane-text"), _label("vqldm-spectrum-text")
        self.plane_plot: Any = None
        self.spectrum_plot: Any = None
        self._column.addWidget(self.plane_label)
        self._column.addWidget(self.spectrum_label)

    def show_comparison(self, comparison: Comparison | None, cutoff_per_um: float | None = None) -> None:
        """Show a comparison; None shows nothing.

        Parameters
        ----------
        comparison : Comparison or None
            From `napari_vqldm.compare.compare`.
        cutoff_per_um : float, optional
            Lateral cut-off of the optics, cycles/um: a vertical line.
        """
        self._comparison, self._cutoff = comparison, cutoff_per_um
        self.plane_label.setText("" if comparison is None else plane_text(comparison))
        self.spectrum_label.setText("" if comparison is None else spectrum_text(comparison, cutoff_per_um))
        if comparison is not None and self.plane_plot is None:
            self._make_plots()
        self._draw()

    def mark_plane(self, z: int) -> None:
        """Mark the plane that the viewer shows."""
        self._plane = z
        if "plane" in self._items:
            self._items["plane"].setValue(z)

    def curve(self, name: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return what a curve shows: ``"per_z"``, or the spectrum of ``"input"`` or ``"output"``."""
        x, y = self._items[name].getData()
        return (np.empty(0), np.empty(0)) if x is None else (x, y)

    def changeEvent(self, event: QEvent) -> None:
        """Follow the theme."""
        super().changeEvent(event)
        kinds = (QEvent.Type.StyleChange, QEvent.Type.PaletteChange)
        if event.type() in kinds and self._comparison is not None:
            self._draw()

    def _make_plots(self) -> None:
        try:
            import pyqtgraph
        except ImportError:
            return  # the labels say it in words
        self.plane_plot = _plot(pyqtgraph, "vqldm-plane-plot", "Click a plane to go there")
        self.spectrum_plot = _plot(
            pyqtgraph,
            "vqldm-spectrum-plot",
            "Power over lateral frequency: strong line, the reconstruction; thin line, the input",
        )
        self._items = {
            "per_z": self.plane_plot.plot(connect="finite"),
            "input": self.spectrum_plot.plot(),
            "output": self.spectrum_plot.plot(),
        }
        for name, plot, angle in (
            ("ceiling", self.plane_plot, 0),
            ("plane", self.plane_plot, 90),
            ("cutoff", self.spectrum_plot, 90),
        ):
            self._items[name] = pyqtgraph.InfiniteLine(0, angle=angle)
            plot.addItem(self._items[name], ignoreBounds=name == "cutoff")
        self.plane_plot.scene().sigMouseClicked.connect(self._on_click)
        self._column.insertWidget(0, self.plane_plot)
        self._column.insertWidget(2, self.spectrum_plot)

    def _draw(self) -> None:
        if not self._items:
            return
        self._paint()
        comparison = self._comparison
        for plot in (self.plane_plot, self.spectrum_plot):
            plot.setVisible(comparison is not None)
        per_z = None if comparison is None else comparison.psnr_per_z_db
        spectrum = None if comparison is None else comparison.spectrum
        other = None if comparison is None else comparison.reconstruction_spectrum
        finite = np.empty(0) if per_z is None else np.where(np.isfinite(per_z), per_z, np.nan)
        self._items["per_z"].setData(np.arange(len(finite)), finite)
        top = max(float(spectrum.power.max()), _BOTTOM_POWER) if spectrum is not None else 1.0
        for name, shown in (("input", spectrum), ("output", other)):
            if shown is None:
                self._items[name].setData([], [])
            else:
                self._items[name].setData(
                    shown.frequency_per_um, np.log10(np.maximum(shown.power / top, _BOTTOM_POWER))
                )
        ceiling = None if comparison is None else comparison.noise_ceiling_db
        self._place("ceiling", ceiling if ceiling is not None and math.isfinite(ceiling) else None)
        self._place("plane", self._plane if len(finite) else None)
        self._place("cutoff", self._cutoff if spectrum is not None else None)

    def _place(self, name: str, value: float | None) -> None:
        """Put a line somewhere, or hide it."""
        line = self._items[name]
        line.setVisible(value is not None)
        if value is not None:
            line.setValue(value)

    def _paint(self) -> None:
        """Give everything the colors of the theme."""
        import pyqtgraph

        text, faint = self._colors()
        for plot, bottom, left in (
            (self.plane_plot, "z (plane)", "PSNR (dB)"),
            (self.spectrum_plot, "frequency (1/µm)", "log₁₀ power"),
        ):
            plot.getAxis("bottom").setHeight(BOTTOM)
            for side, label in (("bottom", bottom), ("left", left)):
                axis = plot.getAxis(side)
                axis.setPen(text)
                axis.setTextPen(text)
                axis.setLabel(label)
        for name, color, width in (("per_z", text, 2), ("input", faint, 1), ("output", text, 2)):
            self._items[name].setPen(pyqtgraph.mkPen(color, width=width))
        self._items["plane"].setPen(pyqtgraph.mkPen(text))
        for name in ("ceiling", "cutoff"):
            self._items[name].setPen(pyqtgraph.mkPen(text, style=Qt.PenStyle.DashLine))

    def _on_click(self, event: Any) -> None:
        if self._comparison is None or self._comparison.psnr_per_z_db is None:
            return
        where = self.plane_plot.getViewBox().mapSceneToView(event.scenePos())
        last = len(self._comparison.psnr_per_z_db) - 1
        self.plane_chosen.emit(min(max(round(where.x()), 0), last))

    def _colors(self) -> tuple[QColor, QColor]:
        """The color of text, as the theme has it, and a fainter one."""
        self.plane_label.ensurePolished()
        text = self.plane_label.palette().color(QPalette.ColorRole.WindowText)
        faint = QColor(text)
        faint.setAlphaF(0.6)
        return text, faint


def _plot(pyqtgraph: Any, name: str, tip: str) -> Any:
    plot = pyqtgraph.PlotWidget(background=None)
    plot.setObjectName(name)
    plot.setStyleSheet("background: transparent")  # the theme's color behind it, also after a change
    plot.setToolTip(tip)
    plot.setFixedHeight(HEIGHT)
    plot.setMinimumWidth(100)
    plot.setMenuEnabled(False)
    plot.setMouseEnabled(x=False, y=False)
    plot.hideButtons()
    return plot


def _label(name: str) -> QLabel:
    label = QLabel()
    label.setObjectName(name)
    label.setWordWrap(True)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return label
