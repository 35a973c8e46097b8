"""The table of filaments: sortable, one row each."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, QSortFilterProxyModel, Qt, Signal
from qtpy.QtWidgets import QAbstractItemView, QTableView, QWidget

from napari_vqldm.measure.quantities import FILAMENT_QUANTITIES

if TYPE_CHECKING:
    from napari_vqldm.measure import Filament, Measurement

HEIGHT = 180  # pixels
NAMES = ("number", *(quantity.name for quantity in FILAMENT_QUANTITIES), "touches_border")
_LABELS = {quantity.name: quantity for quantity in FILAMENT_QUANTITIES}
_HEADS = {"number": "filament", "touches_border": "at a face"}
_TIPS = {"touches_border": "An end lies within 0.4 um of a face of the volume: the filament may go on outside"}


class FilamentModel(QAbstractTableModel):
    """Filaments as Qt sees them; the sort role gives plain numbers, missing ones below all others."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self.filaments: tuple[Filament, ...] = ()

    def show_filaments(self, filaments: tuple[Filament, ...]) -> None:
        """Show other filaments."""
        self.beginResetModel()
        self.filaments = filaments
        self.endResetModel()

    def rowCount(self, parent: Any = None) -> int:
        """Filaments."""
        return 0 if parent is not None and parent.isValid() else len(self.filaments)

    def columnCount(self, parent: Any = None) -> int:
        """Their numbers."""
        return 0 if parent is not None and parent.isValid() else len(NAMES)

    def data(self, index: Any, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """One number, as text or to sort by."""
        value = getattr(self.filaments[index.row()], NAMES[index.column()])
        if role == Qt.ItemDataRole.UserRole:
            return -math.inf if value != value else float(value)
        if role == Qt.ItemDataRole.DisplayRole:
            if isinstance(value, bool):
                return "yes" if value else ""
            return f"{value:.3g}" if isinstance(value, float) and math.isfinite(value) else _plain(value)
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        return None

    def headerData(self, section: int, orientation: Any, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Name and unit of a number; what it leaves out as its tooltip."""
        if orientation != Qt.Orientation.Horizontal:
            return None
        name = NAMES[section]
        quantity = _LABELS.get(name)
        if role == Qt.ItemDataRole.DisplayRole:
            if quantity is None:
                return _HEADS[name]
            return f"{quantity.label} ({quantity.unit})" if quantity.unit else quantity.label
        if role == Qt.ItemDataRole.ToolTipRole:
            return quantity.remark if quantity is not None else _TIPS.get(name, "")
        return None


class FilamentTable(QTableView):
    """Filaments of one volume; a click on a title sorts, on a row chooses."""

    chosen = Signal(int)  # which filament, from 0

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("vqldm-measure-filaments")
        self.setAccessibleName("Filaments")
        self.filament_model = FilamentModel(self)
        self.sorted_model = QSortFilterProxyModel(self)
        self.sorted_model.setSourceModel(self.filament_model)
        self.sorted_model.setSortRole(Qt.ItemDataRole.UserRole)
        self.setModel(self.sorted_model)
        self.setSortingEnabled(True)
        self.sortByColumn(0, Qt.SortOrder.AscendingOrder)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setToolTip("Click a row to go to the filament, a title to sort")
        self.setMinimumHeight(HEIGHT)
        vertical = self.verticalHeader()
        if vertical is not None:
            vertical.hide()
        selection = self.selectionModel()
        if selection is not None:
            selection.currentRowChanged.connect(self._on_row)

    def show_measurement(self, found: Measurement | None) -> None:
        """Show the filaments of a measurement; None shows none."""
        self.filament_model.show_filaments(() if found is None else found.filaments)
        self.resizeColumnsToContents()

    def _on_row(self, current: QModelIndex, _before: QModelIndex) -> None:
        if current.isValid():
            self.chosen.emit(self.sorted_model.mapToSource(current).row())


def _plain(value: Any) -> str:
    return "" if isinstance(value, float) else str(value)
