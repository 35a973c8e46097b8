"""Keeps Python's collection of cyclic garbage on the GUI thread while a dock is open.

Python collects in whichever thread crosses a threshold. On the inference thread it may destroy windows and signals of
napari that were left in cycles: Qt then holds a lock of its signals and waits for the GIL, while the GUI thread has the
GIL and waits for that lock, and both wait for ever (napari issue 1029; seen with PySide6 6.10).
"""

from __future__ import annotations

import gc
from time import perf_counter

from qtpy.QtCore import QCoreApplication, QTimer

LOOK_MS = 100
SHARE = 0.01  # of the time, at most, for collections of everything: one stops the window for a few tenths of a second

_users: set[object] = set()
_timer: QTimer | None = None  # of the GUI thread; while it runs, Python does not collect by itself
_next_full_s = 0.0


def hold(user: object) -> None:
    """Collect on this thread alone, the GUI thread, until all users have released it."""
    global _timer
    _users.add(user)
    app = QCoreApplication.instance()
    if app is None or not gc.isenabled():  # by a user before, or by whoever collects in another way
        return
    gc.disable()
    _timer = QTimer(app)
    _timer.setInterval(LOOK_MS)
    _timer.timeout.connect(_look)
    _timer.start()


def release(user: object) -> None:
    """Let Python collect by itself again soon, if that was the last user; any thread may call it, also twice."""
    _users.discard(user)


def _look() -> None:
    """Collect, or hand it back to Python: on the GUI thread, at whatever time the last user left."""
    global _timer
    if _users:
        _collect()
        return
    timer, _timer = _timer, None
    if timer is not None:
        timer.stop()
        timer.deleteLater()
        gc.enable()


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
