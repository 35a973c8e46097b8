"""The two ways between vectors that `interpolate` takes: a straight line, and a turn at constant speed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal

from torch import Tensor

from napari_vqldm.errors import ConfigError

Kind = Literal["linear", "slerp"]


def linear(a: Tensor, b: Tensor, t: float) -> Tensor:
    """(1 - t) a + t b; t = 0 and 1 return ``a`` and ``b`` themselves."""
    if t in (0.0, 1.0):
        return b if t else a
    return (1 - t) * a + t * b


def slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """Turn the direction of ``a`` into that of ``b`` at constant speed; the norm goes linearly from one to the other.

    Both are taken as one vector, whatever their shape. Parallel vectors, and a zero one, are interpolated linearly.
    Shoemake 1985, doi:10.1145/325334.325242.

    Raises
    ------
    ConfigError
        If the vectors are opposite: no way round is shorter than another.
    """
    if t in (0.0, 1.0):
        return b if t else a
    x, y = a.double(), b.double()
    norm_x, norm_y = float(x.norm()), float(y.norm())
    if norm_x == 0 or norm_y == 0:
        return linear(a, b, t)
    x, y = x / norm_x, y / norm_y
    # atan2 of chords: exact for nearly parallel vectors, where the cosine has no digits left.
    angle = 2 * math.atan2(float((x - y).norm()), float((x + y).norm()))
    if angle < 1e-9:
        return linear(a, b, t)
    if math.pi - angle < 1e-6:
        raise ConfigError("the ends are opposite, so slerp has no shortest way: use kind linear")
    direction = (math.sin((1 - t) * angle) * x + math.sin(t * angle) * y) / math.sin(angle)
    return (direction * ((1 - t) * norm_x + t * norm_y)).to(a.dtype)


PATHS: Mapping[Kind, Callable[[Tensor, Tensor, float], Tensor]] = {"linear": linear, "slerp": slerp}
