"""From expected electrons to what a detector writes: shot noise, fixed pattern, saturation, whole counts."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from napari_vqldm.config import CameraConfig

# Streams of one sensor.
_READ_NOISE, _HOT = 0, 1


def shot_noise(expected: Tensor, excess_noise: float, generator: torch.Generator) -> Tensor:
    """Draw photoelectrons, multiplied by a detector whose gain fluctuates.

    Parameters
    ----------
    expected : Tensor
        Mean electrons, 0 or more.
    excess_noise : float
        F: the variance is F^2 times the mean. 1: Poisson.
    generator : torch.Generator
        On the device of ``expected``.

    Returns
    -------
    Tensor
        Electrons in units of the mean multiplication, like ``expected``; whole numbers only for F = 1. Each of n
        electrons is multiplied by a gamma-distributed gain of mean 1 and variance F^2 - 1 (Robbins and Hadwen, IEEE
        Trans. Electron Devices 50, 1227, 2003: exponential for F^2 = 2), so their sum has the shape n / (F^2 - 1).
    """
    electrons = torch.poisson(expected, generator=generator)
    if excess_noise <= 1.0:
        return electrons
    spread = excess_noise**2 - 1.0
    # torch.distributions takes no generator; the function beneath it does.
    multiplied = torch._standard_gamma(electrons.clamp(min=1.0) / spread, generator=generator) * spread
    return torch.where(electrons > 0, multiplied, electrons)


@lru_cache(maxsize=16)
def _pattern(height: int, width: int, sensor_seed: int, stream: int) -> Tensor:
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([sensor_seed, height, width, stream])))
    if stream == _READ_NOISE:
        return torch.from_numpy(rng.standard_normal((height, width)).astype(np.float32))
    return torch.from_numpy(np.stack([rng.uniform(size=(height, width)), rng.standard_exponential((height, width))]))


def read_noise_map(camera: CameraConfig, height: int, width: int) -> Tensor:
    """Return the standard deviation (y, x), electrons, of every pixel's read noise: log-normal, with a long tail.

    The median is ``read_noise_e``. The map is a function of the sensor seed and of the size of the sensor.
    """
    logarithm = _pattern(height, width, camera.sensor_seed, _READ_NOISE) * camera.read_noise_spread
    return camera.read_noise_e * torch.exp(logarithm)


def hot_pixel_map(camera: CameraConfig, height: int, width: int) -> Tensor:
    """Return the mean excess (y, x), electrons per exposure: 0, in hot pixels exponential about ``hot_pixel_e``."""
    place, strength = _pattern(height, width, camera.sensor_seed, _HOT)
    excess: Tensor = torch.where(place < camera.hot_pixel_share, strength * camera.hot_pixel_e, 0.0).float()
    return excess


def detect(expected: Tensor, camera: CameraConfig, generator: torch.Generator) -> Tensor:
    """Draw what the pixels hold: shot noise, then read noise, then hot pixels.

    Parameters
    ----------
    expected : Tensor
        (..., y, x), mean electrons.
    camera : CameraConfig
        Detector.
    generator : torch.Generator
        On the device of ``expected``.

    Returns
    -------
    Tensor
        Electrons, like ``expected``, not yet limited by the full well.
    """
    height, width = expected.shape[-2:]
    electrons = shot_noise(expected, camera.excess_noise, generator)
    if camera.read_noise_e > 0.0:
        noise = torch.randn(electrons.shape, generator=generator, device=electrons.device, dtype=electrons.dtype)
        same_everywhere = camera.read_noise_spread == 0.0
        electrons += noise * (
            camera.read_noise_e if same_everywhere else read_noise_map(camera, height, width).to(electrons)
        )
    if camera.hot_pixel_share > 0.0:
        hot = hot_pixel_map(camera, height, width).to(electrons)
        electrons += torch.poisson(hot.expand_as(electrons).contiguous(), generator=generator)
    return electrons


def to_counts(electrons: Tensor, camera: CameraConfig) -> Tensor:
    """Convert electrons to camera counts: full well, gain and offset, then rounding to the bits and clipping."""
    if camera.full_well_e is not None:
        electrons = electrons.clamp(max=camera.full_well_e)
    counts: Tensor = camera.offset_adu + electrons / camera.gain_e_per_adu
    if camera.bit_depth is not None:
        counts = counts.round().clamp(0.0, float(2**camera.bit_depth - 1))
    return counts
