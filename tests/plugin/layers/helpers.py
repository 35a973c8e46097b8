"""Noise and names for tests of layers."""

from __future__ import annotations

from typing import Any

import numpy as np

UM = ("um",) * 3
ZYX = ("z", "y", "x")


def stack(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).random(shape).astype(np.float32)
