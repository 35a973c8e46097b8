"""The straight path of rectified flow."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from napari_vqldm.config import DiffusionConfig
from napari_vqldm.diffusion.base import Process, like, logit_normal


class FlowProcess(Process):
    """Rectified flow (Liu et al. 2022, arXiv:2209.03003): x_t = (1 - t) x_0 + t eps, prediction v = eps - x_0."""

    def __init__(self, config: DiffusionConfig) -> None:
        self.config = config

    def time_shift(self, cells: int | None = None) -> float:
        """Factor s of `shift` for a latent of ``cells`` cells: ``time_shift`` sqrt(cells / reference_cells), from 1.

        Noise of one level hides less of a larger latent, as averages over more cells are surer; with the root they are
        equally sure (Esser et al. 2024, arXiv:2403.03206, Eq. 23). Without ``reference_cells`` or ``cells`` it is
        ``time_shift``.
        """
        reference = self.config.reference_cells
        if reference is None or cells is None:
            return self.config.time_shift
        return max(1.0, self.config.time_shift * math.sqrt(cells / reference))

    def shift(self, t: Tensor, cells: int | None = None) -> Tensor:
        """Move times toward the noise, ends stay: s t / (1 + (s - 1) t) (Esser et al. 2024, arXiv:2403.03206, Eq. 23).

        Filaments fill a small part of the latent with large amplitudes, so that they are decided upon at times near 1;
        near 0 there is only the posterior's own noise left to predict. Training times and sampling steps both move.
        """
        s = self.time_shift(cells)
        return s * t / (1 + (s - 1) * t)

    def sample_times(self, count: int, generator: torch.Generator, cells: int | None = None) -> Tensor:
        """Uniform, or logit-normal(0, 1) (arXiv:2403.03206, Eq. 19), then shifted."""
        if self.config.time_sampling == "logit_normal":
            return self.shift(logit_normal(count, generator), cells)
        return self.shift(torch.rand(count, generator=generator), cells)

    def sampling_times(self, steps: int, cells: int | None = None) -> list[float]:
        """Times from 1 to 0, both included, on an even grid, then shifted."""
        times: list[float] = self.shift(torch.linspace(1.0, 0.0, steps + 1, dtype=torch.float64), cells).tolist()
        return times

    def levels(self, t: float) -> tuple[float, float]:
        """(1 - t, t)."""
        return 1 - t, t

    def snr(self, t: Tensor) -> Tensor:
        """((1 - t) / t)^2, infinite at 0."""
        return ((1 - t) / t).square()

    def noisy(self, x_0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """(1 - t) x_0 + t eps."""
        t = like(t, x_0)
        return (1 - t) * x_0 + t * eps

    def target(self, x_0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """Velocity eps - x_0, constant in t."""
        return eps - x_0

    def to_clean(self, x_t: Tensor, prediction: Tensor, t: Tensor) -> Tensor:
        """x_0 = x_t - t v."""
        return x_t - like(t, x_t) * prediction

    def to_noise(self, x_t: Tensor, prediction: Tensor, t: Tensor) -> Tensor:
        """Eps = x_t + (1 - t) v."""
        return x_t + (1 - like(t, x_t)) * prediction

    def clean_error(self, t: Tensor) -> Tensor:
        """t^2, as x_0 = x_t - t v."""
        return t.square()
