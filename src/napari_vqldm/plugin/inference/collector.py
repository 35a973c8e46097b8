"""The timer of the GUI thread that collects garbage while threads of ours work."""

from __future__ import annotations

from qtpy.QtCore import QCoreApplication, QTimer

from napari_vqldm.plugin.inference import collecting

LOOK_MS = 100

_users: set[object] = set()
_timer: QTimer | None = None


def acquire(user: object) -> None:
    """Let the timer run until all users have released it and no thread of ours works; call it on the GUI thread."""
    global _timer
    _users.add(user)
    app = QCoreApplication.instance()
    if _timer is None and app is not None:
        _timer = QTimer(app)
        _timer.setInterval(LOOK_MS)
        _timer.timeout.connect(_look)
        _timer.start()
        collecting.watch(is_watched=True)


def release(user: object) -> None:
    """Give the timer back: it stops by itself, at whatever time and on whatever thread the last user leaves."""
    _users.discard(user)


def _look() -> None:
    global _timer
    is_at_work = collecting.look()
    if _users or is_at_work:
        return
    collecting.watch(is_watched=False)
    timer, _timer = _timer, None
    if timer is not None:
        timer.stop()
        timer.deleteLater()
