"""Read what a growing file of lines has new, again and again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

MOST_BYTES = 4 * 2**20  # read of metrics.jsonl in one poll; more waits for the next one
REMEMBERED_BYTES = 256  # before the place where reading goes on: they tell whether the file is still the same


class Tail:
    """New whole lines of a file that grows and may be replaced.

    Whether the file is the same is told by the bytes before the place where reading goes on: numbers of files are not
    steady on every network mount, and a run that goes on writes equal lines into a new file.

    Parameters
    ----------
    path : Path
        It need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset, self._before = 0, b""

    def read(self) -> tuple[bool, Sequence[bytes]]:
        """Return whether it starts anew, and the lines; a half line waits until it is whole.

        Raises
        ------
        OSError
            If the file cannot be read; one that is not there has no lines.
        """
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return self._restart(), []
        is_anew = False
        with file:
            file.seek(self._offset - len(self._before))
            if file.read(len(self._before)) != self._before:
                is_anew = self._restart()
                file.seek(0)
            block = file.read(MOST_BYTES)
        end = block.rfind(b"\n") + 1
        if not end and len(block) == MOST_BYTES:  # no line of a run is so long
            end = len(block)
        self._offset += end
        self._before = (self._before + block[:end])[-REMEMBERED_BYTES:]
        return is_anew, block[:end].splitlines()

    def _restart(self) -> bool:
        """Begin at the start; returns whether anything was read before."""
        was_read = self._offset > 0
        self._offset, self._before = 0, b""
        return was_read
