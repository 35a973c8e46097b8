"""Buckles: stretches on which a filament bends as a rod does that is pushed at both ends, and then goes on.

The first mode of a clamped Euler column has the curvature cos(2 pi s / L) / R over its length L: the tangent swings to
one side, to the other and back, by at most L / (2 pi R). Radii of 0.5 to 1.5 um are those seen in cells (Brangwynne et
al., J. Cell Biol. 173, 733, 2006, report wavelengths of about 3 um). Chains keep their contour length.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_vqldm.config import Range
from napari_vqldm.simulate.filaments import GROWTH_STEP_UM, FloatArray, IntArray, Turn


@dataclass(frozen=True)
class Buckles:
    """Draws which filaments buckle, where, and how sharply.

    Attributes
    ----------
    share : float
        Of filaments that buckle once.
    radius_um, deflection : tuple of float
        Limits of the radius of curvature where it is smallest (um) and of the largest turn of the tangent (rad).
        Chains that are too short for the drawn buckle get one of the same radius and a smaller turn.
    rng : Generator
        Source of these draws alone.
    """

    share: float
    radius_um: Range
    deflection: Range
    rng: np.random.Generator

    def turn(self, lengths: FloatArray, halves: int = 1) -> Turn | None:
        """Draw the buckles of chains that are about to grow.

        Parameters
        ----------
        lengths : ndarray
            (halves * n,), um: contour lengths of n filaments, or of all their first and then all their second halves.
        halves : int
            Chains per filament; the longest one buckles.

        Returns
        -------
        callable or None
            Turns the tangents of buckling chains, step by step; None if none buckles.
        """
        per_half = lengths.reshape(halves, -1)
        filaments = np.flatnonzero(self.rng.uniform(size=per_half.shape[1]) < self.share)
        if not len(filaments):
            return None
        count = len(filaments)
        radius = self.rng.uniform(*self.radius_um, count)
        wanted = 2.0 * np.pi * radius * self.rng.uniform(*self.deflection, count)
        longest = per_half[:, filaments].argmax(axis=0)
        chains = longest * per_half.shape[1] + filaments
        steps = np.maximum(1, np.rint(lengths[chains] / GROWTH_STEP_UM)).astype(np.int64)
        period = np.minimum(np.maximum(1, np.rint(wanted / GROWTH_STEP_UM)).astype(np.int64), steps)
        first = np.floor(self.rng.uniform(size=count) * (steps - period + 1)).astype(np.int64)
        return _Bending(len(lengths), chains, first, period, 1.0 / radius, self.rng.standard_normal((3, count)))


class _Bending:
    """Turns the tangents of some chains about an axis that moves with them (parallel transport)."""

    def __init__(
        self, total: int, chains: IntArray, first: IntArray, period: IntArray, curvature: FloatArray, axis: FloatArray
    ) -> None:
        self._row = np.full(total, -1, dtype=np.int64)  # chain -> its buckle
        self._row[chains] = np.arange(len(chains))
        self._first, self._period, self._curvature, self._axis = first, period, curvature, axis

    def __call__(self, step: int, filaments: IntArray, tangents: FloatArray) -> FloatArray:
        row = self._row[filaments]
        since = step - self._first[row]
        bending = np.flatnonzero((row >= 0) & (since >= 0) & (since < self._period[row]))
        if not len(bending):
            return tangents
        row, since = row[bending], since[bending]
        tangent = tangents[:, bending]
        axis = self._axis[:, row]
        axis = axis - (axis * tangent).sum(0) * tangent
        axis = axis / (np.sqrt((axis * axis).sum(0)) + 1e-12)
        self._axis[:, row] = axis
        phase = 2.0 * np.pi * (since + 0.5) / self._period[row]
        angle = GROWTH_STEP_UM * self._curvature[row] * np.cos(phase)
        tangents = tangents.copy()
        tangents[:, bending] = np.cos(angle) * tangent + np.sin(angle) * np.cross(axis, tangent, axis=0)
        return tangents
