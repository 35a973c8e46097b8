"""The measured volumes, their groups, and the comparison of group A with group B."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_vqldm.plugin.widgets import HelpLabel
from napari_vqldm.plugin.widgets.fold import Fold

if TYPE_CHECKING:
    from napari_vqldm.measure import Difference, GroupComparison, Measurement
    from napari_vqldm.plugin.tabs.measure.lines_layer import LinesLayer
    from napari_vqldm.recipe import FileInput

GROUPS = ("", "A", "B")
HEIGHT = 180  # pixels of a table at most
NAME_WIDTH = 110  # pixels of names in both tables: in a narrow dock the numbers are seen beside them
_COLUMNS = ("layer", "group", "filaments", "length density (um/um3)", "median length (um)", "curvature (1/um)")
_NUMBERS = ("num_filaments", "length_density_um_per_um3", "median_length_um", "mean_curvature_per_um")
_COMPARED = ("number", "A", "B", "A / B", "95 % interval")


@dataclass(eq=False)
class Result:
    """A measured layer.

    Attributes
    ----------
    found : Measurement
        Its numbers.
    lines : LinesLayer or None
        Its centre lines; None where there are none.
    group : str
        ``"A"``, ``"B"`` or none.
    file : FileInput or None
        Where the measured voxels lie; None where they are in no file.
    origin : object
        What was measured: the layer and its frame. Measured again, it takes the place of the result before.
    """

    found: Measurement
    lines: LinesLayer | None
    group: str = ""
    file: FileInput | None = None
    origin: object = None


class VolumesBox(QWidget):
    """Two tables: measured volumes with a group each, and what the groups differ in."""

    chosen = Signal(int)  # which result, from 0; -1 for none
    compared_anew = Signal()  # other groups, or other members

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.results: list[Result] = []
        self.comparison: GroupComparison | None = None
        self.volumes = _table("vqldm-measure-volumes", "Measured volumes", _COLUMNS)
        self.volumes.setToolTip("Choose a volume to see its filaments; put volumes into groups A and B to compare them")
        self.volumes.currentCellChanged.connect(lambda row, *_: self.chosen.emit(row) if row >= 0 else None)
        self.remove_button = QPushButton("Remove from the list")
        self.remove_button.setObjectName("vqldm-measure-remove")
        self.remove_button.setToolTip("Forget the numbers of the chosen volume; its layers stay")
        self.remove_button.clicked.connect(lambda _checked=False: self.remove(self.volumes.currentRow()))
        self.hint = HelpLabel(parent=self)
        self.hint.setObjectName("vqldm-measure-hint")
        self.compared = _table("vqldm-measure-comparison", "Group A against group B", _COMPARED)
        self.compared.setToolTip("Choose a row to read it as a sentence")
        self.compared.currentCellChanged.connect(lambda row, *_: self._say(row))
        self.sentence = HelpLabel(parent=self)
        self.sentence.setObjectName("vqldm-measure-sentence")
        notes = QWidget()
        self.notes = HelpLabel(parent=notes)
        self.notes.setObjectName("vqldm-measure-notes")
        inside = QVBoxLayout(notes)
        inside.setContentsMargins(0, 0, 0, 0)
        inside.addWidget(self.notes)
        self.notes_fold = Fold(
            "What the intervals do not say", "vqldm-measure-notes-fold", notes, "Read this before you conclude"
        )
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        for widget in (self.volumes, self.remove_button, self.hint, self.compared, self.sentence, self.notes_fold):
            column.addWidget(widget)
        self.show_results()

    def add(self, result: Result) -> None:
        """Add a measured volume, and choose it; what was measured before keeps its row and its group.

        A volume that stood there twice would count as two independent ones.
        """
        known = [one.origin for one in self.results]
        row = known.index(result.origin) if result.origin is not None and result.origin in known else len(known)
        if row < len(known):
            result.group = self.results[row].group
        self.results[row : row + 1] = [result]
        self._choose(row)

    def remove(self, row: int) -> None:
        """Forget a measured volume; the one that moves up is chosen."""
        if 0 <= row < len(self.results):
            del self.results[row]
            self._choose(min(row, len(self.results) - 1))

    def _choose(self, row: int) -> None:
        """List all results anew and choose one; -1 chooses none."""
        self.show_results()
        self.volumes.blockSignals(True)
        self.volumes.setCurrentCell(row, 0)
        self.volumes.blockSignals(False)
        self.chosen.emit(row)

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
            self.volumes.setItem(row, 0, _item(result.found.name, result.found.name))
            box = QComboBox()
            box.setAccessibleName(f"Group of {result.found.name}")
            box.addItems([group or "none" for group in GROUPS])
            box.setCurrentIndex(GROUPS.index(result.group))
            box.currentIndexChanged.connect(self._setter(row))
            self.volumes.setCellWidget(row, 1, box)
            for column, name in enumerate(_NUMBERS, 2):
                self.volumes.setItem(row, column, _item(_text(result.found.number(name))))
        self.volumes.blockSignals(False)
        _fit(self.volumes)
        for widget in (self.volumes, self.remove_button):
            widget.setVisible(bool(self.results))
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
                self.compared.setItem(index, column, _item(text, row.sentence))
        _fit(self.compared)
        if rows and self.compared.currentRow() < 0:
            self.compared.setCurrentCell(0, 0)  # a sentence shows what rows are for
        for widget in (self.compared, self.notes_fold):
            widget.setVisible(bool(rows))
        self.hint.setText(_hint(len(self.results), len(a), len(b)))
        self.notes.setText("" if self.comparison is None else "\n".join(self.comparison.notes))
        self._say(self.compared.currentRow())
        self.compared_anew.emit()

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


def _fit(table: QTableWidget) -> None:
    """Give columns the width of their texts, names at most `NAME_WIDTH`, and few rows no more height than they need."""
    table.resizeColumnsToContents()
    table.setColumnWidth(0, min(table.columnWidth(0), NAME_WIDTH))
    bar, head = table.horizontalScrollBar(), table.horizontalHeader()
    frame = sum(part.sizeHint().height() for part in (bar, head) if part is not None) + 2 * table.frameWidth()
    rows = sum(table.rowHeight(row) for row in range(table.rowCount()))
    table.setFixedHeight(min(frame + rows, HEIGHT))


def _item(text: str, tip: str = "") -> QTableWidgetItem:
    item = QTableWidgetItem(text)
    item.setToolTip(tip)
    item.setFlags(Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable)
    return item


def _table(name: str, title: str, columns: tuple[str, ...]) -> QTableWidget:
    table = QTableWidget(0, len(columns))
    table.setObjectName(name)
    table.setAccessibleName(title)
    table.setHorizontalHeaderLabels(columns)
    table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
    table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
    vertical = table.verticalHeader()
    if vertical is not None:
        vertical.hide()
    return table
