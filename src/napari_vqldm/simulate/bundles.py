"""Bundles: filaments that run beside another one at a distance no microscope resolves.

A follower has the contour of its leader, moved sideways by a constant distance in a direction that winds slowly around
it, measured in a frame that is carried along the leader without twist (parallel transport).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_vqldm.config import Range
from napari_vqldm.simulate.filaments import FloatArray

PITCH_UM = (3.0, 12.0)  # contour per turn of a follower around its leader


def beside(
    lines: Sequence[FloatArray], offset_um: FloatArray, angle: FloatArray, twist: FloatArray
) -> list[FloatArray]:
    """Return lines that run beside others.

    Parameters
    ----------
    lines : sequence of ndarray
        n leaders, (points, 3), um.
    offset_um, angle, twist : ndarray
        (n,): distance to the leader (um), direction at its start (rad) and winding along it (rad/um).

    Returns
    -------
    list of ndarray
        n followers with as many points as their leaders.
    """
    if not lines:
        return []
    longest = max(len(line) for line in lines)
    tangents = np.empty((longest, 3, len(lines)))
    normals = np.empty_like(tangents)
    along = np.empty((longest, len(lines)))
    for i, line in enumerate(lines):
        between = np.diff(line, axis=0)
        at_points = np.concatenate([between[:1], between[1:] + between[:-1], between[-1:]])
        tangents[: len(line), :, i] = at_points / np.linalg.norm(at_points, axis=1, keepdims=True)
        tangents[len(line) :, :, i] = tangents[len(line) - 1, :, i]
        along[: len(line), i] = np.concatenate([[0.0], np.cumsum(np.linalg.norm(between, axis=1))])
        along[len(line) :, i] = along[len(line) - 1, i]
    # Any direction across the first tangent: the axis that it follows least.
    normal = np.eye(3)[np.abs(tangents[0]).argmin(axis=0)].T
    for k in range(longest):
        normal = normal - (normal * tangents[k]).sum(0) * tangents[k]
        normal = normal / np.sqrt((normal * normal).sum(0))
        normals[k] = normal
    winding = (angle + twist * along)[:, None]
    sideways = np.cos(winding) * normals + np.sin(winding) * np.cross(tangents, normals, axis=1)
    return [line + offset_um[i] * sideways[: len(line), :, i] for i, line in enumerate(lines)]


@dataclass(frozen=True)
class Bundles:
    """Draws which filaments get a follower, and where it runs.

    Attributes
    ----------
    share : float
        Expected part of followers among all filaments, up to a half.
    offset_um : tuple of float
        Limits of the distance between the centre lines.
    rng : Generator
        Source of these draws alone.
    """

    share: float
    offset_um: Range
    rng: np.random.Generator

    def join(self, lines: Sequence[FloatArray]) -> list[FloatArray]:
        """Return the lines (points, 3) with followers inserted, each right behind its leader."""
        followed = np.flatnonzero(self.rng.uniform(size=len(lines)) < self.share / (1.0 - self.share))
        count = len(followed)
        offset = self.rng.uniform(*self.offset_um, count)
        angle = self.rng.uniform(0.0, 2.0 * np.pi, count)
        twist = 2.0 * np.pi / self.rng.uniform(*PITCH_UM, count) * self.rng.choice([-1.0, 1.0], count)
        leaders = followed.tolist()
        followers = dict(zip(leaders, beside([lines[i] for i in leaders], offset, angle, twist), strict=True))
        joined: list[FloatArray] = []
        for i, line in enumerate(lines):
            joined.append(line)
            if i in followers:
                joined.append(followers[i])
        return joined
