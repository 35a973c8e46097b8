"""How one number is distributed over the filaments of a volume, or of two groups of volumes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QEvent
from qtpy.QtGui import QPalette
from qtpy.QtWidgets import QCheckBox, QComboBox, QVBoxLayout, QWidget

from napari_vqldm.measure.quantities import FILAMENT_QUANTITIES
from napari_vqldm.plugin.widgets import HelpLabel

if TYPE_CHECKING:
    from napari_vqldm.measure import Measurement

FloatArray = npt.NDArray[np.float64]

HEIGHT = 170  # pixels
BOTTOM = 44  # pixels of ticks and label below it
EDGE = 7  # pixels above and below: half a number of the axis, and what its title hangs over
MOST_BINS = 40
COLOR = "#4c9be8"  # seen on dark and on light
GROUP_COLORS = {"A": COLOR, "B": "#f0883e"}
COLOR_WORDS = {"A": "blue", "B": "orange"}
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
        self.by_group = QCheckBox("Group A against group B")
        self.by_group.setObjectName("vqldm-measure-by-group")
        self.by_group.setToolTip("Show the filaments of all volumes of each group, as a share of them")
        self.by_group.toggled.connect(lambda _checked: self._draw())
        self.by_group.hide()
        self.group_shares: dict[str, FloatArray] = {}  # per cent of the filaments of a group, in each bin
        self._groups: dict[str, list[Measurement]] = {}
        self._steps: dict[str, Any] = {}
        self.text = HelpLabel(parent=self)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.addWidget(self.quantity)
        self._column.addWidget(self.by_group)
        self._column.addWidget(self.text)

    def show_measurement(self, found: Measurement | None) -> None:
        """Show the filaments of a measurement; None shows none."""
        self._found = found
        if found is not None and self.plot is None:
            self._make_plot()
        self._draw()

    def show_groups(self, a: list[Measurement], b: list[Measurement]) -> None:
        """Offer to show two groups of volumes, where both have some."""
        self._groups = {"A": a, "B": b} if a and b else {}
        self.by_group.setVisible(bool(self._groups))
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
        self.plot.getPlotItem().layout.setContentsMargins(0, EDGE, 0, EDGE)
        self.bars = pyqtgraph.BarGraphItem(x=[], height=[], width=1.0, brush=COLOR)
        self.plot.addItem(self.bars)
        self._column.insertWidget(2, self.plot)

    def _draw(self) -> None:
        name = self.quantity.currentData()
        quantity = next(one for one in FILAMENT_QUANTITIES if one.name == name)
        is_by_group = bool(self._groups) and self.by_group.isChecked()
        if is_by_group:
            columns = {group: _values(members, name) for group, members in self._groups.items()}
        else:
            columns = {"": _values([] if self._found is None else [self._found], name)}
        values = np.concatenate(list(columns.values()))
        bins = int(np.clip(np.ceil(2.0 * np.cbrt(len(values))), 1, MOST_BINS))  # Rice
        self.counts, self.edges = np.histogram(values, bins, FULL_RANGE.get(name))
        self.group_shares = {
            group: 100.0 * np.histogram(column, self.edges)[0] / max(len(column), 1)
            for group, column in columns.items()
            if group
        }
        unit = f" {quantity.unit}" if quantity.unit else ""
        said = " ".join(_said(group, column, unit) for group, column in columns.items() if len(column))
        is_silent = self._found is None and not is_by_group
        remark = f" {quantity.remark[0].upper()}{quantity.remark[1:]}." if quantity.remark else ""
        self.text.setText(f"{said}{remark}" if said else "" if is_silent else "No filament has this number.")
        if self.bars is None:
            return
        width = np.diff(self.edges)
        self.bars.setOpts(x=self.edges[:-1] + width / 2, height=self.counts, width=width)
        self.bars.setVisible(not is_by_group)
        self._draw_groups()
        self.plot.setVisible(bool(len(values)))
        self.plot.getAxis("bottom").setLabel(f"{quantity.label} ({quantity.unit})" if quantity.unit else quantity.label)
        self.plot.getAxis("left").setLabel("% of filaments" if is_by_group else "filaments")
        self._paint()

    def _draw_groups(self) -> None:
        """Draw the share of each group as steps; without groups none."""
        import pyqtgraph

        for steps in self._steps.values():
            self.plot.removeItem(steps)
        pens = {group: pyqtgraph.mkPen(color, width=2) for group, color in GROUP_COLORS.items()}
        self._steps = {
            group: self.plot.plot(self.edges, shares, stepMode="center", pen=pens[group])
            for group, shares in self.group_shares.items()
        }

    def _paint(self) -> None:
        """Give the axes the color of the theme."""
        self.text.ensurePolished()
        color = self.text.palette().color(QPalette.ColorRole.WindowText)
        self.plot.getAxis("bottom").setHeight(BOTTOM)
        for side in ("bottom", "left"):
            axis = self.plot.getAxis(side)
            axis.setPen(color)
            axis.setTextPen(color)


def _values(found: Sequence[Measurement], name: str) -> FloatArray:
    """Return one number of all filaments of some volumes, where they have it."""
    values = np.concatenate([np.zeros(0), *(one.column(name) for one in found)])
    return np.asarray(values[np.isfinite(values)], np.float64)


def _said(group: str, values: FloatArray, unit: str) -> str:
    low, middle, high = np.percentile(values, (25, 50, 75))
    of = f"Group {group} ({COLOR_WORDS[group]}): " if group else ""
    return f"{of}{len(values)} filaments: half of them from {low:.3g} to {high:.3g}{unit}, median {middle:.3g}."
