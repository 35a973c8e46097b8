"""Measure the most memory that a piece of work takes at once."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Self

import torch

_PERIOD_S = 0.001


class PeakMemory:
    """Measures the most memory taken between enter and exit, beyond what was taken before; None where unknown.

    On CUDA that of the device, by its allocator. On the CPU of Linux that of the process, seen often enough by a
    thread: arrays that live for less than a millisecond may be missed.
    """

    def __init__(self, device: torch.device) -> None:
        self.peak_bytes: int | None = None
        self._device = device
        self._watch: _Watch | None = None
        self._before = 0

    def __enter__(self) -> Self:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            self._before = torch.cuda.memory_allocated(self._device)
        elif self._device.type == "cpu" and (before := _resident_bytes()) is not None:
            self._before = before
            self._watch = _Watch()
            self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._device.type == "cuda":
            self.peak_bytes = torch.cuda.max_memory_allocated(self._device) - self._before
        elif self._watch is not None:
            self.peak_bytes = max(0, self._watch.finish() - self._before)


class _Watch(threading.Thread):
    """Looks at the resident memory again and again."""

    def __init__(self) -> None:
        super().__init__(name="peak-memory", daemon=True)
        self._most = 0
        self._is_over = threading.Event()

    def run(self) -> None:
        """Look until told to finish."""
        while True:
            self._most = max(self._most, _resident_bytes() or 0)
            if self._is_over.wait(_PERIOD_S):
                return

    def finish(self) -> int:
        """Return the most that was seen."""
        self._is_over.set()
        self.join()
        return max(self._most, _resident_bytes() or 0)


def _resident_bytes() -> int | None:
    """Resident memory of this process; None where the system is not Linux."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError, AttributeError):
        return None
