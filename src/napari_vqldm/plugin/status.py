"""What the dock says below its tabs: the jobs that run and wait, what went wrong, and one plain line."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_vqldm.plugin.desk import Desk
from napari_vqldm.plugin.inference.jobs import Job, Priority
from napari_vqldm.plugin.widgets import ErrorPanel, ProgressRow


class Status(QWidget):
    """Progress row, error panel and notice of a dock. Frames of a slider come and go: they are not shown here.

    Parameters
    ----------
    desk : Desk
        Whose jobs and messages are shown.
    """

    def __init__(self, desk: Desk, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.runner = desk.runner
        self._shown: Job | None = None  # in the row; two jobs may have one title
        self.progress = ProgressRow()
        self.errors = ErrorPanel()
        self.notice = QLabel()
        self.notice.setObjectName("vqldm-notice")
        self.notice.setWordWrap(True)
        self.notice.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.notice.hide()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        for widget in (self.progress, self.errors, self.notice):
            column.addWidget(widget)
        desk.failed.connect(self.errors.show_failure)
        desk.asked.connect(self.errors.clear)
        desk.noticed.connect(self._show_notice)
        self.runner.queued.connect(self._on_queued)
        self.runner.started.connect(self._on_started)
        self.runner.progressed.connect(self._on_progress)
        self.runner.noted.connect(self._on_note)
        self.runner.ended.connect(self._on_ended)
        self.progress.cancelled.connect(self._cancel_one)
        self.progress.all_cancelled.connect(self.runner.cancel_all)

    def _on_queued(self, _job: Job) -> None:
        self._show_jobs()

    def _on_started(self, job: Job) -> None:
        if job.priority is Priority.INTERACTIVE:
            return
        self.notice.hide()
        self._shown = job
        self.progress.start(job.title)
        self._show_jobs()

    def _on_progress(self, job: Job, done: int, total: int, text: str, _seconds_left: float) -> None:
        if job.priority is not Priority.INTERACTIVE:
            self.progress.update_progress(done, total, text)  # the text has the time left

    def _on_note(self, _job: Job, text: str) -> None:
        self._show_notice(text)

    def _on_ended(self, _job: Job) -> None:
        self._show_jobs()
        if not self.runner.is_busy and self.notice.text().endswith("..."):  # it said what was going on
            self._show_notice("")

    def _show_jobs(self) -> None:
        """Show what runs and what waits; jobs of another viewer may keep all of ours waiting."""
        waiting = self.runner.waiting
        if self.runner.running is not None:
            self.progress.show_waiting([job.title for job in waiting])
        elif waiting:
            first, *others = waiting
            if first is not self._shown:
                self._shown = first
                self.progress.wait(first.title)
            self.progress.show_waiting([job.title for job in others])
        else:
            self._shown = None
            self.progress.stop()

    def _cancel_one(self) -> None:
        """End the job that the row shows."""
        shown = self.runner.running or next(iter(self.runner.waiting), None)
        if shown is not None:
            shown.cancel()

    def _show_notice(self, text: Any) -> None:
        self.notice.setText(text)
        self.notice.setVisible(bool(text))
