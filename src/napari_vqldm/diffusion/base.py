"""The path between data and noise, and what the denoiser predicts on it. Knows no network.

Time runs from 0 (data) to 1 (noise) for every objective; see ADR 0007.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor


class Process(ABC):
    """Noising, training target and the way back to a clean estimate. Tensors (B, C, d, h, w), times (B,) in [0, 1].

    On every path x_t = alpha x_0 + sigma eps, with the levels alpha of the data and sigma of the noise.
    """

    @abstractmethod
    def sample_times(self, count: int, generator: torch.Generator, cells: int | None = None) -> Tensor:
        """Draw training times (count,) on the CPU, for latents of ``cells`` cells (d h w)."""

    @abstractmethod
    def sampling_times(self, steps: int, cells: int | None = None) -> list[float]:
        """Return the ``steps`` times that a sampler evaluates, from the noise on, and 0, where it ends."""

    @abstractmethod
    def levels(self, t: float) -> tuple[float, float]:
        """Levels (alpha, sigma) of data and noise at a time."""

    @abstractmethod
    def snr(self, t: Tensor) -> Tensor:
        """Signal-to-noise ratio alpha^2 / sigma^2 (B,)."""

    @abstractmethod
    def noisy(self, x_0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """x_t from data, standard normal noise and time."""

    @abstractmethod
    def target(self, x_0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """What the denoiser shall predict."""

    @abstractmethod
    def to_clean(self, x_t: Tensor, prediction: Tensor, t: Tensor) -> Tensor:
        """Estimate of x_0 from a prediction."""

    @abstractmethod
    def to_noise(self, x_t: Tensor, prediction: Tensor, t: Tensor) -> Tensor:
        """Estimate of eps from a prediction."""

    @abstractmethod
    def clean_error(self, t: Tensor) -> Tensor:
        """Squared error of `to_clean` per squared error of the prediction (B,)."""

    def min_snr_weight(self, t: Tensor, gamma: float) -> Tensor:
        """Weight (B,) of the prediction's squared error that makes it min(snr, gamma) times the squared error of x_0.

        Times of little noise then count no more than the ratio ``gamma`` (Hang et al. 2023, arXiv:2303.09556, Sec.
        3.4): min(snr, gamma) / snr for ``epsilon``, / (snr + 1) for ``v``, times t^2 for ``flow``.
        """
        return self.snr(t).clamp(max=gamma) * self.clean_error(t)


def logit_normal(count: int, generator: torch.Generator) -> Tensor:
    """Draw (count,) from the logit-normal(0, 1) distribution on [0, 1] (arXiv:2403.03206, Eq. 19), on the CPU."""
    return torch.sigmoid(torch.randn(count, generator=generator))


def like(t: Tensor, x: Tensor) -> Tensor:
    """Return one number per sample (B,) in the device, type and rank of x."""
    return t.to(x.device, x.dtype).view(-1, *([1] * (x.ndim - 1)))
