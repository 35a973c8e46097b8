"""The one loop from noise to latent, shared by every verb."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from napari_vqldm.diffusion import Process, SampleStep, guided, run_sampler
from napari_vqldm.models.denoiser import Denoiser

_NOISE_STREAM, _STEP_STREAM = 0x6E6F697365, 0x73746570  # separate the draws of one volume from each other


def initial_noise(seed: int, index: int, shape: Sequence[int]) -> Tensor:
    """Standard normal noise of volume ``index`` of ``seed``: (C, d, h, w), drawn on the CPU.

    A function of its arguments alone: the same whatever the batch, the device or the number of workers.
    """
    return torch.randn(*shape, generator=_generator(seed, index, _NOISE_STREAM))


def sample_latents(
    denoiser: Denoiser,
    process: Process,
    noise: Tensor,
    *,
    steps: int,
    sampler: str,
    condition: Tensor | None = None,
    guidance_scale: float = 1.0,
    keys: Sequence[tuple[int, int]] | None = None,
) -> Iterator[SampleStep]:
    """Walk from noise to standardised latents, one `SampleStep` per step; close the generator to cancel.

    Parameters
    ----------
    denoiser : Denoiser
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
    keys : sequence of (seed, index), optional
        Identity of each volume, from which stochastic samplers (DDPM) draw their noise; needed by them only.
    """

    def conditional(x_t: Tensor, t: Tensor) -> Tensor:
        return denoiser(x_t, t, condition).float()  # type: ignore[no-any-return]

    def unconditional(x_t: Tensor, t: Tensor) -> Tensor:
        return denoiser(x_t, t, None).float()  # type: ignore[no-any-return]

    draw = None
    if keys is not None:
        generators = [_generator(seed, index, _STEP_STREAM) for seed, index in keys]

        def draw() -> Tensor:
            return torch.stack([torch.randn(noise.shape[1:], generator=g) for g in generators])

    denoise = conditional if condition is None else guided(conditional, unconditional, guidance_scale)
    steps_of = run_sampler(sampler, denoise, process, noise, steps, draw)
    while True:
        # Not held across the yield: the caller's code between two steps keeps its own grad mode.
        with torch.no_grad():
            step = next(steps_of, None)
        if step is None:
            return
        yield step


def _generator(seed: int, index: int, stream: int) -> torch.Generator:
    """Generator of (seed, index, stream), mixed by NumPy's SeedSequence so that neighbouring keys are unrelated."""
    state = np.random.SeedSequence([seed & (2**64 - 1), index, stream]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) & (2**63 - 1))
