"""From the looking thread to the window: a timer takes what was found, so the other thread never touches Qt."""

from __future__ import annotations

import queue
from collections.abc import Callable
from pathlib import Path

from qtpy.QtCore import QObject, QTimer, Signal

from napari_vqldm.plugin.tabs.training.looker import EVERY_S, Answer, Looker

TAKE_MS = 150
SLOW_S = 5.0  # a look that takes longer is told


class Following(QObject):
    """Follows one run folder at a time.

    Parameters
    ----------
    every_s : float
        Between two looks at the folder.
    """

    looked = Signal(object)  # RunNews
    volumes = Signal(object)  # dict of VolumeSeries by stage
    answered = Signal(object)  # Answer
    waiting = Signal(float)  # the folder has not answered for so many seconds

    def __init__(self, parent: QObject | None = None, every_s: float = EVERY_S) -> None:
        super().__init__(parent)
        self.looker: Looker | None = None
        self.every_s = every_s
        self._timer = QTimer(self)
        self._timer.setInterval(TAKE_MS)
        self._timer.timeout.connect(self._take)

    @property
    def path(self) -> Path | None:
        """Folder that is followed."""
        return None if self.looker is None else self.looker.path

    @property
    def hangs(self) -> bool:
        """Whether the folder has not answered for long."""
        return self.looker is not None and self.looker.hangs_s > SLOW_S

    def follow(self, path: Path) -> None:
        """Follow another folder; the thread of the one before leaves when it can."""
        self.close()
        self.looker = Looker(path, self.every_s)
        self.destroyed.connect(self.looker.close)  # the last resort of a dock that Qt deletes without closing it first
        self._timer.start()

    def ask(self, title: str, work: Callable[[], object]) -> None:
        """Do something with the folder on its thread; `answered` tells what came of it."""
        if self.looker is not None:
            self.looker.ask(title, work)

    def want_volume(self, number: int) -> None:
        """Read volumes from now on; `volumes` brings them whenever there are new ones."""
        if self.looker is not None:
            self.looker.want_volume(number)

    def close(self) -> None:
        """Follow nothing; safe to call twice."""
        self._timer.stop()
        if self.looker is not None:
            self.destroyed.disconnect(self.looker.close)
            self.looker.close()
            self.looker = None

    def _take(self) -> None:
        """Hand out what was found. Whoever hears of it may follow another folder: then the rest is not for them."""
        looker = self.looker
        while looker is not None and looker is self.looker:
            try:
                found = looker.found.get_nowait()
            except queue.Empty:
                if self.hangs:
                    self.waiting.emit(looker.hangs_s)
                return
            if isinstance(found, Answer):
                self.answered.emit(found)
                continue
            self.looked.emit(found.news)
            if found.series is not None and looker is self.looker:
                self.volumes.emit(found.series)
