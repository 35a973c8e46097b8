"""Known ways to make a set of volumes worse: what a metric must notice, at known strengths.

All functions take and return float32 tensors (B, 1, D, H, W) on any device and leave their argument alone. Parameters
may be one number, or a tensor (B,) with one per volume; a strength of 0 returns the volumes as they were, up to
rounding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_vqldm.errors import ShapeError, VolumeError

Float3 = tuple[float, float, float]

_TINY_SIGMA = 1e-3  # voxels: a Gaussian so narrow is the identity in float32


def blur(volumes: Tensor, sigma_um: float | Tensor, voxel_size_um: Float3) -> Tensor:
    """Blur with an isotropic Gaussian whose standard deviation is ``sigma_um`` micrometres.

    Faces: the Gaussian is cut off there and scaled up, so that a constant stays a constant.
    """
    sigma = _per_volume(volumes, sigma_um)
    for axis, size in enumerate(voxel_size_um, start=2):
        n = volumes.shape[axis]
        place = torch.arange(n, device=volumes.device, dtype=torch.float32)
        distance = (place[:, None] - place) / (sigma / size).clamp(min=_TINY_SIGMA).view(-1, 1, 1)
        weights = torch.exp(-0.5 * distance**2)
        weights = weights / weights.sum(dim=2, keepdim=True)  # (B, n, n)
        moved = volumes.float().movedim(axis, 2)  # (B, 1, n, ., .)
        blurred = torch.bmm(weights, moved.flatten(3).flatten(1, 2))
        volumes = blurred.view(moved.shape).movedim(2, axis)
    return volumes.contiguous()


def phase_scramble(volumes: Tensor, share: float | Tensor, generator: torch.Generator) -> Tensor:
    """Turn every Fourier phase by ``share`` of a random angle; power spectrum and mean stay as they are.

    ``share`` 1 leaves the phases of white noise: the spectrum of filaments without a filament. Random angles are those
    of white noise, which makes the result real.
    """
    part = _per_volume(volumes, share).view(-1, 1, 1, 1, 1)
    axes = (2, 3, 4)
    noise = torch.randn(volumes.shape, generator=generator, device=volumes.device)
    angle = torch.fft.rfftn(noise, dim=axes).angle()
    sizes = volumes.shape[2:]
    # A frequency that is its own mirror image (the mean among them) has a real coefficient, which cannot turn.
    places = [[0, n // 2] if n % 2 == 0 else [0] for n in sizes]
    for z in places[0]:
        for y in places[1]:
            for x in places[2]:
                angle[:, :, z, y, x] = 0.0
    spectrum = torch.fft.rfftn(volumes.float(), dim=axes)
    turned = torch.polar(spectrum.abs(), spectrum.angle() + part * angle)
    result: Tensor = torch.fft.irfftn(turned, s=sizes, dim=axes)
    return result


def add_haze(
    volumes: Tensor,
    amplitude: float | Tensor,
    generator: torch.Generator,
    voxel_size_um: Float3,
    correlation_um: float = 3.0,
) -> Tensor:
    """Add a smooth field between 0 and ``amplitude`` filament units that varies over about ``correlation_um``."""
    peak = _per_volume(volumes, amplitude).view(-1, 1, 1, 1, 1)
    coarse = [
        max(2, round(n * size / correlation_um) + 1) for n, size in zip(volumes.shape[2:], voxel_size_um, strict=True)
    ]
    field = torch.rand((len(volumes), 1, *coarse), generator=generator, device=volumes.device)
    smooth = F.interpolate(field, size=volumes.shape[2:], mode="trilinear", align_corners=True)
    return volumes.float() + peak * smooth


def scale_intensity(volumes: Tensor, gain: float | Tensor) -> Tensor:
    """Multiply by ``gain``: a wrong unit, a wrong calibration. The only one whose strength 1 changes nothing."""
    return volumes.float() * _per_volume(volumes, gain).view(-1, 1, 1, 1, 1)


def blank(volumes: Tensor) -> Tensor:
    """Replace every volume by its mean: no filament, no noise."""
    return volumes.float().mean(dim=(2, 3, 4), keepdim=True).expand(volumes.shape).contiguous()


def noise_only(volumes: Tensor, generator: torch.Generator) -> Tensor:
    """Replace every volume by white Gaussian noise of its mean and standard deviation."""
    mean = volumes.float().mean(dim=(2, 3, 4), keepdim=True)
    sd = volumes.float().std(dim=(2, 3, 4), keepdim=True, correction=0)
    return mean + sd * torch.randn(volumes.shape, generator=generator, device=volumes.device)


def duplicate(rows: Tensor, times: int) -> Tensor:
    """Keep every ``times``-th entry of the first axis and repeat it, so that the number of entries stays the same.

    Works on volumes and on their features alike.
    """
    if times < 1 or len(rows) < times:
        raise ShapeError(f"expected at least as many entries as copies of each, got {len(rows)} and {times} times")
    index = torch.arange(len(rows), device=rows.device) // times * times
    return rows[index]


def _per_volume(volumes: Tensor, value: float | Tensor) -> Tensor:
    """Return ``value`` as (B,) float32 on the device of ``volumes``; checks both."""
    if volumes.ndim != 5 or volumes.shape[1] != 1:
        raise ShapeError(f"expected volumes (B, 1, D, H, W), got {tuple(volumes.shape)}")
    if isinstance(value, Tensor):
        if value.shape != (len(volumes),):
            raise ShapeError(f"expected one strength per volume, ({len(volumes)},), got {tuple(value.shape)}")
        return value.to(volumes.device, torch.float32)
    if not value >= 0:
        raise VolumeError(f"expected a strength of 0 or more, got {value}")
    return torch.full((len(volumes),), value, dtype=torch.float32, device=volumes.device)
