"""The curves of a run that is followed: one stage, the terms that are ticked, a linear or a logarithmic scale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from qtpy.QtCore import QEvent
from qtpy.QtGui import QPalette
from qtpy.QtWidgets import QCheckBox, QComboBox, QGridLayout, QSizePolicy, QVBoxLayout, QWidget

from napari_vqldm.plugin.widgets import HelpLabel
from napari_vqldm.training.follow import Points

HEIGHT = 180  # pixels
EDGE = 7  # pixels above and below: half a number of the axis, and what its title hangs over
COLUMNS = 2
LONG = 16  # letters of a term that does not fit into half of a narrow dock
COLORS = ("#4c9be8", "#f0883e", "#3fb97f", "#d65db1", "#c9b037", "#8a7ff0", "#e5534b", "#5bc8c8")  # dark and light


class RunCurves(QWidget):
    """Curves of one stage over its steps. Nothing of pyqtgraph is imported before there is something to draw."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("vqldm-run-curves")
        self.curves: Mapping[str, Mapping[str, list[tuple[int, float]]]] = {}
        self.terms: dict[str, QCheckBox] = {}
        self.plot: Any = None
        self.lines: dict[str, Any] = {}
        self._is_tried = False
        self._chosen: dict[tuple[str, str], bool] = {}  # what the user ticked, by stage and term
        self.stage = QComboBox()
        self.stage.setObjectName("vqldm-run-stage")
        self.stage.setAccessibleName("Stage of the training")
        self.stage.setToolTip("Which stage of the training to show")
        self.stage.currentTextChanged.connect(lambda _text: self._show_stage())
        self.is_log = QCheckBox("Logarithmic scale")
        self.is_log.setObjectName("vqldm-run-log")
        self.is_log.setToolTip("Show the values on a logarithmic scale; values of 0 and below are left out")
        self.is_log.toggled.connect(lambda _checked: self._draw())
        self.text = HelpLabel(parent=self)
        self.text.setObjectName("vqldm-run-values")
        self._boxes = QWidget()
        self._grid = QGridLayout(self._boxes)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        for widget in (self.stage, self._boxes, self.is_log, self.text):
            self._column.addWidget(widget)
        self.show_curves({})

    def show_curves(self, curves: Points) -> None:
        """Show these; the stage moves on with the training until the user chose another one."""
        is_at_end = self.stage.currentIndex() == self.stage.count() - 1
        self.curves = curves
        stages = list(curves)
        if [self.stage.itemText(i) for i in range(self.stage.count())] != stages:
            chosen = self.stage.currentText()
            self.stage.blockSignals(True)
            self.stage.clear()
            self.stage.addItems(stages)
            self.stage.setCurrentIndex(len(stages) - 1 if is_at_end else max(self.stage.findText(chosen), 0))
            self.stage.blockSignals(False)
        for widget in (self.stage, self._boxes, self.is_log):
            widget.setVisible(bool(stages))
        self._show_stage()

    def changeEvent(self, event: QEvent) -> None:
        """Follow the theme."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.StyleChange, QEvent.Type.PaletteChange) and self.plot is not None:
            self._paint()

    def _show_stage(self) -> None:
        """Offer the terms of the stage, then draw."""
        stage = self.stage.currentText()
        names = list(self.curves.get(stage, {}))
        if list(self.terms) != names:
            for box in self.terms.values():
                self._grid.removeWidget(box)
                box.hide()  # it is deleted later, and must not lie below the new ones until then
                box.deleteLater()
            self.terms = {name: self._box(stage, name) for name in names}
            cell = 0
            for name, box in self.terms.items():
                is_long = len(name) > LONG
                cell += -cell % COLUMNS if is_long else 0  # a row of its own
                self._grid.addWidget(box, cell // COLUMNS, cell % COLUMNS, 1, COLUMNS if is_long else 1)
                cell += COLUMNS if is_long else 1
        for name, box in self.terms.items():
            box.blockSignals(True)
            box.setChecked(self._chosen.get((stage, name), name in ("loss", "held_out_loss")))
            box.blockSignals(False)
        self._draw()

    def _box(self, stage: str, name: str) -> QCheckBox:
        box = QCheckBox(name.replace("_", " "))
        box.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)  # cut off rather than too wide
        box.setToolTip(f"Draw {name} over the steps of this stage")
        box.toggled.connect(lambda checked: self._on_ticked(name, checked))
        return box

    def _on_ticked(self, name: str, checked: bool) -> None:
        self._chosen[self.stage.currentText(), name] = checked
        self._draw()

    def _draw(self) -> None:
        of_stage = self.curves.get(self.stage.currentText(), {})
        shown = {name: of_stage[name] for name, box in self.terms.items() if box.isChecked() and of_stage.get(name)}
        values = [f"{name} {points[-1][1]:.4g} at step {points[-1][0]}" for name, points in shown.items()]
        self.text.setText("\n".join(values) if of_stage else "No numbers yet.")
        if shown and not self._is_tried:
            self._make_plot()
        if self.plot is None:
            return
        self.plot.setVisible(bool(shown))
        is_log = self.is_log.isChecked()
        if not is_log:  # before values without a logarithm come in
            self.plot.setLogMode(x=False, y=False)
        for name in [name for name in self.lines if name not in shown]:
            self.plot.removeItem(self.lines.pop(name))
        for name, points in shown.items():
            if name not in self.lines:
                self.lines[name] = self.plot.plot(connect="finite")
            steps, heights = np.array(points, np.float64).T
            heights[~np.isfinite(heights)] = np.nan
            if is_log:
                heights[heights <= 0] = np.nan
            self.lines[name].setData(steps, heights, symbol="o" if len(points) == 1 else None)  # one point is no line
        if is_log:  # after they are out
            self.plot.setLogMode(x=False, y=True)
        self._paint()

    def _make_plot(self) -> None:
        self._is_tried = True
        try:
            import pyqtgraph
        except ImportError:  # the values are told in words
            return
        self.plot = pyqtgraph.PlotWidget()
        self.plot.setObjectName("vqldm-run-plot")
        self.plot.setFixedHeight(HEIGHT)
        self.plot.setMenuEnabled(False)
        self.plot.setMouseEnabled(x=False, y=False)
        self.plot.hideButtons()
        self.plot.setLabel("bottom", "step")
        self.plot.getPlotItem().layout.setContentsMargins(0, EDGE, 0, EDGE)
        self._column.insertWidget(1, self.plot)

    def _paint(self) -> None:
        """Give each line its color, the one of its check box, and the axes that of the theme."""
        import pyqtgraph

        ink = self.palette().color(QPalette.ColorRole.WindowText)
        self.plot.setBackground(None)
        for i, (name, box) in enumerate(self.terms.items()):
            color = COLORS[i % len(COLORS)]
            if name in self.lines:
                self.lines[name].setPen(pyqtgraph.mkPen(color, width=2))
                self.lines[name].setSymbolBrush(color)
                self.lines[name].setSymbolPen(color)
            style = f"QCheckBox {{ color: {color}; }}" if name in self.lines else ""
            if box.styleSheet() != style:
                box.setStyleSheet(style)
        for side in ("bottom", "left"):
            axis = self.plot.getAxis(side)
            axis.setPen(ink)
            axis.setTextPen(ink)
