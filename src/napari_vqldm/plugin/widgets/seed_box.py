"""A seed of 64 bits: shown, drawn anew, or kept."""

from __future__ import annotations

import secrets

from qtpy.QtCore import QRegularExpression, Signal
from qtpy.QtGui import QRegularExpressionValidator, QValidator
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QLineEdit, QPushButton, QWidget

LARGEST_SEED = 2**63 - 1  # what a torch.Generator takes without a sign
_ROLLED_BELOW = 10**6  # short enough to be read out and typed


class SeedBox(QWidget):
    """A number, a button that draws another, and "keep": when it is off, no two jobs get the same seed.

    What is shown is always the seed of the next job, or of the last one once that has taken it: a copied request means
    one of them, never a third.
    """

    seed_changed = Signal(object)  # int: a Qt int has 32 bits

    def __init__(self, seed: int = 0, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._seed = seed
        self._is_used = False  # by a job: the next one draws another
        self.edit = QLineEdit(str(seed))
        self.edit.setObjectName("vqldm-seed")
        self.edit.setAccessibleName("Seed")
        self.edit.setToolTip("The same seed gives the same volume; any whole number from 0")
        self.edit.setMinimumWidth(60)
        self.edit.setValidator(_SeedValidator(self.edit))
        self.edit.editingFinished.connect(self._on_edited)
        self.roll_button = QPushButton("Roll")
        self.roll_button.setToolTip("Draw another seed")
        self.roll_button.clicked.connect(lambda _checked=False: self.roll())
        self.keep_box = QCheckBox("Keep")
        self.keep_box.setToolTip(
            "Checked: every run uses this seed. Unchecked: once a run has used it, the next one draws another."
        )
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.edit, 1)
        row.addWidget(self.roll_button)
        row.addWidget(self.keep_box)

    @property
    def seed(self) -> int:
        """The seed that is shown, 0 to 2**63 - 1."""
        return self._seed

    @seed.setter
    def seed(self, value: int) -> None:
        if not 0 <= value <= LARGEST_SEED:
            raise ValueError(f"expected a seed from 0 to {LARGEST_SEED}, got {value}")
        self.edit.setText(str(value))
        if value != self._seed:
            self._seed = value
            self._is_used = False
            self.seed_changed.emit(value)

    @property
    def is_kept(self) -> bool:
        """True when every run uses the seed that is shown."""
        return self.keep_box.isChecked()

    def roll(self) -> int:
        """Draw, show and return another seed."""
        drawn = secrets.randbelow(_ROLLED_BELOW - 1)
        self.seed = drawn if drawn < self._seed else drawn + 1  # never the same twice
        return self._seed

    def next_seed(self) -> int:
        """Return the seed for a run that starts now, which is shown: another one where a run had that of before."""
        if self._is_used and not self.is_kept:
            self.roll()
        self._is_used = True
        return self._seed

    def _on_edited(self) -> None:
        if self.edit.hasAcceptableInput():
            typed = int(self.edit.text())
            if typed != self._seed:
                self.keep_box.setChecked(True)  # nobody types a seed to have another one drawn
            self.seed = typed
        else:
            self.edit.setText(str(self._seed))


class _SeedValidator(QRegularExpressionValidator):
    """Digits, up to the largest seed."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(QRegularExpression("[0-9]{1,19}"), parent)

    def validate(self, text: str | None, position: int) -> tuple[QValidator.State, str, int]:
        """Refuse numbers of 64 bits and more."""
        words = text or ""
        if words == "":
            return QValidator.State.Intermediate, words, position
        fits = words.isascii() and words.isdecimal() and int(words) <= LARGEST_SEED
        return (QValidator.State.Acceptable if fits else QValidator.State.Invalid), words, position

    def fixup(self, text: str | None) -> str:
        """Leave what cannot be repaired; the box puts the old seed back."""
        return text or ""
