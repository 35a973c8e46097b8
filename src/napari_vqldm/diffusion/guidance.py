"""Classifier-free guidance as a wrapper around the denoiser."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

Denoise = Callable[[Tensor, Tensor], Tensor]


def guided(conditional: Denoise, unconditional: Denoise, guidance_scale: float) -> Denoise:
    """Uncond + s (cond - uncond) (Ho & Salimans 2022, arXiv:2207.12598, in the convention where s = 1 is no guidance).

    With s = 1 the unconditional network is not evaluated at all.
    """
    if guidance_scale == 1.0:
        return conditional

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        without = unconditional(x_t, t)
        return without + guidance_scale * (conditional(x_t, t) - without)

    return denoise
