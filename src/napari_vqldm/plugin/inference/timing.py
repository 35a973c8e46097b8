"""When this machine is timed: by the button of the Model tab, or once in the background after the first job.

Without a self-test the time of a job is a rough guess. The first job of the user must not wait for it; so the test runs
when no job has run for a few seconds, and gives way to the next one within one piece. It is no task of napari, shows no
progress, and its result is kept for this session only: on another day the machine may be slower.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, Signal

from napari_vqldm.plugin.inference.estimating import missing_self_test_work
from napari_vqldm.plugin.inference.inquiry import Inquiry
from napari_vqldm.plugin.inference.jobs import Priority

if TYPE_CHECKING:
    from napari_vqldm.plugin.inference.engine import ModelSpec
    from napari_vqldm.plugin.inference.runner import Runner
    from napari_vqldm.self_test import SelfTest

LOG = logging.getLogger("napari_vqldm")

IDLE_MS = 5000


class Timing(QObject):
    """Times a model in the background after the first job.

    Parameters
    ----------
    runner : Runner
        Whose jobs are watched.
    spec_of : callable
        Returns the `ModelSpec` that is chosen.
    parent : QObject, optional
        Qt owner.
    """

    measured = Signal(object, object)  # ModelSpec, SelfTest: by whatever way

    def __init__(self, runner: Runner, spec_of: Callable[[], ModelSpec], parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._runner, self._spec_of = runner, spec_of
        self._is_due = False
        self._is_open = True
        self._spec: ModelSpec | None = None
        title = "Self-test in the background"
        self._inquiry = Inquiry(runner, title, self._on_answer, self._on_error, self, Priority.BATCH)
        self._idle = QTimer(self)
        self._idle.setSingleShot(True)
        self._idle.timeout.connect(self._start)
        runner.ended.connect(self._on_ended)
        runner.busy_changed.connect(self._on_busy)

    def close(self) -> None:
        """Stop for good; safe to call twice."""
        self._is_due = self._is_open = False
        self._idle.stop()
        self._inquiry.close()

    def _on_ended(self, job: Any) -> None:
        if job.priority is Priority.BATCH:
            self._is_due = True

    def _on_busy(self, is_busy: bool) -> None:
        if is_busy:  # comes before the new job is queued: it finds the test cancelled
            self._idle.stop()
            self._inquiry.close()
        elif self._is_due and self._is_open:
            self._idle.start(IDLE_MS)

    def _start(self) -> None:
        self._spec = self._spec_of()
        self._inquiry.ask(missing_self_test_work(self._spec))

    def _on_answer(self, result: SelfTest | None) -> None:
        self._is_due = False
        if result is not None:
            self.measured.emit(self._spec, result)

    def _on_error(self, error: Exception) -> None:
        """Nobody asked for this test: its failure is for the log, and it is not tried again before the next job."""
        self._is_due = False
        LOG.warning("the self-test in the background failed: %s", error)
