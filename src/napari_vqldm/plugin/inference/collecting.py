"""Keeps Python's collection of cyclic garbage off our threads while they work: the GUI thread collects meanwhile.

Python collects in whichever thread crosses a threshold. On the inference thread it may destroy windows and signals of
napari that were left in cycles: Qt then holds a lock of its signals and waits for the GIL, while the GUI thread has the
GIL and waits for that lock, and both wait for ever (napari issue 1029; seen with PySide6 6.10).
"""

from __future__ import annotations

import gc
import threading
from time import monotonic, perf_counter
from types import TracebackType

SHARE = 0.01  # of the time, at most, for collections of everything: one stops the window for a few tenths of a second
ABSENT_S = 1.0  # a GUI thread that has not looked for so long is busy with a loop of its own, or has left

_lock = threading.Lock()
_at_work: set[object] = set()
_is_watched = False
_is_ours = False  # Python does not collect by itself, and it was us who said so
_looked_s = 0.0
_next_full_s = 0.0


class Hold:
    """Around the work of one thread: ``with hold: ...``. Without a dock, nobody would collect, and nothing changes.

    It is made once for a thread, as entering must allocate nothing that counts for a collection.
    """

    def __enter__(self) -> None:
        _at_work.add(self)
        with _lock:
            _suspend()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _at_work.discard(self)
        with _lock:
            if not _at_work and (not _is_watched or monotonic() - _looked_s > ABSENT_S):
                _resume()  # else the GUI thread does, which then collects what is due


def watch(*, is_watched: bool) -> None:
    """Say whether somebody calls `look` again and again."""
    global _is_watched, _looked_s
    with _lock:
        _is_watched, _looked_s = is_watched, monotonic()
        if not _at_work:
            _resume()


def look() -> bool:
    """Collect what is due while threads of ours work, or let Python do it again; call it on the GUI thread.

    Returns
    -------
    bool
        Whether a thread of ours works.
    """
    global _looked_s
    with _lock:
        _looked_s = monotonic()
        is_at_work = bool(_at_work)
        if is_at_work:
            _suspend()  # somebody may have enabled it: completion of names in napari's console does
        else:
            _resume()
    if is_at_work and _is_ours:
        _collect()
    return is_at_work


def _suspend() -> None:
    """Stop Python's own collecting, with the lock held; what the user has stopped is left as it is."""
    global _is_ours
    if _is_watched and gc.isenabled():
        gc.disable()
        _is_ours = True


def _resume() -> None:
    """Let Python collect by itself again, with the lock held, if it was us who stopped it."""
    global _is_ours
    if _is_ours:
        _is_ours = False
        gc.enable()


def _collect() -> None:
    """Collect the oldest generation that is over its threshold, as Python would."""
    global _next_full_s
    thresholds = gc.get_threshold()
    over = [count > most for count, most in zip(gc.get_count(), thresholds, strict=True)]
    if not over[0] or not thresholds[0]:  # a threshold of zero is another way to stop it
        return
    start = perf_counter()
    if over[1] and over[2] and start >= _next_full_s:
        gc.collect()
        end = perf_counter()
        _next_full_s = end + (end - start) / SHARE
    else:
        gc.collect(1 if over[1] else 0)
