"""Measurements as CSV: one row per filament, per volume, or per compared quantity; an empty cell is no number.

What the numbers leave out is a text beside the tables: a row of words would keep programs from reading them.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from napari_vqldm.files.atomic import atomic_path
from napari_vqldm.measure.groups import GroupComparison
from napari_vqldm.measure.quantities import FILAMENT_QUANTITIES, VOLUME_QUANTITIES
from napari_vqldm.measure.result import Measurement, filament_names
from napari_vqldm.metrics.tracer_bias import tracer_bias

PathLike = str | os.PathLike[str]

_COMPARED = (
    "name",
    "unit",
    "counted",
    "num_a",
    "num_b",
    "mean_a",
    "mean_b",
    "difference",
    "difference_low",
    "difference_high",
    "ratio",
    "ratio_low",
    "ratio_high",
    "sentence",
)


def write_filaments(path: PathLike, measurements: Sequence[Measurement], *, force: bool = False) -> Path:
    """Write the filaments of one or more volumes, one row each.

    Parameters
    ----------
    path : path
        CSV file. Its columns are ``volume``, ``filament``, and the fields of `Filament`; ``touches_border`` is 1 or 0.
    measurements : sequence of Measurement
        In the order of the rows.
    force : bool
        Replace an existing file.

    Returns
    -------
    Path
        Where the file is now.

    Raises
    ------
    FileError
        If the file exists and ``force`` is not set, or writing fails. Nothing is left behind.
    """
    names = filament_names()
    rows = (
        (found.name, *(getattr(filament, name) for name in names))
        for found in measurements
        for filament in found.filaments
    )
    return _write(path, ("volume", "filament", *names[1:]), rows, force)


def write_volumes(path: PathLike, measurements: Sequence[Measurement], *, force: bool = False) -> Path:
    """Write the numbers of volumes, one row each; parameters and errors as `write_filaments`."""
    columns = ("volume", "volume_um3", *(quantity.name for quantity in VOLUME_QUANTITIES), "signal_to_noise", "notes")
    rows = (
        (found.name, found.volume_um3, *found.numbers().values(), found.signal_to_noise, " ".join(found.notes))
        for found in measurements
    )
    return _write(path, columns, rows, force)


def write_comparison(path: PathLike, comparison: GroupComparison, *, force: bool = False) -> Path:
    """Write a comparison, one row per quantity; parameters and errors as `write_filaments`."""
    return _write(path, _COMPARED, ([getattr(row, name) for name in _COMPARED] for row in comparison.rows), force)


def write_remarks(
    path: PathLike,
    measurements: Sequence[Measurement],
    comparison: GroupComparison | None = None,
    *,
    force: bool = False,
) -> Path:
    """Write what the numbers of the tables mean and leave out, as plain text; errors as `write_filaments`."""
    with atomic_path(path, force) as temporary:
        temporary.write_text("\n".join(remarks(measurements, comparison)) + "\n", encoding="utf-8", newline="")
    return Path(path)


def remarks(measurements: Sequence[Measurement], comparison: GroupComparison | None = None) -> list[str]:
    """Return the lines of `write_remarks`."""
    lines = []
    if comparison is not None:
        lines += ["Group A against group B", *(row.sentence for row in comparison.rows), *comparison.notes, ""]
    noted = [f"{found.name}: {note}" for found in measurements for note in found.notes]
    lines += ["Volumes", *noted, ""] if noted else []
    for title, quantities in (("filament", FILAMENT_QUANTITIES), ("volume", VOLUME_QUANTITIES)):
        lines.append(f"Numbers of a {title}")
        for quantity in quantities:
            unit = f", {quantity.unit}" if quantity.unit else ""
            remark = f": {quantity.remark}" if quantity.remark else ""
            lines.append(f"{quantity.name} ({quantity.label}{unit}){remark}")
        lines.append("")
    return [*lines, *tracer_bias().lines()]


def _write(path: PathLike, columns: Sequence[str], rows: Iterable[Sequence[Any]], force: bool) -> Path:
    path = Path(path)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(value) for value in row] for row in rows)
    with atomic_path(path, force) as temporary:
        temporary.write_text(stream.getvalue(), encoding="utf-8", newline="")
    return path


def _cell(value: Any) -> Any:
    """Return what a cell says: whole digits of a float, nothing for a missing number, ``inf`` for an infinite one."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, float):
        return "" if math.isnan(value) else repr(value) if math.isfinite(value) else "inf"
    return value
