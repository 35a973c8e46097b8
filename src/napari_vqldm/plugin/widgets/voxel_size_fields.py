"""Three fields for the size of a voxel."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QDoubleSpinBox, QHBoxLayout, QLabel, QWidget

from napari_vqldm.config import VOXEL_SIZE_RANGE_UM
from napari_vqldm.volume import Float3

UNKNOWN = "?"


def make_narrow(field: QDoubleSpinBox) -> None:
    """Let three fields fit into a narrow dock: no arrows, and less room than napari's style sheet gives them."""
    field.setButtonSymbols(QDoubleSpinBox.ButtonSymbols.NoButtons)
    field.setStyleSheet("QDoubleSpinBox { min-width: 40px; padding: 1px 4px; }")


class VoxelSizeFields(QWidget):
    """Voxel size along z, y and x in micrometres; a field that is not filled shows a question mark and counts as 0.

    A value that was set keeps all its digits until the user changes that field.
    """

    changed = Signal(object)  # (z, y, x)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._exact = [0.0, 0.0, 0.0]
        self.fields: list[QDoubleSpinBox] = []
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        for index, letter in enumerate("zyx"):
            field = QDoubleSpinBox()
            field.setObjectName(f"vqldm-voxel-{letter}")
            field.setAccessibleName(f"Voxel size along {letter} in micrometres")
            field.setToolTip(f"Size of a voxel along {letter} in micrometres")
            field.setDecimals(4)
            field.setRange(0.0, VOXEL_SIZE_RANGE_UM[1])
            field.setSingleStep(0.01)
            field.setSpecialValueText(UNKNOWN)
            make_narrow(field)
            field.setKeyboardTracking(False)
            field.valueChanged.connect(lambda value, i=index: self._on_field(i, value))
            row.addWidget(QLabel(letter))
            row.addWidget(field, 1)
            self.fields.append(field)

    @property
    def values(self) -> Float3:
        """(z, y, x), um; 0 where not known."""
        z, y, x = self._exact
        return z, y, x

    def set_values(self, values: Float3) -> None:
        """Show a voxel size, without a signal."""
        self._exact = list(values)
        for field, value in zip(self.fields, values, strict=True):
            field.blockSignals(True)
            field.setValue(value)
            field.blockSignals(False)

    def _on_field(self, index: int, value: float) -> None:
        self._exact[index] = value
        self.changed.emit(self.values)
