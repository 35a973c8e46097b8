"""Samplers: from noise to a latent as one generator each, with one signature.

They know the denoiser only as a callable.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from napari_vqldm.diffusion.base import Process
from napari_vqldm.diffusion.discrete import DiscreteProcess
from napari_vqldm.diffusion.flow import FlowProcess
from napari_vqldm.errors import ConfigError

Denoise = Callable[[Tensor, Tensor], Tensor]  # (x_t (B, C, d, h, w), t (B,)) -> prediction


@dataclass(frozen=True)
class SampleStep:
    """State after one step: ``latent`` is x at ``t`` (B, C, d, h, w), ``clean_estimate`` the x_0 seen from there."""

    index: int
    total: int
    t: float
    latent: Tensor
    clean_estimate: Tensor


Sampler = Callable[..., Iterator[SampleStep]]
Draw = Callable[[int], Tensor]  # number of a step -> fresh standard normal noise like x


def sample_euler(
    denoise: Denoise, process: Process, noise: Tensor, steps: int, draw: object = None
) -> Iterator[SampleStep]:
    """Euler steps along the flow from t = 1 to 0 on an even grid, shifted as the process says."""
    times = _flow(process, "euler").sampling_times(steps, _cells(noise))
    x = noise
    for i, (t, following) in enumerate(pairwise(times)):
        now = _times(x, t)
        v = denoise(x, now)
        clean = process.to_clean(x, v, now)
        x = x + (following - t) * v
        yield SampleStep(i + 1, steps, following, x, clean)


def sample_heun(
    denoise: Denoise, process: Process, noise: Tensor, steps: int, draw: object = None
) -> Iterator[SampleStep]:
    """Heun's second-order steps along the flow (arXiv:2206.00364, Alg. 1, without churn).

    Two evaluations a step, one in the last.
    """
    times = _flow(process, "heun").sampling_times(steps, _cells(noise))
    x = noise
    for i, (t, following) in enumerate(pairwise(times)):
        now = _times(x, t)
        v = denoise(x, now)
        clean = process.to_clean(x, v, now)
        ahead = x + (following - t) * v
        if i < steps - 1:
            v_ahead = denoise(ahead, _times(x, following))
            ahead = x + (following - t) * 0.5 * (v + v_ahead)
        x = ahead
        yield SampleStep(i + 1, steps, following, x, clean)


def sample_dpmpp_2m_sde(
    denoise: Denoise, process: Process, noise: Tensor, steps: int, draw: Draw | None = None
) -> Iterator[SampleStep]:
    """SDE-DPM-Solver++(2M) (Lu et al. 2022, arXiv:2211.01095, Sec. 6) on the path of the flow, signal 1 - t, noise t.

    Every step but the first and the last adds fresh noise, so that later steps can mend what earlier ones broke; the
    clean estimate is extrapolated from the last two, without which such a sampler makes dim volumes. One evaluation a
    step. At t = 1 clean volume and noise are independent, so the first step keeps ``noise``, which names the volume.
    """
    times = _flow(process, "dpmpp_2m_sde").sampling_times(steps, _cells(noise))
    if draw is None:
        raise ConfigError("sampler dpmpp_2m_sde adds noise on the way and needs a source of it: pass draw")
    x, before, last_h = noise, noise, 0.0  # ``last_h`` 0: no earlier estimate
    for i, (t, following) in enumerate(pairwise(times)):
        now = _times(x, t)
        v = denoise(x, now)
        clean = process.to_clean(x, v, now)
        if i == 0:
            x = x + (following - t) * v
        elif i == steps - 1:
            x = clean
        else:
            h = _half_log_snr(following) - _half_log_snr(t)
            estimate = clean + 0.5 * (h / last_h) * (clean - before) if last_h else clean
            kept = math.exp(-2 * h)
            x = (following / t) * kept**0.5 * x + (1 - following) * (1 - kept) * estimate
            x = x + following * (1 - kept) ** 0.5 * draw(i).to(x)
            before, last_h = clean, h
        yield SampleStep(i + 1, steps, following, x, clean)


def sample_dpmpp_2m(
    denoise: Denoise, process: Process, noise: Tensor, steps: int, draw: object = None
) -> Iterator[SampleStep]:
    """DPM-Solver++(2M) (Lu et al. 2022, arXiv:2211.01095, Alg. 2) on the levels (alpha, sigma) of any process.

    Deterministic and of second order with one evaluation a step: the clean estimate is extrapolated from the last two.
    The last step goes to the clean estimate. A path that starts without any signal, as the flow's, has no earlier
    estimate at a finite distance before its third step.
    """
    times = process.sampling_times(steps, _cells(noise))
    x, before, last_h = noise, noise, 0.0  # ``last_h`` 0: no earlier estimate
    for i, (t, following) in enumerate(pairwise(times)):
        now = _times(x, t)
        clean = process.to_clean(x, denoise(x, now), now)
        if i == steps - 1:
            x = clean
        else:
            alpha, sigma = process.levels(t)
            alpha_next, sigma_next = process.levels(following)
            kept = alpha * sigma_next / (sigma * alpha_next)  # exp(-h), h the step in log(alpha / sigma)
            h = -math.log(kept) if kept > 0 else 0.0
            estimate = clean + 0.5 * (h / last_h) * (clean - before) if last_h else clean
            x = (sigma_next / sigma) * x + alpha_next * (1 - kept) * estimate
            before, last_h = clean, h
        yield SampleStep(i + 1, steps, following, x, clean)


def sample_ddim(
    denoise: Denoise, process: Process, noise: Tensor, steps: int, draw: object = None
) -> Iterator[SampleStep]:
    """DDIM with eta = 0 (Song et al. 2021, arXiv:2010.02502, Eq. 12) on an even grid of training steps; no clipping."""
    discrete = _discrete(process, "ddim")
    times = discrete.sampling_times(steps, _cells(noise))
    x = noise
    for i, ((t, following), abar_next) in enumerate(zip(pairwise(times), discrete.alpha_bars(times)[1:], strict=True)):
        now = _times(x, t)
        prediction = denoise(x, now)
        clean = process.to_clean(x, prediction, now)
        x = abar_next**0.5 * clean + (1 - abar_next) ** 0.5 * process.to_noise(x, prediction, now)
        yield SampleStep(i + 1, steps, following, x, clean)


def sample_ddpm(
    denoise: Denoise, process: Process, noise: Tensor, steps: int, draw: Draw | None = None
) -> Iterator[SampleStep]:
    """Ancestral sampling (arXiv:2006.11239, Alg. 2) with the posterior variance.

    ``draw`` returns fresh noise of a step, like x.
    """
    discrete = _discrete(process, "ddpm")
    if draw is None:
        raise ConfigError("sampler ddpm adds noise on the way and needs a source of it: pass draw")
    times = discrete.sampling_times(steps, _cells(noise))
    x = noise
    for i, ((t, following), (abar, abar_next)) in enumerate(
        zip(pairwise(times), pairwise(discrete.alpha_bars(times)), strict=True)
    ):
        now = _times(x, t)
        clean = process.to_clean(x, denoise(x, now), now)
        alpha = abar / abar_next
        beta = 1 - alpha
        # Eq. 7: mean of q(x_{t-1} | x_t, x_0)
        x = (abar_next**0.5 * beta * clean + alpha**0.5 * (1 - abar_next) * x) / (1 - abar)
        if i + 1 < steps:
            x = x + (beta * (1 - abar_next) / (1 - abar)) ** 0.5 * draw(i).to(x)
        yield SampleStep(i + 1, steps, following, x, clean)


SAMPLERS: dict[str, Sampler] = {
    "euler": sample_euler,
    "heun": sample_heun,
    "dpmpp_2m": sample_dpmpp_2m,
    "dpmpp_2m_sde": sample_dpmpp_2m_sde,
    "ddim": sample_ddim,
    "ddpm": sample_ddpm,
}


def run_sampler(
    name: str, denoise: Denoise, process: Process, noise: Tensor, steps: int, draw: Draw | None = None
) -> Iterator[SampleStep]:
    """Yield one `SampleStep` per step of the named sampler.

    Parameters
    ----------
    name : str
        ``euler``, ``heun`` or ``dpmpp_2m_sde`` for flow, ``ddim`` or ``ddpm`` for epsilon and v, ``dpmpp_2m`` for all.
    denoise : callable
        ``(x_t, t) -> prediction``.
    process : Process
        Path that the denoiser was trained on.
    noise : Tensor
        (B, C, d, h, w), standard normal: x at t = 1. Its number of cells d h w counts for a shift of times.
    steps : int
        Number of steps, at least 1; for DDPM and DDIM at most the number of training steps.
    draw : callable, optional
        ``step -> noise`` like x: source of fresh noise (``dpmpp_2m_sde``, ``ddpm``).

    Raises
    ------
    ConfigError
        If the sampler is unknown, does not fit the process, or ``steps`` is out of range.
    """
    if name not in SAMPLERS:
        raise ConfigError(f"unknown sampler {name!r}: expected one of {', '.join(SAMPLERS)}")
    highest = process.num_train_timesteps if isinstance(process, DiscreteProcess) else 10_000
    if not 1 <= steps <= highest:
        raise ConfigError(f"expected 1 to {highest} steps, got {steps}")
    return SAMPLERS[name](denoise, process, noise, steps, draw)


def _half_log_snr(t: float) -> float:
    """log(signal / noise) on the path of the flow, 0 < t < 1."""
    return math.log((1 - t) / t)


def _cells(x: Tensor) -> int:
    """Cells d h w of a latent."""
    return math.prod(x.shape[2:])


def _times(x: Tensor, t: float) -> Tensor:
    return torch.full((len(x),), t, device=x.device, dtype=torch.float32)


def _flow(process: Process, sampler: str) -> FlowProcess:
    if not isinstance(process, FlowProcess):
        raise ConfigError(f"sampler {sampler!r} needs a model trained with objective 'flow': use one of its samplers")
    return process


def _discrete(process: Process, sampler: str) -> DiscreteProcess:
    if not isinstance(process, DiscreteProcess):
        raise ConfigError(
            f"sampler {sampler!r} needs a model trained with objective 'epsilon' or 'v': use one of its samplers"
        )
    return process
