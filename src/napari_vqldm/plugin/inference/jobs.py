"""Jobs for the inference thread: a request, its state, and the messages that it leaves for whoever asked.

No Qt, no torch and no napari: the same jobs run in tests without a screen. `inference.InferenceThread` runs them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, IntEnum
from queue import Empty, SimpleQueue
from typing import Any

from napari_vqldm.plugin.inference.failures import Failure

__all__ = [
    "Cancelled",
    "Done",
    "Failed",
    "Failure",
    "Job",
    "JobState",
    "Message",
    "Note",
    "Priority",
    "Started",
    "Step",
    "Work",
]

LOG = logging.getLogger("napari_vqldm")

Work = Callable[[Any], Iterator[object]]


class Priority(IntEnum):
    """Order of jobs: an interactive job also runs between two steps of a batch job."""

    INTERACTIVE = 0
    BATCH = 1


class JobState(Enum):
    """Life of a job; the last four are final."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REPLACED = "replaced"

    @property
    def is_final(self) -> bool:
        """Whether nothing changes any more."""
        return self not in (JobState.QUEUED, JobState.RUNNING)


@dataclass(frozen=True)
class Note:
    """Something to tell the user, yielded by a work generator: it is no step of the work.

    Attributes
    ----------
    text : str
        One plain sentence, such as "Loading PyTorch...".
    """

    text: str


@dataclass(frozen=True)
class Progress:
    """A step of work that has nothing else to tell: number ``index``, from 0, of ``total``."""

    index: int
    total: int


@dataclass(frozen=True)
class Started:
    """The job left the queue."""


@dataclass(frozen=True, eq=False)
class Step:
    """One value that the work yielded, a `Note` included."""

    value: object


@dataclass(frozen=True, eq=False)
class Done:
    """The work returned; the last message."""

    result: object


@dataclass(frozen=True)
class Failed:
    """The work raised; the last message."""

    failure: Failure


@dataclass(frozen=True)
class Cancelled:
    """The job was cancelled, or replaced before it ran; the last message."""


Message = Started | Step | Done | Failed | Cancelled


class Job:
    """One piece of work for the inference thread.

    Parameters
    ----------
    title : str
        What the user reads: "Generate 3 volumes".
    work : callable
        Takes the engine and returns an iterator, usually by being a generator function. What it yields are steps and
        notes; what it returns is the result. It runs on the inference thread and must not touch layers or widgets.
    priority : Priority
        See `Priority`.
    key : str, optional
        Latest wins: submitting a job replaces the queued ones of the same key. A running one goes on.
    on_message : callable, optional
        Called without arguments after each message, on the thread that left it. It must return at once.

    Attributes
    ----------
    messages : SimpleQueue
        `Started`, `Step`, ... and one final message. A cancelled job withdraws the steps that nobody took yet.
    """

    def __init__(
        self,
        title: str,
        work: Work,
        priority: Priority = Priority.BATCH,
        key: str | None = None,
        on_message: Callable[[], None] | None = None,
    ) -> None:
        self.title = title
        self.priority = priority
        self.key = key
        self.messages: SimpleQueue[Message] = SimpleQueue()
        self._work: Work | None = work
        self._on_message = on_message
        self._state = JobState.QUEUED
        self._is_cancel_requested = False
        self._lock = threading.Lock()
        self._ended = threading.Event()

    def __repr__(self) -> str:
        return f"Job({self.title!r}, {self.state.value})"

    @property
    def state(self) -> JobState:
        """Where the job is."""
        return self._state

    @property
    def is_cancel_requested(self) -> bool:
        """Whether somebody asked to stop; the work stops at its next yield."""
        return self._is_cancel_requested

    def cancel(self) -> bool:
        """Ask the job to stop: at once in the queue, at the next yield while it runs. Any thread may ask.

        Returns
        -------
        bool
            False when the job has ended before. A result that nobody took yet is withdrawn.
        """
        with self._lock:
            if self._state is JobState.RUNNING:
                self._is_cancel_requested = True
                self._withdraw()
                return True
            if self._state is JobState.DONE and not self._withdraw():
                return False
            if self._state not in (JobState.QUEUED, JobState.DONE):
                return False
            self._is_cancel_requested = True
            self._end(JobState.CANCELLED, Cancelled())
        self._tell()
        return True

    def wait(self, timeout_s: float | None = None) -> bool:
        """Block until the job has ended; return whether it has."""
        return self._ended.wait(timeout_s)

    def begin(self) -> Work | None:
        """Leave the queue, for the inference thread; None when the job ended while it waited."""
        with self._lock:
            if self._state is not JobState.QUEUED or self._work is None:
                return None
            self._state = JobState.RUNNING
            work, self._work = self._work, None
            self.messages.put(Started())
        self._tell()
        return work

    def post(self, value: object) -> None:
        """Leave one yielded value, for the inference thread; dropped once the job is cancelled."""
        with self._lock:
            if self._is_cancel_requested:
                return
            self.messages.put(Step(value))
        self._tell()

    def finish(self, outcome: Done | Failed | Cancelled) -> None:
        """Leave the final message, for the inference thread; a job that was cancelled in time ends as cancelled."""
        with self._lock:
            if self._state.is_final:
                return
            if self._is_cancel_requested:
                outcome = Cancelled()
            states = {Done: JobState.DONE, Failed: JobState.FAILED, Cancelled: JobState.CANCELLED}
            self._end(states[type(outcome)], outcome)
        self._tell()

    def replace(self) -> bool:
        """End a queued job because a newer one took its place; return whether it was still queued."""
        with self._lock:
            if self._state is not JobState.QUEUED:
                return False
            self._end(JobState.REPLACED, Cancelled())
        self._tell()
        return True

    def _end(self, state: JobState, message: Message) -> None:
        """Set the final state, with the lock held; drop what the work refers to."""
        self._state = state
        self._work = None
        self.messages.put(message)
        self._ended.set()

    def _withdraw(self) -> bool:
        """Take back steps and results that nobody took, with the lock held; return whether a result was among them."""
        kept: list[Message] = []
        had_result = False
        while True:
            try:
                message = self.messages.get_nowait()
            except Empty:
                break
            had_result |= isinstance(message, Done)
            if not isinstance(message, Step | Done):
                kept.append(message)
        for message in kept:
            self.messages.put(message)
        return had_result

    def _tell(self) -> None:
        """Wake the reader; what it does wrong must not stop the inference thread."""
        if self._on_message is None:
            return
        try:
            self._on_message()
        except Exception:  # foreign code, called from the middle of a job
            LOG.exception("the reader of job %r failed", self.title)
