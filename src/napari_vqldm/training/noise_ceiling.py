"""How near a reconstruction that holds no noise can come to its noisy target."""

from __future__ import annotations

import math

import torch

from napari_vqldm.config import Int3, Range
from napari_vqldm.training.data import SimulatedSource, VolumeSource
from napari_vqldm.training.draws import Key

CROPS = 64  # photons differ between crops by a factor of four and more: a few crops say little about the mean


def noise_ceiling_db(source: VolumeSource, seed: int, shape: Int3, gain_range: Range) -> float | None:
    """Return 10 log10(1 / MSE) of noise-free crops against their noisy targets, volumes in filament units.

    Camera, gain and crops are drawn as in stage 1, from the same volumes: the training error is what is compared with
    the ceiling, and the noise of photons depends on how bright a volume is.

    Parameters
    ----------
    source : VolumeSource
        Training volumes.
    seed : int
        Of the run.
    shape : tuple of int
        Voxels (z, y, x) of a training crop.
    gain_range : tuple of float
        ``data.gain_range``.

    Returns
    -------
    float or None
        Decibels; None when the target has no noise, or when nobody knows how much (stacks of a user).
    """
    if not isinstance(source, SimulatedSource) or source.target != "input":
        return None
    squared = 0.0
    for i in range(CROPS):
        crop = source.crop(Key(seed, "gate", 3, i), shape, i % len(source), True, gain_range)
        if crop.clean is None:
            return None
        noisy = source.finish([crop], torch.device("cpu")).target[0, 0]
        squared += float((noisy - crop.gain * torch.from_numpy(crop.clean)).double().square().mean())
    return 10.0 * math.log10(CROPS / squared) if squared > 0.0 else None
