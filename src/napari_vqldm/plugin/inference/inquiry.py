"""Ask the inference thread for something small that the user did not ask for: no progress, no task, no message."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Qt, Signal

from napari_vqldm.plugin.inference.jobs import Job, Priority

if TYPE_CHECKING:
    from napari_vqldm.plugin.inference.engine import Engine
    from napari_vqldm.plugin.inference.runner import Runner


class Inquiry(QObject):
    """One question at a time: a new one takes back the one before.

    Parameters
    ----------
    runner : Runner
        Whose inference thread is asked.
    title : str
        For the log.
    on_answer, on_error : callable
        Get what the work returned or raised, on the GUI thread.
    parent : QObject, optional
        Qt owner.
    priority : Priority
        Interactive: answered between the steps of other jobs. Batch: answered after them.
    """

    _answered = Signal(int, object)  # number of the question, answer
    _refused = Signal(int, object)  # number of the question, exception

    def __init__(
        self,
        runner: Runner,
        title: str,
        on_answer: Callable[[Any], object],
        on_error: Callable[[Exception], object],
        parent: QObject | None = None,
        priority: Priority = Priority.INTERACTIVE,
    ) -> None:
        super().__init__(parent)
        self._runner, self._title, self._priority = runner, title, priority
        self._on_answer, self._on_error = on_answer, on_error
        self._serial = 0
        self._job: Job | None = None
        self._answered.connect(self._deliver, Qt.ConnectionType.QueuedConnection)
        self._refused.connect(self._deliver_error, Qt.ConnectionType.QueuedConnection)

    def ask(self, work: Callable[[Engine], Generator[Any, None, Any]]) -> None:
        """Run work beside the jobs of the user; its answer comes back unless another question follows."""
        self.close()
        serial = self._serial

        def asking(engine: Engine) -> Generator[object, None, None]:
            try:
                answer = yield from work(engine)
            except Exception as error:  # noqa: BLE001 - told on the other thread
                self._send(self._refused, serial, error.with_traceback(None))
            else:
                self._send(self._answered, serial, answer)

        self._job = Job(self._title, asking, self._priority)
        self._runner.submit(self._job)

    def close(self) -> None:
        """Want no answer any more."""
        self._serial += 1
        if self._job is not None:
            self._job.cancel()
            self._job = None

    def _send(self, signal: Any, serial: int, value: object) -> None:
        try:
            signal.emit(serial, value)
        except RuntimeError:
            pass  # Qt has deleted this object: nobody is left to tell

    def _deliver(self, serial: int, answer: object) -> None:
        if serial == self._serial:
            self._job = None
            self._on_answer(answer)

    def _deliver_error(self, serial: int, error: Exception) -> None:
        if serial == self._serial:
            self._job = None
            self._on_error(error)
