"""Polylines in micrometres: equal steps of arc, smoothing along the arc, unit tangents."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_vqldm.errors import ShapeError
from napari_vqldm.metrics.skeleton import Points

FloatArray = npt.NDArray[np.float64]


def check_lines(lines: Iterable[npt.ArrayLike]) -> list[Points]:
    """Return polylines as float64 arrays; those shorter than one segment are left out.

    Raises
    ------
    ShapeError
        If a polyline is not (n, 3) or holds a number that is not finite.
    """
    result = []
    for line in lines:
        points = np.asarray(line, np.float64)
        if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
            raise ShapeError(f"expected polylines (n, 3) of finite micrometres (z, y, x), got shape {points.shape}")
        moved = (np.diff(points, axis=0) != 0.0).any(axis=1)
        if moved.any():
            result.append(np.concatenate([points[:1], points[1:][moved]]))
    return result


def arc_um(points: Points) -> FloatArray:
    """Arc length from the first point to each point, (n,), micrometres."""
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    return np.concatenate([[0.0], np.cumsum(steps)])


def at_arc(points: Points, where_um: FloatArray) -> Points:
    """Positions (m, 3) at the arc lengths ``where_um`` (m,)."""
    arc = arc_um(points)
    return np.stack([np.interp(where_um, arc, points[:, axis]) for axis in range(3)], axis=1)


def resample(points: Points, step_um: float) -> Points:
    """Points at equal steps of arc, both ends kept; the step is the one nearest ``step_um`` that divides the length."""
    length = float(arc_um(points)[-1])
    parts = max(1, round(length / step_um))
    return at_arc(points, np.linspace(0.0, length, parts + 1))


def smooth_along(points: Points, sigma_um: float, step_um: float) -> Points:
    """Gaussian smoothing of positions along a polyline whose points are ``step_um`` apart; both ends stay.

    The line is continued by its point reflection about each end, so that a straight line stays what it is.
    """
    reach = min(len(points) - 1, int(np.ceil(4.0 * sigma_um / step_um)))
    if sigma_um <= 0.0 or reach < 1:
        return points
    longer = np.pad(points, ((reach, reach), (0, 0)), mode="reflect", reflect_type="odd")
    smooth = ndimage.gaussian_filter1d(longer, sigma_um / step_um, axis=0, mode="nearest")
    inner: Points = smooth[reach : reach + len(points)]
    return inner


def tangents(points: Points) -> FloatArray:
    """Unit vectors (n - 1, 3) along the segments of a polyline without repeated points."""
    steps = np.diff(points, axis=0)
    unit: FloatArray = steps / np.maximum(np.linalg.norm(steps, axis=1, keepdims=True), 1e-12)
    return unit


def pieces_between(lines: Sequence[Points], step_um: float) -> tuple[Points, FloatArray]:
    """Middles (N, 3) and lengths (N,) of equal pieces, ``step_um`` long or just below, of all polylines."""
    middles, lengths = [np.zeros((0, 3))], [np.zeros(0)]
    for line in lines:
        total = float(arc_um(line)[-1])
        parts = max(1, int(np.ceil(total / step_um - 1e-9)))
        where: FloatArray = np.asarray((np.arange(parts) + 0.5) * (total / parts), np.float64)
        middles.append(at_arc(line, where))
        lengths.append(np.full(parts, total / parts))
    return np.concatenate(middles), np.concatenate(lengths)
