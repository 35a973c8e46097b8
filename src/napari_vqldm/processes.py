"""What every pool of worker processes needs: Ctrl-C answered by the main process alone, and no worker left behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

MOST_WORKERS = 61  # Windows waits for no more processes at once
POLL_SECONDS = 0.5  # how often a stop is looked for: on Windows, Ctrl-C is not seen while a result is waited for


@contextmanager
def interrupts_held_back() -> Iterator[None]:
    """Hold Ctrl-C back, also in processes that start now, until `become_worker` makes them ignore it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def become_worker() -> None:
    """Prepare a worker process of one thread: it ignores Ctrl-C, and does not outlive the main process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    if parent is not None:

        def leave_with_parent() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=leave_with_parent, daemon=True).start()
    import torch

    torch.set_num_threads(1)


def usable_cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
