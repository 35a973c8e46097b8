"""Lengths in micrometres, from the many spellings of units that microscopes and programs write; names of times."""

from __future__ import annotations

import math

_UM_PER_UNIT = {
    1.0: ("um", "\u00b5m", "micron", "microns", "micrometer", "micrometers", "micrometre", "micrometres"),
    1e-6: ("pm", "picometer", "picometre"),
    1e-4: ("a", "\u00e5", "angstrom", "\u00e5ngstr\u00f6m"),
    1e-3: ("nm", "nanometer", "nanometers", "nanometre", "nanometres"),
    1e3: ("mm", "millimeter", "millimeters", "millimetre", "millimetres"),
    1e4: ("cm", "centimeter", "centimeters", "centimetre", "centimetres"),
    1e6: ("m", "meter", "meters", "metre", "metres"),
    25400.0: ("in", "inch", "inches", '"'),
}
# Of the units of time that both OME formats know: the name in OME-Zarr, and the symbol in OME-TIFF.
TIME_SYMBOLS = {
    "nanosecond": "ns",
    "microsecond": "\u00b5s",
    "millisecond": "ms",
    "second": "s",
    "minute": "min",
    "hour": "h",
    "day": "d",
}
_FACTORS = {name: factor for factor, names in _UM_PER_UNIT.items() for name in names}


def to_um(value: object, unit: str | None) -> float | None:
    """Convert a length to micrometres; None when the value is no positive number or the unit is no length.

    "pixel" and unknown units give None: such a file does not state its voxel size.
    """
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    # ImageJ writes the micro sign as a \u00B5 escape; the Greek letter mu looks the same.
    name = (unit or "").strip().replace("\\u00B5", "\u00b5").replace("\u03bc", "\u00b5").lower()
    factor = _FACTORS.get(name)
    if factor is None or not math.isfinite(number) or number <= 0:
        return None
    return number if factor == 1.0 else number * factor


def time_unit(unit: str) -> str | None:
    """Return the full name of a unit of time, given as name or symbol; None for everything else."""
    names = {symbol: name for name, symbol in TIME_SYMBOLS.items()}
    return unit if unit in TIME_SYMBOLS else names.get(unit)
