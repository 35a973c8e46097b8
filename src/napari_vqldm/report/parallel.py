"""Independent pieces of work, done here or by several processes, with the same result to the last bit."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from types import TracebackType
from typing import TypeVar

import torch

from napari_vqldm.errors import ConfigError, WorkerError
from napari_vqldm.processes import MOST_WORKERS, POLL_SECONDS, become_worker, interrupts_held_back

T = TypeVar("T")
R = TypeVar("R")

LOOK_AHEAD = 2  # pieces per worker that are under way or done and not yet fetched: memory stays bounded


class Workers:
    """Context manager: ``count`` processes that do pieces of work, or none where ``count`` is 1.

    Sums over many numbers differ in the last bit between numbers of threads. So every piece is computed by one thread,
    in a worker as in this process: results depend neither on ``count`` nor on the number of cores.

    Workers start with the first piece and end with the context; Ctrl-C in the main process ends them too, after the
    pieces under way. They compute on the CPU and hold some 0.5 GB of memory each. They are spawned: a script that asks
    for them needs an ``if __name__ == "__main__"`` around it.

    Parameters
    ----------
    count : int
        1 or more; above 61 it is 61.

    Raises
    ------
    ConfigError
        If ``count`` is below 1.
    """

    def __init__(self, count: int = 1) -> None:
        if count < 1:
            raise ConfigError(f"expected 1 or more workers, got {count}: give the number of processor cores to use")
        self.count = min(count, MOST_WORKERS)
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Yield ``function(item)`` for every item, in order.

        Parameters
        ----------
        function : callable
            Defined at the top of a module (or a ``functools.partial`` of such a one), a function of its argument alone.
        items : iterable
            Read lazily in this process, at most two per worker ahead of what was yielded.

        Raises
        ------
        WorkerError
            If a worker dies. What ``function`` raises is raised here, too.
        """
        if self.count == 1:
            for item in items:
                with _one_thread():
                    result = function(item)
                yield result
            return
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(self._submit(function, item))
                while len(waiting) >= LOOK_AHEAD * self.count or (waiting and waiting[0].done()):
                    yield _result(waiting.popleft())
            while waiting:
                yield _result(waiting.popleft())
        finally:
            for future in waiting:
                future.cancel()

    def _submit(self, function: Callable[[T], R], item: T) -> Future[R]:
        if self._pool is None:
            context = multiprocessing.get_context("spawn")  # a fork would inherit a GPU, which it must not touch
            self._pool = ProcessPoolExecutor(self.count, context, become_worker)
        try:
            with interrupts_held_back():  # workers start here, one with each of the first pieces
                return self._pool.submit(function, item)
        except BrokenProcessPool:
            raise _death() from None


def _result(future: Future[R]) -> R:
    while not wait([future], timeout=POLL_SECONDS).done:
        pass
    try:
        return future.result()
    except BrokenProcessPool:
        raise _death() from None


def _death() -> WorkerError:
    return WorkerError("a worker process died, perhaps for lack of memory: run again with fewer workers")


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
