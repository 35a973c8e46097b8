"""What `measure` returns: filaments one by one, and the numbers of their volume."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_vqldm.intensity import IntensityScale
from napari_vqldm.measure.quantities import FILAMENT_QUANTITIES, VOLUME_QUANTITIES
from napari_vqldm.metrics.morphology import Morphology
from napari_vqldm.metrics.width import FilamentWidth

Float3 = tuple[float, float, float]
Int3 = tuple[int, int, int]
# Noise alone, measured as if it had filaments, has 2.9 to 4.4; simulated lengths read 120 % high at 3.9, 11 % at 5.2.
LEAST_SIGNAL_TO_NOISE = 5.0
Points = npt.NDArray[np.float64]  # (n, 3), (z, y, x)


@dataclass(frozen=True)
class Filament:
    """One traced filament; ``nan`` where it has no such number. Units and meaning: `FILAMENT_QUANTITIES`.

    Attributes
    ----------
    number : int
        From 1, in the order of the lines.
    length_um, end_to_end_um, tortuosity : float
        Along the filament, between its ends, and the one over the other: ``nan`` for a closed ring.
    mean_curvature_per_um : float
        ``nan`` below 2 um of length.
    azimuth_degrees, tilt_degrees : float
        Of its main axis. ``azimuth_degrees`` is ``nan`` for a filament along z.
    mean_intensity : float
        Filament units: 1 is the peak of one filament as the intensity of its volume says it.
    touches_border : bool
        Whether an end lies within 0.4 um of a face: the filament may go on outside.
    """

    number: int
    length_um: float
    end_to_end_um: float
    tortuosity: float
    mean_curvature_per_um: float
    azimuth_degrees: float
    tilt_degrees: float
    mean_intensity: float
    touches_border: bool

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-compatible values: ``None`` where there is no number."""
        return {name: _finite(value) for name, value in asdict(self).items()}


@dataclass(frozen=True, eq=False)
class Measurement:
    """Filaments of one volume.

    Attributes
    ----------
    name : str
        Of the volume.
    shape, voxel_size_um : tuple
        Voxels (Z, Y, X) and their size (z, y, x), um.
    lines : tuple of ndarray
        Traced centre lines (n, 3), um (z, y, x) from the corner of the volume: the centre of voxel i is at (i + 0.5)
        times the voxel size.
    filaments : tuple of Filament
        One for each line.
    morphology : Morphology
        Numbers of the volume, see `napari_vqldm.metrics.morphology`.
    length_weighted_median_um : float
        ``nan`` without filaments.
    width : FilamentWidth
        As imaged.
    intensity : IntensityScale or None
        What was taken for the background and for the peak of one filament; None for a constant volume.
    is_intensity_estimated : bool
        Whether that was found in the volume itself.
    signal_to_noise : float or None
        Peak of one filament over the noise of the background; None where no noise could be measured.
    notes : tuple of str
        What a reader of the numbers has to know, one sentence each.
    tracer_version : int
        Numbers of different versions are not comparable.
    """

    name: str
    shape: Int3
    voxel_size_um: Float3
    lines: tuple[Points, ...]
    filaments: tuple[Filament, ...]
    morphology: Morphology
    length_weighted_median_um: float
    width: FilamentWidth
    intensity: IntensityScale | None
    is_intensity_estimated: bool
    signal_to_noise: float | None
    notes: tuple[str, ...]
    tracer_version: int

    @property
    def volume_um3(self) -> float:
        """Size of the volume, um3."""
        return float(np.prod(np.array(self.shape) * np.array(self.voxel_size_um)))

    @property
    def is_maybe_noise(self) -> bool:
        """Whether filaments stand so little above the noise that noise may have been traced."""
        return self.signal_to_noise is not None and self.signal_to_noise < LEAST_SIGNAL_TO_NOISE

    def number(self, name: str) -> float:
        """Return one of `VOLUME_QUANTITIES`; ``nan`` where this volume has no such number, ``inf`` where it has no end.

        ``persistence_length_um`` is infinite, and ``bending_per_um`` 0, where filaments do not bend.
        """
        if name == "length_weighted_median_um":
            return self.length_weighted_median_um
        if name in ("width_lateral_um", "width_axial_um"):
            return float(getattr(self.width, name.removeprefix("width_")))
        return float(getattr(self.morphology, name))

    def numbers(self) -> dict[str, float]:
        """Return all of `VOLUME_QUANTITIES` by name."""
        return {quantity.name: self.number(quantity.name) for quantity in VOLUME_QUANTITIES}

    def column(self, name: str) -> npt.NDArray[np.float64]:
        """Return one of `FILAMENT_QUANTITIES` of all filaments, (F,); ``nan`` where one has no such number."""
        return np.array([getattr(filament, name) for filament in self.filaments], np.float64)

    def lines_in_voxels(self) -> list[Points]:
        """Return the centre lines in voxels (z, y, x) whose centres are whole numbers.

        A viewer that gives them the voxel size as scale, and the place of the image, shows them in the image.
        """
        return [line / np.asarray(self.voxel_size_um) - 0.5 for line in self.lines]

    def lines_in_world(self) -> list[Points]:
        """Return the centre lines in um (z, y, x) from the centre of the first voxel, the origin of viewers."""
        return [line - 0.5 * np.asarray(self.voxel_size_um) for line in self.lines]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-compatible values, without the centre lines: ``None`` where there is no finite number."""
        return {
            "name": self.name,
            "shape": list(self.shape),
            "voxel_size_um": list(self.voxel_size_um),
            "volume_um3": self.volume_um3,
            "background": None if self.intensity is None else self.intensity.background,
            "scale": None if self.intensity is None else self.intensity.scale,
            "is_intensity_estimated": self.is_intensity_estimated,
            "signal_to_noise": self.signal_to_noise,
            **{name: _finite(value) for name, value in self.numbers().items()},
            "missing": self.missing(),
            "notes": list(self.notes),
            "tracer_version": self.tracer_version,
            "filaments": [filament.to_dict() for filament in self.filaments],
        }

    def missing(self) -> dict[str, str]:
        """Return why a number is not there, by its name."""
        found = {}
        if not math.isfinite(self.morphology.persistence_length_um):
            found["persistence_length_um"] = self.morphology.persistence_reason
        for name in ("width_lateral_um", "width_axial_um"):
            if math.isnan(self.number(name)):
                found[name] = self.width.reason
        return found


def filament_names() -> tuple[str, ...]:
    """Return the columns of a filament, in the order of its table."""
    return ("number", *(quantity.name for quantity in FILAMENT_QUANTITIES), "touches_border")


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
