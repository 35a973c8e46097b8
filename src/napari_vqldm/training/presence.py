"""Which process works in a run folder, and how it ended when it failed: for whoever follows the run.

A run that is under way keeps ``running.json`` in its folder and removes it at its end, whatever the end is. One that
ends by an error leaves ``failed.json`` with the message, until the next start. So a ``running.json`` without its
process tells of a run that was killed.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any, Self

import psutil

from napari_vqldm.errors import VqldmError
from napari_vqldm.training.folder import RunFolder, read_json, write_json
from napari_vqldm.training.interrupt import Interrupted

CLOCK_SLACK_S = 10.0  # a corrected clock moves the time at which a process seems to have started


@dataclass(frozen=True)
class RunProcess:
    """A process and the computer that it runs on.

    Attributes
    ----------
    pid : int
        Its number.
    host : str
        Name of the computer; empty when unknown.
    created_s : float
        When it started, seconds since 1970: numbers of processes are used again.
    """

    pid: int
    host: str
    created_s: float

    @classmethod
    def this(cls) -> Self:
        """Return the process that asks."""
        process = psutil.Process()
        return cls(process.pid, platform.node(), process.create_time())

    @classmethod
    def of(cls, record: Any) -> Self | None:
        """Read the content of ``running.json``; None when it is not what a run writes."""
        if not isinstance(record, Mapping):
            return None
        try:
            process = cls(int(record["pid"]), str(record["host"]), float(record["created_s"]))
        except (KeyError, TypeError, ValueError, OverflowError):
            return None
        return process if 0 < process.pid < 2**31 else None  # a signal to 0 or -1 would reach many

    @property
    def is_here(self) -> bool:
        """Whether it runs on this computer: of another one nothing can be known."""
        return self.host == platform.node()

    @property
    def is_alive(self) -> bool:
        """Whether it is still there; only asked where `is_here`."""
        try:
            process = psutil.Process(self.pid)
            is_same = abs(process.create_time() - self.created_s) < CLOCK_SLACK_S
            return is_same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False
        except psutil.Error:  # somebody else's: it is there, more is not told
            return True


@contextmanager
def announced(folder: RunFolder, active: bool = True) -> Iterator[None]:
    """Keep ``running.json`` in a run folder while the block runs, and note an error that ends it.

    Parameters
    ----------
    folder : RunFolder
        An open run folder.
    active : bool
        False in all but the first process of a run.
    """
    if not active:
        yield
        return
    write_json(folder.running, asdict(RunProcess.this()))
    try:
        yield
    except Interrupted:  # saved; stopped.json tells it
        raise
    except BaseException as error:
        message = str(error) if isinstance(error, VqldmError) else f"{type(error).__name__}: {error}"
        note = {"message": message, "time_utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        with suppress(VqldmError):  # a full disk may be what ended it
            if not _is_taken(folder):
                write_json(folder.failed, note)
        raise
    finally:
        with suppress(OSError, VqldmError):
            if not _is_taken(folder):
                folder.running.unlink(missing_ok=True)


def _is_taken(folder: RunFolder) -> bool:
    """Whether another run works there: somebody removed the folder under this one and started anew."""
    process = RunProcess.of(read_json(folder.running))
    return process is not None and process != RunProcess.this()
