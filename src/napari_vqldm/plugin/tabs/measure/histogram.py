"""How one number is distributed over the filaments of a volume."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QEvent
from qtpy.QtGui import QPalette
from qtpy.QtWidgets import QComboBox, QVBoxLayout, QWidget

from napari_vqldm.measure.quantities import FILAMENT_QUANTITIES
from napari_vqldm.plugin.widgets import HelpLabel

if TYPE_CHECKING:
    from napari_vqldm.measure import Measurement

HEIGHT = 170  # pixels
BOTTOM = 44  # pixels of ticks and label below it
MOST_BINS = 40
COLOR = "#4c9be8"  # seen on dark and on light
FULL_RANGE = {"azimuth_degrees": (0.0, 180.0), "tilt_degrees": (0.0, 90.0)}


class Histogram(QWidget):
    """A plot and the choice what it shows. Nothing of pyqtgraph is imported before there is something to draw."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("vqldm-measure-histogram")
        self._found: Measurement | None = None
        self.plot: Any = None
        self.bars: Any = None
        self.counts, self.edges = np.zeros(0, np.int64), np.zeros(0)
        self.quantity = QComboBox()
        self.quantity.setObjectName("vqldm-measure-quantity")
        self.quantity.setAccessibleName("Number of the histogram")
        self.quantity.setToolTip("Which number of the filaments the plot shows")
        for quantity in FILAMENT_QUANTITIES:
            self.quantity.addItem(quantity.label, quantity.name)
        self.quantity.currentIndexChanged.connect(lambda _index: self._draw())
        self.text = HelpLabel(parent=self)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.addWidget(self.quantity)
        self._column.addWidget(self.text)

    def show_measurement(self, found: Measurement | None) -> None:
        """Show the filaments of a measurement; None shows none."""
        self._found = found
        if found is not None and self.plot is None:
            self._make_plot()
        self._draw()

    def changeEvent(self, event: QEvent) -> None:
        """Follow the theme."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.StyleChange, QEvent.Type.PaletteChange) and self.plot is not None:
            self._paint()

    def _make_plot(self) -> None:
        try:
            import pyqtgraph
        except ImportError:
            return  # the text says it in words
        self.plot = pyqtgraph.PlotWidget(background=None)
        self.plot.setObjectName("vqldm-measure-plot")
        self.plot.setStyleSheet("background: transparent")
        self.plot.setFixedHeight(HEIGHT)
        self.plot.setMinimumWidth(100)
        self.plot.setMenuEnabled(False)
        self.plot.setMouseEnabled(x=False, y=False)
        self.plot.hideButtons()
        self.bars = pyqtgraph.BarGraphItem(x=[], height=[], width=1.0, brush=COLOR)
        self.plot.addItem(self.bars)
        self._column.insertWidget(1, self.plot)

    def _draw(self) -> None:
        name = self.quantity.currentData()
        quantity = next(one for one in FILAMENT_QUANTITIES if one.name == name)
        values = np.zeros(0) if self._found is None else self._found.column(name)
        values = values[np.isfinite(values)]
        bins = int(np.clip(np.ceil(2.0 * np.cbrt(len(values))), 1, MOST_BINS))  # Rice
        self.counts, self.edges = np.histogram(values, bins, FULL_RANGE.get(name))
        if len(values):
            unit = f" {quantity.unit}" if quantity.unit else ""
            low, middle, high = np.percentile(values, (25, 50, 75))
            said = f"{len(values)} filaments: half of them from {low:.3g} to {high:.3g}{unit}, median {middle:.3g}."
            self.text.setText(f"{said} {quantity.remark[0].upper()}{quantity.remark[1:]}." if quantity.remark else said)
        else:
            self.text.setText("" if self._found is None else "No filament has this number.")
        if self.bars is None:
            return
        width = np.diff(self.edges)
        self.bars.setOpts(x=self.edges[:-1] + width / 2, height=self.counts, width=width)
        self.plot.setVisible(bool(len(values)))
        self.plot.getAxis("bottom").setLabel(f"{quantity.label} ({quantity.unit})" if quantity.unit else quantity.label)
        self.plot.getAxis("left").setLabel("filaments")
        self._paint()

    def _paint(self) -> None:
        """Give the axes the color of the theme."""
        self.text.ensurePolished()
        color = self.text.palette().color(QPalette.ColorRole.WindowText)
        self.plot.getAxis("bottom").setHeight(BOTTOM)
        for side in ("bottom", "left"):
            axis = self.plot.getAxis(side)
            axis.setPen(color)
            axis.setTextPen(color)
