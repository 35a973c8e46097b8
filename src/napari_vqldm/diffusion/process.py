"""The path between data and noise, and what the denoiser predicts on it. Knows no network.

Time runs from 0 (data) to 1 (noise) for both objectives; see ADR 0007.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from napari_vqldm.config import DiffusionConfig


class Process(ABC):
    """Noising, training target and the way back to a clean estimate. Tensors (B, C, d, h, w), times (B,) in [0, 1]."""

    @abstractmethod
    def sample_times(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw training times (count,) on the CPU."""

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


class FlowProcess(Process):
    """Rectified flow (Liu et al. 2022, arXiv:2209.03003): x_t = (1 - t) x_0 + t eps, prediction v = eps - x_0."""

    def __init__(self, config: DiffusionConfig) -> None:
        self.config = config

    def shift(self, t: Tensor) -> Tensor:
        """Move times toward the noise, ends stay: s t / (1 + (s - 1) t) (Esser et al. 2024, arXiv:2403.03206, Eq. 23).

        Filaments fill a small part of the latent with large amplitudes, so that they are decided upon at times near 1;
        near 0 there is only the posterior's own noise left to predict. Training times and sampling steps both move.
        """
        s = self.config.time_shift
        return s * t / (1 + (s - 1) * t)

    def sample_times(self, count: int, generator: torch.Generator) -> Tensor:
        """Uniform, or logit-normal(0, 1) (arXiv:2403.03206, Eq. 19), then shifted."""
        if self.config.time_sampling == "logit_normal":
            return self.shift(torch.sigmoid(torch.randn(count, generator=generator)))
        return self.shift(torch.rand(count, generator=generator))

    def noisy(self, x_0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """(1 - t) x_0 + t eps."""
        t = _like(t, x_0)
        return (1 - t) * x_0 + t * eps

    def target(self, x_0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """Velocity eps - x_0, constant in t."""
        return eps - x_0

    def to_clean(self, x_t: Tensor, prediction: Tensor, t: Tensor) -> Tensor:
        """x_0 = x_t - t v."""
        return x_t - _like(t, x_t) * prediction

    def to_noise(self, x_t: Tensor, prediction: Tensor, t: Tensor) -> Tensor:
        """Eps = x_t + (1 - t) v."""
        return x_t + (1 - _like(t, x_t)) * prediction


class EpsilonProcess(Process):
    """DDPM (Ho et al. 2020, arXiv:2006.11239): x_t = sqrt(abar) x_0 + sqrt(1 - abar) eps, prediction eps.

    The step number n in 0..T-1 (0 = almost clean) is handed around as t = n / T.
    """

    def __init__(self, config: DiffusionConfig) -> None:
        self.config = config
        self.num_train_timesteps = config.num_train_timesteps
        if config.schedule == "scaled_linear_beta":
            root = torch.linspace(
                config.beta_start**0.5, config.beta_end**0.5, self.num_train_timesteps, dtype=torch.float64
            )
            betas = root.square()
        else:
            betas = torch.linspace(config.beta_start, config.beta_end, self.num_train_timesteps, dtype=torch.float64)
        self.alphas_cumprod = torch.cumprod(1.0 - betas, dim=0)

    def step_number(self, t: Tensor) -> Tensor:
        """Integer step of a time."""
        return (t.double() * self.num_train_timesteps).round().long().clamp(0, self.num_train_timesteps - 1)

    def alpha_bar(self, t: Tensor) -> Tensor:
        """Cumulative product of alphas at time t, same shape as t."""
        return self.alphas_cumprod.to(t.device)[self.step_number(t)]

    def sample_times(self, count: int, generator: torch.Generator) -> Tensor:
        """Uniform over the steps."""
        return torch.randint(self.num_train_timesteps, (count,), generator=generator) / self.num_train_timesteps

    def noisy(self, x_0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """Eq. 4 of arXiv:2006.11239."""
        abar = _like(self.alpha_bar(t), x_0)
        return abar.sqrt() * x_0 + (1 - abar).sqrt() * eps

    def target(self, x_0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """The noise."""
        return eps

    def to_clean(self, x_t: Tensor, prediction: Tensor, t: Tensor) -> Tensor:
        """x_0 = (x_t - sqrt(1 - abar) eps) / sqrt(abar)."""
        abar = _like(self.alpha_bar(t), x_t)
        return (x_t - (1 - abar).sqrt() * prediction) / abar.sqrt()

    def to_noise(self, x_t: Tensor, prediction: Tensor, t: Tensor) -> Tensor:
        """The prediction itself."""
        return prediction


def make_process(config: DiffusionConfig) -> Process:
    """Build the process of a configuration."""
    return FlowProcess(config) if config.objective == "flow" else EpsilonProcess(config)


def _like(t: Tensor, x: Tensor) -> Tensor:
    return t.to(x.device, x.dtype).view(-1, *([1] * (x.ndim - 1)))
