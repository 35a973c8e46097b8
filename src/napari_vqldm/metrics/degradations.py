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
    """Blur with an isotropic Gaussian: a set that is out of focus.

    Parameters
    ----------
    volumes : Tensor
        (B, 1, D, H, W), any unit.
    sigma_um : float or Tensor
        Standard deviation, um, the same along every axis.
    voxel_size_um : tuple of float
        (z, y, x).

    Returns
    -------
    Tensor
        Weighted mean with weights exp(-d^2 / (2 sigma^2)) along each axis in turn, d in um.

    Raises
    ------
    ShapeError
        If ``volumes`` is not (B, 1, D, H, W) or the strengths are not one per volume.
    VolumeError
        If a number is below 0.

    Notes
    -----
    Source: ours. At the faces the Gaussian is cut off and scaled up, so that a constant stays a constant. Bias: below
    about half a voxel the sampled Gaussian blurs less than it says, along z first; noise is blurred with the filaments,
    which no microscope does, so that on noisy volumes the missing noise is seen before the missing sharpness.
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
    """Turn every Fourier phase by a share of a random angle; power spectrum and mean stay as they are.

    Parameters
    ----------
    volumes : Tensor
        (B, 1, D, H, W), any unit.
    share : float or Tensor
        1 leaves the phases of white noise: the spectrum of filaments without a filament.
    generator : torch.Generator
        Of the angles, on the device of ``volumes``.

    Returns
    -------
    Tensor
        Inverse transform of |F| exp(i (arg F + share a)), F the transform of a volume, a the phases of white noise,
        which make the result real.

    Raises
    ------
    ShapeError
        If ``volumes`` is not (B, 1, D, H, W) or the strengths are not one per volume.
    VolumeError
        If a number is below 0.

    Notes
    -----
    Source: the phase-randomized surrogates of Theiler et al. 1992, doi:10.1016/0167-2789(92)90102-S. Bias: intensities
    become nearly Gaussian and fall below 0, so that a number that compares intensities sees the change before one that
    looks for filaments. A spectrum under a window (`distribution.lateral_spectrum`) moves a little all the same.
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
    """Add a smooth bright field: free tubulin and what lies out of focus.

    Parameters
    ----------
    volumes : Tensor
        (B, 1, D, H, W), filament units.
    amplitude : float or Tensor
        Upper end of the field, filament units; its mean is half of that.
    generator : torch.Generator
        Of the field, on the device of ``volumes``.
    voxel_size_um : tuple of float
        (z, y, x).
    correlation_um : float
        Distance between the random values, um.

    Returns
    -------
    Tensor
        ``volumes`` plus ``amplitude`` times uniform random values in [0, 1] on a coarse grid, interpolated linearly.

    Raises
    ------
    ShapeError
        If ``volumes`` is not (B, 1, D, H, W) or the strengths are not one per volume.
    VolumeError
        If a number is below 0.

    Notes
    -----
    Source: ours. Bias: the field brings no photon noise of its own, so that it is milder than haze of the same
    brightness in a recording. An axis shorter than ``correlation_um`` holds two values alone: a slope, no texture.
    """
    peak = _per_volume(volumes, amplitude).view(-1, 1, 1, 1, 1)
    coarse = [
        max(2, round(n * size / correlation_um) + 1) for n, size in zip(volumes.shape[2:], voxel_size_um, strict=True)
    ]
    field = torch.rand((len(volumes), 1, *coarse), generator=generator, device=volumes.device)
    smooth = F.interpolate(field, size=volumes.shape[2:], mode="trilinear", align_corners=True)
    return volumes.float() + peak * smooth


def scale_intensity(volumes: Tensor, gain: float | Tensor) -> Tensor:
    """Multiply by a gain: a wrong unit, a wrong calibration. The only one whose strength 1 changes nothing.

    Parameters
    ----------
    volumes : Tensor
        (B, 1, D, H, W), filament units: background 0.
    gain : float or Tensor
        Factor, 0 or more.

    Returns
    -------
    Tensor
        ``gain`` times ``volumes``.

    Raises
    ------
    ShapeError
        If ``volumes`` is not (B, 1, D, H, W) or the strengths are not one per volume.
    VolumeError
        If a number is below 0.

    Notes
    -----
    Source: ours. Bias: noise is multiplied as well, so that the signal-to-noise ratio stays: another exposure time
    would change it.
    """
    return volumes.float() * _per_volume(volumes, gain).view(-1, 1, 1, 1, 1)


def blank(volumes: Tensor) -> Tensor:
    """Replace every volume by its mean: no filament, no noise.

    Parameters
    ----------
    volumes : Tensor
        (B, 1, D, H, W), any unit.

    Returns
    -------
    Tensor
        The same shape, constant within each volume.

    Raises
    ------
    ShapeError
        If ``volumes`` is not (B, 1, D, H, W).

    Notes
    -----
    Source: ours, the collapse to an average. Bias: brightness still varies between volumes, and follows their density:
    a number that knows the mean intensity alone scores it well. No strength: the worst case only.
    """
    _check_batch(volumes)
    return volumes.float().mean(dim=(2, 3, 4), keepdim=True).expand(volumes.shape).contiguous()


def noise_only(volumes: Tensor, generator: torch.Generator) -> Tensor:
    """Replace every volume by white Gaussian noise of its mean and standard deviation.

    Parameters
    ----------
    volumes : Tensor
        (B, 1, D, H, W), any unit.
    generator : torch.Generator
        Of the noise, on the device of ``volumes``.

    Returns
    -------
    Tensor
        The same shape, mean + sd times independent normal numbers.

    Raises
    ------
    ShapeError
        If ``volumes`` is not (B, 1, D, H, W).

    Notes
    -----
    Source: ours. Bias: mean and spread are right in expectation, all else is wrong; as filaments widen the standard
    deviation, the noise is stronger than that of the camera. No strength: the worst case only.
    """
    _check_batch(volumes)
    mean = volumes.float().mean(dim=(2, 3, 4), keepdim=True)
    sd = volumes.float().std(dim=(2, 3, 4), keepdim=True, correction=0)
    return mean + sd * torch.randn(volumes.shape, generator=generator, device=volumes.device)


def duplicate(rows: Tensor, times: int) -> Tensor:
    """Keep every ``times``-th entry of the first axis and repeat it: a set that lost variety.

    Parameters
    ----------
    rows : Tensor
        (N, ...): volumes or their features alike.
    times : int
        Copies of each; 1 changes nothing.

    Returns
    -------
    Tensor
        The same shape; entry i is entry ``times * (i // times)`` of ``rows``.

    Raises
    ------
    ShapeError
        If ``times`` is below 1 or above N.

    Notes
    -----
    Source: ours, the collapse to a few modes. Bias: each copy is exact, down to its noise, which a collapsed generator
    need not be. Means and marginal distributions stay nearly as they were: only a number that compares volumes with
    each other can see it.
    """
    if times < 1 or len(rows) < times:
        raise ShapeError(f"expected at least as many entries as copies of each, got {len(rows)} and {times} times")
    index = torch.arange(len(rows), device=rows.device) // times * times
    return rows[index]


def _per_volume(volumes: Tensor, value: float | Tensor) -> Tensor:
    """Return ``value`` as (B,) float32 on the device of ``volumes``; checks both."""
    _check_batch(volumes)
    if isinstance(value, Tensor):
        if value.shape != (len(volumes),):
            raise ShapeError(f"expected one strength per volume, ({len(volumes)},), got {tuple(value.shape)}")
        return value.to(volumes.device, torch.float32)
    if not value >= 0:
        raise VolumeError(f"expected a strength of 0 or more, got {value}")
    return torch.full((len(volumes),), value, dtype=torch.float32, device=volumes.device)


def _check_batch(volumes: Tensor) -> None:
    if volumes.ndim != 5 or volumes.shape[1] != 1:
        raise ShapeError(f"expected volumes (B, 1, D, H, W), got {tuple(volumes.shape)}")
