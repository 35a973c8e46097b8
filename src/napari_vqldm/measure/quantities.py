"""What is measured: name, unit, and what is known of its error, in words."""

from __future__ import annotations

from dataclasses import dataclass

from napari_vqldm.metrics.tracer_bias import tracer_bias


@dataclass(frozen=True)
class Quantity:
    """One measured number.

    Attributes
    ----------
    name : str
        Field of the measurement, and column of its table; ends in its unit.
    label, unit : str
        For people. ``unit`` is empty for plain numbers.
    caution : str
        What the number means or leaves out; empty where the name says it all.
    bias_key : str
        Row of `napari_vqldm.metrics.tracer_bias`; empty where the tracer's error of this number was not measured.
    """

    name: str
    label: str
    unit: str = ""
    caution: str = ""
    bias_key: str = ""

    @property
    def bias(self) -> float | None:
        """Traced over true value, minus 1, on simulated volumes; None where it was not measured."""
        return tracer_bias().overall[self.bias_key] if self.bias_key else None

    @property
    def remark(self) -> str:
        """Caution and bias in one line."""
        return "; ".join(part for part in (self.caution, _bias_words(self.bias_key)) if part)


# Of one filament.
FILAMENT_QUANTITIES = (
    Quantity("length_um", "length", "um", "up to the face of the volume where a filament leaves it", "median_length"),
    Quantity("end_to_end_um", "end to end", "um", "straight distance of both ends"),
    Quantity("tortuosity", "tortuosity", "", "length over end to end, 1 for a straight filament"),
    Quantity(
        "mean_curvature_per_um",
        "mean curvature",
        "1/um",
        "after smoothing at 0.5 um along the filament; from 2 um of length on",
        "mean_curvature",
    ),
    Quantity("azimuth_degrees", "direction in the plane", "degrees", "from +x towards +y, 0 to 180"),
    Quantity("tilt_degrees", "tilt out of the plane", "degrees", "0 in the plane, 90 along z"),
    Quantity(
        "mean_intensity",
        "brightness",
        "filament peaks",
        "mean along the trace, between voxels by straight lines: up to 20 % low, by where the voxels lie",
    ),
)

# Of one volume.
VOLUME_QUANTITIES = (
    Quantity("num_filaments", "filaments", "", "traced pieces: a gap makes two of one, a wrong turn one of two"),
    Quantity("length_um", "total length", "um", "", "length_density"),
    Quantity("length_density_um_per_um3", "length density", "um/um3", "", "length_density"),
    Quantity("median_length_um", "median length", "um", "filaments end at the faces of the volume", "median_length"),
    Quantity(
        "length_weighted_median_um",
        "length-weighted median (N50)",
        "um",
        "half of the traced length lies in filaments at least this long; bounded by the size of the volume",
    ),
    Quantity(
        "mean_curvature_per_um",
        "mean curvature",
        "1/um",
        "after smoothing at 0.5 um along the filament",
        "mean_curvature",
    ),
    Quantity(
        "persistence_length_um",
        "apparent persistence length",
        "um",
        "from how filaments lose their direction over 1 to 4 um",
        "persistence_length",
    ),
    Quantity("bending_per_um", "bending", "1/um", "1 over the apparent persistence length"),
    Quantity("z_alignment", "alignment with z", "", "0 in the plane, 1/3 without preference, 1 along z"),
    Quantity("nematic_order", "order in the plane", "", "0 without preference, 1 parallel"),
    Quantity("director_degrees", "main direction in the plane", "degrees", "from +x towards +y, 0 to 180"),
    Quantity(
        "junctions_per_um3",
        "junctions",
        "1/um3",
        "places where filaments come closer than a microscope resolves: they need not touch",
    ),
    Quantity("median_branch_length_um", "median length between junctions", "um"),
    Quantity("ends_per_um3", "free ends", "1/um3", "a gap in a trace counts as two"),
    Quantity(
        "width_lateral_um",
        "width in the plane",
        "um",
        "full width at half maximum as imaged, of straight isolated stretches; reads about 3 % high, not corrected",
    ),
    Quantity(
        "width_axial_um",
        "width along z",
        "um",
        "as the width in the plane; of widefield stacks it reads about 10 % low, not corrected",
    ),
)


def _bias_words(key: str) -> str:
    """Say what the tracer does to a number: on average, and where it does worst."""
    if not key:
        return ""
    found = tracer_bias()
    kinds = {kind: row[key] for kind, row in found.by_organisation.items() if key in row}
    words = f"traces read {_percent(found.overall[key])} on simulated volumes"
    if not kinds:
        return words
    low, high = min(kinds, key=lambda kind: kinds[kind]), max(kinds, key=lambda kind: kinds[kind])
    return f"{words} ({_name(low)} {_percent(kinds[low])}, {_name(high)} {_percent(kinds[high])})"


def _percent(value: float) -> str:
    return f"{abs(value):.0%}".replace("%", " %") + (" high" if value > 0 else " low")


def _name(kind: str) -> str:
    return kind.replace("_", " ")
