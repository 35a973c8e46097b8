"""How far a job is, how long it takes, and a way to stop it."""

from __future__ import annotations

import time

from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QHBoxLayout, QProgressBar, QPushButton, QVBoxLayout, QWidget
from superqt import QElidingLabel

TICK_MS = 500


class ProgressRow(QWidget):
    """A bar with one line of text and a Cancel button; hidden while nothing runs."""

    cancelled = Signal()  # the user asked to stop; the row stays until `stop`

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("vqldm-progress")
        self._title = self._text = ""
        self._started_s = 0.0
        self._seconds_left = -1.0
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setMinimumWidth(40)
        self.bar.setAccessibleName("Progress")
        self.label = QElidingLabel()
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.setToolTip("Stop within one step; nothing half-done is left")
        self.cancel_button.clicked.connect(self._on_cancel)
        self._timer = QTimer(self)
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(self._show_text)
        row = QHBoxLayout()
        row.addWidget(self.bar, 1)
        row.addWidget(self.cancel_button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.label)
        column.addLayout(row)
        self.hide()

    def start(self, title: str) -> None:
        """Show a job that just started; how long it takes is not known yet."""
        self._title, self._text, self._seconds_left = title, "", -1.0
        self._started_s = time.monotonic()
        self.bar.setRange(0, 0)
        self.cancel_button.setEnabled(True)
        self.cancel_button.setText("Cancel")
        self._timer.start()
        self._show_text()
        self.show()

    def update_progress(self, done: int, total: int, text: str = "", seconds_left: float = -1.0) -> None:
        """Show how far the job is.

        Parameters
        ----------
        done, total : int
            Steps; a total of 0 means unknown.
        text : str
            What happens now.
        seconds_left : float
            Below 0: unknown.
        """
        self.bar.setRange(0, max(total, 0))
        self.bar.setValue(min(done, total) if total > 0 else 0)
        self._text, self._seconds_left = text, seconds_left
        self._show_text()

    def stop(self) -> None:
        """Hide the row: the job ended, however."""
        self._timer.stop()
        self.hide()

    @property
    def text(self) -> str:
        """The line, not shortened."""
        return str(self.label.text())

    def _on_cancel(self) -> None:
        self.cancel_button.setEnabled(False)
        self.cancel_button.setText("Stopping…")
        self.cancelled.emit()

    def _show_text(self) -> None:
        words = [self._title, self._text] if self._text and self._text != self._title else [self._title]
        words.append(format_seconds(time.monotonic() - self._started_s))
        if self._seconds_left >= 0:
            words.append(f"{format_seconds(self._seconds_left)} left")
        line = " · ".join(words)
        self.label.setText(line)
        self.label.setToolTip(line)


def format_seconds(seconds: float) -> str:
    """Return a time in seconds, minutes or hours: 8 s, 1:05 min, 2:10 h."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d} h"
