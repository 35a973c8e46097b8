"""One knob for each condition of a model: drawn from the training distribution, or fixed by a slider."""

from __future__ import annotations

import math
from typing import Any

from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import QCheckBox, QComboBox, QLabel, QSizePolicy, QVBoxLayout, QWidget

from napari_vqldm.plugin.state.sample import CONDITIONS, ORGANISATIONS, ConditionText, Ranges, SampleState
from napari_vqldm.plugin.widgets.slider_row import SliderRow

DRAWN = "drawn for each volume"


class ConditionKnobs(QWidget):
    """Knobs of the conditions that a model takes; they show ``state.condition`` and change it."""

    def __init__(self, state: SampleState, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("vqldm-conditions")
        self.state = state
        self.knobs: dict[str, NumberKnob] = {}
        self.organisation: QComboBox | None = None
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        state.events.condition.connect(self._on_state)

    def show_ranges(self, ranges: Ranges) -> None:
        """Build the knobs of a model anew."""
        while self._column.count():
            item = self._column.takeAt(0)
            widget = item.widget() if item is not None else None
            if widget is not None:
                widget.hide()
                widget.deleteLater()
        self.knobs, self.organisation = {}, None
        for name, allowed in ranges.items():
            text = CONDITIONS.get(name, ConditionText(name.replace("_", " "), "", ""))
            if all(isinstance(entry, str) for entry in allowed):
                self._add_choice(name, [str(entry) for entry in allowed], text)
            else:
                low, high = (float(entry) for entry in allowed)
                if low < high:  # nothing to choose in a range without width
                    self._add_number(name, low, high, text)
        self._on_state()

    def disconnect_state(self) -> None:
        """Let go of the state."""
        self.state.events.condition.disconnect(self._on_state, missing_ok=True)

    def _add_number(self, name: str, low: float, high: float, text: ConditionText) -> None:
        knob = NumberKnob(name, low, high, text)
        knob.box.toggled.connect(lambda is_fixed, k=knob: self.state.fix(k.name, k.value if is_fixed else None))
        knob.row.value_changed.connect(lambda _value, k=knob: self.state.fix(k.name, k.value))
        self.knobs[name] = knob
        self._column.addWidget(knob)

    def _add_choice(self, name: str, allowed: list[str], text: ConditionText) -> None:
        label = QLabel(text.label)
        combo = QComboBox()
        combo.setObjectName(f"vqldm-condition-{name.replace('_', '-')}")
        combo.setAccessibleName(text.label)
        combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        combo.setMinimumContentsLength(8)
        combo.addItem(DRAWN, None)
        for entry in allowed:
            combo.addItem(ORGANISATIONS.get(entry, entry.replace("_", " ")), entry)
        for widget in (label, combo):
            widget.setToolTip(text.tooltip)
        combo.currentIndexChanged.connect(lambda index: self.state.fix(name, combo.itemData(index)))
        self.organisation = combo
        self._column.addWidget(label)
        self._column.addWidget(combo)

    def _on_state(self, *_: Any) -> None:
        for name, knob in self.knobs.items():
            value = self.state.condition.get(name)
            knob.show_value(None if value is None else float(value))
        if self.organisation is not None:
            index = self.organisation.findData(self.state.condition.get("organisation"))
            with QSignalBlocker(self.organisation):
                self.organisation.setCurrentIndex(max(index, 0))


class NumberKnob(QWidget):
    """A check box "fix it", and the slider that appears with it."""

    def __init__(self, name: str, low: float, high: float, text: ConditionText) -> None:
        super().__init__()
        self.name, self._low, self._high = name, low, high
        stem = name.replace("_", "-")
        decimals = max(0, 2 - math.floor(math.log10(high - low)))
        self.box = QCheckBox()
        self.box.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)  # narrow docks cut the range
        self.box.setObjectName(f"vqldm-condition-{stem}")
        self.box.setAccessibleName(f"Fix {text.label}")
        self.box.setToolTip(f"{text.tooltip} Checked: the same for all volumes. Unchecked: drawn for each.")
        self.row = SliderRow(
            f"vqldm-condition-{stem}-slider", "", low, high, tooltip=text.tooltip, decimals=min(decimals, 4)
        )
        self.row.label.hide()
        self.row.slider.setAccessibleName(text.label)
        self._label, self._unit = text.label, text.unit
        self._range = f"{low:.3g} to {high:.3g} {text.unit}".strip()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.box)
        column.addWidget(self.row)
        self.row.show_value(math.sqrt(low * high) if low > 0 else (low + high) / 2)
        self.show_value(None)

    @property
    def value(self) -> float:
        """Value of the slider, inside the range also where the number on the screen is rounded."""
        return min(max(self.row.value, self._low), self._high)

    def show_value(self, value: float | None) -> None:
        """Show a fixed value, or that it is drawn (None)."""
        with QSignalBlocker(self.box):
            self.box.setChecked(value is not None)
        self.box.setText(
            f"{self._label} ({self._unit})" if value is not None and self._unit else f"{self._label}: {self._range}"
        )
        self.row.setVisible(value is not None)
        if value is not None and value != self.value:
            self.row.show_value(value)
