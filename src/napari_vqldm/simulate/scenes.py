"""Organisations of filaments: where they start, which way they go, what guides them.

Every organisation is a function that draws its fixed geometry once and returns ``propose(count)``, which yields that
many candidate filaments. `populate` takes candidates until the length inside the window is the requested one.
Coordinates are micrometres relative to the corner of the window, (z, y, x).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from napari_vqldm.config import Organisation, SpindleConfig
from napari_vqldm.errors import ConfigError
from napari_vqldm.simulate.buckles import Buckles
from napari_vqldm.simulate.bundles import Bundles
from napari_vqldm.simulate.cell import Cell
from napari_vqldm.simulate.draws import uniform
from napari_vqldm.simulate.filaments import FloatArray, Guide, directions, grow, join, lengths_inside, trim
from napari_vqldm.simulate.spindle import draw_arcs

CONTOUR_LIMITS_UM = (1.0, 50.0)
CONTOUR_SHAPE = 2.0  # of the gamma distribution of contour lengths: fewer stubs than an exponential one
_MOST_ROUNDS = 400
_THINNING_UM = 1.5
_MOST_REDRAWS = 7  # of points of which the cytosol holds some, so that a round yields as many as without a cell
_SPANS = tuple(1.0 - 0.05 * k for k in range(18))  # of a spindle in a cell, over the drawn one

Propose = Callable[[int], list[FloatArray]]


@dataclass(frozen=True)
class Surroundings:
    """What an organisation needs to know: the window, the region that can be seen from it, and the chain."""

    extent: FloatArray  # (3,) um, the window is [0, extent]
    reach: FloatArray  # (3,) um beyond the window from which light arrives
    persistence_length_um: float
    mean_contour_length_um: float
    out_of_plane: float
    cell: Cell | None = None  # filaments stay in its cytosol
    buckles: Buckles | None = None
    bundles: Bundles | None = None
    spindle: SpindleConfig = field(default_factory=SpindleConfig)

    def contours(self, rng: np.random.Generator, count: int, *, along: bool = False, scale: float = 1.0) -> FloatArray:
        """Draw contour lengths (count,), um; ``along``: those of filaments met by a random point (length-biased)."""
        shape = CONTOUR_SHAPE + (1.0 if along else 0.0)
        mean = self.mean_contour_length_um * scale
        lengths: FloatArray = np.clip(rng.gamma(shape, mean / CONTOUR_SHAPE, count), *CONTOUR_LIMITS_UM)
        return lengths

    def grow(
        self,
        origins: FloatArray,
        tangents: FloatArray,
        lengths: FloatArray,
        rng: np.random.Generator,
        *,
        spread: npt.ArrayLike = (1.0, 1.0, 1.0),
        guide: Guide | None = None,
        cell: Cell | None = None,
        halves: int = 1,
    ) -> list[FloatArray]:
        """Grow chains (see `grow`) with buckles, inside ``cell``, ``halves`` of them per filament."""
        turn = None if self.buckles is None else self.buckles.turn(lengths, halves)
        steer = None if cell is None else cell.steer
        if cell is not None and halves == 1:
            tangents = cell.start(origins, tangents)
        chain = self.persistence_length_um
        lines = grow(origins, tangents, lengths, chain, rng, spread=spread, guide=guide, turn=turn, steer=steer)
        return lines if cell is None else cell.cut(lines)


def _turn_about_z(angle: float) -> FloatArray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])


def _network(around: Surroundings, rng: np.random.Generator, spread: FloatArray, frame: FloatArray) -> Propose:
    """Stationary process of filaments whose tangents follow ``spread`` in ``frame`` (rows: axes of the frame).

    A candidate passes through a uniform point of the visible region, which favours filaments by their length inside
    it; thinning by the inverse of that length makes the process homogeneous (no excess in the middle of the window).
    In a cell the points are uniform in its cytosol, and filaments gather along the walls that turn them.
    """
    low, high = -around.reach, around.extent + around.reach
    cell = None if around.cell is None else around.cell.seen_from(frame)

    def propose(count: int) -> list[FloatArray]:
        anchors = rng.uniform(low, high, (count, 3))
        if around.cell is not None:
            anchors = np.concatenate([anchors, rng.uniform(low, high, (_MOST_REDRAWS * count, 3))])
            anchors = anchors[around.cell.holds(anchors)][:count]
            count = len(anchors)
        lengths = around.contours(rng, count, along=True)
        forward = lengths * rng.uniform(size=count)
        tangents = directions(rng, count, spread)
        origins = np.zeros((count, 3))
        if cell is not None:  # walls are somewhere: grown in place
            origins, anchors = anchors @ frame.T, np.zeros((count, 3))
            tangents = cell.start(origins, tangents, both_ways=True)
        halves = around.grow(
            np.concatenate([origins, origins]),
            np.concatenate([tangents, -tangents]),
            np.concatenate([forward, lengths - forward]),
            rng,
            spread=spread,
            cell=cell,
            halves=2,
        )
        lines = [join(halves[count + i], halves[i]) @ frame + anchors[i] for i in range(count)]
        kept = rng.uniform(size=count) * lengths_inside(lines, low, high) < _THINNING_UM
        return [line for line, keep in zip(lines, kept, strict=True) if keep]

    return propose


def _free(around: Surroundings, rng: np.random.Generator) -> Propose:
    """Filaments in all directions, flattened into the plane by ``out_of_plane``, with a mild preference in it."""
    spread = np.array([around.out_of_plane, 1.0, rng.uniform(0.5, 1.0)])
    return _network(around, rng, spread, _turn_about_z(rng.uniform(0.0, np.pi)))


def _aligned(around: Surroundings, rng: np.random.Generator) -> Propose:
    """Filaments along one in-plane axis, with a spread of a few to about fifteen degrees about it."""
    across = rng.uniform(0.06, 0.25)
    spread = np.array([max(across * around.out_of_plane, 0.02), across, 1.0])
    return _network(around, rng, spread, _turn_about_z(rng.uniform(0.0, np.pi)))


def _asters(around: Surroundings, rng: np.random.Generator, centres: FloatArray) -> Propose:
    """Filaments that start around centres and grow outward; some have detached and drifted outward."""
    spread = np.array([around.out_of_plane, 1.0, 1.0])
    detached = rng.uniform(0.0, 0.3)
    if around.cell is not None:
        centres = around.cell.nearest(centres)

    def propose(count: int) -> list[FloatArray]:
        tangents = directions(rng, count, spread)
        start = rng.uniform(0.1, 0.5, count)
        start = start + np.where(rng.uniform(size=count) < detached, rng.uniform(0.5, 3.0, count), 0.0)
        origins = centres[rng.integers(len(centres), size=count)] + start[:, None] * tangents
        if around.cell is not None:
            starts = around.cell.holds(origins)
            origins, tangents, count = origins[starts], tangents[starts], int(starts.sum())
        lengths = around.contours(rng, count)
        return around.grow(origins, tangents, lengths, rng, spread=spread, cell=around.cell)

    return propose


def _aster(around: Surroundings, rng: np.random.Generator) -> Propose:
    """One aster; its centre lies outside the window in about a third of the scenes."""
    outside = rng.uniform() < 0.35
    beyond = 0.25 * around.extent
    centre = rng.uniform(0.0, 1.0, 3) * around.extent
    if outside:
        axis, away = int(rng.integers(1, 3)), rng.uniform() * beyond
        centre[axis] = -away[axis] if rng.uniform() < 0.5 else around.extent[axis] + away[axis]
    return _asters(around, rng, centre[None])


def _two_asters(around: Surroundings, rng: np.random.Generator) -> Propose:
    """Two asters, a third to two thirds of the window apart."""
    middle = (0.5 + 0.15 * rng.uniform(-1.0, 1.0, 3)) * around.extent
    half = rng.uniform(0.17, 0.33) * float(around.extent[1:].min())
    axis = directions(rng, 1, (0.3 * around.out_of_plane, 1.0, 1.0))[0]
    return _asters(around, rng, np.stack([middle - half * axis, middle + half * axis]))


def _spindle(around: Surroundings, rng: np.random.Generator) -> Propose:
    """Arcs between two poles, most of them ending between equator and far pole, and short astral filaments.

    The guiding field a / |a|^2 - b / |b|^2 (a, b: from the poles) has the circles through both poles as field lines.
    """
    span = uniform(rng, around.spindle.length_um)
    axis = directions(rng, 1, (0.25 * around.out_of_plane, 1.0, 1.0))[0]
    middle = 0.5 * around.extent + rng.standard_normal(3) * 0.1 * around.extent
    if around.cell is not None:  # as long as fits
        middle = around.cell.nearest(middle[None])[0]
        fits = [around.cell.holds(middle + 0.5 * span * part * np.stack([-axis, axis])).all() for part in _SPANS]
        span *= _SPANS[int(np.argmax(fits))]
    poles = np.stack([middle - 0.5 * span * axis, middle + 0.5 * span * axis])
    opening = rng.uniform(0.4, 0.65)  # standard deviation of the angle to the axis at the pole, rad
    astral = uniform(rng, around.spindle.astral_share)
    across = np.linalg.svd(axis[None])[2][1:]  # two unit vectors across the axis
    filled = draw_arcs(around.spindle, float(span), rng)

    def propose(count: int) -> list[FloatArray]:
        pole = rng.integers(2, size=count)
        toward = np.where(pole == 0, 1.0, -1.0)[:, None] * axis
        angle = np.minimum(np.abs(rng.standard_normal(count)) * opening, 1.2)
        is_astral = rng.uniform(size=count) < astral
        angle = np.where(is_astral, np.pi - rng.uniform(0.2, 1.6, count), angle)[:, None]
        azimuth = rng.uniform(0.0, 2.0 * np.pi, count)[:, None]
        sideways = np.cos(azimuth) * across[0] + np.sin(azimuth) * across[1]
        tangents = np.cos(angle) * toward + np.sin(angle) * sideways
        origins = poles[pole] + 0.3 * tangents + 0.1 * rng.standard_normal((count, 3))
        if filled is not None:
            start, heading = (toward * v[:, :1] + v[:, 1:] @ across for v in filled.draw(rng, count))
            origins = np.where(is_astral[:, None], origins, poles[pole] + start)
            tangents = np.where(is_astral[:, None], tangents, heading)
        arcs = np.clip(around.contours(rng, count), 0.35 * span, 1.2 * span)
        lengths = np.where(is_astral, around.contours(rng, count, scale=0.3), arcs)
        held = np.ones(count, dtype=bool) if around.cell is None else around.cell.holds(origins)
        lines: list[FloatArray] = [np.empty((0, 3))] * count
        for which in (0, 1, 2):  # 0, 1: arcs from either pole, 2: astral filaments, which feel no field
            members = np.flatnonzero(held & (is_astral if which == 2 else (~is_astral & (pole == which))))
            if not len(members):
                continue
            home, away = poles[which % 2][:, None], poles[1 - which % 2][:, None]

            def field(position: FloatArray, home: FloatArray = home, away: FloatArray = away) -> FloatArray:
                a, b = position - home, position - away
                pull = a / (a * a).sum(0) - b / (b * b).sum(0)
                return np.asarray(2.0 * pull / np.sqrt((pull * pull).sum(0)))

            grown = around.grow(
                origins[members],
                tangents[members],
                lengths[members],
                rng,
                guide=None if which == 2 else field,
                cell=around.cell,
            )
            for i, line in zip(members, grown, strict=True):
                arrived = np.linalg.norm(line - away[:, 0], axis=1) < 0.5
                # Arcs end at the far pole; `argmax` is where they first come near it.
                lines[i] = line[: max(int(arrived.argmax()), 2)] if which < 2 and arrived.any() else line
        return [line for line in lines if len(line)]

    return propose


_SCENES: dict[Organisation, Callable[[Surroundings, np.random.Generator], Propose]] = {
    "aster": _aster,
    "two_asters": _two_asters,
    "free": _free,
    "aligned": _aligned,
    "spindle": _spindle,
}


def populate(
    organisation: Organisation, around: Surroundings, length_um: float, rng: np.random.Generator
) -> list[FloatArray]:
    """Return filaments with exactly ``length_um`` of centre line inside the window.

    The length is that per volume of the window, whatever part of it a cell leaves to filaments, and counts followers in
    bundles. Filaments that only pass near the window are kept too, as far as they were drawn before the length was
    reached: their light may arrive in it. The last filament is trimmed.

    Raises
    ------
    ConfigError
        If hardly any filament of this organisation crosses the window, so the length is not reached.
    """
    propose = _SCENES[organisation](around, rng)
    low, high = np.zeros(3), around.extent
    filaments: list[FloatArray] = []
    reached, drawn = 0.0, 0
    per_candidate = 0.4 * min(around.mean_contour_length_um, float(high.max()))
    for _ in range(_MOST_ROUNDS):
        count = int(np.clip(np.ceil(1.1 * (length_um - reached) / per_candidate) + 4, 8, 400))
        candidates = propose(count)
        if around.bundles is not None:
            candidates = around.bundles.join(candidates)
        inside = lengths_inside(candidates, low, high)
        total = reached + np.cumsum(inside)
        if len(total) and total[-1] >= length_um:
            last = int(np.searchsorted(total, length_um))
            filaments += candidates[:last]
            rest = length_um - (total[last - 1] if last else reached)
            return [*filaments, trim(candidates[last], float(rest), low, high)]
        filaments += candidates
        drawn += count
        reached = float(total[-1]) if len(total) else reached
        per_candidate = max(reached / drawn, 0.02 * length_um / 8)
    raise ConfigError(
        f"length density not reached: filaments of organisation {organisation!r} hardly cross a window of "
        f"{np.round(high, 2).tolist()} um; use a larger window, organisation 'free' or a cell that fills more of it"
    )
