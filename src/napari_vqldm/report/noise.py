"""Noise of volumes, and whether that of a folder is the reference's: else distances measure the camera, too."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_vqldm.metrics.noise import noise_sd
from napari_vqldm.report.sets import Array

LIKE = (0.8, 1.25)  # ratio of medians within which two noises are called alike
# Times the reference's ratio of the 90th to the 10th percentile. Sets of 16 volumes of the standard tier with a camera
# drawn for each are told in 99 of 100 draws (by 2 instead: in 91), those of the one camera have 0.97 to 1.01.
MOST_SPREAD = 1.5


@dataclass(frozen=True)
class Noise:
    """Noise of the volumes of a set in filament units: median, 10th and 90th percentile."""

    median: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """Return it as the scores keep it."""
        return {"median": self.median, "p10": self.low, "p90": self.high}


def noise_of(volumes: Iterable[Array]) -> Noise:
    """Estimate the noise of every volume of a set, by `noise_sd`."""
    low, median, high = np.percentile([noise_sd(volume) for volume in volumes], (10, 50, 90))
    return Noise(float(median), float(low), float(high))


def noise_note(candidate: Noise, reference: Noise) -> str | None:
    """Say that the noise of a folder is not that of the reference; None where it is, or the reference shows none.

    It is not where the ratio of the medians leaves ``LIKE``, or where the 90th percentile over the 10th is more than
    ``MOST_SPREAD`` times that of the reference.
    """
    if reference.low <= 0:
        return None
    ratio, low, high = (value / reference.median for value in (candidate.median, candidate.low, candidate.high))
    is_wide = candidate.high * reference.low > MOST_SPREAD * reference.high * candidate.low
    if LIKE[0] <= ratio <= LIKE[1] and not is_wide:
        return None
    return (
        f"Their noise is {ratio:.2g} times that of the set ({low:.2g} to {high:.2g}): distances measure the camera "
        "too; compare noise-free volumes (-clean files), or render with the set's camera."
    )


def compared_noise(candidate: Iterable[Array], reference: Iterable[Array]) -> dict[str, Any]:
    """Return both noises and the ``note`` on them, for the scores."""
    ours, theirs = noise_of(candidate), noise_of(reference)
    return {"candidate": ours.to_dict(), "reference": theirs.to_dict(), "note": noise_note(ours, theirs)}
