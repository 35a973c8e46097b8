"""How far a job is, how long it takes, and a way to stop it."""

from __future__ import annotations

import time
from collections.abc import Sequence

from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QPushButton, QVBoxLayout, QWidget
from superqt import QElidingLabel

TICK_MS = 500


class ProgressRow(QWidget):
    """A bar with one line of text, how many jobs wait, and buttons that end one or all; hidden while there is none."""

    cancelled = Signal()  # the user asked to stop the job that is shown; the row stays until `stop`
    all_cancelled = Signal()  # and those that wait

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("vqldm-progress")
        self._title = self._text = ""
        self._started_s = 0.0
        self._seconds_left = -1.0
        self._is_waiting = False
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setMinimumWidth(40)
        self.bar.setAccessibleName("Progress")
        self.label = QElidingLabel()
        self.waiting = QLabel()
        self.waiting.setObjectName("vqldm-waiting")
        self.waiting.hide()
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.setToolTip("Stop within one step; nothing half-done is left")
        self.cancel_button.clicked.connect(self._on_cancel)
        self.cancel_all_button = QPushButton("Cancel all")
        self.cancel_all_button.setToolTip("Stop this job and take back those that wait")
        self.cancel_all_button.clicked.connect(self._on_cancel_all)
        self.cancel_all_button.hide()
        self._timer = QTimer(self)
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(self._show_text)
        line = QHBoxLayout()
        line.addWidget(self.label, 1)
        line.addWidget(self.waiting)
        row = QHBoxLayout()
        row.addWidget(self.bar, 1)
        row.addWidget(self.cancel_button)
        row.addWidget(self.cancel_all_button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(line)
        column.addLayout(row)
        self.hide()

    def start(self, title: str) -> None:
        """Show a job that just started; how long it takes is not known yet."""
        self._open(title, is_waiting=False)

    def wait(self, title: str) -> None:
        """Show another job, which has not started yet: a job of another viewer may run."""
        self._open(title, is_waiting=True)

    def show_waiting(self, titles: Sequence[str]) -> None:
        """Say how many jobs come after the one that is shown, and which."""
        self.waiting.setText(f"+{len(titles)} waiting")
        self.waiting.setToolTip("\n".join(titles))
        self.waiting.setVisible(bool(titles))
        self.cancel_all_button.setVisible(bool(titles))

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
        """Hide the row: no job is left, however the last one ended."""
        self._timer.stop()
        self.show_waiting([])
        self.hide()

    @property
    def text(self) -> str:
        """The line, not shortened."""
        return str(self.label.text())

    def _open(self, title: str, *, is_waiting: bool) -> None:
        """Show another job from its start."""
        self._title, self._text, self._seconds_left = title, "", -1.0
        self._is_waiting, self._started_s = is_waiting, time.monotonic()
        self.bar.setRange(0, 0)
        self.cancel_button.setEnabled(True)
        self.cancel_button.setText("Cancel")
        self.cancel_all_button.setEnabled(True)
        self._timer.start()
        self._show_text()
        self.show()

    def _on_cancel(self) -> None:
        self.cancel_button.setEnabled(False)
        self.cancel_button.setText("Stopping…")
        self.cancelled.emit()

    def _on_cancel_all(self) -> None:
        self.cancel_button.setEnabled(False)
        self.cancel_button.setText("Stopping…")
        self.cancel_all_button.setEnabled(False)
        self.all_cancelled.emit()

    def _show_text(self) -> None:
        words = [self._title, self._text] if self._text and self._text != self._title else [self._title]
        if self._is_waiting:
            words.append("waiting")
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
