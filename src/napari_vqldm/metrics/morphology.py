"""What the filaments of one volume look like, in micrometres: one table of numbers from traces or true centre lines."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_vqldm.errors import VolumeError
from napari_vqldm.metrics.bending import STEP_UM, TANGENT_SIGMA_UM, mean_curvature, persistence_length
from napari_vqldm.metrics.contacts import end_density, find_contacts
from napari_vqldm.metrics.polylines import FloatArray, arc_um, check_lines, resample, smooth_along, tangents
from napari_vqldm.metrics.skeleton import Points

Float3 = tuple[float, float, float]
Matrix3 = tuple[Float3, Float3, Float3]

# What sets are compared by, in this order; see `Morphology.vector`.
QUANTITIES = (
    "length_density_um_per_um3",
    "mean_curvature_per_um",
    "bending_per_um",
    "z_alignment",
    "nematic_order",
    "junctions_per_um3",
    "median_branch_length_um",
    "ends_per_um3",
)


@dataclass(frozen=True)
class Morphology:
    """Numbers of one volume; ``nan`` where there is too little filament for one.

    Attributes
    ----------
    num_filaments : int
        Polylines.
    length_um, length_density_um_per_um3, median_length_um : float
        Summed length, the same over the volume, median length of connected filaments.
    mean_curvature_per_um : float
        After smoothing at 0.5 um, see `mean_curvature`.
    persistence_length_um, persistence_error_um, persistence_reason
        See `persistence_length`; ``inf`` where filaments show no bending.
    orientation : tuple
        Length-weighted mean of t t^T over unit tangents t, 3 x 3 (z, y, x), trace 1; zeros without filaments.
    z_alignment : float
        <tz^2>, 1/3 for isotropic directions, 0 in the plane.
    nematic_order, director_degrees : float
        In-plane order, 0 (none) to 1 (parallel), sqrt((Txx - Tyy)^2 + 4 Txy^2) / (Txx + Tyy), and its axis from +x
        towards +y, [0, 180).
    junctions_per_um3, median_branch_length_um, ends_per_um3 : float
        See `find_contacts` and `end_density`.
    """

    num_filaments: int
    length_um: float
    length_density_um_per_um3: float
    median_length_um: float
    mean_curvature_per_um: float
    persistence_length_um: float
    persistence_error_um: float
    persistence_reason: str
    orientation: Matrix3
    z_alignment: float
    nematic_order: float
    director_degrees: float
    junctions_per_um3: float
    median_branch_length_um: float
    ends_per_um3: float

    @property
    def bending_per_um(self) -> float:
        """Inverse of the apparent persistence length: finite for straight filaments, without heavy tail."""
        return 1.0 / self.persistence_length_um

    def vector(self) -> FloatArray:
        """Numbers of `QUANTITIES`, (8,)."""
        return np.array([getattr(self, name) for name in QUANTITIES], np.float64)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-compatible values: ``None`` where a number is not finite."""
        values = asdict(self)
        values["orientation"] = [list(row) for row in self.orientation]
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}


def orientation_tensor(lines: Iterable[npt.ArrayLike]) -> FloatArray:
    """Length-weighted mean of t t^T over unit tangents, (3, 3) in (z, y, x), trace 1; zeros without filaments.

    Tangents are those of lines smoothed at 0.2 um along the arc: the staircase of a trace would mix axes.
    """
    total, length = np.zeros((3, 3)), 0.0
    for line in check_lines(lines):
        unit = tangents(smooth_along(resample(line, STEP_UM), TANGENT_SIGMA_UM, STEP_UM))
        weight = float(arc_um(line)[-1]) / len(unit)
        total += weight * unit.T @ unit
        length += weight * len(unit)
    return total / length if length > 0.0 else total


def nematic_order(orientation: FloatArray) -> tuple[float, float]:
    """In-plane order parameter, 0 to 1, and director angle, degrees from +x towards +y in [0, 180).

    From the lateral block of the orientation tensor, so that each piece counts by its length in the plane: a filament
    along the optical axis has no lateral direction. ``nan`` without length in the plane.
    """
    yy, xx, xy = orientation[1, 1], orientation[2, 2], orientation[1, 2]
    if yy + xx <= 1e-12:
        return float("nan"), float("nan")
    angle = math.degrees(0.5 * math.atan2(2.0 * xy, xx - yy)) % 180.0
    return float(math.hypot(xx - yy, 2.0 * xy) / (xx + yy)), angle


def morphology(lines: Iterable[npt.ArrayLike], extent_um: Float3) -> Morphology:
    """Measure the filaments of one volume.

    Parameters
    ----------
    lines : iterable of array-like
        Polylines (n, 3), micrometres (z, y, x) from the corner of the volume, cut at its faces: the filaments of
        `trace_filaments` or the ``centre_lines`` of a simulated volume.
    extent_um : tuple of float
        Size (z, y, x) of the volume.

    Returns
    -------
    Morphology

    Raises
    ------
    ShapeError
        If a polyline is not (n, 3).
    VolumeError
        If the extent is not three positive lengths.

    Notes
    -----
    The same function measures both sides of a comparison. What tracing does to each number is in
    `metrics.tracer_bias`; read differences below it as nothing.
    """
    extent = np.asarray(extent_um, np.float64)
    if extent.shape != (3,) or not (np.isfinite(extent) & (extent > 0)).all():
        raise VolumeError(f"expected an extent of three positive micrometres (z, y, x), got {extent_um}")
    paths: list[Points] = check_lines(lines)
    size: Float3 = (float(extent[0]), float(extent[1]), float(extent[2]))
    volume_um3 = float(extent.prod())
    lengths = np.array([arc_um(p)[-1] for p in paths])
    persistence = persistence_length(paths)
    orientation = orientation_tensor(paths)
    order, director = nematic_order(orientation)
    contacts = find_contacts(paths)
    branches = contacts.branch_lengths_um
    rows = [(float(a), float(b), float(c)) for a, b, c in orientation]
    return Morphology(
        num_filaments=len(paths),
        length_um=float(lengths.sum()),
        length_density_um_per_um3=float(lengths.sum()) / volume_um3,
        median_length_um=float(np.median(lengths)) if paths else float("nan"),
        mean_curvature_per_um=mean_curvature(paths),
        persistence_length_um=persistence.length_um,
        persistence_error_um=persistence.error_um,
        persistence_reason=persistence.reason,
        orientation=(rows[0], rows[1], rows[2]),
        z_alignment=rows[0][0] if paths else float("nan"),
        nematic_order=order,
        director_degrees=director,
        junctions_per_um3=contacts.num_junctions / volume_um3,
        median_branch_length_um=float(np.median(branches)) if branches.size else float("nan"),
        ends_per_um3=end_density(paths, size),
    )
