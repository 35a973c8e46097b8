"""Every random choice of training is a function of (seed, stage, step, sample index), never of what came before.

That is what makes a run resumable at any step, and independent of batch size, workers and devices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from napari_vqldm.config import Range

# Streams of one seed. Numbers are part of the format: changing one changes every run.
STREAMS = {
    "autoencoder": 1,
    "latents": 2,
    "denoiser": 3,
    "gate": 4,
    "weights": 5,
    "codebook": 6,
    "split": 7,
    "held_out": 8,
    "discriminator": 9,
}


@dataclass(frozen=True)
class Key:
    """Address of one random draw."""

    seed: int
    stream: str
    step: int = 0
    index: int = 0

    def rng(self, purpose: int = 0) -> np.random.Generator:
        """Return the numpy generator of this key."""
        words = [self.seed, STREAMS[self.stream], self.step, self.index, purpose]
        return np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))

    def torch_seed(self, purpose: int = 1) -> int:
        """Return a seed for a torch generator."""
        return int(self.rng(purpose).integers(2**63 - 1))

    def torch_generator(self, device: str | torch.device = "cpu", purpose: int = 1) -> torch.Generator:
        """Return the torch generator of this key."""
        return torch.Generator(device).manual_seed(self.torch_seed(purpose))


def keyed_normal(
    keys: list[Key], shape: tuple[int, ...], device: str | torch.device = "cpu", purpose: int = 2
) -> Tensor:
    """Standard normal numbers (len(keys), *shape), row i a function of keys[i] and the kind of device alone."""
    rows = [torch.randn(shape, generator=key.torch_generator(device, purpose), device=device) for key in keys]
    return torch.stack(rows)


def log_uniform(low_high: Range, fraction: float) -> float:
    """Return the value at ``fraction`` in [0, 1] of the logarithmic range; for a zero bound the linear one."""
    low, high = low_high
    if low <= 0:
        return low + fraction * (high - low)
    return float(low * (high / low) ** fraction)
