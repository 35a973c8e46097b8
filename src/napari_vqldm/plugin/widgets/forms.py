"""Parameter forms made from the fields of a state: label, range and help are written once, at the field.

A state is a dataclass whose fields emit psygnal events. The form shows the state and changes it, and decides nothing.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from magicgui.widgets import create_widget
from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QWidget,
)

from napari_vqldm.plugin.state.knobs import Knob, knob, knob_of

__all__ = ["Form", "Knob", "Row", "knob", "knob_of", "make_form"]

_WIDEST_INT = 2**31 - 1  # of a Qt spin box


def make_form(state: Any, fields: Sequence[str], parent: QWidget | None = None) -> Form:
    """Return a form of the named fields of a state, in this order.

    Parameters
    ----------
    state : evented dataclass
        Its fields come from `knob` and emit ``state.events.<field>``.
    fields : sequence of str
        Which fields.
    parent : QWidget, optional
        Of the form.

    Returns
    -------
    Form
        A widget that stays equal to the state in both directions until `Form.disconnect_state`.
    """
    return Form(state, fields, parent)


class Form(QWidget):
    """Rows of label and value, bound to a state."""

    def __init__(self, state: Any, fields: Sequence[str], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.state = state
        self.rows: dict[str, Row] = {}
        layout = QFormLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)  # narrow docks put the label on top
        layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        hints = typing.get_type_hints(type(state))
        for name in fields:
            row = Row(state, name, knob_of(state, name), hints[name])
            self.rows[name] = row
            layout.addRow(row.label, row.view)

    def set_enabled(self, name: str, is_enabled: bool, reason: str = "") -> None:
        """Enable or disable one row; the reason replaces its help while it is disabled."""
        row = self.rows[name]
        for widget in (row.label, row.view):
            widget.setEnabled(is_enabled)
        row.show_help(row.knob.tooltip if is_enabled or not reason else reason)

    def set_range(self, name: str, min: float, max: float) -> None:
        """Change the range of a number, e.g. to what a model was trained on; the state is moved inside."""
        self.rows[name].set_range(min, max)

    def set_choices(self, name: str, choices: Sequence[Any]) -> None:
        """Change the allowed values; the state keeps its value when it is still allowed, else takes the first."""
        self.rows[name].set_choices(choices)

    def set_default_text(self, name: str, text: str) -> None:
        """Say what None means now, e.g. ``"model's default: 40"``."""
        self.rows[name].set_default_text(text)

    def disconnect_state(self) -> None:
        """Let go of the state; the form shows its last values."""
        for row in self.rows.values():
            row.disconnect_state()


class Row:
    """One field: its label, its magicgui widget and, where None is allowed, a checkbox.

    Attributes
    ----------
    label : QLabel
        Text and help.
    view : QWidget
        What stands beside the label.
    widget : magicgui widget
        Holds the value; its range refuses others.
    switch : QCheckBox or None
        Checked: the value of the widget; else None.
    """

    def __init__(self, state: Any, name: str, shown: Knob, hint: Any) -> None:
        self.knob = shown
        self._state, self._name = state, name
        self._is_syncing = False
        kind, allows_none = _without_none(hint)
        self._kind = kind
        self.widget = _make_widget(kind, shown, getattr(state, name))
        self.switch = QCheckBox() if allows_none else None
        self.label = QLabel(f"{shown.label} ({shown.unit})" if shown.unit else shown.label)
        self.label.setWordWrap(True)
        self.view: QWidget = self.widget.native
        if self.switch is not None:
            self.view = _side_by_side(self.switch, self.widget.native)
            self.switch.toggled.connect(self._on_switch)
            self.set_default_text(shown.nullable or "default")
            self.switch.setAccessibleName(f"{shown.label}: choose a value")
        self.show_help(shown.tooltip)
        self.widget.native.setObjectName(f"vqldm-{name.replace('_', '-')}")
        self.label.setBuddy(self.widget.native)
        self.widget.native.setAccessibleName(shown.label)
        self._fit_native(self.widget.native)
        self.widget.changed.connect(self._on_widget)
        self._signal: Any = getattr(state.events, name)
        self._signal.connect(self._on_state)
        self._on_state(getattr(state, name))

    def show_help(self, text: str) -> None:
        """Show a tooltip wherever the pointer may rest."""
        for widget in (self.label, self.view, self.widget.native, self.switch):
            if widget is not None:
                widget.setToolTip(text)

    def set_range(self, low: float, high: float) -> None:
        """Change the range; see `Form.set_range`."""
        with self._syncing():
            self.widget.max = max(self.widget.max, low)  # a range that is empty in between is refused
            self.widget.min, self.widget.max = low, high
        self._on_state(getattr(self._state, self._name))

    def set_choices(self, choices: Sequence[Any]) -> None:
        """Change the choices; see `Form.set_choices`."""
        with self._syncing():
            self.widget.choices = tuple(choices)
        value = getattr(self._state, self._name)
        if value is not None and value not in choices and choices:
            setattr(self._state, self._name, choices[0])
        else:
            self._on_state(value)

    def set_default_text(self, text: str) -> None:
        """Say beside the checkbox what None means."""
        if self.switch is not None:
            self.switch.setText("" if self.switch.isChecked() else text)
            self._default_text = text

    def disconnect_state(self) -> None:
        """Stop following the state and changing it."""
        self._signal.disconnect(self._on_state, missing_ok=True)
        self.widget.changed.disconnect(self._on_widget, missing_ok=True)
        if self.switch is not None:
            self.switch.toggled.disconnect(self._on_switch)

    def _fit_native(self, native: QWidget) -> None:
        """Let the Qt widget shrink with the dock, and keep its value when the dock is scrolled over it."""
        if isinstance(native, QDoubleSpinBox):
            native.setDecimals(_decimals(self.knob))
        if isinstance(native, QComboBox):
            native.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            native.setMinimumContentsLength(6)
        if isinstance(native, QAbstractSpinBox):
            native.setMinimumWidth(native.fontMetrics().horizontalAdvance("0" * 8))
            native.setKeyboardTracking(False)  # half-typed numbers are not values
        if isinstance(native, QAbstractSpinBox | QComboBox):
            native.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
            self._wheel_guard = _WheelGuard(native)
            native.installEventFilter(self._wheel_guard)

    @contextmanager
    def _syncing(self) -> Iterator[None]:
        """Mark changes of the widget that come from the state: they must not travel back rounded."""
        before, self._is_syncing = self._is_syncing, True
        try:
            yield
        finally:
            self._is_syncing = before

    def _on_state(self, value: Any, *_: object) -> None:
        """Show the value of the state; a number outside the range moves the state inside."""
        if value is None:
            self._show_switch(False)
            return
        allowed = self._inside(value)
        if allowed != value:
            setattr(self._state, self._name, allowed)  # comes back here
            return
        with self._syncing():
            if self.knob.choices and allowed not in self.widget.choices:  # set from outside, such as a device
                self.widget.choices = (*self.widget.choices, allowed)
            self.widget.value = allowed
        self._show_switch(True)

    def _on_widget(self, value: Any) -> None:
        """Write a value of the user to the state."""
        if not self._is_syncing:
            setattr(self._state, self._name, value)

    def _on_switch(self, is_on: bool) -> None:
        """Write the value or None to the state."""
        if not self._is_syncing:
            setattr(self._state, self._name, self.widget.value if is_on else None)

    def _show_switch(self, is_on: bool) -> None:
        """Show whether there is a value; the number is hidden where None stands for it."""
        if self.switch is None:
            return
        with self._syncing():
            self.switch.setChecked(is_on)
        self.switch.setText("" if is_on else self._default_text)
        self.widget.native.setVisible(is_on)

    def _inside(self, value: Any) -> Any:
        """Return the nearest allowed number."""
        if self._kind not in (int, float) or self.knob.choices:
            return value
        low, high = self.widget.min, self.widget.max
        return self._kind(min(max(value, low), high)) if math.isfinite(value) else self._kind(low)


class _WheelGuard(QObject):
    """Pass wheel events on to the scroll area unless the widget was clicked first."""

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        is_wheel = event is not None and event.type() == QEvent.Type.Wheel
        if is_wheel and event is not None and isinstance(watched, QWidget) and not watched.hasFocus():
            event.ignore()
            return True
        return False


def _decimals(shown: Knob) -> int:
    """Digits behind the point: as stated, else those of the step; so many that the lowest value is not rounded away."""
    stated = (
        shown.decimals if shown.decimals is not None else max(1, _digits(0.1 if shown.step is None else shown.step))
    )
    return max(stated, _digits(shown.min or 0.0))


def _digits(value: float) -> int:
    """Digits behind the point that a number needs."""
    exponent = Decimal(repr(float(value))).normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _without_none(hint: Any) -> tuple[Any, bool]:
    """Split ``T | None`` into T and True."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        kinds = [kind for kind in typing.get_args(hint) if kind is not types.NoneType]
        if len(kinds) == 1 and len(kinds) < len(typing.get_args(hint)):
            return kinds[0], True
    return hint, False


def _make_widget(kind: Any, shown: Knob, value: Any) -> Any:
    """Return the magicgui widget; which attributes it has depends on its kind."""
    return create_widget(annotation=kind, options=_options(kind, shown, value))


def _options(kind: Any, shown: Knob, value: Any) -> dict[str, Any]:
    """Options of the magicgui widget."""
    if shown.choices:
        return {"choices": shown.choices}
    if kind not in (int, float):
        return {}
    low = shown.min if shown.min is not None else (-_WIDEST_INT if kind is int else -1e9)
    high = shown.max if shown.max is not None else (_WIDEST_INT if kind is int else 1e9)
    step = shown.step if shown.step is not None else (1 if kind is int else 0.1)
    options: dict[str, Any] = {"min": kind(low), "max": kind(high), "step": kind(step)}
    start = next(entry for entry in (value, shown.start, 0) if entry is not None)  # 0 may lie outside the range
    options["value"] = min(max(kind(start), kind(low)), kind(high))
    return options


def _side_by_side(*widgets: QWidget) -> QWidget:
    """Put widgets in one row without margins."""
    row = QWidget()
    layout = QHBoxLayout(row)
    layout.setContentsMargins(0, 0, 0, 0)
    for widget in widgets:
        layout.addWidget(widget)
    layout.setStretch(len(widgets) - 1, 1)
    return row
