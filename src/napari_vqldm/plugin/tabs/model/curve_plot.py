"""The training curves of a checkpoint: a small plot with pyqtgraph where it is installed, text where it is not."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import QEvent
from qtpy.QtGui import QPalette
from qtpy.QtWidgets import QComboBox, QVBoxLayout, QWidget

from napari_vqldm.card import Header
from napari_vqldm.plugin.tabs.model.card_text import curve_text
from napari_vqldm.plugin.widgets import HelpLabel

HEIGHT = 140  # pixels
PREFERRED = "denoiser/held_out_loss"


class CurvePlot(QWidget):
    """One quantity over the steps of training. Nothing of pyqtgraph is imported before it is seen."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("vqldm-curves")
        self._header: Header | None = None
        self._is_tried = False
        self.plot: Any = None
        self._line: Any = None
        self.choice = QComboBox()
        self.choice.setObjectName("vqldm-curve-choice")
        self.choice.setAccessibleName("Training curve")
        self.choice.setToolTip("Which quantity of the training to show")
        self.choice.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.choice.setMinimumContentsLength(8)
        self.choice.currentTextChanged.connect(lambda _name: self._draw())
        self.text = HelpLabel(parent=self)
        self.text.setObjectName("vqldm-curve-text")
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.addWidget(self.choice)
        self._column.addWidget(self.text)

    def show_header(self, header: Header | None) -> None:
        """Show the curves of another checkpoint."""
        self._header = header
        names = [] if header is None else [name for name, points in header.training.curve.items() if points]
        self.choice.blockSignals(True)
        self.choice.clear()
        self.choice.addItems(names)
        self.choice.setCurrentIndex(max(self.choice.findText(PREFERRED), 0) if names else -1)
        self.choice.blockSignals(False)
        self.choice.setVisible(bool(names))
        self._draw()

    def make_plot(self) -> None:
        """Make the plot now: somebody looks at it."""
        if self._is_tried:
            return
        self._is_tried = True
        try:
            import pyqtgraph
        except ImportError:
            self._draw()
            return
        self.plot = pyqtgraph.PlotWidget()
        self.plot.setObjectName("vqldm-curve-plot")
        self.plot.setFixedHeight(HEIGHT)
        self.plot.setMenuEnabled(False)
        self.plot.setMouseEnabled(x=False, y=False)
        self.plot.hideButtons()
        self.plot.setLabel("bottom", "step")
        self._line = self.plot.plot()
        self._column.insertWidget(1, self.plot)
        self._draw()

    def changeEvent(self, event: QEvent) -> None:
        """Follow the theme."""
        super().changeEvent(event)
        kinds = (QEvent.Type.StyleChange, QEvent.Type.PaletteChange)
        if event.type() in kinds and self.plot is not None:
            self._paint()

    def _draw(self) -> None:
        name = self.choice.currentText()
        points = [] if self._header is None else self._header.training.curve.get(name, [])
        if self._header is None or not points:
            self.text.setText("The card holds no training curve." if self._header is not None else "")
        elif self.plot is None:
            self.text.setText(curve_text(self._header))
        else:
            self.text.setText(f"{name}: {points[-1][1]:.4g} at step {points[-1][0]}")
        if self.plot is None:
            return
        values = np.array(points, np.float64).reshape(-1, 2)
        self._line.setData(values[:, 0], values[:, 1])
        self.plot.setVisible(len(values) > 0)
        self._paint()

    def _paint(self) -> None:
        """Give the plot the colors of the theme."""
        import pyqtgraph

        palette = self.palette()
        ink, line = palette.color(QPalette.ColorRole.WindowText), palette.color(QPalette.ColorRole.Highlight)
        self.plot.setBackground(None)
        self._line.setPen(pyqtgraph.mkPen(line, width=2))
        for side in ("bottom", "left"):
            axis = self.plot.getAxis(side)
            axis.setPen(ink)
            axis.setTextPen(ink)
