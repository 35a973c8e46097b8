"""Latest wins: many requests for frames come in, at most one is computed and at most one waits.

A slider moves faster than a decoder works. Every request replaces the one that waits, so no backlog grows, and the last
frame shown is the last one asked for. No Qt, no torch and no napari; everything happens on the thread that asks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

R = TypeVar("R")  # a request, compared by ==
F = TypeVar("F")  # a frame


class Cancellable(Protocol):
    """A started computation, such as a `napari_vqldm.plugin.inference.jobs.Job`."""

    def cancel(self) -> bool:
        """Ask it to stop; it still calls ``ended``."""


@dataclass
class _Turn(Generic[R]):
    """A request with its place in the order of asking."""

    serial: int
    request: R


class LatestWins(Generic[R, F]):
    """Hand the latest of many requests to a worker that does one at a time.

    Parameters
    ----------
    start : callable
        Starts to compute one request; takes the request and two callbacks, of which exactly one must come back on the
        thread that asked: one for the frame, one without arguments when it was cancelled or failed.
    show : callable
        Takes request and frame. Called in the order of asking: an older frame never follows a newer one.
    ready : callable, optional
        Returns the frame of a request when it is in a cache, else None.

    Attributes
    ----------
    num_asked, num_started, num_shown : int
        Requests, computations and frames so far; ``num_started <= num_asked``.
    """

    def __init__(
        self,
        start: Callable[[R, Callable[[F], None], Callable[[], None]], Cancellable | None],
        show: Callable[[R, F], None],
        ready: Callable[[R], F | None] | None = None,
    ) -> None:
        self._start = start
        self._show = show
        self._ready = ready
        self._running: _Turn[R] | None = None
        self._computation: Cancellable | None = None
        self._waiting: _Turn[R] | None = None
        self._last_shown = 0
        self._is_closed = False
        self.num_asked = self.num_started = self.num_shown = 0

    @property
    def is_busy(self) -> bool:
        """Whether a request is computed or waits."""
        return self._running is not None or self._waiting is not None

    @property
    def running(self) -> R | None:
        """The request that is computed now."""
        return None if self._running is None else self._running.request

    def ask(self, request: R) -> None:
        """Want this frame now, instead of the one that waits."""
        if self._is_closed:
            return
        self.num_asked += 1
        turn = _Turn(self.num_asked, request)
        self._waiting = None
        frame = self._ready(request) if self._ready is not None else None
        if frame is not None:
            self._show_turn(turn, frame)
        elif self._running is not None and self._running.request == request:
            self._running.serial = turn.serial
        else:
            self._waiting = turn
            self._next()

    def interrupt(self) -> None:
        """Stop what is computed now, and what waits: nobody wants it any more."""
        self._waiting = None
        if self._computation is not None:
            self._computation.cancel()

    def close(self) -> None:
        """Stop for good; nothing is shown any more."""
        self._is_closed = True
        self.interrupt()

    def _next(self) -> None:
        """Start what waits, unless something runs."""
        if self._running is not None or self._waiting is None or self._is_closed:
            return
        turn, self._waiting = self._waiting, None
        self._running = turn
        self.num_started += 1
        try:
            computation = self._start(turn.request, lambda frame: self._done(turn, frame), lambda: self._ended(turn))
        except BaseException:
            self._running = None
            raise
        if self._running is turn:  # else it came back before `start` did
            self._computation = computation

    def _done(self, turn: _Turn[R], frame: F) -> None:
        self._free(turn)
        try:
            if not self._is_closed:
                self._show_turn(turn, frame)
        finally:
            self._next()

    def _ended(self, turn: _Turn[R]) -> None:
        self._free(turn)
        self._next()

    def _free(self, turn: _Turn[R]) -> None:
        if self._running is turn:
            self._running = self._computation = None

    def _show_turn(self, turn: _Turn[R], frame: F) -> None:
        """Show a frame unless a newer one is on the screen."""
        if turn.serial > self._last_shown:
            self._last_shown = turn.serial
            self.num_shown += 1
            self._show(turn.request, frame)
