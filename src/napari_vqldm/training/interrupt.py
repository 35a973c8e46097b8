"""Leave a long run in good order: SIGTERM and SIGINT are noted, the work stops between two steps and saves."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

STOP_SIGNALS: tuple[signal.Signals, ...] = (signal.SIGTERM, signal.SIGINT)
if hasattr(signal, "SIGBREAK"):  # Windows: the only one that another program can send
    STOP_SIGNALS = (*STOP_SIGNALS, signal.SIGBREAK)


class Interrupted(Exception):
    """The run was asked to stop; everything needed to resume is saved."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signal_number).name}; run the same command again to resume")
        self.signal_number = signal_number

    @property
    def exit_code(self) -> int:
        """0 for SIGTERM, as job schedulers expect of a saved run; 130 for Ctrl-C."""
        return 130 if self.signal_number == signal.SIGINT else 0


class StopRequest:
    """Context manager that catches the signals; long work calls `check` between its steps."""

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():  # Python allows handlers nowhere else
            for number in STOP_SIGNALS:
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raise `Interrupted` if a signal came."""
        if self.signal_number is not None:
            raise Interrupted(self.signal_number)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal_number = number
