"""An engine and work for tests of the inference thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty
from typing import Any

from napari_vqldm.plugin.inference.jobs import Job, Message
from napari_vqldm.plugin.inference.thread import BaseEngine

WAIT_S = 20


class FakeEngine(BaseEngine):
    """Knows where it was made and used, and whether it was freed."""

    def __init__(self) -> None:
        self.thread = threading.current_thread()
        self.log: list[str] = []
        self.is_freed = False

    def free(self) -> None:
        self.is_freed = True

    @contextmanager
    def suspended(self) -> Iterator[None]:
        self.log.append("suspended")
        yield
        self.log.append("resumed")


class Gate:
    """Work that stops at each yield until the test lets it pass."""

    def __init__(self) -> None:
        self.reached = threading.Semaphore(0)
        self._passes = threading.Semaphore(0)

    def wait(self) -> None:
        self.reached.release()
        assert self._passes.acquire(timeout=WAIT_S)

    def wait_until_reached(self) -> None:
        assert self.reached.acquire(timeout=WAIT_S)

    def open(self, times: int = 1) -> None:
        self._passes.release(times)


def messages_of(job: Job) -> list[Message]:
    found = []
    while True:
        try:
            found.append(job.messages.get_nowait())
        except Empty:
            return found


def logged(name: str, log: list[str], steps: int = 1) -> Callable[[Any], Iterator[object]]:
    def work(_engine: FakeEngine) -> Iterator[object]:
        for index in range(steps):
            log.append(f"{name}{index}")
            yield index

    return work


def gated(gate: Gate, steps: int = 1, log: list[str] | None = None) -> Callable[[Any], Iterator[object]]:
    def work(_engine: FakeEngine) -> Iterator[object]:
        try:
            for index in range(steps):
                gate.wait()
                if log is not None:
                    log.append(f"batch{index}")
                yield index
        finally:
            if log is not None:
                log.append("closed")
        return "result"

    return work
