"""What an evaluation found, and its progress."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from napari_vqldm.metrics.uncertainty import Spread
from napari_vqldm.report.copies import Copies
from napari_vqldm.report.profile import Profile
from napari_vqldm.report.sets import Array, VolumeSet


@dataclass(frozen=True)
class Evaluation:
    """All that an evaluation found.

    ``scores`` is JSON-compatible up to NaN; the rest is what the page draws.
    """

    scores: dict[str, Any]
    sets: dict[str, VolumeSet]
    profiles: dict[str, list[Profile]]
    copies: Copies | None = None
    spread: Spread | None = None
    shown: tuple[Array, ...] = ()  # of one simulated volume: noise-free, input, reconstruction


@dataclass(frozen=True)
class EvaluationStep:
    """One piece of work is done; ``result`` comes with the last."""

    index: int
    total: int
    doing: str
    result: Evaluation | None = None
