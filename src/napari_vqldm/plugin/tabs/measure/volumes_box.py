"""The measured volumes, their groups, and the comparison of group A with group B."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QAbstractItemView, QComboBox, QTableWidget, QTableWidgetItem, QVBoxLayout, QWidget

from napari_vqldm.plugin.widgets import HelpLabel

if TYPE_CHECKING:
    from napari_vqldm.measure import Difference, GroupComparison, Measurement
    from napari_vqldm.plugin.tabs.measure.lines_layer import LinesLayer

GROUPS = ("", "A", "B")
HEIGHT = 130  # pixels of a table
NAME_WIDTH = 140  # pixels of the names of compared numbers: in a narrow dock the numbers are seen beside them
_COLUMNS = ("layer", "group", "filaments", "length density (um/um3)", "median length (um)", "curvature (1/um)")
_NUMBERS = ("num_filaments", "length_density_um_per_um3", "median_length_um", "mean_curvature_per_um")
_COMPARED = ("number", "A", "B", "A / B", "95 % interval")


@dataclass(eq=False)
class Result:
    """A measured layer, its centre lines (None where there are none), and the group it was put into."""

    found: Measurement
    lines: LinesLayer | None
    group: str = ""


class VolumesBox(QWidget):
    """Two tables: measured volumes with a group each, and what the groups differ in."""

    chosen = Signal(int)  # which result, from 0

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.results: list[Result] = []
        self.comparison: GroupComparison | None = None
        self.volumes = _table("vqldm-measure-volumes", "Measured volumes", _COLUMNS)
        self.volumes.setToolTip("Choose a volume to see its filaments; put volumes into groups A and B to compare them")
        self.volumes.currentCellChanged.connect(lambda row, *_: self.chosen.emit(row) if row >= 0 else None)
        self.hint = HelpLabel(parent=self)
        self.hint.setObjectName("vqldm-measure-hint")
        self.compared = _table("vqldm-measure-comparison", "Group A against group B", _COMPARED)
        self.compared.setToolTip("Choose a row to read it as a sentence")
        self.compared.currentCellChanged.connect(lambda row, *_: self._say(row))
        self.sentence = HelpLabel(parent=self)
        self.sentence.setObjectName("vqldm-measure-sentence")
        self.notes = HelpLabel(parent=self)
        self.notes.setObjectName("vqldm-measure-notes")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        for widget in (self.volumes, self.hint, self.compared, self.sentence, self.notes):
            column.addWidget(widget)
        self.show_results()

    def add(self, result: Result) -> None:
        """Add a measured volume, and choose it."""
        self.results.append(result)
        self.show_results()
        self.volumes.setCurrentCell(len(self.results) - 1, 0)

    def set_group(self, index: int, group: str) -> None:
        """Put a volume into a group, ``"A"``, ``"B"`` or none, and compare again."""
        self.results[index].group = group
        self._compare()

    def members(self, group: str) -> list[Measurement]:
        """Return the measurements of a group."""
        return [result.found for result in self.results if result.group == group]

    def show_results(self) -> None:
        """List all results anew."""
        self.volumes.blockSignals(True)
        self.volumes.setRowCount(len(self.results))
        for row, result in enumerate(self.results):
            self.volumes.setItem(row, 0, _item(result.found.name))
            box = QComboBox()
            box.setAccessibleName(f"Group of {result.found.name}")
            box.addItems([group or "none" for group in GROUPS])
            box.setCurrentIndex(GROUPS.index(result.group))
            box.currentIndexChanged.connect(self._setter(row))
            self.volumes.setCellWidget(row, 1, box)
            for column, name in enumerate(_NUMBERS, 2):
                self.volumes.setItem(row, column, _item(_text(result.found.number(name))))
        self.volumes.blockSignals(False)
        self.volumes.resizeColumnsToContents()
        self.volumes.setVisible(bool(self.results))
        self._compare()

    def _setter(self, row: int) -> Callable[[int], None]:
        return lambda index: self.set_group(row, GROUPS[max(index, 0)])

    def _compare(self) -> None:
        a, b = self.members("A"), self.members("B")
        self.comparison = None
        if a and b:
            from napari_vqldm.measure import compare_measurements

            self.comparison = compare_measurements(a, b)
        rows = () if self.comparison is None else self.comparison.rows
        self.compared.setRowCount(len(rows))
        for index, row in enumerate(rows):
            for column, text in enumerate(_cells(row)):
                item = _item(text)
                item.setToolTip(row.sentence)
                self.compared.setItem(index, column, item)
        self.compared.resizeColumnsToContents()
        self.compared.setColumnWidth(0, min(self.compared.columnWidth(0), NAME_WIDTH))
        self.compared.setVisible(bool(rows))
        self.hint.setText(_hint(len(self.results), len(a), len(b)))
        self.notes.setText("" if self.comparison is None else "\n".join(self.comparison.notes))
        self._say(self.compared.currentRow())

    def _say(self, row: int) -> None:
        rows = () if self.comparison is None else self.comparison.rows
        self.sentence.setText(rows[row].sentence if 0 <= row < len(rows) else "")


def _hint(num: int, num_a: int, num_b: int) -> str:
    """Say what is missing for a comparison."""
    if num < 2 or (num_a and num_b):
        return ""
    if not num_a and not num_b:
        return "Put volumes into group A and group B to compare them."
    return f"Put a volume into group {'B' if num_a else 'A'}, too, to compare."


def _cells(row: Difference) -> tuple[str, ...]:
    """Texts of one compared number; the interval is that of the ratio, or of the difference where there is no ratio."""
    label = f"{row.label} ({row.unit})" if row.unit else row.label
    ends = [(row.ratio_low, row.ratio_high), (row.difference_low, row.difference_high)]
    span = next(("" if k == 0 else "A - B: ", pair) for k, pair in enumerate(ends) if pair[0] is not None or k == 1)
    low, high = span[1]
    interval = "" if low is None or high is None else f"{span[0]}{low:.3g} to {high:.3g}"
    return label, _text(row.mean_a), _text(row.mean_b), _text(row.ratio), interval


def _text(value: float) -> str:
    return "" if value != value else f"{value:.3g}"


def _item(text: str) -> QTableWidgetItem:
    item = QTableWidgetItem(text)
    item.setFlags(Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable)
    return item


def _table(name: str, title: str, columns: tuple[str, ...]) -> QTableWidget:
    table = QTableWidget(0, len(columns))
    table.setObjectName(name)
    table.setAccessibleName(title)
    table.setHorizontalHeaderLabels(columns)
    table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
    table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
    table.setMinimumHeight(HEIGHT)
    vertical = table.verticalHeader()
    if vertical is not None:
        vertical.hide()
    return table
