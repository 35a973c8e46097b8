"""One thread that owns the model: it runs jobs one at a time, interactive ones between the steps of a batch job."""

from __future__ import annotations

import atexit
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from queue import SimpleQueue
from typing import Any

from napari_vqldm.plugin.inference import collecting
from napari_vqldm.plugin.inference.failures import failure_of
from napari_vqldm.plugin.inference.jobs import LOG, Cancelled, Done, Failed, Job, Priority

EXIT_S = 60.0  # for the last step when the program ends; the longest on a CPU takes a few seconds


class BaseEngine:
    """What the inference thread needs of an engine besides what the work does with it."""

    def suspended(self) -> AbstractContextManager[None]:
        """Hold around interactive jobs that run in the middle of a batch job: settings return to its own."""
        return nullcontext()

    def free(self) -> None:
        """Drop models and caches; called when the thread ends."""


class InferenceThread:
    """Run jobs one at a time on one daemon thread, which starts with the first job.

    Interactive jobs come before batch jobs, and first come first served among equals. Between two yields of a batch job
    the queued interactive jobs run to completion. A job never raises through: what goes wrong becomes its `Failed`.

    Parameters
    ----------
    make_engine : callable
        Called once, on the inference thread, by the first job. The engine never leaves that thread.
    is_left : callable, optional
        Asked on the inference thread, between jobs and steps, also after `wake`: whether nobody uses it any more. Then
        everything is cancelled and the thread ends.
    """

    def __init__(self, make_engine: Callable[[], BaseEngine], is_left: Callable[[], bool] = lambda: False) -> None:
        self._make_engine = make_engine
        self._is_left = is_left
        self._engine: BaseEngine | None = None
        self._lock = threading.RLock()
        self._wakes: SimpleQueue[None] = SimpleQueue()  # one for each reason to look again
        self._queue: list[Job] = []
        self._current: list[Job] = []  # a batch job and, while it waits, an interactive one
        self._thread: threading.Thread | None = None
        self._is_stopped = False

    @property
    def is_busy(self) -> bool:
        """Whether a job runs or waits."""
        with self._lock:
            return bool(self._current) or any(not job.state.is_final for job in self._queue)

    @property
    def engine_here(self) -> BaseEngine | None:
        """The engine, for a caller that runs on this thread, in the middle of a job; None for every other caller."""
        return self._engine if threading.current_thread() is self._thread else None

    def submit(self, job: Job) -> None:
        """Queue a job. Queued jobs of the same key are replaced; after `stop` the job is cancelled at once."""
        with self._lock:
            is_stopped = self._is_stopped
            replaced = [queued for queued in self._queue if job.key is not None and queued.key == job.key]
            if not is_stopped:
                gone = {id(queued) for queued in replaced}
                self._queue = [q for q in self._queue if id(q) not in gone and not q.state.is_final] + [job]
                self._start()
                self.wake()
        if is_stopped:
            job.cancel()
            return
        for queued in replaced:
            queued.replace()

    def cancel_all(self) -> None:
        """Cancel the queued and the running jobs."""
        with self._lock:
            jobs = [*self._queue, *self._current]
            self._queue.clear()
        for job in jobs:
            job.cancel()

    def stop(self, timeout_s: float = 2.0) -> bool:
        """Cancel everything and end the thread.

        Parameters
        ----------
        timeout_s : float
            Seconds to wait. A thread that is still busy then ends by itself at the next yield of its job.

        Returns
        -------
        bool
            Whether the thread has ended.
        """
        with self._lock:
            self._is_stopped = True
            thread = self._thread
        self.wake()
        self.cancel_all()
        if thread is None:
            return True
        if thread is not threading.current_thread():
            thread.join(timeout_s)
        return not thread.is_alive()

    def wake(self) -> None:
        """Let the thread look at its queue and at its users; it takes no lock, so a garbage collection may call it."""
        self._wakes.put(None)

    def _start(self) -> None:
        """Start the thread, with the lock held, unless it runs."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._loop, name="napari-vqldm inference", daemon=True)
            self._thread.start()
            atexit.register(self._stop_at_exit)

    def _stop_at_exit(self) -> None:
        """Wait for a step that outlived `stop`: PyTorch aborts a process that ends under a running thread."""
        self.stop(EXIT_S)

    def _loop(self) -> None:
        hold = collecting.Hold()
        while True:  # no local name for a job here: it would keep the last one alive while the thread waits
            with hold:
                while self._run_next():
                    pass
                if self._is_over():
                    self._leave()
                    break
            self._wakes.get()
        atexit.unregister(self._stop_at_exit)

    def _leave(self) -> None:
        """Let go of everything."""
        self.cancel_all()  # what was queued when the last user went
        engine, self._engine = self._engine, None
        if engine is not None:
            try:
                engine.free()
            except Exception:  # noqa: BLE001 - nobody is left to tell
                LOG.exception("freeing the engine failed")

    def _run_next(self) -> bool:
        """Run the next job; False when there is none, or the thread should end."""
        if self._is_over():
            return False
        with self._lock:
            job = self._take(Priority.BATCH)
        if job is None:
            return False
        self._run(job)
        return True

    def _is_over(self) -> bool:
        """Whether somebody stopped the thread, or nobody is left to use it."""
        if not self._is_stopped and self._is_left():
            self._is_stopped = True
        return self._is_stopped

    def _take(self, lowest: Priority) -> Job | None:
        """Take the first job of the most urgent priority, with the lock held; it counts as current from here on."""
        self._queue = [job for job in self._queue if not job.state.is_final]
        candidates = [job for job in self._queue if job.priority <= lowest]
        if not candidates:
            return None
        job = min(candidates, key=lambda candidate: candidate.priority)  # the first among equals
        self._queue.remove(job)
        self._current.append(job)
        return job

    def _run(self, job: Job) -> None:
        """Run one job to its end; whatever happens becomes its last message."""
        try:
            outcome = self._outcome(job)
        finally:
            with self._lock:
                self._current.remove(job)
        job.finish(outcome)

    def _outcome(self, job: Job) -> Done | Failed | Cancelled:
        """Iterate over the work of a job."""
        work = job.begin()
        if work is None:
            return Cancelled()
        steps: Iterator[object] | None = None
        try:
            if self._engine is None:
                self._engine = self._make_engine()
            steps = iter(work(self._engine))
            del work
            while not job.is_cancel_requested:
                if self._is_over():
                    job.cancel()
                    break
                try:
                    job.post(next(steps))
                except StopIteration as stop:
                    return Done(stop.value)
                if job.priority is Priority.BATCH:
                    self._run_interactive_jobs(self._engine)
            return Cancelled()
        except BaseException as error:  # noqa: BLE001 - also SystemExit: the thread must outlive its jobs
            return _failed(error, job.title)
        finally:
            _close(steps, job.title)

    def _run_interactive_jobs(self, engine: BaseEngine) -> None:
        """Run the queued interactive jobs, in the middle of a batch job."""
        while True:
            with self._lock:
                job = self._take(Priority.INTERACTIVE)
            if job is None:
                return
            with engine.suspended():
                self._run(job)


class SharedThread:
    """The inference thread of all runners of a kind of engine: two viewers share one model and one queue."""

    def __init__(self, make_engine: Callable[[], BaseEngine]) -> None:
        self._make_engine = make_engine
        self._lock = threading.RLock()
        self._thread: InferenceThread | None = None
        self._users: set[object] = set()

    def acquire(self, user: object) -> InferenceThread:
        """Return the thread for one more user, which is any object of its own."""
        with self._lock:
            self._users.add(user)
            if self._thread is None:
                self._thread = InferenceThread(self._make_engine, self._is_left)
            return self._thread

    def release(self, user: object, timeout_s: float) -> None:
        """Give the thread back; with the last user it ends, which is waited for."""
        with self._lock:
            self._users.discard(user)
            if self._users or self._thread is None:
                return
            thread, self._thread = self._thread, None
        thread.stop(timeout_s)

    def forget(self, user: object) -> None:
        """Give the thread back from within a garbage collection; with the last user it ends soon.

        Such a collection comes at any place of any thread, also where this thread holds a lock of ours. So nothing is
        taken, cancelled or waited for here: the inference thread finds out by itself.
        """
        self._users.discard(user)
        thread = self._thread
        if thread is not None:
            thread.wake()

    def _is_left(self) -> bool:
        """Whether no user is left, for the inference thread, which ends then: the next user gets another one."""
        if self._users:
            return False
        with self._lock:
            if self._users:  # one came meanwhile
                return False
            self._thread = None
            return True


def _failed(error: BaseException, title: str) -> Failed | Cancelled:
    """Describe an error, and let go of what its traceback holds: tensors of a failed step are large."""
    failure = failure_of(error, title)
    seen: Any = error
    while seen is not None:
        traceback.clear_frames(seen.__traceback__)
        seen.__traceback__ = None
        seen = seen.__cause__ or seen.__context__
    return Cancelled() if failure.is_cancelled else Failed(failure)


def _close(steps: Iterator[object] | None, title: str) -> None:
    """Run what the work wants to run at its end; an error there has nobody to go to but the log."""
    close = getattr(steps, "close", None)
    if close is None:
        return
    try:
        close()
    except BaseException:  # noqa: BLE001 - as above
        LOG.exception("cleaning up after %r failed", title)
