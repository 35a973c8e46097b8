"""The frozen tracer: filaments of a volume and their lengths, with fixed thresholds."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from skimage.filters import apply_hysteresis_threshold

from napari_vqldm.errors import ShapeError
from napari_vqldm.metrics.ridge import ridge_response
from napari_vqldm.metrics.skeleton import Points, extend_free_ends, join_filaments, path_length_um, skeleton_branches
from napari_vqldm.metrics.thinning import thin
from napari_vqldm.metrics.tracer_bias import tracer_file
from napari_vqldm.volume import Float3, check_voxel_size

_FROZEN = tracer_file().constants

TRACE_STEPS = ("ridges", "thinning", "skeleton", "joining")  # what `trace_steps` does, in this order


@dataclass(frozen=True)
class TracerSettings:
    """Constants of the tracer. Thresholds are in ridge units: 1 = the middle of one in-focus in-plane filament.

    The defaults are the frozen ones of ``data/tracer.json``, see `tracer_bias`: numbers measured with others are not
    comparable.
    """

    smoothing_axial_um: float = _FROZEN["smoothing_axial_um"]
    smoothing_lateral_um: float = _FROZEN["smoothing_lateral_um"]
    threshold_low: float = _FROZEN["threshold_low"]
    threshold_high: float = _FROZEN["threshold_high"]
    min_length_um: float = _FROZEN["min_length_um"]
    end_reach_um: float = _FROZEN["end_reach_um"]
    spur_um: float = _FROZEN["spur_um"]
    bridge_um: float = _FROZEN["bridge_um"]
    max_turn_degrees: float = _FROZEN["max_turn_degrees"]


@dataclass(frozen=True)
class FilamentTrace:
    """Traced filaments of one volume.

    Attributes
    ----------
    filaments : tuple of ndarray
        Polylines (n, 3), micrometres (z, y, x) from the corner of the volume, each at least 0.5 um long.
    volume_um3 : float
        Size of the traced volume.
    """

    filaments: tuple[Points, ...]
    volume_um3: float

    @cached_property
    def lengths_um(self) -> npt.NDArray[np.float64]:
        """Length of each connected traced filament, micrometres."""
        return np.array([path_length_um(f) for f in self.filaments], np.float64)

    @property
    def length_density_um_per_um3(self) -> float:
        """Sum of all lengths over the volume."""
        return float(self.lengths_um.sum()) / self.volume_um3

    @property
    def median_length_um(self) -> float:
        """Median length of connected traced filaments, 0 when there is none."""
        return median_length_um(self.lengths_um)

    @property
    def length_weighted_median_um(self) -> float:
        """Half of the traced length lies in filaments at least this long; 0 when there is none."""
        return length_weighted_median_um(self.lengths_um)


def median_length_um(lengths_um: npt.NDArray[np.float64]) -> float:
    """Median length of connected traced filaments.

    A connected traced filament is a chain of skeleton branches, joined through junctions by straightest continuation,
    longer than 0.5 um. A volume of short, disconnected pieces with the right length density has a small median.
    """
    return float(np.median(lengths_um)) if len(lengths_um) else 0.0


def length_weighted_median_um(lengths_um: npt.NDArray[np.float64]) -> float:
    """Length L such that filaments of at least L hold half of the total length (the N50).

    Parameters
    ----------
    lengths_um : ndarray
        Length of every filament, (F,), micrometres.

    Returns
    -------
    float
        Micrometres; 0 without filaments.

    Notes
    -----
    Source: the N50 of assembled sequences, Lander et al. 2001, doi:10.1038/35057062. Pieces cut off a long filament
    move it less than the plain median. Bias: filaments that leave the volume count up to its face only, so that it is
    bounded by the size of the volume; a wrong continuation at a crossing joins two filaments and raises it, a gap
    halves one and lowers it. What the tracer does is in `tracer_bias`.
    """
    if not len(lengths_um):
        return 0.0
    ordered = np.sort(lengths_um)[::-1]
    return float(ordered[np.searchsorted(np.cumsum(ordered), 0.5 * ordered.sum())])


def filament_mask(
    volume: npt.NDArray[np.floating], voxel_size_um: Float3, settings: TracerSettings | None = None
) -> npt.NDArray[np.bool_]:
    """Voxels that `trace_filaments` takes for filament before it thins them, bool (Z, Y, X); for `agreement.cl_dice`.

    Raises
    ------
    ShapeError
        If ``volume`` is not 3D or has no voxel.
    VolumeError
        If a voxel is not finite or the voxel size is absurd.
    """
    return _response_and_mask(np.asarray(volume), check_voxel_size(voxel_size_um), settings or TracerSettings())[1]


def _response_and_mask(
    volume: npt.NDArray[np.floating], voxel_size_um: Float3, settings: TracerSettings
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Ridge response and the voxels above its hysteresis thresholds."""
    if volume.ndim != 3:
        raise ShapeError(f"expected a volume (Z, Y, X), got shape {volume.shape}")
    response = ridge_response(
        volume, voxel_size_um, axial_um=settings.smoothing_axial_um, lateral_um=settings.smoothing_lateral_um
    )
    mask = apply_hysteresis_threshold(  # type: ignore[no-untyped-call]
        response, settings.threshold_low, settings.threshold_high
    )
    return response, mask


def trace_filaments(
    volume: npt.NDArray[np.floating], voxel_size_um: Float3, settings: TracerSettings | None = None
) -> FilamentTrace:
    """Trace the filaments of one volume.

    Smoothed Hessian ridge filter, hysteresis with fixed thresholds, thinning, graph of the skeleton, short spurs
    pruned, branches joined through junctions by straightest continuation. Thresholds are absolute, so that a dim copy
    of a volume loses filaments: pass filament units, never a volume that was normalized by its own content.

    Parameters
    ----------
    volume : ndarray
        (Z, Y, X) in filament units, noisy or noise-free. A constant background does not matter.
    voxel_size_um : tuple of float
        (z, y, x).
    settings : TracerSettings, optional
        The calibrated constants by default.

    Returns
    -------
    FilamentTrace

    Raises
    ------
    ShapeError
        If ``volume`` is not 3D or has no voxel.
    VolumeError
        If a voxel is not finite or the voxel size is absurd.

    Notes
    -----
    The bias against exact truth is data of the frozen version: `tracer_bias.tracer_bias`. Free and aligned networks are
    resolved; near the centre of an aster and inside a spindle filaments lie closer than the point spread function is
    wide and are counted as one.
    ``benchmarks/bundled.py`` measures the bias again on its own volumes, ``benchmarks/tracer_calibration.py`` that of
    every number of the morphology; `tracer_bias` returns the latter for reports to print.
    """
    steps = trace_steps(volume, voxel_size_um, settings)
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            trace: FilamentTrace = stop.value
            return trace


def trace_steps(
    volume: npt.NDArray[np.floating], voxel_size_um: Float3, settings: TracerSettings | None = None
) -> Generator[str, None, FilamentTrace]:
    """Stepwise twin of `trace_filaments`: it yields each of `TRACE_STEPS` before it does it; close it to cancel.

    Returns
    -------
    FilamentTrace
        Of the generator. The first step checks the arguments, with the errors of `trace_filaments`.
    """
    settings = settings or TracerSettings()
    size = check_voxel_size(voxel_size_um)
    data = np.asarray(volume)
    yield TRACE_STEPS[0]
    response, mask = _response_and_mask(data, size, settings)
    yield TRACE_STEPS[1]
    skeleton = thin(mask, response)
    yield TRACE_STEPS[2]
    branches = skeleton_branches(skeleton, size)
    extend_free_ends(branches, mask, size, settings.end_reach_um)
    yield TRACE_STEPS[3]
    paths = join_filaments(
        branches,
        spur_um=settings.spur_um,
        bridge_um=settings.bridge_um,
        max_turn_degrees=settings.max_turn_degrees,
    )
    kept = tuple(p for p in paths if path_length_um(p) >= settings.min_length_um)
    return FilamentTrace(kept, float(np.prod(np.array(data.shape) * np.array(size))))
