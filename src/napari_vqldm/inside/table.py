"""Tables of a codebook: use and rank of every code, the codes next to it, the places where it stands. NumPy alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_vqldm.errors import ConfigError, ShapeError

if TYPE_CHECKING:
    from napari_vqldm.codebook import CodebookUsage


@dataclass(frozen=True)
class UsageRow:
    """How one code is used.

    Attributes
    ----------
    code, rank : int
        Index from 0; 1 for the most used code, equal use by index.
    filament_cells, background_cells : int
        Cells that hold a filament, and cells that do not.
    share : float
        Of all cells, 0 to 1; 0 where no cell was counted.
    is_dead : bool
        Never used.
    """

    code: int
    rank: int
    filament_cells: int
    background_cells: int
    share: float
    is_dead: bool


@dataclass(frozen=True)
class Neighbour:
    """A code next to another one; ``distance`` is Euclidean, in the units of the code vectors."""

    code: int
    distance: float


def rank_codes(counts: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int64]:
    """Return the rank (K,) of every code by its count (K,): 1 is the most used, equal counts go by index."""
    ranks = np.empty(len(counts), np.int64)
    ranks[np.argsort(-counts.astype(np.int64), kind="stable")] = np.arange(1, len(counts) + 1)
    return ranks


def usage_rows(usage: CodebookUsage) -> list[UsageRow]:
    """Return one row for every code, in the order of their indices."""
    filament, background = usage.filament.counts, usage.background.counts
    counts = filament + background
    ranks, total = rank_codes(counts), max(1, int(counts.sum()))
    return [
        UsageRow(code, int(ranks[code]), int(filament[code]), int(background[code]), count / total, count == 0)
        for code, count in enumerate(counts.tolist())
    ]


def places(codes: npt.NDArray[np.integer[Any]], code: int) -> npt.NDArray[np.int64]:
    """Return the cells (n, 3), indices (z, y, x), of a code map (d, h, w) where a code stands.

    Raises
    ------
    ShapeError
        If ``codes`` has another number of axes.
    """
    if codes.ndim != 3:
        raise ShapeError(f"expected a code map (d, h, w), got {codes.ndim} axes of shape {codes.shape}")
    return np.argwhere(codes == code).astype(np.int64)


def nearest_codes(codebook: npt.NDArray[np.floating[Any]], code: int, n: int = 8) -> list[Neighbour]:
    """Return the codes whose vectors lie nearest to that of ``code``, nearest first, itself left out.

    Parameters
    ----------
    codebook : ndarray
        (K, C), such as `napari_vqldm.inside.plane.code_vectors` returns.
    code : int
        From 0 to K - 1.
    n : int
        How many, 0 or more; all others where there are fewer.

    Raises
    ------
    ShapeError
        If ``codebook`` is no table.
    ConfigError
        If there is no such code, or ``n`` is negative.
    """
    if codebook.ndim != 2:
        raise ShapeError(f"expected a codebook (K, C), got shape {codebook.shape}")
    check_code(code, len(codebook))
    if n < 0:
        raise ConfigError(f"expected 0 or more neighbours, got {n}")
    vectors = codebook.astype(np.float64)
    distances = np.linalg.norm(vectors - vectors[code], axis=1)
    order = [int(other) for other in np.argsort(distances, kind="stable") if other != code]
    return [Neighbour(other, float(distances[other])) for other in order[:n]]


def check_code(code: int, codebook_size: int) -> None:
    """Refuse a code that a codebook does not have."""
    if not 0 <= code < codebook_size:
        raise ConfigError(f"expected a code from 0 to {codebook_size - 1}, got {code}")
