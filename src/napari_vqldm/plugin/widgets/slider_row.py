"""A number of a state as a slider: where a person tries values instead of typing them."""

from __future__ import annotations

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget
from superqt import QLabeledDoubleSlider

FINEST = 1e-3  # of the range: one arrow key


class SliderRow(QWidget):
    """A label above a slider with its number.

    Parameters
    ----------
    name : str
        ``objectName`` of the slider.
    label, unit, tooltip : str
        In plain words.
    low, high : float
        Range.
    decimals : int
        Shown behind the point.
    """

    value_changed = Signal(float)  # by the user

    def __init__(
        self,
        name: str,
        label: str,
        low: float,
        high: float,
        *,
        unit: str = "",
        tooltip: str = "",
        decimals: int = 2,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.label = QLabel(f"{label} ({unit})" if unit else label)
        self.label.setWordWrap(True)
        self.slider = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
        self.slider.setObjectName(name)
        self.slider.setAccessibleName(label)
        self.slider.setRange(low, high)
        self.slider.setDecimals(decimals)
        step = max(10.0**-decimals, (high - low) * FINEST)
        self.slider.setSingleStep(step)  # type: ignore[arg-type]  # typed as for a slider of integers
        self.slider.setPageStep(10 * step)  # type: ignore[arg-type]
        self.slider.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        for widget in (self.label, self.slider):
            widget.setToolTip(tooltip)
        self._decimals = decimals
        self.slider.valueChanged.connect(lambda _value: self.value_changed.emit(self.value))
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.label)
        column.addWidget(self.slider)

    @property
    def value(self) -> float:
        """What the slider shows, with the digits that it shows."""
        return round(float(self.slider.value()), self._decimals)

    def show_value(self, value: float) -> None:
        """Move the slider without a signal."""
        with QSignalBlocker(self.slider):
            self.slider.setValue(value)
