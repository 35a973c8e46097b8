"""A line of explanation that wraps and does not shout."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QSizePolicy, QWidget


class HelpLabel(QLabel):
    """Plain text that wraps at any width, can be selected, and takes no room while it is empty."""

    def __init__(self, text: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWordWrap(True)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self.setText(text)

    def setText(self, text: str | None) -> None:
        """Show a text; an empty one hides the label."""
        super().setText(text or "")
        if not text or self.parent() is not None:  # without a parent it would become a window
            self.setVisible(bool(text))
