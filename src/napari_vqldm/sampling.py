"""The one loop from noise to latent, shared by every verb."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from napari_vqldm.diffusion import Process, SampleStep, guided, run_sampler
from napari_vqldm.models.build import AnyDenoiser

StepNoise = Callable[[int], Tensor]  # number of a step -> (C, d, h, w)

_NOISE_STREAM, _STEP_STREAM = 0x6E6F697365, 0x73746570  # separate the draws of one volume from each other


def initial_noise(seed: int, index: int, shape: Sequence[int]) -> Tensor:
    """Standard normal noise of volume ``index`` of ``seed``: (C, d, h, w), drawn on the CPU.

    A function of its arguments alone: the same whatever the batch, the device or the number of workers.
    """
    return torch.randn(*shape, generator=_generator(seed, index, _NOISE_STREAM))


def step_noise(seed: int, index: int, shape: Sequence[int]) -> StepNoise:
    """Return the fresh noise (C, d, h, w) of every step of volume ``index`` of ``seed``, for stochastic samplers.

    Drawn on the CPU, a function of its arguments and the number of the step alone.
    """
    return lambda step: torch.randn(*shape, generator=_generator(seed, index, _STEP_STREAM, step))


def sample_latents(
    denoiser: AnyDenoiser,
    process: Process,
    noise: Tensor,
    *,
    steps: int,
    sampler: str,
    condition: Tensor | None = None,
    guidance_scale: float = 1.0,
    step_noises: Sequence[StepNoise] | None = None,
) -> Iterator[SampleStep]:
    """Walk from noise to standardised latents, one `SampleStep` per step; close the generator to cancel.

    Parameters
    ----------
    denoiser : Denoiser or MonaiDenoiser
        In eval mode.
    process : Process
        Path that it was trained on.
    noise : Tensor
        (B, C, d, h, w), see `initial_noise`; defines batch, grid and device.
    steps, sampler
        See `run_sampler`.
    condition : Tensor, optional
        (B, width), see `encode_condition`; None for unconditional.
    guidance_scale : float
        1 is no guidance.
    step_noises : sequence of callable, optional
        Per volume, see `step_noise`; needed by stochastic samplers only.
    """

    def conditional(x_t: Tensor, t: Tensor) -> Tensor:
        return denoiser(x_t, t, condition).float()  # type: ignore[no-any-return]

    def unconditional(x_t: Tensor, t: Tensor) -> Tensor:
        return denoiser(x_t, t, None).float()  # type: ignore[no-any-return]

    draw = None
    if step_noises is not None:
        sources = step_noises

        def draw(step: int) -> Tensor:
            return torch.stack([source(step) for source in sources])

    denoise = conditional if condition is None else guided(conditional, unconditional, guidance_scale)
    steps_of = run_sampler(sampler, denoise, process, noise, steps, draw)
    while True:
        # Not held across the yield: the caller's code between two steps keeps its own grad mode.
        with torch.no_grad():
            step = next(steps_of, None)
        if step is None:
            return
        yield step


def _generator(seed: int, index: int, *stream: int) -> torch.Generator:
    """Generator of (seed, index, stream), mixed by NumPy's SeedSequence so that neighbouring keys are unrelated."""
    state = np.random.SeedSequence([seed & (2**64 - 1), index, *stream]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) & (2**63 - 1))
