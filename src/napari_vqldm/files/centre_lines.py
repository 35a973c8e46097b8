"""Centre lines of filaments as SWC and CSV: micrometres, one polyline after the other, numbered by filament.

SWC (Cannon et al., J. Neurosci. Methods 84, 49, 1998; rows ``id type x y z radius parent``) names its coordinates in
the order x, y, z; arrays here are (z, y, x). The origin is the corner of the volume: the centre of voxel i is at
(i + 0.5) times the voxel size. The type is 0, undefined: no type of a neuron fits a microtubule.
"""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from napari_vqldm.errors import FileError, ShapeError
from napari_vqldm.files.atomic import atomic_path

FloatArray = npt.NDArray[np.float64]

RADIUS_UM = 0.0125  # of a microtubule
SUFFIXES = (".swc", ".csv")

_COLUMNS = ("filament", "line", "point", "z_um", "y_um", "x_um")
_FILAMENT = re.compile(r"#\s*filament\s+(\d{1,9})\s*$")


@dataclass(frozen=True)
class CentreLines:
    """Polylines of a volume.

    Attributes
    ----------
    lines : list of ndarray
        (n, 3), um (z, y, x), at least 2 points each.
    instances : list of int
        Number of its filament, from 1, per line; lines that a volume cuts a filament into share it.
    """

    lines: list[FloatArray] = field(default_factory=list)
    instances: list[int] = field(default_factory=list)


def write_centre_lines(
    path: str | os.PathLike[str],
    lines: Sequence[npt.NDArray[np.floating]],
    instances: Sequence[int] | None = None,
    *,
    force: bool = False,
) -> Path:
    """Write centre lines, rounded to 0.1 pm.

    Parameters
    ----------
    path : path
        ``.swc`` or ``.csv``.
    lines : sequence of ndarray
        (n, 3), um (z, y, x), at least 2 points each.
    instances : sequence of int, optional
        Number of its filament, from 1, per line. None: every line is a filament.
    force : bool
        Replace an existing file.

    Returns
    -------
    Path
        Where the file is now.

    Raises
    ------
    ShapeError
        If a line is not (n, 3) with finite coordinates, or there is not one number of 1 or more per line.
    FileError
        If the suffix is unknown, the file exists and ``force`` is not set, or writing fails. Nothing is left behind.
    """
    path = Path(path)
    numbers = list(range(1, len(lines) + 1)) if instances is None else [int(number) for number in instances]
    if len(numbers) != len(lines) or any(number < 1 for number in numbers):
        raise ShapeError(f"expected one number of 1 or more per line, got {len(numbers)} for {len(lines)} lines")
    for line in lines:
        if line.ndim != 2 or line.shape[1] != 3 or len(line) < 2 or not np.isfinite(line).all():
            raise ShapeError(f"expected lines (n, 3) of 2 or more finite points (z, y, x), got shape {line.shape}")
    rows = _by_suffix(path, {".swc": _swc_rows, ".csv": _csv_rows})
    with atomic_path(path, force) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as stream:
        stream.writelines(f"{row}\n" for row in rows(lines, numbers))
    return path


def read_centre_lines(path: str | os.PathLike[str]) -> CentreLines:
    """Read centre lines from SWC or CSV.

    Of foreign SWC files every tree becomes a filament of its own, and every branch a line that starts with the point
    that it branches from. Radii and types are not kept.

    Parameters
    ----------
    path : path
        ``.swc``, or ``.csv`` with the columns that `write_centre_lines` writes.

    Returns
    -------
    CentreLines
        Polylines, um (z, y, x), and their filaments.

    Raises
    ------
    FileError
        If the file is missing, of another format, damaged, or holds rows that contradict each other.
    """
    path = Path(path)
    parse = _by_suffix(path, {".swc": _parse_swc, ".csv": _parse_csv})
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise FileError(f"{path}: no text file: expected centre lines as SWC or CSV") from None
    except OSError as error:
        raise FileError(f"{path}: cannot read: {error.strerror}") from None
    return parse(path, text.splitlines())


# --- SWC --------------------------------------------------------------------------------------------------------------


def _swc_rows(lines: Sequence[npt.NDArray[np.floating]], numbers: Sequence[int]) -> Iterator[str]:
    yield "# centre lines of filaments, micrometres; columns: id type x y z radius parent"
    yield "# origin: corner of the volume; the centre of voxel i is at (i + 0.5) times the voxel size"
    sample = 0
    for line, number in zip(lines, numbers, strict=True):
        yield f"# filament {number}"
        for k, (z, y, x) in enumerate(line.tolist()):
            sample += 1
            yield f"{sample} 0 {x:.7f} {y:.7f} {z:.7f} {RADIUS_UM} {sample - 1 if k else -1}"


def _parse_swc(path: Path, rows: Sequence[str]) -> CentreLines:
    points: dict[int, tuple[float, float, float]] = {}
    parents: dict[int, int] = {}
    named: dict[int, int] = {}  # filament of a root, where a comment of ours says it
    filament = 0
    for count, row in enumerate(rows, 1):
        text = row.strip()
        if match := _FILAMENT.match(text):
            filament = int(match[1])
        if not text or text.startswith("#"):
            continue
        words = text.split()
        if len(words) < 7:
            raise FileError(f"{path}: line {count}: expected id type x y z radius parent, got {text!r:.80}")
        try:
            sample, parent = int(words[0]), int(words[6])
        except ValueError:
            raise FileError(
                f"{path}: line {count}: expected whole numbers as id and parent, got {text!r:.80}"
            ) from None
        if sample in points:
            raise FileError(f"{path}: line {count}: sample {sample} is there twice")
        x, y, z = _numbers(path, count, words[2:5])
        points[sample], parents[sample] = (z, y, x), parent
        if parent < 0:
            named[sample] = filament
    return _walk(path, points, parents, named)


def _walk(
    path: Path, points: dict[int, tuple[float, float, float]], parents: dict[int, int], named: dict[int, int]
) -> CentreLines:
    """Follow every tree from its root; at a branch one line ends and others start."""
    children: dict[int, list[int]] = {sample: [] for sample in points}
    for sample, parent in parents.items():
        if parent >= 0:
            if parent not in points:
                raise FileError(f"{path}: sample {sample} has the parent {parent}, which is not there")
            children[parent].append(sample)
    result = CentreLines()
    use_names = all(named.values())
    seen = 0
    for tree, root in enumerate(named, 1):
        starts = [(root, child) for child in children[root]]
        seen += 1
        while starts:
            start, sample = starts.pop(0)
            line = [points[start], points[sample]]
            seen += 1
            while len(children[sample]) == 1:
                sample = children[sample][0]
                line.append(points[sample])
                seen += 1
            starts += [(sample, child) for child in children[sample]]
            result.lines.append(np.array(line))
            result.instances.append(named[root] if use_names else tree)
    if seen != len(points):
        raise FileError(f"{path}: {len(points) - seen} samples hang on no root: their parents form a circle")
    return result


# --- CSV --------------------------------------------------------------------------------------------------------------


def _csv_rows(lines: Sequence[npt.NDArray[np.floating]], numbers: Sequence[int]) -> Iterator[str]:
    yield ",".join(_COLUMNS)
    for index, (line, number) in enumerate(zip(lines, numbers, strict=True), 1):
        for k, (z, y, x) in enumerate(line.tolist()):
            yield f"{number},{index},{k},{z:.7f},{y:.7f},{x:.7f}"


def _parse_csv(path: Path, rows: Sequence[str]) -> CentreLines:
    table = csv.reader(rows)
    header = [name.strip() for name in next(table, [])]
    if missing := [name for name in _COLUMNS if name not in header]:
        raise FileError(f"{path}: expected the columns {', '.join(_COLUMNS)}; {missing[0]} is missing")
    column = [header.index(name) for name in _COLUMNS]
    points: dict[tuple[int, int], dict[int, tuple[float, float, float]]] = {}
    for row in table:
        if not row:
            continue
        if len(row) != len(header):
            raise FileError(f"{path}: line {table.line_num}: expected {len(header)} values, got {len(row)}")
        try:
            number, index, k = (int(row[c]) for c in column[:3])
        except ValueError:
            raise FileError(
                f"{path}: line {table.line_num}: expected whole numbers as {', '.join(_COLUMNS[:3])}"
            ) from None
        if number < 1:
            raise FileError(f"{path}: line {table.line_num}: expected a filament of 1 or more, got {number}")
        line = points.setdefault((index, number), {})
        if k in line:
            raise FileError(f"{path}: line {table.line_num}: point {k} of line {index} is there twice")
        z, y, x = _numbers(path, table.line_num, [row[c] for c in column[3:]])
        line[k] = (z, y, x)
    result = CentreLines()
    for (index, number), line in points.items():
        if len(line) < 2:
            raise FileError(f"{path}: line {index} of filament {number} has a single point: expected 2 or more")
        result.lines.append(np.array([line[k] for k in sorted(line)]))
        result.instances.append(number)
    return result


# --- both -------------------------------------------------------------------------------------------------------------


def _numbers(path: Path, count: int, words: Sequence[str]) -> list[float]:
    """Return finite coordinates."""
    try:
        values = [float(word) for word in words]
    except ValueError:
        values = [math.nan]
    if not all(math.isfinite(value) for value in values):
        raise FileError(f"{path}: line {count}: expected finite coordinates, got {' '.join(words)!r:.80}")
    return values


T = TypeVar("T")


def _by_suffix(path: Path, formats: dict[str, T]) -> T:
    """Return what belongs to the suffix of a path."""
    suffix = path.suffix.lower()
    if suffix not in formats:
        raise FileError(f"{path}: expected centre lines as .swc or .csv, got {suffix or 'no suffix'}")
    return formats[suffix]
