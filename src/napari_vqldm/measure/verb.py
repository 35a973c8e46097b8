"""`measure` and its stepwise twin: intensity, trace, one filament after the other, numbers of the volume, widths."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_vqldm.errors import VqldmError
from napari_vqldm.intensity import IntensityScale, estimate_intensity
from napari_vqldm.measure.result import LEAST_SIGNAL_TO_NOISE, Filament, Measurement, Points
from napari_vqldm.metrics.bending import mean_curvature
from napari_vqldm.metrics.contacts import BORDER_UM
from napari_vqldm.metrics.filaments import TRACE_STEPS, FilamentTrace, trace_steps
from napari_vqldm.metrics.morphology import morphology, orientation_tensor
from napari_vqldm.metrics.noise import estimate_noise
from napari_vqldm.metrics.polylines import arc_um, resample
from napari_vqldm.metrics.tracer_bias import VERSION
from napari_vqldm.metrics.width import filament_width
from napari_vqldm.volume import Volume

_SAMPLE_UM = 0.1  # along a filament, of its brightness
_FILAMENTS_A_STEP = 200
_SHORT_UM = 1e-6


@dataclass(frozen=True, eq=False)
class MeasurementStep:
    """One step of ``total``, as far as known before the trace; ``doing`` says in a word what comes next.

    ``result`` is set by the last step.
    """

    index: int
    total: int
    doing: str
    result: Measurement | None = None


def measure(volume: Volume, *, intensity: IntensityScale | None = None) -> Measurement:
    """Trace the filaments of a volume and measure them in micrometres.

    Parameters
    ----------
    volume : Volume
        Any intensity units, noisy or noise-free.
    intensity : IntensityScale, optional
        Background, and peak of one filament above it, in the units of the volume; by default estimated. The tracer
        looks for filaments of about that brightness: give one scale to volumes that are compared, where their units
        are the same.

    Returns
    -------
    Measurement
        Without filaments, and with the reason in its ``notes``, for a constant volume. `read_volume` refuses a file of
        one.

    Notes
    -----
    What the tracer does to each number is in the ``remark`` of `FILAMENT_QUANTITIES` and `VOLUME_QUANTITIES`. It was
    measured on simulated volumes of 0.2 x 0.1 x 0.1 um: filaments closer than the microscope resolves count as one.
    """
    result = None
    for step in measure_steps(volume, intensity=intensity):
        result = step.result
    if result is None:  # measure_steps ends with a result or raises
        raise VqldmError("expected a measurement, got none")
    return result


def measure_steps(volume: Volume, *, intensity: IntensityScale | None = None) -> Iterator[MeasurementStep]:
    """Stepwise twin of `measure`; close it to cancel.

    Beside the volume it takes about 80 bytes a voxel, for the estimate of the intensity and for the widths.
    """
    total = len(TRACE_STEPS) + 5
    yield MeasurementStep(0, total, "intensity")
    is_constant = bool(volume.data.min() == volume.data.max())
    scale = intensity
    if scale is None and not is_constant:
        scale = estimate_intensity(volume.data)
    data = np.zeros(volume.shape, np.float32) if scale is None or is_constant else scale.apply(volume.data)
    yield MeasurementStep(1, total, "noise")
    contrast = None if is_constant else _signal_to_noise(data)
    tracing = trace_steps(data, volume.voxel_size_um)
    done = 2
    while True:
        try:
            yield MeasurementStep(done, total, next(tracing))
            done += 1
        except StopIteration as stop:
            trace: FilamentTrace = stop.value
            break
    lines = trace.filaments
    total += len(lines) // _FILAMENTS_A_STEP
    filaments: list[Filament] = []
    for number, line in enumerate(lines, 1):
        if number % _FILAMENTS_A_STEP == 0:
            yield MeasurementStep(done, total, "filaments")
            done += 1
        filaments.append(_filament(number, line, data, volume))
    yield MeasurementStep(done, total, "numbers of the volume")
    form = morphology(lines, volume.extent_um)
    yield MeasurementStep(done + 1, total, "widths")
    width = filament_width(data, lines, volume.voxel_size_um)
    result = Measurement(
        name=volume.name,
        shape=volume.shape,
        voxel_size_um=volume.voxel_size_um,
        lines=lines,
        filaments=tuple(filaments),
        morphology=form,
        length_weighted_median_um=trace.length_weighted_median_um if lines else math.nan,
        width=width,
        intensity=scale,
        is_intensity_estimated=intensity is None and scale is not None,
        signal_to_noise=contrast,
        notes=_notes(volume, is_constant, contrast, filaments),
        tracer_version=VERSION,
    )
    yield MeasurementStep(done + 2, total, "", result)


def _filament(number: int, line: Points, data: npt.NDArray[np.float32], volume: Volume) -> Filament:
    """Measure one filament; ``data`` in filament units."""
    length = float(arc_um(line)[-1])
    straight = float(np.linalg.norm(line[-1] - line[0]))
    is_closed = straight < _SHORT_UM
    # The axis along which most of the filament runs; its sign means nothing.
    axis = np.linalg.eigh(orientation_tensor([line]))[1][:, -1]
    tilt = math.degrees(math.asin(min(abs(float(axis[0])), 1.0)))
    in_plane = math.hypot(float(axis[1]), float(axis[2]))
    azimuth = math.degrees(math.atan2(float(axis[1]), float(axis[2]))) % 180.0 if in_plane > 1e-6 else math.nan
    points = resample(line, _SAMPLE_UM) / np.asarray(volume.voxel_size_um) - 0.5
    values = ndimage.map_coordinates(data, points.T, order=1, mode="nearest")
    ends, extent = line[[0, -1]], np.asarray(volume.extent_um)
    is_cut = not is_closed and bool(((ends <= BORDER_UM) | (ends >= extent - BORDER_UM)).any())
    return Filament(
        number=number,
        length_um=length,
        end_to_end_um=straight,
        tortuosity=math.nan if is_closed else length / straight,
        mean_curvature_per_um=mean_curvature([line]),
        azimuth_degrees=azimuth,
        tilt_degrees=tilt,
        mean_intensity=float(np.mean(values, dtype=np.float64)),
        touches_border=is_cut,
    )


def _signal_to_noise(data: npt.NDArray[np.float32]) -> float | None:
    """Peak of one filament, 1, over the standard deviation of the background; None without measurable noise."""
    noise = estimate_noise(data)
    variance = noise.offset  # at the expected intensity 0, which is the background
    return 1.0 / math.sqrt(variance) if noise.is_measurable and variance > 0.0 else None


def _notes(volume: Volume, is_constant: bool, contrast: float | None, filaments: list[Filament]) -> tuple[str, ...]:
    """Say what a reader of the numbers has to know."""
    notes = []
    if is_constant:
        notes.append(f"Every voxel equals {float(volume.data.flat[0]):g}: there is nothing to trace.")
    elif not filaments:
        notes.append("No filament was found: numbers of filaments are missing, densities are 0.")
    if contrast is not None and contrast < LEAST_SIGNAL_TO_NOISE:
        notes.append(
            f"A filament stands {contrast:.1f} standard deviations of the noise above the background, below "
            f"{LEAST_SIGNAL_TO_NOISE:g}: much of what was traced may be noise."
        )
    cut = sum(filament.touches_border for filament in filaments)
    if cut:
        notes.append(f"{cut} of {len(filaments)} filaments end at a face of the volume: their lengths are at least so.")
    return tuple(notes)
