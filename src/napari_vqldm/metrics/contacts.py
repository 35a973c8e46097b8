"""Where filaments meet: junctions, the branches between them, free ends."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse import csgraph
from scipy.spatial import cKDTree

from napari_vqldm.metrics.polylines import FloatArray, arc_um, check_lines, resample

Float3 = tuple[float, float, float]

STEP_UM = 0.1
CONTACT_UM: Float3 = (0.4, 0.2, 0.2)  # half-axes (z, y, x) within which a microscope sees one place
SELF_ARC_UM = 1.5  # a filament meets itself where it comes back after more arc than this
BORDER_UM = 0.4  # ends this near a face were cut by it


@dataclass(frozen=True)
class Contacts:
    """Junctions of a set of filaments and the pieces between them.

    Attributes
    ----------
    num_junctions : int
        Connected places where filaments are within reach of each other; a stretch run side by side is one.
    branch_lengths_um : ndarray
        Lengths of the pieces into which junctions divide the filaments, (B,), micrometres.
    """

    num_junctions: int
    branch_lengths_um: FloatArray


def find_contacts(lines: Iterable[npt.ArrayLike], reach_um: Float3 = CONTACT_UM) -> Contacts:
    """Find where filaments meet.

    Geometric, so that it is one measure for traces and for true centre lines: two filaments meet where their distance
    is below ``reach_um``, which is what a confocal microscope of NA 1.4 resolves. A tracer joins both there.

    Parameters
    ----------
    lines : iterable of array-like
        Polylines (n, 3), micrometres (z, y, x).
    reach_um : tuple of float
        Half-axes (z, y, x) of the ellipsoid.

    Returns
    -------
    Contacts
        A junction inside a filament divides it in the middle of the stretch in contact; contact at the end of a
        filament (a branch that ends on another) divides the other one only.

    Raises
    ------
    ShapeError
        If a polyline is not (n, 3) or not finite.

    Notes
    -----
    Source: ours. Points 0.1 um apart of two filaments, or of one filament with more than 1.5 um of arc between them,
    are in contact where (dz / rz)^2 + (dy / ry)^2 + (dx / rx)^2 <= 1 with the half-axes r; connected points in contact
    are one junction.

    Bias: unrelated filaments that pass each other within reach count as a junction, so that the number grows with the
    square of the density: it says how often filaments meet in the image, not how often they are linked. Two filaments
    side by side are one junction however long, a bundle of many as well. A trace that ends just short of a crossing,
    or that follows the wrong filament there, moves the number little; a crossing that the tracer misses is lost.
    """
    paths = [resample(line, STEP_UM) for line in check_lines(lines)]
    if not paths:
        return Contacts(0, np.zeros(0))
    points = np.concatenate(paths)
    owner = np.repeat(np.arange(len(paths)), [len(p) for p in paths])
    arc = np.concatenate([arc_um(p) for p in paths])
    pairs = cKDTree(points / np.asarray(reach_um)).query_pairs(1.0, output_type="ndarray").astype(np.int64)
    other = owner[pairs[:, 0]] != owner[pairs[:, 1]]
    pairs = pairs[other | (np.abs(arc[pairs[:, 0]] - arc[pairs[:, 1]]) > SELF_ARC_UM)]
    touching = np.zeros(len(points), bool)
    touching[pairs.ravel()] = True
    # Neighbours along a filament that are both in contact belong to one junction.
    first = np.flatnonzero(touching[:-1] & touching[1:] & (owner[:-1] == owner[1:]))
    edges = np.concatenate([pairs, np.stack([first, first + 1], axis=1)])
    graph = sparse.coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(len(points),) * 2)
    _, component = csgraph.connected_components(graph, directed=False)
    number = int(np.unique(component[touching]).size)
    branches = [np.diff(_cuts(arc[owner == k], touching[owner == k])) for k in range(len(paths))]
    return Contacts(number, np.concatenate(branches))


def _cuts(arc: FloatArray, touching: npt.NDArray[np.bool_]) -> FloatArray:
    """Arc lengths of both ends and of the middles of the inner runs of ``touching``."""
    change = np.diff(touching.astype(np.int8), prepend=0, append=0)
    start, stop = np.flatnonzero(change == 1), np.flatnonzero(change == -1) - 1
    inner = (start > 0) & (stop < len(arc) - 1)
    middle = 0.5 * (arc[start[inner]] + arc[stop[inner]])
    return np.concatenate([arc[:1], middle, arc[-1:]])


def end_density(lines: Iterable[npt.ArrayLike], extent_um: Float3, border_um: float = BORDER_UM) -> float:
    """Ends of filaments per um3 of the volume less a border, in which ends are cuts by the faces.

    Parameters
    ----------
    lines : iterable of array-like
        Polylines (n, 3), micrometres (z, y, x) from the corner of the volume. Closed ones have no end.
    extent_um : tuple of float
        Size (z, y, x) of the volume.
    border_um : float
        Thickness of the border.

    Returns
    -------
    float
        1/um3; ``nan`` where the border leaves nothing.

    Raises
    ------
    ShapeError
        If a polyline is not (n, 3) or not finite.

    Notes
    -----
    Number of ends at least ``border_um`` from every face, over the product of extent - 2 border. Source: ours. Bias: a
    gap in a trace makes two ends, and a filament that fades or meets another one there has an end that is none.
    """
    extent = np.asarray(extent_um, np.float64)
    inner = extent - 2.0 * border_um
    if (inner <= 0.0).any():
        return float("nan")
    paths = [line for line in check_lines(lines) if not np.array_equal(line[0], line[-1])]
    if not paths:
        return 0.0
    ends = np.concatenate([line[[0, -1]] for line in paths])
    inside = ((ends > border_um) & (ends < extent - border_um)).all(axis=1)
    return float(inside.sum() / inner.prod())
