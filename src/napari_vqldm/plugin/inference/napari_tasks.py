"""What napari knows of a job: an entry in its task manager and a bar with a Cancel button in the activity dock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari.qt.threading import GeneratorWorkerSignals, WorkerBase, create_worker
from napari.utils import cancelable_progress


class TaskWorker(WorkerBase):  # type: ignore[misc]  # napari's threading module has no types
    """A napari worker without a thread of its own: the work is done on the inference thread.

    `create_worker` registers it with napari's task manager, so that quitting asks first and then calls `quit`. A worker
    that waited in Qt's thread pool for its job would take one of the few threads there: on two cores, two queued jobs
    would block everybody.
    """

    def __init__(self, label: Callable[[], None], cancel: Callable[[], object]) -> None:
        super().__init__(label, SignalsClass=GeneratorWorkerSignals)
        self._cancel: Callable[[], object] | None = cancel

    def quit(self) -> None:
        """Cancel the job."""
        super().quit()
        if self._cancel is not None:
            self._cancel()

    def work(self) -> None:
        """Do nothing: never put into a thread pool."""

    def begin(self) -> None:
        """Tell napari that the job runs."""
        self._running = True
        self.signals.started.emit()

    def end(self, is_cancelled: bool) -> None:
        """Tell napari that the job has ended, and forget it: napari keeps workers for the life of a window."""
        self._cancel = None
        self._running = False
        if is_cancelled:
            self.signals.aborted.emit()
        self.signals.finished.emit()


class _Label:
    """A callable whose text is what napari shows of a task."""

    def __init__(self, title: str) -> None:
        self._title = title

    def __call__(self) -> None:
        """Do nothing."""

    def __str__(self) -> str:
        return f"VQ-LDM: {self._title}"

    __repr__ = __str__


def register_task(title: str, cancel: Callable[[], object]) -> TaskWorker:
    """Enter a job into the task manager of the current viewer, if there is one.

    Parameters
    ----------
    title : str
        What the user reads when quitting asks.
    cancel : callable
        Called when napari wants the job to stop.
    """
    worker: TaskWorker = create_worker(
        _Label(title), cancel, _worker_class=TaskWorker, _start_thread=False, _ignore_errors=True
    )
    return worker


class ActivityBar:
    """A bar in napari's activity dock. Use it on the GUI thread; updates process events, so they may re-enter callers.

    Parameters
    ----------
    title : str
        Text beside the bar.
    """

    def __init__(self, title: str) -> None:
        self._bar: Any = cancelable_progress(total=0, desc=title, file=_Nowhere())
        self._is_open = True

    @property
    def is_cancelled(self) -> bool:
        """Whether its Cancel button was pressed."""
        return bool(self._bar.is_canceled)

    def show(self, done: int, total: int) -> None:
        """Move the bar."""
        if self._is_open and self._bar.total != total:
            self._bar.total = total
        if self._is_open and self._bar.n != done:
            self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Remove the bar; a second time does nothing."""
        if self._is_open:
            self._is_open = False
            self._bar.close()


class _Nowhere:
    """A stream for the bar that would also be drawn on a terminal; applications without a console have none."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        return
