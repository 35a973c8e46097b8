"""The cell around the filaments: membrane and nucleus, and how filaments glide along them.

A filament that comes near a wall is turned along it with a radius of `GLIDE_RADIUS_UM`, as a stiff rod under load is,
and never reflected. Where the wall itself is curved more sharply than a filament can follow, as at the rim of a flat
cell, the filament ends.
Coordinates are micrometres, (z, y, x), relative to the corner of the window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from napari_vqldm.config import CellConfig, Organisation
from napari_vqldm.errors import ConfigError
from napari_vqldm.simulate.draws import uniform
from napari_vqldm.simulate.filaments import GROWTH_STEP_UM, FloatArray

GLIDE_RADIUS_UM = 0.75  # of the arc on which a filament turns along a wall; buckles in cells have 0.5 to 1.5
CLEARANCE_UM = 0.1  # of centre lines from membrane and nucleus: followers in bundles have room
LEAST_ROOM_UM = 0.06  # filaments end where a wall pushes them nearer
SHARPEST_TURN = 0.3  # rad per growth step that a wall may force: a radius of 0.33 um, below that of any buckle
LEAST_COVER = 0.3  # part of the window that filaments can fill; with less, their density there would be a multiple
_MOST_PLACES = 200

_ARM = float(np.hypot(GLIDE_RADIUS_UM, GROWTH_STEP_UM))
_REACH = GLIDE_RADIUS_UM + GROWTH_STEP_UM + CLEARANCE_UM  # um from a wall within which it turns filaments
_LEAD = float(np.arctan2(GROWTH_STEP_UM, GLIDE_RADIUS_UM))  # turn of one growth step on the arc


@dataclass(frozen=True)
class Ellipsoid:
    """Ellipsoid (q . q = 1 for q = shape @ (point - centre)); points are (3, n), um."""

    centre: FloatArray  # (3,)
    shape: FloatArray  # (3, 3), 1/um; rows: axes over their half-lengths

    @classmethod
    def upright(cls, centre: npt.ArrayLike, half_axes_um: npt.ArrayLike, angle: float = 0.0) -> Ellipsoid:
        """Return one with half-axes (z, y, x), turned about z by ``angle``."""
        c, s = np.cos(angle), np.sin(angle)
        turn = np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])
        return cls(np.asarray(centre, dtype=np.float64), turn / np.asarray(half_axes_um, dtype=np.float64)[:, None])

    @cached_property
    def least_half_axis(self) -> float:
        """Half-length of the shortest axis, um: a point of level |q| is at least (|q| - 1) times it away."""
        return 1.0 / float(np.linalg.norm(self.shape, axis=1).max())

    def level(self, points: FloatArray) -> FloatArray:
        """Return |q| (n,): 1 on the surface, below 1 inside."""
        level: FloatArray = np.linalg.norm(self.shape @ (points - self.centre[:, None]), axis=0)
        return level

    def distance(self, points: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the distance to the surface, below 0 inside (n,), um, and the outward normals (3, n).

        The distance is that of first order, (|q| - 1) / |grad |q||: exact on the surface, on the axes and for a sphere.
        """
        q = self.shape @ (points - self.centre[:, None])
        level = np.sqrt((q * q).sum(0)) + 1e-12
        gradient = self.shape.T @ (q / level)
        steepness = np.sqrt((gradient * gradient).sum(0)) + 1e-12
        return (level - 1.0) / steepness, gradient / steepness

    def seen_from(self, frame: FloatArray) -> Ellipsoid:
        """Return the ellipsoid in coordinates p of a frame, where points are p @ frame."""
        return Ellipsoid(frame @ self.centre, self.shape @ frame.T)


@dataclass(frozen=True)
class Cell:
    """Membrane and nucleus. Filaments live between them, `CLEARANCE_UM` away from both."""

    membrane: Ellipsoid
    nucleus: Ellipsoid | None

    def room(self, points: FloatArray) -> FloatArray:
        """Return the distance (n,), um, of points (n, 3) to the nearer wall; below 0 outside the cytosol."""
        room = -self.membrane.distance(points.T)[0]
        if self.nucleus is not None:
            room = np.minimum(room, self.nucleus.distance(points.T)[0])
        return room

    def holds(self, points: FloatArray) -> npt.NDArray[np.bool_]:
        """Tell which of (n, 3) points a filament may start from."""
        inside: npt.NDArray[np.bool_] = self.room(points) >= CLEARANCE_UM
        return inside

    def nearest(self, points: FloatArray) -> FloatArray:
        """Move points (n, 3) that no filament may start from into the cytosol, toward or away from its centre."""
        moved = points.T.copy()
        level = self.membrane.level(moved)
        centre = self.membrane.centre[:, None]
        moved = np.where(level > 0.85, centre + (moved - centre) * (0.85 / np.maximum(level, 0.85)), moved)
        if self.nucleus is not None:
            heart = self.nucleus.centre[:, None]
            away = moved - heart
            away = np.where(np.abs(away).sum(0) < 1e-6, np.array([[0.0], [1e-3], [0.0]]), away)
            # From the nuclear envelope outward, where centrosomes are.
            level = np.maximum(self.nucleus.level(heart + away), 1e-12)
            gap = 1.0 + 2.0 * CLEARANCE_UM / self.nucleus.least_half_axis
            moved = np.where(level < gap, heart + away * (gap / level), moved)
        return np.ascontiguousarray(moved.T)

    def seen_from(self, frame: FloatArray) -> Cell:
        """Return the cell in coordinates p of a frame, where points are p @ frame."""
        nucleus = None if self.nucleus is None else self.nucleus.seen_from(frame)
        return replace(self, membrane=self.membrane.seen_from(frame), nucleus=nucleus)

    def steer(self, positions: FloatArray, tangents: FloatArray, sharpest: float = SHARPEST_TURN) -> FloatArray:
        """Turn unit tangents (3, n) at positions (3, n) so that one growth step keeps them on a gliding arc."""
        tangents = _glide(self.membrane, positions, tangents, -1.0, sharpest)
        return tangents if self.nucleus is None else _glide(self.nucleus, positions, tangents, 1.0, sharpest)

    def start(self, positions: FloatArray, tangents: FloatArray, *, both_ways: bool = False) -> FloatArray:
        """Turn (n, 3) tangents, as far as it takes, so that filaments can grow from there without hitting a wall.

        With ``both_ways`` they can grow along and against them: two halves join without kink.
        """
        along = tangents.T
        for _ in range(3 if both_ways else 1):
            along = self.steer(positions.T, along, np.pi)
            if both_ways:
                along = -self.steer(positions.T, -along, np.pi)
        return np.ascontiguousarray(along.T)

    def cut(self, lines: Sequence[FloatArray]) -> list[FloatArray]:
        """End filaments where they would leave the cytosol; each keeps its first step."""
        if not lines:
            return []
        outside = self.room(np.concatenate(lines)) < LEAST_ROOM_UM
        first = np.cumsum([0, *(len(line) for line in lines)])
        kept = []
        for line, begin in zip(lines, first[:-1], strict=True):
            gone = outside[begin : begin + len(line)]
            kept.append(line[: max(int(gone.argmax()), 2)] if gone.any() else line)
        return kept

    def cover(self, extent: FloatArray) -> float:
        """Return the part of the window [0, extent] that filaments can fill, from a grid of 12 points per axis."""
        ticks = (np.arange(12) + 0.5) / 12
        grid = np.stack(np.meshgrid(ticks, ticks, ticks, indexing="ij"), axis=-1).reshape(-1, 3) * extent
        return float(self.holds(grid).mean())


def _glide(wall: Ellipsoid, positions: FloatArray, tangents: FloatArray, side: float, sharpest: float) -> FloatArray:
    """Limit the angle at which tangents approach a wall; ``side``: -1 for filaments inside it, 1 outside.

    On an arc of radius R that touches the wall, a filament at height h has the angle a to it with h = R (1 - cos a).
    With the height after the next step ds, h - ds sin a, that is R cos a - ds sin a = R - h: turns are at most one
    step's turn on the arc, and the wall is reached without overshoot. Below the arc (curved walls) a turns inward.
    """
    q = wall.shape @ (positions - wall.centre[:, None])
    level = np.sqrt((q * q).sum(0))
    near = np.flatnonzero(side * (level - 1.0) < _REACH / wall.least_half_axis)
    if not len(near):
        return tangents
    distance, normal = wall.distance(positions[:, near])
    height = side * distance - CLEARANCE_UM
    toward = -side * normal
    approach = (tangents[:, near] * toward).sum(0)
    cosine = np.clip((GLIDE_RADIUS_UM - height) / _ARM, -np.sin(_LEAD), 1.0)
    most = np.sin(np.arccos(cosine) - _LEAD)
    steep = np.flatnonzero((approach > most) & (height < GLIDE_RADIUS_UM + GROWTH_STEP_UM))
    if not len(steep):
        return tangents
    turned = near[steep]
    toward, most = toward[:, steep], most[steep]
    along = tangents[:, turned] - approach[steep] * toward
    along = along / (np.sqrt((along * along).sum(0)) + 1e-12)
    if side < 0:
        along = _less_bent(wall, positions[:, turned], along, toward)
    before, after = tangents[:, turned], np.sqrt(1.0 - most * most) * along + most * toward
    cosine = (before * after).sum(0)
    across = after - cosine * before
    across = across / (np.sqrt((across * across).sum(0)) + 1e-12)
    kinked = cosine < np.cos(sharpest)
    tangents = tangents.copy()
    tangents[:, turned] = np.where(kinked, np.cos(sharpest) * before + np.sin(sharpest) * across, after)
    return tangents


def _less_bent(wall: Ellipsoid, positions: FloatArray, along: FloatArray, normal: FloatArray) -> FloatArray:
    """Turn directions in a concave wall to where it is less curved, as bending energy does: along edges, not over them.

    The normal curvature of the surface q . q = 1 along t is t . H t / |H x|, with H = shape^T shape.
    """
    hessian = wall.shape.T @ wall.shape
    steepness = np.linalg.norm(hessian @ (positions - wall.centre[:, None]), axis=0) + 1e-12
    downhill = -(hessian @ along) / steepness
    downhill = downhill - (downhill * along).sum(0) * along - (downhill * normal).sum(0) * normal
    turned = along + GROWTH_STEP_UM * downhill
    result: FloatArray = turned / np.sqrt((turned * turned).sum(0))
    return result


def draw_cell(
    config: CellConfig, organisation: Organisation, extent: FloatArray, rng: np.random.Generator
) -> Cell | None:
    """Draw the cell of a volume, or None where the volume shows none.

    Parameters
    ----------
    config : CellConfig
        Distribution.
    organisation : str
        A spindle has no nucleus.
    extent : ndarray
        (3,), um, of the window; cells are redrawn until they fill `LEAST_COVER` of it.
    rng : Generator
        Source of all draws.

    Raises
    ------
    ConfigError
        If no cell fills enough of the window.
    """
    if rng.uniform() >= config.share:
        return None
    has_nucleus = bool(rng.uniform() < config.nucleus_share) and organisation != "spindle"
    spread = np.array([config.centre_spread_z_um, config.centre_spread_um, config.centre_spread_um])
    for _ in range(_MOST_PLACES):
        half_axes = np.array(
            [
                uniform(rng, config.half_height_um),
                uniform(rng, config.lateral_radius_um),
                uniform(rng, config.lateral_radius_um),
            ]
        )
        centre = 0.5 * extent + spread * rng.standard_normal(3)
        angle = rng.uniform(0.0, np.pi)
        membrane = Ellipsoid.upright(centre, half_axes, angle)
        lateral = uniform(rng, config.nucleus_lateral)
        part = np.array([uniform(rng, config.nucleus_height), lateral, lateral])
        # Off the centre by what leaves a tenth of the cell around the nucleus, in units of the membrane's axes.
        away = (0.9 - float(part.max())) * np.sqrt(rng.uniform())
        direction = rng.uniform(0.0, 2.0 * np.pi)
        shift = np.linalg.solve(membrane.shape, away * np.array([0.0, np.cos(direction), np.sin(direction)]))
        nucleus = Ellipsoid(centre + shift, membrane.shape / part[:, None]) if has_nucleus else None
        cell = Cell(membrane, nucleus)
        if cell.cover(extent) >= LEAST_COVER:
            return cell
    raise ConfigError(
        f"cell: none of {_MOST_PLACES} cells filled {LEAST_COVER:.0%} of a window of {np.round(extent, 2).tolist()} "
        "um: use larger cells, a smaller centre_spread_um or a smaller window"
    )
