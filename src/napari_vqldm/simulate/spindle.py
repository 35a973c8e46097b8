"""Arcs of a spindle that fill it: where they cross the equator, which fibers they run in, where they start.

Every arc lies on a circle through both poles. One that leaves a pole at the angle a to the axis, of a spindle of span
S, has the radius S / (2 sin a) and crosses the equator (S / 2) tan(a / 2) away from the axis.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_vqldm.config import SpindleConfig
from napari_vqldm.simulate.draws import uniform
from napari_vqldm.simulate.filaments import FloatArray

FIBER_RADIUS_UM = 0.25  # at the equator; a fiber of some 20 filaments is a few tenths of a micrometre thick


@dataclass(frozen=True)
class Arcs:
    """Draws the arcs of one spindle, as seen from either pole.

    Attributes
    ----------
    span_um, width_um : float
        Pole to pole, and full width at the equator.
    minus_ends : float
        Arcs start within this share of their circle, counted from the pole.
    fiber_share : float
        Part of the arcs that run in fibers.
    fibers : ndarray
        (num_fibers, 2): where these cross the equator, um from the axis.
    """

    span_um: float
    width_um: float
    minus_ends: float
    fiber_share: float
    fibers: FloatArray

    def draw(self, rng: np.random.Generator, count: int) -> tuple[FloatArray, FloatArray]:
        """Draw where arcs start (count, 3), um from their pole, and their tangents there (count, 3).

        Components are (toward the other pole, and the two across).
        """
        crossing = _disk(rng, count, 0.5 * self.width_um)
        if len(self.fibers):
            member = rng.integers(len(self.fibers), size=count)
            bound = rng.uniform(size=count) < self.fiber_share
            crossing = np.where(bound[:, None], self.fibers[member] + _disk(rng, count, FIBER_RADIUS_UM), crossing)
        away = np.maximum(np.linalg.norm(crossing, axis=1), 1e-3)
        sideways = crossing / away[:, None]
        angle = 2.0 * np.arctan2(away, 0.5 * self.span_um)
        radius = 0.5 * self.span_um / np.sin(angle)
        # 0.3 um from the pole at least: the field that guides arcs has no direction in it.
        turned = np.maximum(rng.uniform(0.0, self.minus_ends, count) * 2.0 * angle, 0.3 / radius)
        along = radius * (np.sin(angle) - np.sin(angle - turned))
        across = radius * (np.cos(angle - turned) - np.cos(angle))
        start = np.concatenate([along[:, None], across[:, None] * sideways], axis=1)
        heading = (angle - turned)[:, None]
        return start, np.concatenate([np.cos(heading), np.sin(heading) * sideways], axis=1)


def _disk(rng: np.random.Generator, count: int, radius_um: float) -> FloatArray:
    """Uniform points (count, 2) of a disk."""
    away, azimuth = radius_um * np.sqrt(rng.uniform(size=count)), rng.uniform(0.0, 2.0 * np.pi, count)
    return np.stack([away * np.cos(azimuth), away * np.sin(azimuth)], axis=1)


def draw_arcs(config: SpindleConfig, span_um: float, rng: np.random.Generator) -> Arcs | None:
    """Draw the arcs of a spindle of ``span_um``, or None where its filaments thin out from the axis instead."""
    if config.width_um is None:
        return None
    # Wider than long would be a ball that leaves the poles backward.
    width = min(uniform(rng, config.width_um), 0.95 * span_um)
    share = uniform(rng, config.fiber_share)
    count = round(uniform(rng, config.num_fibers)) if share > 0 else 0
    return Arcs(span_um, width, config.minus_ends, share, _disk(rng, count, 0.5 * width))
