"""How high a bar is for a count: linear or logarithmic, with round numbers beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_LOWEST = 0.3  # decades below a count of 1: it is seen, and 0 is nothing
_MOST_TICKS = 3  # on each side


@dataclass(frozen=True)
class Scale:
    """From counts to heights of 0 to 1, above and below the middle line.

    Attributes
    ----------
    top_up, top_down : int
        Largest counts, 1 or more.
    is_log : bool
        One logarithmic scale for both; otherwise each side has its own linear one.
    """

    top_up: int
    top_down: int
    is_log: bool

    @classmethod
    def of(cls, up: npt.NDArray[np.int64], down: npt.NDArray[np.int64], is_log: bool) -> Scale:
        """Return the scale for these counts (K,)."""
        return cls(max(int(up.max(initial=0)), 1), max(int(down.max(initial=0)), 1), is_log)

    def up(self, counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Return heights above the line."""
        return self._heights(counts, self.top_up)

    def down(self, counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Return heights below the line, positive."""
        return self._heights(counts, self.top_down)

    def ticks(self) -> list[tuple[float, str]]:
        """Return heights, negative below the line, and the counts that stand there."""
        ups, downs = self._round(self.top_up), self._round(self.top_down)
        above = [(float(self.up(np.array([n]))[0]), short(n)) for n in ups]
        below = [(-float(self.down(np.array([n]))[0]), short(n)) for n in downs]
        return [*above, (0.0, "0"), *below]

    def _heights(self, counts: npt.NDArray[np.int64], top: int) -> npt.NDArray[np.float64]:
        if not self.is_log:
            return np.asarray(counts / top, np.float64)
        highest = math.log10(max(self.top_up, self.top_down)) + _LOWEST
        heights = (np.log10(np.maximum(counts, 1)) + _LOWEST) / highest
        return np.asarray(np.where(counts > 0, heights, 0.0), np.float64)

    def _round(self, top: int) -> list[int]:
        """Round counts up to the top of a side."""
        if self.is_log:
            decades = int(math.log10(max(self.top_up, self.top_down)))
            step = max(1, math.ceil((decades) / _MOST_TICKS))
            return [10**power for power in range(decades, 0, -step)] or [1]
        unit = 10 ** int(math.log10(top))
        return [top // unit * unit]


def short(count: int) -> str:
    """Return a round count in few letters: 20000 is 20k."""
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:g}{letter}"
    return str(count)
