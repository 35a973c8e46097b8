"""The card of the chosen checkpoint, for people who decide whether to trust it."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QApplication, QFormLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget
from superqt import QElidingLabel

from napari_vqldm.card import Header
from napari_vqldm.plugin.tabs.model.card_text import CardText, card_text
from napari_vqldm.plugin.tabs.model.curve_plot import CurvePlot
from napari_vqldm.plugin.widgets import HelpLabel
from napari_vqldm.plugin.widgets.fold import Fold
from napari_vqldm.report.scorecard import Rows, ScoreGroup


class ModelCard(QWidget):
    """Facts first; scores, memorization, training and limits fold out."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("vqldm-card")
        self.text: CardText | None = None
        self.description, self.warning = HelpLabel(parent=self), HelpLabel(parent=self)
        self.description.setObjectName("vqldm-card-description")
        self.warning.setObjectName("vqldm-card-warning")
        self.warning.setStyleSheet("font-weight: bold")  # napari's style sheet sets the font: a QFont would be lost
        self.facts = RowList("vqldm-card-facts")
        self.limits = HelpLabel(parent=self)
        self.limits.setObjectName("vqldm-card-limits")
        self.memorization = HelpLabel(parent=self)
        self.memorization.setObjectName("vqldm-card-memorization")
        self.scorecard = ScoreList("vqldm-card-scorecard")
        self.training = HelpLabel(parent=self)
        self.training.setObjectName("vqldm-card-training")
        self.data = HelpLabel(parent=self)
        self.data.setObjectName("vqldm-card-data")
        self.curves = CurvePlot()
        self.sha256 = CopyLabel("vqldm-card-sha256")
        trained = QWidget()
        inner = QVBoxLayout(trained)
        inner.setContentsMargins(0, 0, 0, 0)
        inner.addWidget(self.data)
        inner.addWidget(self.training)
        inner.addWidget(self.curves)
        self.folds = {
            "scorecard": Fold("Scorecard", "vqldm-fold-scorecard", self.scorecard, "How the model was judged"),
            "memorization": Fold(
                "Are volumes copies?",
                "vqldm-fold-memorization",
                _framed(self.memorization),
                "Whether the model repeats volumes that it was trained on",
            ),
            "training": Fold("Training", "vqldm-fold-training", trained, "Data, time and curves"),
        }
        self.folds["training"].toggled.connect(self._on_training)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        for widget in (self.description, self.warning, self.facts, self.sha256, self.limits, *self.folds.values()):
            column.addWidget(widget)

    def show_header(self, header: Header | None) -> None:
        """Show a card; None shows nothing."""
        self.setVisible(header is not None)
        self.text = text = None if header is None else card_text(header)
        self.curves.show_header(header)
        if text is None:
            return
        self.description.setText(text.description)
        self.warning.setText(text.warning)
        self.facts.show_rows(text.facts)
        self.sha256.show_text("sha256 of the weights", text.sha256)
        self.limits.setText(f"Limits: {text.limits}" if text.limits else "")
        self.memorization.setText(text.memorization or "The card says nothing about it.")
        self.scorecard.show_groups(text.score_groups)
        self.training.setText(_lines(text.training))
        self.data.setText(f"Trained on: {text.data}" if text.data else "")

    def _on_training(self, is_open: bool) -> None:
        if is_open:
            self.curves.make_plot()


class RowList(QWidget):
    """Rows of name and value that wrap."""

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName(name)
        self.rows: Rows = ()
        self._form = QFormLayout(self)
        self._form.setContentsMargins(0, 0, 0, 0)
        self._form.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)

    def show_rows(self, rows: Rows) -> None:
        """Show other rows."""
        self.rows = rows
        while self._form.rowCount():
            self._form.removeRow(0)
        for name, value in rows:
            label, shown = QLabel(name), HelpLabel(value)
            label.setWordWrap(True)
            self._form.addRow(label, shown)


class ScoreList(QWidget):
    """Scores by what they measure: a heading, what the numbers mean, and each number below its name."""

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName(name)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)

    def show_groups(self, groups: tuple[ScoreGroup, ...]) -> None:
        """Show other scores."""
        while (item := self._column.takeAt(0)) is not None:
            if (widget := item.widget()) is not None:
                widget.hide()
                widget.deleteLater()
        if not groups:
            self._column.addWidget(HelpLabel("The card holds no scores."))
        for group in groups:
            heading = HelpLabel(group.heading)
            heading.setStyleSheet("font-weight: bold; padding-top: 6px")
            # Two lines each: beside names of this length no column is left for the numbers.
            rows = HelpLabel("\n".join(f"{name[:1].upper()}{name[1:]}\n    {value}" for name, value in group.rows))
            for label in (heading, HelpLabel(group.note) if group.note else None, rows):
                if label is not None:
                    self._column.addWidget(label)


class CopyLabel(QElidingLabel):
    """A long text, cut to the width; a click copies all of it."""

    copied = Signal(str)

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName(name)
        self.setElideMode(Qt.TextElideMode.ElideMiddle)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.full = ""

    def show_text(self, title: str, text: str) -> None:
        """Show a text with its name."""
        self.full = text
        self.setText(f"{title}: {text}")
        self.setToolTip(f"{text}\nClick to copy.")
        self.setAccessibleName(title)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """Copy."""
        super().mouseReleaseEvent(event)
        if event.button() == Qt.MouseButton.LeftButton and self.full:
            clipboard = QApplication.clipboard()
            if clipboard is not None:
                clipboard.setText(self.full)
            self.copied.emit(self.full)


def _lines(rows: Rows) -> str:
    return "\n".join(f"{name}: {value}" if value else name for name, value in rows)


def _framed(label: HelpLabel) -> QWidget:
    """Put a label into a widget that can be hidden: the label shows and hides itself with its text."""
    frame = QWidget()
    column = QVBoxLayout(frame)
    column.setContentsMargins(0, 0, 0, 0)
    column.addWidget(label)
    return frame
