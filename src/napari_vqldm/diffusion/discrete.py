"""The path of DDPM in discrete steps, and the two objectives on it."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_vqldm.config import DiffusionConfig
from napari_vqldm.diffusion.base import Process, like, logit_normal


class DiscreteProcess(Process):
    """DDPM (Ho et al. 2020, arXiv:2006.11239): x_t = sqrt(abar) x_0 + sqrt(1 - abar) eps.

    What is predicted is up to the subclass. The step number n in 0..T-1 (0 = almost clean) goes around as t = n / T.
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

    def sample_times(self, count: int, generator: torch.Generator, cells: int | None = None) -> Tensor:
        """Uniform over the steps, or step floor(T u) of a logit-normal u (arXiv:2403.03206, Eq. 19).

        ``cells`` changes nothing.
        """
        steps = self.num_train_timesteps
        if self.config.time_sampling == "logit_normal":
            return (logit_normal(count, generator) * steps).floor().clamp(max=steps - 1) / steps
        return torch.randint(steps, (count,), generator=generator) / steps

    def sampling_times(self, steps: int, cells: int | None = None) -> list[float]:
        """Training steps, evenly from T-1 down to 0, both included, and the end.

        Sampling starts at full noise. The grid is MONAI's; each update goes to the next number of the grid, where MONAI
        1.6.1 goes to number - T // steps and so leaves its own grid unless steps equals T. ``cells`` changes nothing.
        """
        last = self.num_train_timesteps - 1
        numbers = [last] if steps == 1 else torch.linspace(last, 0, steps).round().long().tolist()
        return [int(n) / self.num_train_timesteps for n in numbers] + [0.0]

    def levels(self, t: float) -> tuple[float, float]:
        """(sqrt(abar), sqrt(1 - abar)); step 0 keeps a little noise, see `alpha_bars` for the clean end."""
        abar = float(self.alpha_bar(torch.tensor(t, dtype=torch.float64)))
        return abar**0.5, (1 - abar) ** 0.5

    def alpha_bars(self, times: list[float]) -> list[float]:
        """Abar at each of the `sampling_times`, 1 at the last, the clean end."""
        known: list[float] = self.alpha_bar(torch.tensor(times[:-1], dtype=torch.float64)).tolist()
        return [*known, 1.0]

    def snr(self, t: Tensor) -> Tensor:
        """Abar / (1 - abar)."""
        abar = self.alpha_bar(t)
        return abar / (1 - abar)

    def noisy(self, x_0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """Eq. 4 of arXiv:2006.11239."""
        alpha, sigma = self._levels_like(t, x_0)
        return alpha * x_0 + sigma * eps

    def _levels_like(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Levels of each sample, in the type of x."""
        abar = like(self.alpha_bar(t), x)
        return abar.sqrt(), (1 - abar).sqrt()


class EpsilonProcess(DiscreteProcess):
    """Prediction eps (arXiv:2006.11239, Sec. 3.2)."""

    def target(self, x_0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """The noise."""
        return eps

    def to_clean(self, x_t: Tensor, prediction: Tensor, t: Tensor) -> Tensor:
        """x_0 = (x_t - sqrt(1 - abar) eps) / sqrt(abar)."""
        alpha, sigma = self._levels_like(t, x_t)
        return (x_t - sigma * prediction) / alpha

    def to_noise(self, x_t: Tensor, prediction: Tensor, t: Tensor) -> Tensor:
        """The prediction itself."""
        return prediction

    def clean_error(self, t: Tensor) -> Tensor:
        """(1 - abar) / abar."""
        return 1 / self.snr(t)


class VelocityProcess(DiscreteProcess):
    """Prediction v = sqrt(abar) eps - sqrt(1 - abar) x_0 (Salimans & Ho 2022, arXiv:2202.00512, App. D).

    Unlike eps it determines x_0 at full noise too.
    """

    def target(self, x_0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """The velocity v."""
        alpha, sigma = self._levels_like(t, x_0)
        return alpha * eps - sigma * x_0

    def to_clean(self, x_t: Tensor, prediction: Tensor, t: Tensor) -> Tensor:
        """x_0 = sqrt(abar) x_t - sqrt(1 - abar) v."""
        alpha, sigma = self._levels_like(t, x_t)
        return alpha * x_t - sigma * prediction

    def to_noise(self, x_t: Tensor, prediction: Tensor, t: Tensor) -> Tensor:
        """Eps = sqrt(1 - abar) x_t + sqrt(abar) v."""
        alpha, sigma = self._levels_like(t, x_t)
        return sigma * x_t + alpha * prediction

    def clean_error(self, t: Tensor) -> Tensor:
        """1 - abar."""
        return 1 / (self.snr(t) + 1)
