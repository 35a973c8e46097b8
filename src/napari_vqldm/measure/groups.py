"""Two groups of measured volumes: differences and ratios with 95 % intervals, and a sentence for each quantity."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_vqldm.errors import ShapeError
from napari_vqldm.measure.quantities import FILAMENT_QUANTITIES, VOLUME_QUANTITIES, Quantity
from napari_vqldm.measure.result import Measurement

Unit = Literal["volumes", "filaments"]
FloatArray = npt.NDArray[np.float64]

LEVEL = 0.95
VOXEL_TOLERANCE = 0.01  # voxel sizes that differ by less count as one

# A sum depends on the size of the volume, an angle has no mean, and infinite lengths compare as 0 bending.
_NOT_COMPARED = ("num_filaments", "length_um", "director_degrees", "persistence_length_um")
_NOT_AVERAGED = ("azimuth_degrees",)


@dataclass(frozen=True)
class Difference:
    """One quantity of group A against group B.

    Attributes
    ----------
    name, label, unit : str
        As in `Quantity`.
    counted : str
        What the numbers of a group are taken over: ``"volumes"``, or the ``"filaments"`` of single volumes.
    num_a, num_b : int
        Volumes or filaments that have the number.
    mean_a, mean_b : float
        Means over them; ``nan`` where there is none.
    difference, ratio : float
        A - B, and A / B; ``nan`` where one is missing, the ratio also where one is not above 0.
    difference_low, difference_high, ratio_low, ratio_high : float or None
        Ends of the 95 % intervals; None where fewer than two on a side can say.
    sentence : str
        The same in words.
    """

    name: str
    label: str
    unit: str
    counted: Unit
    num_a: int
    num_b: int
    mean_a: float
    mean_b: float
    difference: float
    difference_low: float | None
    difference_high: float | None
    ratio: float
    ratio_low: float | None
    ratio_high: float | None
    sentence: str

    @property
    def is_told_apart(self) -> bool:
        """Whether the interval of the difference leaves out 0."""
        low, high = self.difference_low, self.difference_high
        return low is not None and high is not None and (low > 0.0 or high < 0.0)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-compatible values: ``None`` where there is no number."""
        values = asdict(self)
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}


@dataclass(frozen=True)
class GroupComparison:
    """Group A against group B.

    Attributes
    ----------
    num_a, num_b : int
        Volumes.
    rows : tuple of Difference
        One for each quantity.
    notes : tuple of str
        What the intervals do and do not say, one sentence each.
    """

    num_a: int
    num_b: int
    rows: tuple[Difference, ...]
    notes: tuple[str, ...]

    def row(self, name: str) -> Difference:
        """Return the row of a quantity."""
        return next(row for row in self.rows if row.name == name)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-compatible values."""
        rows = [row.to_dict() for row in self.rows]
        return {"volumes_a": self.num_a, "volumes_b": self.num_b, "rows": rows, "notes": list(self.notes)}


def compare_measurements(a: Sequence[Measurement], b: Sequence[Measurement]) -> GroupComparison:
    """Compare two groups of measured volumes.

    Parameters
    ----------
    a, b : sequence of Measurement
        One volume or more each.

    Returns
    -------
    GroupComparison
        Numbers of volumes, and means of the numbers of filaments.

    Raises
    ------
    ShapeError
        If a group is empty.

    Notes
    -----
    With two volumes or more on each side the volumes are what is counted: each gives one number, of its filaments their
    mean, and the interval of the difference of means is that of Welch (Biometrika 34, 28, 1947: Student's t, unequal
    variances, degrees of freedom by Satterthwaite). The ratio has the same on the scale of its logarithm, with
    (se / mean)^2 as variance of the logarithm of a mean (delta method). It is meant for independent volumes: crops of
    one stack are less varied than that, and their intervals too narrow.

    With a single volume on a side the filaments of each volume are counted, and only numbers that filaments have get an
    interval: it says how far the filaments of these volumes differ, nothing about a population of cells. Filaments that
    cross or run in a bundle are not independent either.

    What the tracer gets wrong is in no interval. It is alike on both sides where their volumes are alike.
    """
    if not a or not b:
        raise ShapeError(
            f"expected one measured volume or more in each group, got {len(a)} and {len(b)}: add a volume to the other"
        )
    unit: Unit = "volumes" if min(len(a), len(b)) >= 2 else "filaments"
    rows = [
        _row(quantity, "volumes", *(_numbers(group, quantity.name) for group in (a, b)))
        for quantity in VOLUME_QUANTITIES
        if quantity.name not in _NOT_COMPARED
    ]
    pooled = _means if unit == "volumes" else _pooled
    for quantity in FILAMENT_QUANTITIES:
        if quantity.name not in _NOT_AVERAGED:
            values_a, values_b = (pooled(group, quantity.name) for group in (a, b))
            rows.append(_row(_mean_of(quantity), unit, values_a, values_b))
    return GroupComparison(len(a), len(b), tuple(rows), _notes([*a, *b], unit, rows))


def _mean_of(quantity: Quantity) -> Quantity:
    """Return the mean over filaments of one of their quantities; the bias of a median is not that of a mean."""
    label = f"mean {quantity.label.removeprefix('mean ')} of filaments"
    return Quantity(f"filament_{quantity.name}", label, quantity.unit, quantity.caution)


def _numbers(group: Sequence[Measurement], name: str) -> FloatArray:
    return np.array([found.number(name) for found in group], np.float64)


def _means(group: Sequence[Measurement], name: str) -> FloatArray:
    """Mean over the filaments of each volume that have the number."""
    columns = [found.column(name) for found in group]
    kept = [column[np.isfinite(column)] for column in columns]
    return np.array([column.mean() if column.size else math.nan for column in kept], np.float64)


def _pooled(group: Sequence[Measurement], name: str) -> FloatArray:
    return np.concatenate([found.column(name) for found in group])


def _row(quantity: Quantity, counted: Unit, a: FloatArray, b: FloatArray) -> Difference:
    """Compare two samples of one quantity."""
    a, b = a[np.isfinite(a)], b[np.isfinite(b)]
    mean_a, mean_b = (float(values.mean()) if values.size else math.nan for values in (a, b))
    difference = mean_a - mean_b
    ratio = mean_a / mean_b if mean_a > 0.0 and mean_b > 0.0 else math.nan
    low = high = ratio_low = ratio_high = None
    if min(a.size, b.size) >= 2:
        half = _half_width([_variance(a), _variance(b)], [a.size, b.size])
        low, high = difference - half, difference + half
        if math.isfinite(ratio):
            relative = _half_width([_variance(a) / mean_a**2, _variance(b) / mean_b**2], [a.size, b.size])
            ratio_low, ratio_high = _scaled(ratio, -relative), _scaled(ratio, relative)
    row = Difference(
        name=quantity.name,
        label=quantity.label,
        unit=quantity.unit,
        counted=counted,
        num_a=a.size,
        num_b=b.size,
        mean_a=mean_a,
        mean_b=mean_b,
        difference=difference,
        difference_low=low,
        difference_high=high,
        ratio=ratio,
        ratio_low=ratio_low,
        ratio_high=ratio_high,
        sentence="",
    )
    return Difference(**{**asdict(row), "sentence": _sentence(row, quantity)})


def _variance(values: FloatArray) -> float:
    """Variance of a sample, less what is rounding: equal volumes have none."""
    variance = float(np.var(values, ddof=1))
    return variance if variance > (1e-12 * float(np.abs(values).max())) ** 2 else 0.0


def _half_width(variances: Sequence[float], sizes: Sequence[int]) -> float:
    """Half of the 95 % interval of a difference of means, by Welch; 0 where neither sample varies."""
    from scipy import stats  # slow to import

    parts = [variance / size for variance, size in zip(variances, sizes, strict=True)]
    total = sum(parts)
    if total == 0.0:
        return 0.0
    shares = [part / total for part in parts]
    freedom = 1.0 / sum(share**2 / (size - 1) for share, size in zip(shares, sizes, strict=True))
    return float(stats.t.ppf(0.5 + LEVEL / 2, freedom)) * math.sqrt(total)


def _scaled(ratio: float, logarithm: float) -> float:
    """Return ratio * exp(logarithm), at most what a float holds: two volumes that vary say nearly nothing."""
    return ratio * math.exp(min(max(logarithm, -700.0), 700.0 - abs(math.log(ratio))))


# --- words ------------------------------------------------------------------------------------------------------------


def _sentence(row: Difference, quantity: Quantity) -> str:
    """Say what was found."""
    name = row.label[0].upper() + row.label[1:]
    if math.isnan(row.difference):
        sides = [side for side, count in (("A", row.num_a), ("B", row.num_b)) if not count]
        return f"{name}: no such number in group {' and '.join(sides)}."
    unit = f" {row.unit}" if row.unit else ""
    if math.isfinite(row.ratio):
        found = f"A has {row.ratio:.3g} times B"
        span = _span(row.ratio_low, row.ratio_high, lambda value: f"{value:.3g}")
        found += f"{span}, {row.difference:+.3g}{unit}"
    else:
        found = f"A minus B is {row.difference:+.3g}{unit}"
        found += _span(row.difference_low, row.difference_high, lambda value: f"{value:+.3g}")
    if row.difference_low is None:
        verdict = "no interval: it takes two volumes on each side"
        if row.counted == "filaments" or min(row.num_a, row.num_b) < 2 <= max(row.num_a, row.num_b):
            verdict = f"no interval: it takes two {row.counted} with this number on each side"
    elif row.is_told_apart:
        verdict = f"{'more' if row.difference > 0 else 'less'} in A"
        if quantity.bias is not None and math.isfinite(row.ratio) and abs(row.ratio - 1.0) < abs(quantity.bias):
            verdict += f", by less than the {abs(quantity.bias):.0%} that the tracer itself is off".replace("%", " %")
    else:
        verdict = f"these {row.counted} do not tell a difference"
    return f"{name}: {found}; {verdict}."


def _span(low: float | None, high: float | None, text: Callable[[float], str]) -> str:
    return "" if low is None or high is None else f" (95 % interval {text(low)} to {text(high)})"


def _notes(volumes: Sequence[Measurement], unit: Unit, rows: Sequence[Difference]) -> tuple[str, ...]:
    """Say what the intervals do and do not cover."""
    if unit == "volumes":
        notes = [
            "Intervals are over volumes, taken as independent: crops of one stack are not, and their intervals are too "
            "narrow."
        ]
    else:
        notes = [
            "One group is a single volume: intervals are over its filaments. They say how the filaments of these "
            "volumes differ and do not speak of a population; give two volumes or more in each group for that."
        ]
    count = sum(row.difference_low is not None for row in rows)
    if count:
        notes.append(f"Of {count} intervals about one in twenty misses the true value by chance.")
    notes.append("What the tracer gets wrong is in no interval; see the remark of each quantity.")
    sizes = np.array([found.voxel_size_um for found in volumes])
    if (sizes.max(axis=0) > sizes.min(axis=0) * (1.0 + VOXEL_TOLERANCE)).any():
        notes.append("The volumes differ in voxel size: a part of the differences may come from the sampling.")
    if any(found.is_intensity_estimated for found in volumes):
        notes.append(
            "The brightness of a filament was estimated in each volume by itself: differences in brightness between "
            "volumes are lost. Give one intensity to all of them to compare it."
        )
    noisy = sum(found.is_maybe_noise for found in volumes)
    if noisy:
        notes.append(f"In {noisy} of the {len(volumes)} volumes noise may have been traced; see their notes.")
    return tuple(notes)
