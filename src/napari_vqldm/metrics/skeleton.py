"""From a skeleton (one voxel wide) to filaments: branches, junctions, spurs, straightest continuation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import ndimage, sparse
from scipy.sparse import csgraph

Float3 = tuple[float, float, float]
Points = npt.NDArray[np.float64]  # (n, 3), micrometres (z, y, x)

SMOOTHING_POINTS = 2.0  # standard deviation along the path, in points: takes the staircase out of voxel paths
END_STEP_UM = 0.05
TANGENT_UM = 0.6  # length of path over which the direction of an end is measured
BENT_UM = 0.15  # next to a junction a path bends towards the other branches: left out where it is long enough


@dataclass(eq=False)
class Branch:
    """A path between two nodes of the skeleton graph; a node is a junction, or None at a free end."""

    points: Points
    ends: list[int | None]
    links: list[tuple[Branch, int] | None] = field(default_factory=lambda: [None, None])

    @property
    def length_um(self) -> float:
        """Length of the path, micrometres."""
        return path_length_um(self.points)


def path_length_um(points: Points) -> float:
    """Length of the polyline ``points`` (n, 3), micrometres."""
    return float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())


def smooth_path(points: Points) -> Points:
    """Take the voxel staircase out of a path; both ends stay where they are."""
    n = len(points)
    if n < 3:
        return points
    reach = min(n - 1, int(4 * SMOOTHING_POINTS))
    # Odd reflection about the end points: a straight path stays straight up to its ends.
    longer = np.pad(points, ((reach, reach), (0, 0)), mode="reflect", reflect_type="odd")
    smooth: Points = ndimage.gaussian_filter1d(longer, SMOOTHING_POINTS, axis=0, mode="nearest")[reach : reach + n]
    return smooth


def skeleton_branches(skeleton: npt.NDArray[np.bool_], voxel_size_um: Float3) -> list[Branch]:
    """Split a skeleton (Z, Y, X) into branches between junctions and free ends.

    Voxels touch over faces, edges and corners; a touch that a shorter two-step way replaces is dropped, so that the
    corner of an L is no junction. Junctions that touch are one junction.
    """
    voxels = np.argwhere(skeleton)
    positions = (voxels + 0.5) * np.asarray(voxel_size_um)
    neighbors = _neighbors(voxels, skeleton.shape)
    degree = np.array([len(n) for n in neighbors], dtype=np.int64)
    junction = _junction_labels(neighbors, degree)
    branches: list[Branch] = []
    for path in _paths(neighbors, degree):
        ends = [int(junction[v]) if junction[v] >= 0 else None for v in (path[0], path[-1])]
        if len(path) == 2 and ends[0] is not None and ends[0] == ends[1]:
            continue  # a step inside one junction
        branches.append(Branch(smooth_path(positions[path]), ends))
    return branches


def extend_free_ends(
    branches: Iterable[Branch], mask: npt.NDArray[np.bool_], voxel_size_um: Float3, reach_um: float
) -> None:
    """Lengthen free ends straight ahead up to the border of ``mask``, at most by ``reach_um``.

    Thinning takes half a filament's width from each end; without this, short filaments lose most.
    """
    size = np.asarray(voxel_size_um)
    distances = np.arange(END_STEP_UM, reach_um + 1e-9, END_STEP_UM)
    for branch in branches:
        for side in (0, 1):
            if branch.ends[side] is not None or np.array_equal(branch.points[0], branch.points[-1]):
                continue
            tip, direction = _tangent(branch, side)
            ahead = tip + distances[:, None] * direction
            voxels = np.floor(ahead / size).astype(np.int64)
            inside = ((voxels >= 0) & (voxels < mask.shape)).all(axis=1)
            inside[inside] = mask[tuple(voxels[inside].T)]
            steps = int(np.argmin(inside)) if not inside.all() else len(inside)
            if steps:
                last = ahead[steps - 1 : steps]
                branch.points = np.concatenate([last, branch.points] if side == 0 else [branch.points, last])


def _neighbors(voxels: npt.NDArray[np.int64], shape: tuple[int, ...]) -> list[list[int]]:
    """Neighbors of each voxel without the diagonals that a shorter two-step way replaces."""
    index = np.full(tuple(n + 2 for n in shape), -1, np.int64)
    inner = voxels + 1
    index[tuple(inner.T)] = np.arange(len(voxels))
    offsets = [o for o in np.ndindex(3, 3, 3) if o != (1, 1, 1)]
    order = sorted(offsets, key=lambda o: sum(c != 1 for c in o))
    result: list[list[int]] = [[] for _ in range(len(voxels))]
    steps: list[dict[int, int]] = [{} for _ in range(len(voxels))]  # neighbor -> axes that change
    for offset in order:
        kind = sum(c != 1 for c in offset)
        found = index[tuple((inner + np.array(offset) - 1).T)]
        for voxel in np.flatnonzero(found >= 0).tolist():
            steps[voxel][int(found[voxel])] = kind
    for voxel, around in enumerate(steps):
        for other, kind in around.items():
            detour = any(k < kind and steps[middle].get(other, 3) < kind for middle, k in around.items())
            if not detour:
                result[voxel].append(other)
    return result


def _junction_labels(neighbors: list[list[int]], degree: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Junction number of each voxel with three or more neighbors, -1 elsewhere; touching ones share a number."""
    labels = np.full(len(neighbors), -1, np.int64)
    members = np.flatnonzero(degree >= 3)
    pairs = [(v, n) for v in members for n in neighbors[v] if degree[n] >= 3]
    if not len(members):
        return labels
    rows, columns = (np.array(side, np.int64) for side in (zip(*pairs, strict=True) if pairs else ((), ())))
    graph = sparse.coo_matrix((np.ones(len(pairs)), (rows, columns)), shape=(len(neighbors),) * 2)
    _, component = csgraph.connected_components(graph, directed=False)
    labels[members] = component[members]
    return labels


def _paths(neighbors: list[list[int]], degree: npt.NDArray[np.int64]) -> Iterator[list[int]]:
    """Voxel paths between voxels that do not have exactly two neighbors, each once, then closed loops."""
    seen = np.zeros(len(neighbors), bool)
    walked: set[tuple[int, int]] = set()

    def walk(start: int, step: int) -> list[int]:
        path = [start, step]
        while degree[path[-1]] == 2 and path[-1] != start:
            seen[path[-1]] = True
            a, b = neighbors[path[-1]]
            path.append(b if a == path[-2] else a)
        return path

    for start in np.flatnonzero(degree != 2).tolist():
        for step in neighbors[start]:
            if (start, step) in walked:
                continue
            path = walk(start, step)
            walked.update(((path[0], path[1]), (path[-1], path[-2])))
            yield path
    for start in np.flatnonzero(degree == 2).tolist():
        if not seen[start]:
            seen[start] = True
            yield walk(start, neighbors[start][0])


def join_filaments(
    branches: Iterable[Branch], *, spur_um: float, bridge_um: float, max_turn_degrees: float
) -> list[Points]:
    """Join branches through junctions by straightest continuation.

    Parameters
    ----------
    branches : iterable of Branch
        From `skeleton_branches`.
    spur_um : float
        Dead ends shorter than this leave a junction that keeps at least two other branches.
    bridge_um : float
        Two junctions joined by a branch shorter than this are one: crossing filaments share a stretch of skeleton.
    max_turn_degrees : float
        Largest angle between the directions of two branches that continue each other.

    Returns
    -------
    list of ndarray
        One polyline (n, 3) per filament, micrometres (z, y, x).
    """
    kept = _merge_junctions(list(branches), bridge_um)
    kept = _prune_spurs(kept, spur_um)
    at: dict[int, list[tuple[Branch, int]]] = {}
    for branch in kept:
        for side, node in enumerate(branch.ends):
            if node is not None:
                at.setdefault(node, []).append((branch, side))
    for meeting in at.values():
        _link_straightest(meeting, max_turn_degrees)
    return _chains(kept)


def _merge_junctions(branches: list[Branch], bridge_um: float) -> list[Branch]:
    """Drop branches shorter than ``bridge_um`` between junctions and give both junctions one number."""
    parent: dict[int, int] = {}

    def root(node: int) -> int:
        while (above := parent.setdefault(node, node)) != node:
            parent[node] = parent[above]
            node = above
        return node

    kept = []
    for branch in sorted(branches, key=lambda b: b.length_um):
        a, b = branch.ends
        if a is not None and b is not None and branch.length_um < bridge_um:
            parent[root(a)] = root(b)
        else:
            kept.append(branch)
    for branch in kept:
        branch.ends = [None if node is None else root(node) for node in branch.ends]
    return kept


def _prune_spurs(branches: list[Branch], spur_um: float) -> list[Branch]:
    """Drop short dead ends, shortest first, as long as their junction keeps two other branches."""
    valence: dict[int, int] = {}
    for branch in branches:
        for node in branch.ends:
            if node is not None:
                valence[node] = valence.get(node, 0) + 1
    kept = []
    for branch in sorted(branches, key=lambda b: b.length_um):
        nodes = [node for node in branch.ends if node is not None]
        if len(nodes) == 1 and branch.length_um < spur_um and valence[nodes[0]] >= 3:
            valence[nodes[0]] -= 1
        else:
            kept.append(branch)
    return kept


def _tangent(branch: Branch, side: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """End point and unit direction that leaves the branch at this end."""
    points = branch.points if side == 0 else branch.points[::-1]
    arc = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    skipped = BENT_UM if branch.ends[side] is not None and arc[-1] > TANGENT_UM else 0.0
    outer, inner = (points[min(int(np.searchsorted(arc, a)), len(points) - 1)] for a in (skipped, skipped + TANGENT_UM))
    direction = outer - inner
    norm = float(np.linalg.norm(direction))
    return points[0], direction / norm if norm > 0 else direction


def _link_straightest(meeting: list[tuple[Branch, int]], max_turn_degrees: float) -> None:
    """Link pairs of branch ends at one junction, the straightest pair first."""
    tangents = [_tangent(branch, side) for branch, side in meeting]
    candidates = []
    for i in range(len(meeting)):
        for j in range(i + 1, len(meeting)):
            cosine = -float(tangents[i][1] @ tangents[j][1])
            candidates.append((float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))), i, j))
    free = set(range(len(meeting)))
    for turn, i, j in sorted(candidates):
        if turn > max_turn_degrees:
            return
        if i in free and j in free:
            free -= {i, j}
            (a, a_side), (b, b_side) = meeting[i], meeting[j]
            a.links[a_side], b.links[b_side] = (b, b_side), (a, a_side)


def _chains(branches: list[Branch]) -> list[Points]:
    """Concatenate linked branches; start at free ends first, closed chains are cut anywhere."""
    used: set[int] = set()
    filaments = []
    starts = [(b, side) for b in branches for side in (0, 1) if b.links[side] is None]
    for start, side in starts + [(b, 0) for b in branches]:
        if id(start) in used:
            continue
        parts = []
        here: Branch | None = start
        while here is not None and id(here) not in used:
            used.add(id(here))
            parts.append(here.points if side == 0 else here.points[::-1])
            link = here.links[1 - side]
            here, side = link if link is not None else (None, 0)
        filaments.append(np.concatenate(parts))
    return filaments
