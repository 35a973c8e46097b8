"""Work for a runner, and a log of what it tells."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from napari_vqldm.plugin.inference.runner import Runner

WAIT_S = 20


@dataclass(frozen=True)
class Progress:
    """A step as the verbs yield them."""

    index: int
    total: int


class Log:
    """Every signal and callback of a runner, and the thread each came on."""

    def __init__(self, runner: Runner) -> None:
        self.entries: list[tuple[Any, ...]] = []
        self.threads: set[threading.Thread] = set()
        runner.started.connect(lambda job: self.add("started", job.title))
        runner.progressed.connect(lambda job, *values: self.add("progressed", job.title, *values))
        runner.noted.connect(lambda job, text: self.add("noted", text))
        runner.ended.connect(lambda job: self.add("ended", job.title, job.state, runner.is_busy))
        runner.failed.connect(lambda job, failure: self.add("failed", job.title, failure))
        runner.busy_changed.connect(lambda busy: self.add("busy", busy))

    def add(self, *entry: Any) -> None:
        self.threads.add(threading.current_thread())
        self.entries.append(entry)

    def named(self, name: str) -> list[tuple[Any, ...]]:
        return [entry for entry in self.entries if entry[0] == name]


def counting(total: int, result: object = None) -> Callable[[Any], Iterator[object]]:
    def work(_engine: object) -> Iterator[object]:
        for index in range(total):
            yield Progress(index, total)
        return result

    return work


def endless(stop: threading.Event, closed: threading.Event | None = None) -> Callable[[Any], Iterator[object]]:
    def work(_engine: object) -> Iterator[object]:
        try:
            for index in range(10**6):
                stop.wait(0.01)
                yield Progress(index, 10**6)
        finally:
            if closed is not None:
                closed.set()

    return work


def gated(gate: threading.Event) -> Callable[[Any], Iterator[object]]:
    def work(_engine: object) -> Iterator[object]:
        assert gate.wait(WAIT_S)
        yield 1
        return 2

    return work
