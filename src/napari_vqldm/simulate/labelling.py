"""Light along filaments: gaps, an uneven label density, and the Poisson number of fluorophores.

The expected label density a(s) is log-normal; its logarithm is a stationary first-order autoregression along the
contour, of correlation exp(-s / l). Gaps are stretches without label. The number of fluorophores of a segment of
length d is Poisson with mean rho a(s) d; the brightness is that number over rho d. Its mean over all filaments is 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter

from napari_vqldm.config import LabellingConfig, Range
from napari_vqldm.simulate.draws import log_uniform, uniform
from napari_vqldm.simulate.filaments import GROWTH_STEP_UM, FloatArray, IntArray


@dataclass(frozen=True)
class Labelling:
    """Labelling of one volume.

    Attributes
    ----------
    fluorophores_per_um : float or None
        Mean number per contour length; None: a continuous line.
    intensity_cv : float
        Standard deviation over mean of the label density along a contour.
    correlation_um : float
        Distance at which the correlation of its logarithm is 1/e.
    gap_share : float
        Part of the length without label.
    gap_um : tuple of float
        Limits of the length of a gap.
    """

    fluorophores_per_um: float | None
    intensity_cv: float
    correlation_um: float
    gap_share: float
    gap_um: Range

    def brightness(self, lines: Sequence[FloatArray], rng: np.random.Generator) -> list[FloatArray]:
        """Draw the relative brightness of segments.

        Parameters
        ----------
        lines : sequence of ndarray
            (points, 3), um; segments of one growth step, except for the last one of a trimmed filament.
        rng : Generator
            Source of all draws.

        Returns
        -------
        list of ndarray
            (points - 1,) per line, 0 or more; the expectation of their mean, weighted by length, is 1.
        """
        if not lines:
            return []
        counts = np.array([len(line) - 1 for line in lines])
        lengths = np.concatenate([np.linalg.norm(np.diff(line, axis=0), axis=1) for line in lines])
        density = np.ones(len(lengths))
        if self.intensity_cv > 0:
            spread = float(np.sqrt(np.log1p(self.intensity_cv**2)))
            density *= np.exp(spread * _autoregression(counts, self.correlation_um, rng) - 0.5 * spread**2)
        if self.gap_share > 0:
            covered = labelled_part(lengths, self.gap_share, self.gap_um, rng)
            density *= covered / (1.0 - self.gap_share)
        if self.fluorophores_per_um is not None:
            expected = self.fluorophores_per_um * lengths
            number = rng.poisson(expected * density)
            density = np.divide(number, expected, out=np.zeros(len(lengths)), where=expected > 0)
        return np.split(density, np.cumsum(counts)[:-1])


def _autoregression(counts: IntArray, correlation_um: float, rng: np.random.Generator) -> FloatArray:
    """Draw stationary standard normal sequences of so many segments each, one after the other."""
    keep = float(np.exp(-GROWTH_STEP_UM / correlation_um))
    drive = float(np.sqrt(1.0 - keep**2))
    pieces = []
    for count in counts:
        kicks = rng.standard_normal(count)
        kicks[1:] *= drive  # the first value has the stationary spread itself
        pieces.append(lfilter([1.0], [1.0, -keep], kicks))
    return np.concatenate(pieces)


def labelled_part(lengths: FloatArray, share: float, gap_um: Range, rng: np.random.Generator) -> FloatArray:
    """Draw gaps along segments laid end to end and return the labelled part (n,) of each, 0 to 1.

    Gaps of uniform length alternate with exponential stretches, whose mean follows from the share. Where one filament
    ends and the next one begins, a gap may be cut in two.
    """
    mean_gap = 0.5 * (gap_um[0] + gap_um[1])
    mean_stretch = mean_gap * (1.0 - share) / share
    ends = np.concatenate([[0.0], np.cumsum(lengths)])
    most = int(2.0 * ends[-1] / (mean_gap + mean_stretch)) + 32
    gaps = rng.uniform(gap_um[0], gap_um[1], most)
    stretches = rng.exponential(mean_stretch, most)
    edges = np.cumsum(np.stack([stretches, gaps], axis=1).reshape(-1))  # label ends, label begins, ...
    dark = np.concatenate([[0.0], np.repeat(np.cumsum(gaps), 2)])[: len(edges)]  # length of gaps up to each edge
    unlabelled = np.diff(np.interp(ends, edges, dark))
    part = 1.0 - np.divide(unlabelled, lengths, out=np.zeros(len(lengths)), where=lengths > 0)
    labelled: FloatArray = np.clip(part, 0.0, 1.0)
    return labelled


def draw_labelling(config: LabellingConfig, rng: np.random.Generator) -> Labelling | None:
    """Draw the labelling of a volume, or None where every filament is a continuous line of one brightness."""
    density = config.fluorophores_per_um
    if density is None and config.intensity_cv[1] == 0 and config.gap_share[1] == 0:
        return None
    return Labelling(
        intensity_cv=uniform(rng, config.intensity_cv),
        correlation_um=uniform(rng, config.correlation_um),
        gap_share=uniform(rng, config.gap_share),
        gap_um=config.gap_um,
        fluorophores_per_um=None if density is None else log_uniform(rng, density),
    )
