"""What a job would take, in one or two lines below its button; when it does not fit, a way to run it anyway."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QPushButton, QVBoxLayout, QWidget

from napari_vqldm.errors import VqldmError
from napari_vqldm.plugin.desk import Desk
from napari_vqldm.plugin.inference.estimating import TooLarge, estimate_work
from napari_vqldm.plugin.inference.inquiry import Inquiry
from napari_vqldm.plugin.inference.jobs import Priority
from napari_vqldm.plugin.widgets import HelpLabel

if TYPE_CHECKING:
    from napari_vqldm.estimate import Estimate
    from napari_vqldm.plugin.inference.estimating import Ask

WAIT_MS = 200  # a slider that moves asks once


class EstimateBox(QWidget):
    """Lines of an estimate, and "Run anyway" after a refusal. Asks only while somebody can see it.

    Parameters
    ----------
    desk : Desk
        Model and inference thread.
    name : str
        Of the job, for object names: ``vqldm-NAME-estimate`` and ``vqldm-NAME-anyway``.
    ask_of : callable
        Returns the question for what is chosen now, None when nothing can run. It may raise a `VqldmError`.
    prefix : str
        Before the first line, where more than one job could be meant.
    """

    def __init__(
        self,
        desk: Desk,
        name: str,
        ask_of: Callable[[], Ask | None],
        prefix: str = "",
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.desk, self.prefix = desk, prefix
        self._ask_of = ask_of
        self._anyway: Callable[[], None] | None = None
        self._is_closed = False
        self._inquiry = Inquiry(desk.runner, f"Estimate: {name}", self._show, self._fail, self)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(WAIT_MS)
        self._timer.timeout.connect(self._ask)
        self.lines = HelpLabel(parent=self)
        self.lines.setObjectName(f"vqldm-{name}-estimate")
        self.lines.setToolTip("Memory from the sizes of all arrays; time from a self-test of this machine, if any")
        self.anyway_button = QPushButton("Run anyway")
        self.anyway_button.setObjectName(f"vqldm-{name}-anyway")
        self.anyway_button.setToolTip("Start although there seems to be too little memory; it may be slow or fail")
        self.anyway_button.clicked.connect(lambda _checked=False: self._run_anyway())
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.lines)
        column.addWidget(self.anyway_button)
        self.anyway_button.hide()
        desk.runner.ended.connect(self._on_ended)
        desk.model_changed.connect(self._on_model)
        desk.timing.measured.connect(self._on_measured)

    @property
    def text(self) -> str:
        """The lines as they are shown."""
        return str(self.lines.text())

    def refresh(self) -> None:
        """Something else would run now: take back a refusal, and ask in a moment."""
        self.clear_refusal()
        self._timer.start()

    def refuse(self, refusal: TooLarge, anyway: Callable[[], None]) -> None:
        """Say that a job does not fit and did not start, and offer to run it.

        Parameters
        ----------
        refusal : TooLarge
            What the job returned.
        anyway : callable
            Runs the same job without the check.
        """
        self._inquiry.close()
        self._anyway = anyway
        self._show_lines(("Nothing was started.", *refusal.estimate.lines))
        self.anyway_button.show()

    def clear_refusal(self) -> None:
        """Take back a refusal: the job starts again, or another one is chosen."""
        if self._anyway is not None:
            self._anyway = None
            self.anyway_button.hide()
            self.lines.setText("")

    def close_box(self) -> None:
        """Ask nothing any more; safe to call twice."""
        if self._is_closed:
            return
        self._is_closed = True
        self._anyway = None
        self._timer.stop()
        self._inquiry.close()
        self.desk.runner.ended.disconnect(self._on_ended)
        self.desk.model_changed.disconnect(self._on_model)
        self.desk.timing.measured.disconnect(self._on_measured)

    def showEvent(self, event: QShowEvent) -> None:
        """Ask for what changed while nobody looked."""
        super().showEvent(event)
        self._timer.start()

    def _on_ended(self, job: Any) -> None:
        """A job may have loaded the model, or changed what is free."""
        if job.priority is Priority.BATCH:
            self._timer.start()

    def _on_model(self) -> None:
        self.lines.setText("")
        self._inquiry.close()
        self.refresh()

    def _on_measured(self, _spec: object, _result: object) -> None:
        self._timer.start()

    def _ask(self) -> None:
        if self._is_closed or self._anyway is not None or not self.isVisible():
            return
        try:
            ask = self._ask_of()
        except VqldmError:  # the reason stands beside the button
            ask = None
        if ask is None:
            self._inquiry.close()
            self.lines.setText("")
        else:
            self._inquiry.ask(estimate_work(self.desk.model.spec(), ask))

    def _show(self, estimate: Estimate) -> None:
        if not self._is_closed and self._anyway is None:
            self._show_lines(estimate.lines)

    def _show_lines(self, lines: Sequence[str]) -> None:
        shown = [f"{line[:1].upper()}{line[1:]}" for line in lines]
        if self.prefix and lines:
            shown[0] = f"{self.prefix}: {lines[0]}"
        self.lines.setText("\n".join(shown))

    def _fail(self, error: Exception) -> None:
        """A request that the core refuses is explained when it runs; everything else is shown."""
        if self._is_closed:
            return
        self.lines.setText("")
        if not isinstance(error, VqldmError):
            self.desk.show_error(error)

    def _run_anyway(self) -> None:
        anyway = self._anyway
        self.clear_refusal()
        if anyway is not None:
            anyway()
