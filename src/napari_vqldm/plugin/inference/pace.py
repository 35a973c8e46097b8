"""Progress of a job in words and seconds, from the steps that it yields."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic


class Pace:
    """How far a job is and when it will be done.

    Parameters
    ----------
    clock : callable, optional
        Seconds, growing.

    Attributes
    ----------
    done, total : int
        Finished steps of all; both 0 before the first step.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._first: tuple[int, float] | None = None
        self._last = 0.0
        self.done = 0
        self.total = 0

    def observe(self, step: object) -> bool:
        """Take note of a step with ``index`` and ``total``; return whether it had them."""
        index, total = getattr(step, "index", None), getattr(step, "total", None)
        if not isinstance(index, int) or not isinstance(total, int) or total < 1:
            return False
        if total != self.total or index + 1 < self.done:  # another series of steps: another pace
            self._first = None
        self.done, self.total = min(index + 1, total), total
        self._last = self._clock()
        if self._first is None:
            # From the end of the first step on: what went before is loading, and the first step warms up.
            self._first = self.done, self._last
        return True

    @property
    def seconds_left(self) -> float:
        """Seconds until the last step ends; -1 as long as there is no pace."""
        if self._first is None or self.done <= self._first[0]:
            return -1.0
        seconds_per_step = (self._last - self._first[1]) / (self.done - self._first[0])
        waited = self._clock() - self._last  # counts against the step that is under way, at most down to its end
        remaining = (self.total - self.done) * seconds_per_step
        return max(remaining - min(waited, seconds_per_step), 0.0)

    @property
    def text(self) -> str:
        """Such as "3 of 20, about 12 s left"; empty before the first step."""
        if not self.total:
            return ""
        seconds = self.seconds_left
        return f"{self.done} of {self.total}" + ("" if seconds < 0 else f", {words_for(seconds)} left")


def words_for(seconds: float) -> str:
    """Return a duration as a person says it: "about 12 s", "about 3 min", "about 1.5 h"."""
    if seconds < 1.5:
        return "about 1 s"
    if seconds < 90:
        return f"about {seconds:.0f} s"
    if seconds < 5400:
        return f"about {seconds / 60:.0f} min"
    return f"about {seconds / 3600:.1f} h"
