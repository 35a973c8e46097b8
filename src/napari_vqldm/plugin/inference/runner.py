"""Between the dock and the inference thread: runs work there and brings its messages to the GUI thread."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from queue import Empty
from time import monotonic
from typing import Any

from qtpy.QtCore import QCoreApplication, QObject, Qt, QTimer, Signal

from napari_vqldm.plugin.inference import collecting, collector
from napari_vqldm.plugin.inference.delivery import Delivery, Poke
from napari_vqldm.plugin.inference.engine import Engine
from napari_vqldm.plugin.inference.failures import Failure, failure_of
from napari_vqldm.plugin.inference.jobs import (
    Cancelled,
    Done,
    Failed,
    Job,
    JobState,
    Message,
    Note,
    Priority,
    Started,
    Step,
    Work,
)
from napari_vqldm.plugin.inference.napari_tasks import register_task
from napari_vqldm.plugin.inference.thread import BaseEngine, SharedThread

TICK_MS = 33  # at most 30 progress signals a second and job
SLOT_S = 0.01  # messages are delivered for so long at a time, then Qt has its turn
STOP_S = 2.0


_SHARED = SharedThread(Engine)


class Runner(QObject):
    """Run work on the inference thread; everything that comes back arrives on the GUI thread, in order.

    Parameters
    ----------
    parent : QObject, optional
        Qt owner.
    make_engine : callable, optional
        Makes the engine of an inference thread for this runner alone. None: all runners share one thread and one
        `Engine`, so that two viewers do not load two models.

    Notes
    -----
    `close` must be called when its dock goes; the end of the application calls it, too.
    """

    queued = Signal(object)  # job: it waits for its turn
    started = Signal(object)  # job: it left the queue
    progressed = Signal(object, int, int, str, float)  # job, steps done, of all, words, seconds left or -1
    noted = Signal(object, str)  # job, one plain sentence
    ended = Signal(object)  # job, in its final state; the last signal of each job
    failed = Signal(object, object)  # job, Failure
    busy_changed = Signal(bool)

    _woken = Signal()

    def __init__(self, parent: QObject | None = None, make_engine: Callable[[], BaseEngine] | None = None) -> None:
        super().__init__(parent)
        self._shared = _SHARED if make_engine is None else SharedThread(make_engine)
        self._user = object()  # not this runner, which the thread must not keep alive
        self._thread = self._shared.acquire(self._user)
        self._forgotten = weakref.finalize(self, _forget, self._shared, self._user)  # Qt deleted it, nobody closed it
        self._forgotten.atexit = False
        collector.acquire(self._user)
        self._active: dict[int, Delivery] = {}
        self._is_closed = False
        self._is_waking = False
        self._is_delivering = False
        self._is_missed = False
        self._is_ticking = False
        self._timer = QTimer(self)
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(self._tick)
        self._woken.connect(self._deliver, Qt.ConnectionType.QueuedConnection)
        app = QCoreApplication.instance()
        if app is not None:
            app.aboutToQuit.connect(self.close)

    @property
    def is_busy(self) -> bool:
        """Whether a job of this runner runs, waits, or has something left to deliver."""
        return bool(self._active)

    @property
    def engine_here(self) -> BaseEngine | None:
        """The engine, for a caller on the inference thread, which must not wait for a job of its own; else None."""
        return self._thread.engine_here

    @property
    def running(self) -> Job | None:
        """The batch job of this runner that left the queue; None while all wait, for one of another runner perhaps."""
        return next((entry.job for entry in self._batches() if entry.is_started), None)

    @property
    def waiting(self) -> list[Job]:
        """Batch jobs of this runner that did not start yet, the next one first."""
        return [entry.job for entry in self._batches() if not entry.is_started]

    def run(
        self,
        title: str,
        work: Work,
        *,
        on_step: Callable[[Any], object] | None = None,
        on_done: Callable[[Any], object] | None = None,
        on_failure: Callable[[Failure], object] | None = None,
        on_cancelled: Callable[[], object] | None = None,
        priority: Priority = Priority.BATCH,
        key: str | None = None,
        show_progress: bool = True,
    ) -> Job:
        """Queue work for the inference thread.

        Parameters
        ----------
        title : str
            What the user reads.
        work : callable
            Takes the engine, returns an iterator; see `Job`.
        on_step : callable, optional
            Gets every yielded value that is not a `Note`, in order.
        on_done : callable, optional
            Gets what the work returned.
        on_failure : callable, optional
            Gets the `Failure`, before the signal `failed`: of the work, or of one of these callbacks.
        on_cancelled : callable, optional
            Called when the job was cancelled; not when a newer job of the same key replaced it in the queue.
        priority : Priority
            An interactive job also runs between two steps of a batch job.
        key : str, optional
            Latest wins: replaces queued jobs of this runner with the same key.
        show_progress : bool
            Show a batch job in napari's activity dock. Every batch job is a task that napari asks about when quitting.

        Returns
        -------
        Job
            To cancel it. After `close` it is cancelled already, and no callback comes.
        """
        own_key = None if key is None else f"{id(self)}/{key}"
        poke = Poke(self)
        job = Job(title, work, priority, own_key, on_message=poke)
        if self._is_closed:
            job.cancel()
            return job
        # napari keeps tasks for the life of its window: a slider would leave thousands of short ones there.
        worker = register_task(title, job.cancel) if priority is Priority.BATCH else None
        is_shown = show_progress and priority is Priority.BATCH
        was_busy = self.is_busy
        self._active[id(job)] = Delivery(job, worker, is_shown, on_step, on_done, on_failure, on_cancelled)
        if not was_busy:
            self._timer.start()
            self.busy_changed.emit(True)
        self._thread.submit(job)
        self.queued.emit(job)
        return job

    def submit(self, job: Job) -> None:
        """Queue a job without callbacks, for whoever waits for it and reads its messages; cancelled after `close`."""
        if self._is_closed:
            job.cancel()
            return
        self._thread.submit(job)

    def cancel_all(self) -> None:
        """Cancel every job of this runner."""
        for delivery in list(self._active.values()):
            delivery.job.cancel()

    def close(self) -> None:
        """Cancel everything, wait up to two seconds, end the thread with its last user. No callback comes after it."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            self._timer.stop()
        except RuntimeError:
            pass  # Qt has deleted it
        deliveries = list(self._active.values())
        self._active.clear()
        deadline = monotonic() + STOP_S
        for delivery in deliveries:
            delivery.job.cancel()
        for delivery in deliveries:
            delivery.job.wait(max(deadline - monotonic(), 0.0))
            delivery.close(is_cancelled=True)
        if self._forgotten.detach() is not None:
            self._shared.release(self._user, max(deadline - monotonic(), 0.1))
            collector.release(self._user)
            collecting.look()  # the loop of events may have ended

    def _batches(self) -> list[Delivery]:
        """Batch jobs in the order of asking."""
        return [entry for entry in self._active.values() if entry.job.priority is Priority.BATCH]

    def wake(self) -> None:
        """Ask for a delivery on the GUI thread; any thread may call it, many calls make one."""
        if self._is_waking or self._is_closed:
            return
        self._is_waking = True
        try:
            self._woken.emit()
        except RuntimeError:  # Qt has deleted this object: nobody is left to deliver to
            self._is_closed = True

    def _deliver(self) -> None:
        """Deliver messages for a while; the rest after Qt had its turn."""
        self._is_waking = False  # before the queues are read: a message that comes now wakes again
        if self._is_delivering:  # napari's bars process events when they are made: a job must not end before it starts
            self._is_missed = True
            return
        self._is_delivering, self._is_missed = True, False
        try:
            self._deliver_for_a_while()
        finally:
            self._is_delivering = False
            if self._is_missed:
                self.wake()

    def _deliver_for_a_while(self) -> None:
        end = monotonic() + SLOT_S
        while (delivery := self._next()) is not None:
            try:
                message = delivery.job.messages.get_nowait()
            except Empty:  # a cancel has withdrawn it
                continue
            self._handle(delivery, message)
            if monotonic() > end:
                self.wake()
                return

    def _next(self) -> Delivery | None:
        """Return the first job with a message: interactive ones, then in the order of asking."""
        ordered = sorted(self._active.values(), key=lambda active: active.job.priority)
        if all(entry.job.messages.empty() for entry in ordered):
            return None
        # Looked at once more: an earlier job may have ended while the later ones were looked at, and comes first.
        return next((entry for entry in ordered if not entry.job.messages.empty()), None)

    def _handle(self, delivery: Delivery, message: Message) -> None:
        """React to one message."""
        if isinstance(message, Started):
            self._start(delivery)
        elif isinstance(message, Step) and isinstance(message.value, Note):
            self.noted.emit(delivery.job, message.value.text)
        elif isinstance(message, Step):
            if delivery.pace.observe(message.value):
                delivery.is_unshown = True
                self._show(delivery)
            self._call(delivery, delivery.on_step, message.value)
        else:
            self._end(delivery, message)

    def _start(self, delivery: Delivery) -> None:
        delivery.start()
        self.started.emit(delivery.job)

    def _show(self, delivery: Delivery, is_last: bool = False) -> None:
        """Emit progress, unless it was emitted a moment ago: the next tick does it then."""
        if not delivery.is_unshown or (monotonic() - delivery.shown_s < TICK_MS / 1000 and not is_last):
            return
        delivery.is_unshown, delivery.shown_s = False, monotonic()
        pace = delivery.pace
        self.progressed.emit(delivery.job, pace.done, pace.total, pace.text, pace.seconds_left)

    def _end(self, delivery: Delivery, message: Done | Failed | Cancelled) -> None:
        """Deliver the final message; the runner no longer counts the job as active when callbacks run."""
        job = delivery.job
        self._show(delivery, is_last=True)
        self._active.pop(id(job), None)
        if not self._active:
            self._timer.stop()
        delivery.close(is_cancelled=isinstance(message, Cancelled))
        if isinstance(message, Done):
            self._call(delivery, delivery.on_done, message.result)
        elif isinstance(message, Failed):
            self._fail(delivery, message.failure)
        elif job.state is not JobState.REPLACED and not delivery.has_failed:
            self._call(delivery, delivery.on_cancelled)
        if self._is_closed:
            return
        self.ended.emit(job)
        if not self._active:
            self.busy_changed.emit(False)

    def _call(self, delivery: Delivery, callback: Callable[..., object] | None, *values: object) -> None:
        """Call back; an error there stops the job and is shown like one of the work."""
        if callback is None or self._is_closed or delivery.has_failed:
            return
        try:
            callback(*values)
        except Exception as error:  # noqa: BLE001 - must not travel through Qt
            delivery.job.cancel()
            self._fail(delivery, failure_of(error, delivery.job.title))

    def _fail(self, delivery: Delivery, failure: Failure) -> None:
        """Tell about a failure, once a job."""
        if delivery.has_failed or self._is_closed:
            return
        delivery.has_failed = True
        if delivery.on_failure is not None:
            try:
                delivery.on_failure(failure)
            except Exception as error:  # noqa: BLE001 - must not travel through Qt; the first failure is what counts
                failure_of(error, f"{delivery.job.title}: showing its failure")
        self.failed.emit(delivery.job, failure)

    def _tick(self) -> None:
        """Thirty times a second: bars of the activity dock, their Cancel buttons, and progress that was held back."""
        if self._is_ticking:  # napari's bars process events while they move
            return
        self._is_ticking = True
        try:
            for delivery in list(self._active.values()):
                if delivery.bar is not None:
                    if delivery.bar.is_cancelled:
                        delivery.job.cancel()
                    delivery.bar.show(delivery.pace.done, delivery.pace.total)
                self._show(delivery)
            if self._active:
                self.wake()
        finally:
            self._is_ticking = False


def _forget(shared: SharedThread, user: object) -> None:
    """Take a runner that is gone off the books."""
    shared.forget(user)
    collector.release(user)
