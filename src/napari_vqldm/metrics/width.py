"""Width of filaments as imaged: full width at half maximum across straight, isolated stretches, below a voxel."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree

from napari_vqldm.errors import ShapeError
from napari_vqldm.metrics.checks import check_finite
from napari_vqldm.metrics.polylines import FloatArray, arc_um, at_arc, check_lines, resample
from napari_vqldm.metrics.skeleton import Points
from napari_vqldm.volume import Float3, check_voxel_size

STEP_UM = 0.05  # along a filament
FINE_UM = 0.02  # across it
END_UM = 0.5  # left out at each end of a filament
MIN_STRAIGHTNESS = 0.985  # chord over arc
MAX_SLOPE = 0.3  # |tz|: a steep filament has no axial profile
TAIL_SHARE = 0.15  # of the profile at each end: its background


@dataclass(frozen=True)
class WidthSettings:
    """Lengths of the measurement, um; the defaults suit a confocal microscope of NA 1.2 and more.

    ``lateral_reach_um`` and ``axial_reach_um`` are the half-lengths of the profiles: at least 2.5 times the expected
    width, so that tails are background. Nothing else may lie in an ellipsoid of ``isolation`` times them around a
    stretch.
    """

    stretch_um: float = 1.0
    lateral_reach_um: float = 0.5
    axial_reach_um: float = 1.2
    isolation: float = 1.4
    min_stretches: int = 3


@dataclass(frozen=True)
class FilamentWidth:
    """Full widths at half maximum of the median filament.

    Attributes
    ----------
    lateral_um, axial_um : float
        ``nan``, with ``reason``, where too few stretches were straight and isolated or a profile is wider than its
        reach.
    num_stretches : int
        Stretches in the median.
    reason : str
        Empty where both widths are known.
    """

    lateral_um: float
    axial_um: float
    num_stretches: int
    reason: str


def filament_width(
    volume: npt.NDArray[np.floating],
    lines: Iterable[npt.ArrayLike],
    voxel_size_um: Float3,
    settings: WidthSettings | None = None,
) -> FilamentWidth:
    """Measure the lateral and axial width of the filaments of a volume.

    Parameters
    ----------
    volume : ndarray
        (Z, Y, X), any intensity scale; background need not be 0.
    lines : iterable of array-like
        Traced or true filaments, polylines (n, 3), micrometres (z, y, x) from the corner of the volume.
    voxel_size_um : tuple of float
        (z, y, x).
    settings : WidthSettings, optional
        Lengths of the measurement.

    Returns
    -------
    FilamentWidth

    Raises
    ------
    ShapeError
        If ``volume`` is not 3D, has no voxel or a polyline is not (n, 3).
    VolumeError
        If a voxel is not finite or the voxel size is absurd.

    Notes
    -----
    Profiles by cubic spline interpolation, laterally along the in-plane normal of the trace, axially along z, both
    through the ridge: the trace is off by a fraction of a voxel, so that the centre of each profile is found first, as
    a parabola along the stretch. Their mean over a stretch loses the background of its tails and is scaled to peak 1;
    the median over stretches is cut at one half. Bias, isolated filaments: +3 % laterally and axially (confocal, NA
    1.4). The tails of the point spread function at the end of the reach count as background: with the default reach a
    widefield microscope seems 10 % sharper along z than it is. Filaments that the tracer merged widen the profile,
    which isolation cannot see. Filaments along one axis of an image only show the sampling across that axis.
    """
    chosen = settings or WidthSettings()
    size = np.asarray(check_voxel_size(voxel_size_um))
    data = np.asarray(volume, np.float64)
    if data.ndim != 3:
        raise ShapeError(f"expected a volume (Z, Y, X), got shape {data.shape}")
    check_finite(data)
    stretches = _stretches(check_lines(lines), size * data.shape, chosen)
    if len(stretches) < chosen.min_stretches:
        reason = f"{len(stretches)} straight isolated stretches, expected at least {chosen.min_stretches}"
        return FilamentWidth(float("nan"), float("nan"), len(stretches), reason)
    spline = ndimage.spline_filter(data, order=3, mode="mirror")
    profiles = [_stretch_profiles(spline, size, points, chosen) for points in stretches]
    widths = []
    for k, reach in enumerate((chosen.lateral_reach_um, chosen.axial_reach_um)):
        kept = [pair[k] for pair in profiles if np.isfinite(pair[k]).all()]
        profile = np.median(kept, axis=0) if len(kept) >= chosen.min_stretches else np.zeros(0)
        widths.append(full_width(_offsets(reach), profile) if profile.size else float("nan"))
    reason = "" if np.isfinite(widths).all() else "a profile has no two half maxima inside its reach"
    return FilamentWidth(widths[0], widths[1], len(stretches), reason)


def full_width(position: FloatArray, profile: FloatArray) -> float:
    """Full width at half maximum of a sampled profile with background 0, by linear interpolation; ``nan`` without."""
    top = int(np.argmax(profile))
    half = 0.5 * float(profile[top])
    left, right = np.flatnonzero(profile[:top] < half), np.flatnonzero(profile[top:] < half)
    if half <= 0.0 or not left.size or not right.size:
        return float("nan")
    i, j = int(left[-1]), top + int(right[0])

    def crossing(low: int, high: int) -> float:
        part = (half - profile[low]) / (profile[high] - profile[low])
        return float(position[low] + part * (position[high] - position[low]))

    return crossing(j, j - 1) - crossing(i, i + 1)


def _offsets(reach_um: float) -> FloatArray:
    parts = round(reach_um / FINE_UM)
    return np.asarray(np.arange(-parts, parts + 1) * FINE_UM, np.float64)


def _stretches(lines: list[Points], extent: FloatArray, chosen: WidthSettings) -> list[Points]:
    """Straight, nearly in-plane stretches (n, 3) far from every other filament, from themselves and from the faces."""
    paths = [resample(line, STEP_UM) for line in lines]
    if not paths:
        return []
    reach = np.array([chosen.axial_reach_um, chosen.lateral_reach_um, chosen.lateral_reach_um])
    isolation = chosen.isolation * reach
    everything = np.concatenate(paths)
    owner = np.repeat(np.arange(len(paths)), [len(p) for p in paths])
    arc = np.concatenate([arc_um(p) for p in paths])
    tree = cKDTree(everything / isolation)
    found = []
    for number, path in enumerate(paths):
        total = float(arc_um(path)[-1])
        for start in np.arange(END_UM, total - END_UM - chosen.stretch_um + 1e-9, chosen.stretch_um):
            along = np.arange(start, start + chosen.stretch_um + 1e-9, STEP_UM)
            points = at_arc(path, along)
            chord = points[-1] - points[0]
            straight = float(np.linalg.norm(chord)) / (along[-1] - along[0])
            if straight < MIN_STRAIGHTNESS or abs(chord[0]) > MAX_SLOPE * float(np.linalg.norm(chord)):
                continue
            # One and a half voxels more: the centre of the profile is searched around the trace.
            if not ((points > reach + 0.15) & (points < extent - reach - 0.15)).all():
                continue
            near = np.unique(np.concatenate([np.asarray(n) for n in tree.query_ball_point(points / isolation, 1.0)]))
            near = near.astype(np.int64)
            away = np.maximum(along[0] - arc[near], arc[near] - along[-1])  # arc beyond the stretch on its own line
            if ((owner[near] != number) | (away > 1.5 * isolation.max())).any():
                continue
            found.append(points)
    return found


def _stretch_profiles(
    spline: FloatArray, size: FloatArray, points: Points, chosen: WidthSettings
) -> tuple[FloatArray, FloatArray]:
    """Mean lateral and axial profile of a stretch, background 0, peak 1."""
    chord = points[-1] - points[0]
    normal = np.array([0.0, -chord[2], chord[1]]) / np.hypot(chord[1], chord[2])
    axial = np.array([1.0, 0.0, 0.0])
    lateral_offsets, axial_offsets = _offsets(chosen.lateral_reach_um), _offsets(chosen.axial_reach_um)
    for _ in range(2):
        points = points + _centres(_sample(spline, size, points, axial, axial_offsets), axial_offsets)[:, None] * axial
        shift = _centres(_sample(spline, size, points, normal, lateral_offsets), lateral_offsets)
        points = points + shift[:, None] * normal
    return (
        _normalized(_sample(spline, size, points, normal, lateral_offsets).mean(axis=0)),
        _normalized(_sample(spline, size, points, axial, axial_offsets).mean(axis=0)),
    )


def _sample(spline: FloatArray, size: FloatArray, points: Points, axis: FloatArray, offsets: FloatArray) -> FloatArray:
    """Intensities (n, m) at ``offsets`` (m,) from ``points`` (n, 3) along ``axis``."""
    where = points[:, None] + offsets[None, :, None] * axis
    voxels = (where / size - 0.5).reshape(-1, 3).T  # centres of voxels
    values = ndimage.map_coordinates(spline, voxels, order=3, mode="mirror", prefilter=False)
    return np.asarray(values, np.float64).reshape(len(points), len(offsets))


def _centres(profiles: FloatArray, offsets: FloatArray) -> FloatArray:
    """Centre of each profile of a stretch (n,), a parabola along it through centroids above half of the mean peak."""
    inner = np.abs(offsets) <= 0.6 * offsets[-1]
    mean = profiles.mean(axis=0)
    middle = int(np.argmax(np.where(inner, mean, -np.inf)))
    floor = 0.5 * (float(mean[middle]) + float(_background(mean)))
    weights = np.where(inner, np.maximum(profiles - floor, 0.0), 0.0)
    total = weights.sum(axis=1)
    usable = total > 0
    along = np.linspace(-1.0, 1.0, len(profiles))
    if usable.sum() < 4:
        return np.zeros(len(profiles))
    centroid = (weights[usable] * offsets).sum(axis=1) / total[usable]
    parabola = np.polynomial.polynomial.polyfit(along[usable], centroid, 2)
    return np.asarray(np.polynomial.polynomial.polyval(along, parabola), np.float64)


def _background(profile: FloatArray) -> float:
    tail = max(1, round(TAIL_SHARE * len(profile) / 2))
    return float(0.5 * (profile[:tail].mean() + profile[-tail:].mean()))


def _normalized(profile: FloatArray) -> FloatArray:
    """Background 0, peak 1; ``nan`` where the peak is not above the background."""
    above = profile - _background(profile)
    peak = float(above.max())
    return above / peak if peak > 0.0 else np.full_like(above, np.nan)
