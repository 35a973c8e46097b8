"""Worm-like chains grown step by step for all filaments of a volume at once, and exact measurement inside a box.

Coordinates are micrometres, (z, y, x). A worm-like chain of persistence length Lp turns by a random angle with standard
deviation sqrt(ds / Lp) about each of the two axes across its tangent at each step ds: <cos> = exp(-s / Lp).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Guide = Callable[[FloatArray], FloatArray]  # positions (3, n) -> pull on the tangent (3, n), 1/um
Turn = Callable[[int, IntArray, FloatArray], FloatArray]  # step, filaments (n,), tangents (3, n) -> tangents (3, n)
Steer = Callable[[FloatArray, FloatArray], FloatArray]  # positions, tangents (3, n) -> tangents (3, n)

GROWTH_STEP_UM = 0.1


def directions(rng: np.random.Generator, count: int, spread: npt.ArrayLike = (1.0, 1.0, 1.0)) -> FloatArray:
    """Draw unit vectors (count, 3) of an angular central Gaussian: isotropic, then weighted per axis by ``spread``."""
    raw = rng.standard_normal((count, 3)) * np.asarray(spread, dtype=np.float64)
    unit: FloatArray = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    return unit


def grow(
    origins: FloatArray,
    tangents: FloatArray,
    lengths: FloatArray,
    persistence_length_um: float,
    rng: np.random.Generator,
    *,
    spread: npt.ArrayLike = (1.0, 1.0, 1.0),
    guide: Guide | None = None,
    turn: Turn | None = None,
    steer: Steer | None = None,
) -> list[FloatArray]:
    """Grow worm-like chains from their origins.

    Parameters
    ----------
    origins, tangents : ndarray
        (n, 3), um and unit vectors.
    lengths : ndarray
        (n,), contour lengths in um; rounded to the growth step.
    persistence_length_um : float
        Sets the kicks. They are the same whatever ``spread`` is, so the local bending is too.
    rng : Generator
        Source of the kicks.
    spread : array-like
        Weights per axis of the stationary distribution of tangents (see `directions`). The drift added to the kicks is
        that of Langevin dynamics on the sphere, 1 / (2 Lp) times the gradient of the log density, taken implicitly in
        the stiff part; all ones is the free chain.
    guide : callable, optional
        Pull of a field on the tangents.
    turn : callable, optional
        Extra turns of some filaments at some steps, after kicks and fields.
    steer : callable, optional
        Keeps filaments off walls; it has the last word on the tangents of each step.

    Returns
    -------
    list of ndarray
        One (points, 3) array per filament, points one growth step apart.
    """
    step = GROWTH_STEP_UM
    steps = np.maximum(1, np.rint(np.asarray(lengths) / step)).astype(np.int64)
    order = np.argsort(-steps, kind="stable")  # longest first: the growing ones are always the first `n`
    longest_first = steps[order]
    total = int(longest_first[0]) if len(steps) else 0
    growing = np.searchsorted(-longest_first, -np.arange(total), side="left")  # filaments with more than k steps
    path = np.empty((total + 1, 3, len(steps)))
    position = np.ascontiguousarray(origins[order].T, dtype=np.float64)
    tangent = np.ascontiguousarray(tangents[order].T, dtype=np.float64)
    path[0] = position
    weights = np.asarray(spread, dtype=np.float64)
    stiffness = ((weights.max() / weights) ** 2)[:, None]
    biased = bool((stiffness != 1.0).any())
    pull = 1.5 * step / persistence_length_um
    kick_sd = float(np.sqrt(step / persistence_length_um))
    for k in range(total):
        n = int(growing[k])
        position, tangent = position[:, :n], tangent[:, :n]
        kick = rng.standard_normal((3, n)) * kick_sd
        kick -= (kick * tangent).sum(0) * tangent
        angle = np.sqrt((kick * kick).sum(0)) + 1e-12
        tangent = np.cos(angle) * tangent + (np.sin(angle) / angle) * kick
        if biased:
            tangent = tangent / (1.0 + pull * (stiffness - 1.0) / (stiffness * tangent * tangent).sum(0))
        if guide is not None:
            tangent = tangent + step * guide(position)
        if biased or guide is not None:
            tangent = tangent / np.sqrt((tangent * tangent).sum(0))
        if turn is not None:
            tangent = turn(k, order[:n], tangent)
        if steer is not None:
            tangent = steer(position, tangent)
        position = position + step * tangent
        path[k + 1, :, :n] = position
    lines: list[FloatArray] = [np.empty((0, 3))] * len(steps)
    for column, filament in enumerate(order):
        lines[filament] = np.ascontiguousarray(path[: longest_first[column] + 1, :, column])
    return lines


def join(backward: FloatArray, forward: FloatArray) -> FloatArray:
    """Join two halves that start at the same point into one filament."""
    return np.concatenate([backward[:0:-1], forward])


def _inside(start: FloatArray, end: FloatArray, low: FloatArray, high: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return where segments enter and leave a box, as fractions of the segment; ``leave <= enter`` outside."""
    delta = end - start
    delta = np.where(delta == 0.0, 1e-300, delta)
    a, b = (low - start) / delta, (high - start) / delta
    enter = np.maximum(np.minimum(a, b).max(axis=1), 0.0)
    leave = np.minimum(np.maximum(a, b).min(axis=1), 1.0)
    return enter, leave


def lengths_inside(lines: Sequence[FloatArray], low: FloatArray, high: FloatArray) -> FloatArray:
    """Measure the length (um) of each polyline inside the box between ``low`` and ``high`` exactly."""
    if not lines:
        return np.zeros(0)
    points = np.concatenate(lines)
    enter, leave = _inside(points[:-1], points[1:], low, high)
    length = np.linalg.norm(points[1:] - points[:-1], axis=1) * np.maximum(leave - enter, 0.0)
    last = np.cumsum([len(line) for line in lines])
    length[last[:-1] - 1] = 0.0  # from the end of one line to the start of the next
    total = np.concatenate([[0.0], np.cumsum(length), [0.0]])
    inside: FloatArray = total[last - 1] - total[np.concatenate([[0], last[:-1]])]
    return inside


def trim(line: FloatArray, wanted_um: float, low: FloatArray, high: FloatArray) -> FloatArray:
    """Cut the end of a polyline off so that exactly ``wanted_um`` of it lie inside the box."""
    enter, leave = _inside(line[:-1], line[1:], low, high)
    segment = np.linalg.norm(line[1:] - line[:-1], axis=1)
    reached = np.cumsum(segment * np.maximum(leave - enter, 0.0))
    k = int(np.searchsorted(reached, wanted_um))
    if k >= len(segment):
        return line
    before = reached[k - 1] if k else 0.0
    fraction = enter[k] + (wanted_um - before) / segment[k]
    return np.concatenate([line[: k + 1], [line[k] + fraction * (line[k + 1] - line[k])]])


def clip(line: FloatArray, low: FloatArray, high: FloatArray) -> list[FloatArray]:
    """Cut a polyline into the pieces that lie inside the box, with their ends exactly on its faces."""
    if bool(((line >= low) & (line <= high)).all()):
        return [line]
    enter, leave = _inside(line[:-1], line[1:], low, high)
    kept = np.flatnonzero(leave > enter)
    if not len(kept):
        return []
    # A piece goes on while the segment is left at its end and the next one is entered at its start.
    breaks = np.flatnonzero((np.diff(kept) > 1) | (leave[kept[:-1]] < 1.0) | (enter[kept[1:]] > 0.0)) + 1
    pieces = []
    for run in np.split(kept, breaks):
        first, final = run[0], run[-1]
        head = line[first] + enter[first] * (line[first + 1] - line[first])
        tail = line[final] + leave[final] * (line[final + 1] - line[final])
        pieces.append(np.clip(np.concatenate([[head], line[first + 1 : final + 1], [tail]]), low, high))
    return pieces
