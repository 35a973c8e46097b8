"""Buttons and lines of the comparison: they show and emit, and decide nothing."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QGridLayout, QPushButton, QSlider, QVBoxLayout, QWidget

from napari_vqldm.plugin.widgets import HelpLabel

DIVIDER_STEPS = 1000
NOTHING = "Reconstruct a volume to compare it with its input."


class CompareControls(QWidget):
    """Numbers of a comparison, and one button for each way to look at it."""

    view_wanted = Signal(str)  # "side", "canvases", "blink" or "wipe"; empty: end the open one
    switch_wanted = Signal()  # while blinking: the other layer
    divider_moved = Signal(float)  # 0 to 1
    residual_wanted = Signal()
    uncertainty_wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.numbers, self.ceiling, self.series = HelpLabel(), HelpLabel(), HelpLabel()
        self.note, self.reason = HelpLabel(), HelpLabel()
        for label, name in (
            (self.numbers, "numbers"),
            (self.ceiling, "ceiling"),
            (self.series, "series"),
            (self.note, "compare-note"),
            (self.reason, "uncertainty-reason"),
        ):
            label.setObjectName(f"vqldm-{name}")
        self.side_button = _button("Side by side", "Input, reconstruction and residual in one row", True)
        self.canvases_button = _button(
            "Separate canvases", "Canvases of their own for reconstruction and residual: their slices may differ", True
        )
        self.blink_button = _button("Blink", "Input and reconstruction in the same place, in turn", True)
        self.switch_button = _button("Switch", "Show the other one of the two, and stop there", False)
        self.wipe_button = _button("Wipe", "Reconstruction left of a divider, input right of it", True)
        self.residual_button = _button("Residual", "Add a layer: input minus reconstruction", False)
        self.uncertainty_button = _button(
            "Uncertainty map", "Add a layer: how far the reconstruction moves when the noise is drawn again", False
        )
        self.divider = QSlider(Qt.Orientation.Horizontal)
        self.divider.setObjectName("vqldm-divider")
        self.divider.setToolTip("Place of the divider, from the left to the right edge")
        self.divider.setAccessibleName("Divider of the wipe")
        self.divider.setRange(0, DIVIDER_STEPS)
        self.divider.setValue(DIVIDER_STEPS // 2)
        self._views = {
            "side": self.side_button,
            "canvases": self.canvases_button,
            "blink": self.blink_button,
            "wipe": self.wipe_button,
        }
        self._connect()
        self._lay_out()

    @property
    def divider_share(self) -> float:
        """Place of the divider, 0 to 1."""
        return self.divider.value() / DIVIDER_STEPS

    def show_numbers(self, numbers: str, ceiling: str) -> None:
        """Show the lines of one comparison."""
        self.numbers.setText(numbers)
        self.ceiling.setText(ceiling)

    def show_state(
        self,
        view: str,
        *,
        has_pair: bool,
        is_busy: bool,
        uncertainty_reason: str,
        waiting: str = "",
        uncertainty_hint: str = "",
    ) -> None:
        """Check the button of the open view, or of the one that waits; disable what cannot be done, with the reason."""
        for name, button in self._views.items():
            button.setChecked(name == (waiting or view))
            _enable(button, has_pair, NOTHING)
        self.side_button.setText("End compare" if view == "side" else "Side by side")
        self.switch_button.setEnabled(view == "blink")
        self.divider.setEnabled(view == "wipe")
        wait = "Another map is being computed: wait for it or cancel it."
        _enable(self.residual_button, has_pair and not is_busy, wait if has_pair else NOTHING)
        why_not = NOTHING if not has_pair else uncertainty_reason or (wait if is_busy else "")
        _enable(self.uncertainty_button, not why_not, why_not)
        self.reason.setText((uncertainty_reason or uncertainty_hint) if has_pair else "")

    def _connect(self) -> None:
        for name, button in self._views.items():
            button.clicked.connect(self._wanting(name))
        self.switch_button.clicked.connect(lambda _checked=False: self.switch_wanted.emit())
        self.residual_button.clicked.connect(lambda _checked=False: self.residual_wanted.emit())
        self.uncertainty_button.clicked.connect(lambda _checked=False: self.uncertainty_wanted.emit())
        self.divider.valueChanged.connect(lambda value: self.divider_moved.emit(value / DIVIDER_STEPS))

    def _wanting(self, name: str) -> Callable[[bool], None]:
        def clicked(is_on: bool = False) -> None:
            self.view_wanted.emit(name if is_on else "")

        return clicked

    def _lay_out(self) -> None:
        grid = QGridLayout()
        rows = (
            (self.side_button, self.canvases_button),
            (self.blink_button, self.switch_button),
            (self.wipe_button, self.divider),
            (self.residual_button, self.uncertainty_button),
        )
        for row, pair in enumerate(rows):
            for column, widget in enumerate(pair):
                grid.addWidget(widget, row, column)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for label in (self.numbers, self.ceiling, self.series):
            layout.addWidget(label)
        layout.addLayout(grid)
        layout.addWidget(self.note)
        layout.addWidget(self.reason)


def _button(text: str, tip: str, is_toggle: bool) -> QPushButton:
    button = QPushButton(text)
    button.setObjectName(f"vqldm-{text.lower().replace(' ', '-')}")
    button.setToolTip(tip)
    button.setProperty("help", tip)
    button.setCheckable(is_toggle)
    button.setMinimumWidth(60)
    return button


def _enable(button: QPushButton, is_enabled: bool, reason: str) -> None:
    button.setEnabled(is_enabled)
    button.setToolTip(str(button.property("help")) if is_enabled else reason)
