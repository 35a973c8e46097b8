"""Keep the arrays used last, up to a number of bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

import numpy.typing as npt

from napari_vqldm.errors import ConfigError


class ByteCache:
    """Arrays by key, least recently used ones dropped first. Any thread may use it.

    Parameters
    ----------
    budget_bytes : int
        Most bytes of all arrays together; 0 keeps none.

    Raises
    ------
    ConfigError
        If the budget is negative.

    Notes
    -----
    Arrays are kept as they are, not copied: do not write into what was put in or taken out.
    """

    def __init__(self, budget_bytes: int) -> None:
        self._arrays: OrderedDict[Hashable, npt.NDArray[Any]] = OrderedDict()
        self._num_bytes = 0
        self._lock = threading.Lock()
        self._budget_bytes = _checked(budget_bytes)

    @property
    def num_bytes(self) -> int:
        """Bytes of all arrays together."""
        return self._num_bytes

    @property
    def budget_bytes(self) -> int:
        """Most bytes of all arrays together; a smaller value drops arrays at once."""
        return self._budget_bytes

    @budget_bytes.setter
    def budget_bytes(self, value: int) -> None:
        with self._lock:
            self._budget_bytes = _checked(value)
            self._shrink()

    def __len__(self) -> int:
        return len(self._arrays)

    def __contains__(self, key: Hashable) -> bool:
        """Tell whether a key is kept, without counting as a use."""
        with self._lock:
            return key in self._arrays

    def get(self, key: Hashable) -> npt.NDArray[Any] | None:
        """Return the array of a key, or None; it becomes the most recently used one."""
        with self._lock:
            array = self._arrays.get(key)
            if array is not None:
                self._arrays.move_to_end(key)
            return array

    def put(self, key: Hashable, array: npt.NDArray[Any]) -> bool:
        """Keep an array in place of an earlier one of the same key.

        Returns
        -------
        bool
            False when the array alone is above the budget; an earlier one of that key is gone all the same.
        """
        with self._lock:
            self._drop(key)
            if array.nbytes > self._budget_bytes:
                return False
            self._arrays[key] = array
            self._num_bytes += array.nbytes
            self._shrink()
            return True

    def discard(self, key: Hashable) -> None:
        """Drop one array, if it is there."""
        with self._lock:
            self._drop(key)

    def clear(self) -> None:
        """Drop all arrays."""
        with self._lock:
            self._arrays.clear()
            self._num_bytes = 0

    def _drop(self, key: Hashable) -> None:
        array = self._arrays.pop(key, None)
        if array is not None:
            self._num_bytes -= array.nbytes

    def _shrink(self) -> None:
        """Drop the least recently used arrays until the rest fits, with the lock held."""
        while self._num_bytes > self._budget_bytes:
            _, array = self._arrays.popitem(last=False)
            self._num_bytes -= array.nbytes


def _checked(budget_bytes: int) -> int:
    if budget_bytes < 0:
        raise ConfigError(f"expected a cache budget of 0 bytes or more, got {budget_bytes}")
    return budget_bytes
