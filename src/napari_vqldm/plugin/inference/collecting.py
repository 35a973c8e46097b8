"""Keeps Python's collection of cyclic garbage off our threads while they work: the GUI thread collects meanwhile.

Python collects in whichever thread crosses a threshold. On the inference thread it may destroy windows and signals of
napari that were left in cycles: Qt then holds a lock of its signals and waits for the GIL, while the GUI thread has the
GIL and waits for that lock, and both wait for ever (napari issue 1029; seen with PySide6 6.10).
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

SHARE = 0.01  # of the time, at most, for collections of everything: one stops the window for a few tenths of a second

_lock = threading.Lock()
_at_work: set[object] = set()
_is_watched = False
_is_ours = False  # Python does not collect by itself, and it was us who said so
_next_full_s = 0.0


@contextmanager
def held() -> Iterator[None]:
    """Do some work on a thread of ours; without a dock, nobody would collect in its place, and nothing changes."""
    token = object()
    _at_work.add(token)
    with _lock:
        _suspend()
    try:
        yield
    finally:
        _at_work.discard(token)


def watch(*, is_watched: bool) -> None:
    """Say whether somebody calls `look` again and again."""
    global _is_watched
    with _lock:
        _is_watched = is_watched


def look() -> bool:
    """Collect what is due while threads of ours work, or let Python do it again; call it on the GUI thread.

    Returns
    -------
    bool
        Whether a thread of ours works.
    """
    global _is_ours
    with _lock:
        is_at_work = bool(_at_work)
        if is_at_work:
            _suspend()  # somebody may have enabled it: completion of names in napari's console does
        elif _is_ours:
            _is_ours = False
            gc.enable()
    if is_at_work and _is_ours:
        _collect()
    return is_at_work


def _suspend() -> None:
    """Stop Python's own collecting, with the lock held; what the user has stopped is left as it is."""
    global _is_ours
    if _is_watched and gc.isenabled():
        gc.disable()
        _is_ours = True


def _collect() -> None:
    """Collect the oldest generation that is over its threshold, as Python would."""
    global _next_full_s
    over = [count > most for count, most in zip(gc.get_count(), gc.get_threshold(), strict=True)]
    if not over[0]:
        return
    start = perf_counter()
    if over[1] and over[2] and start >= _next_full_s:
        gc.collect()
        end = perf_counter()
        _next_full_s = end + (end - start) / SHARE
    else:
        gc.collect(1 if over[1] else 0)
