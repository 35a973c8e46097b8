"""The thread that looks at a run folder: nobody waits for it, so a file system that hangs holds up nothing else.

It is no inference thread, which may be busy for minutes, and knows nothing of Qt: what it finds lies in a queue.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from napari_vqldm.plugin.inference import collecting
from napari_vqldm.training.follow import RunFollower, RunNews
from napari_vqldm.training.volumes import SeriesReader, VolumeSeries

EVERY_S = 1.5
NAME = "napari-vqldm follows a run"


@dataclass(frozen=True)
class Looked:
    """One look at the folder; ``series`` only when volumes were asked for and are others than before."""

    news: RunNews
    series: dict[str, VolumeSeries] | None


@dataclass(frozen=True)
class Answer:
    """What came of something asked: a result, or the error that ended it."""

    title: str
    result: object
    error: Exception | None


class Looker:
    """Looks at one run folder until it is closed.

    Parameters
    ----------
    path : Path
        Run folder; it need not be there yet.
    every_s : float
        Between two looks.

    Attributes
    ----------
    found : queue.SimpleQueue
        Of `Looked` and `Answer`.
    """

    def __init__(self, path: Path, every_s: float = EVERY_S) -> None:
        self.path = path
        self.found: queue.SimpleQueue[Looked | Answer] = queue.SimpleQueue()
        self.busy_since: float | None = None  # monotonic; None between two looks
        self._every_s = every_s
        self._asked: queue.SimpleQueue[tuple[str, Callable[[], object]] | None] = queue.SimpleQueue()
        self._is_closed = threading.Event()
        self._wanted: tuple[int, int] | None = None  # number of the volume, how often somebody asked
        self._shown: object = None  # which volumes of which files were handed out
        self._told = ""  # the last error
        self._hold = collecting.Hold()
        self._thread = threading.Thread(target=self._run, name=NAME, daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """True until the thread has left: a hung file system may keep it for ever."""
        return self._thread.is_alive()

    @property
    def hangs_s(self) -> float:
        """Return for how long the present look has been going on, seconds; 0 between two."""
        began = self.busy_since
        return 0.0 if began is None else time.monotonic() - began

    def ask(self, title: str, work: Callable[[], object]) -> None:
        """Do something with the folder before the next look; its `Answer` comes by the queue."""
        self._asked.put((title, work))

    def want_volume(self, number: int) -> None:
        """Read volumes from now on, which one of each file, and hand them out now even if they are not new."""
        self._wanted = number, 0 if self._wanted is None else self._wanted[1] + 1
        self._asked.put(None)

    def close(self, *_: object) -> None:
        """Let the thread leave after what it does now; safe to call twice."""
        self._is_closed.set()
        self._asked.put(None)

    def _run(self) -> None:
        follower, reader = RunFollower(self.path), SeriesReader()
        while not self._is_closed.is_set():
            self.busy_since = time.monotonic()
            with self._hold:
                self._look(follower, reader)
            self.busy_since = None
            self._answer_for(self._every_s)

    def _look(self, follower: RunFollower, reader: SeriesReader) -> None:
        """Hand out what is there; an error that nobody thought of is told once, and the next look tries again."""
        try:
            news, series, wanted = follower.poll(), None, self._wanted
        except Exception as error:  # noqa: BLE001
            self._tell(error)
            return
        try:
            if wanted is not None and news.volumes and (wanted, news.volumes) != self._shown:
                reader.number = wanted[0]
                series = reader.read(news.volumes)
                self._shown = wanted, news.volumes
        except Exception as error:  # noqa: BLE001
            self._tell(error)
        self.found.put(Looked(news, series))

    def _tell(self, error: Exception) -> None:
        if repr(error) != self._told:
            self._told = repr(error)
            self.found.put(Answer("look", None, error))

    def _answer_for(self, seconds: float) -> None:
        """Wait for the next look, or for something asked, which is followed by a look."""
        try:
            asked = self._asked.get(timeout=seconds)
        except queue.Empty:
            return
        while not self._is_closed.is_set():
            if asked is not None:
                self.busy_since = time.monotonic()
                with self._hold:
                    self.found.put(_answered(*asked))
            try:
                asked = self._asked.get_nowait()
            except queue.Empty:
                return


def _answered(title: str, work: Callable[[], object]) -> Answer:
    try:
        return Answer(title, work(), None)
    except Exception as error:  # noqa: BLE001 - shown in the panel of the dock
        return Answer(title, None, error)
