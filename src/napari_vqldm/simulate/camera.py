"""Detection: blur, photons, quantum efficiency, read noise, gain and offset, and the way back to filament units."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_vqldm.config import CameraConfig, Float3
from napari_vqldm.errors import ShapeError
from napari_vqldm.simulate.detector import detect, to_counts


def blur(volumes: Tensor, sigma_um: float, voxel_size_um: Float3) -> Tensor:
    """Blur (B, 1, D, H, W) with an isotropic Gaussian; faces are continued by their own voxels."""
    if volumes.dim() != 5 or volumes.shape[1] != 1:
        raise ShapeError(f"expected volumes (B, 1, D, H, W), got {tuple(volumes.shape)}")
    for axis, size in enumerate(voxel_size_um):
        sigma = sigma_um / size
        radius = int(4.0 * sigma + 0.5)
        if radius < 1:
            continue
        x = torch.arange(-radius, radius + 1, dtype=volumes.dtype, device=volumes.device)
        kernel = torch.exp(-0.5 * (x / sigma) ** 2)
        shape = [1] * 5
        shape[2 + axis] = -1
        pad = [0] * 6
        pad[2 * (2 - axis)] = pad[2 * (2 - axis) + 1] = radius
        volumes = F.conv3d(F.pad(volumes, pad, mode="replicate"), (kernel / kernel.sum()).reshape(shape))
    return volumes


def render_camera(clean: Tensor, camera: CameraConfig, voxel_size_um: Float3, seeds: Sequence[int]) -> Tensor:
    """Record what a detector is shown.

    Parameters
    ----------
    clean : Tensor
        (B, 1, D, H, W), filament units, without noise.
    camera : CameraConfig
        Detector; ``photons`` are those of the peak of one filament. See `detector` for its parts.
    voxel_size_um : tuple of float
        (z, y, x); only the extra blur needs it.
    seeds : sequence of int
        One per volume. The noise is drawn on the CPU, so it is the same in every batch and for every device.

    Returns
    -------
    Tensor
        float32 camera counts (ADU), (B, 1, D, H, W): offset + electrons / gain, electrons = Poisson(QE photons) + read
        noise; where the camera has them, excess noise, hot pixels, a full well and whole counts of so many bits.
    """
    if len(seeds) != clean.shape[0]:
        raise ShapeError(f"expected one seed per volume, got {len(seeds)} seeds for {clean.shape[0]} volumes")
    expected = blur(clean, camera.blur_um, voxel_size_um)
    rate = ((expected + camera.background) * (camera.photons * camera.quantum_efficiency)).clamp(min=0.0).float().cpu()
    recorded = torch.empty_like(rate)
    for i, seed in enumerate(seeds):
        generator = torch.Generator().manual_seed(seed)
        recorded[i] = to_counts(detect(rate[i], camera, generator), camera)
    return recorded.to(clean.device)


def camera_in_filament_units(adu: Tensor, camera: CameraConfig) -> Tensor:
    """Turn camera counts back into filament units: background 0, peak of one filament 1 on average.

    The inverse of `render_camera` but for its noise, for counts that are not saturated; hot pixels stay bright.
    """
    electrons = (adu - camera.offset_adu) * camera.gain_e_per_adu
    return electrons / (camera.quantum_efficiency * camera.photons) - camera.background


def noisy_in_filament_units(
    clean: Tensor, photons: Tensor, background: Tensor, camera: CameraConfig, generator: torch.Generator
) -> Tensor:
    """Record and convert back in one go, with one generator for the whole batch, on the device of ``clean``.

    Parameters
    ----------
    clean : Tensor
        (B, 1, D, H, W), filament units.
    photons, background : Tensor
        (B,): photons at the peak of one filament, background in filament units; they replace those of ``camera``.
    camera : CameraConfig
        Detector; the extra blur is not applied here, and the fixed pattern is that of a sensor of (H, W) pixels.
    generator : torch.Generator
        On the device of ``clean``.

    Returns
    -------
    Tensor
        float32 like ``clean``.
    """
    shape = (-1, 1, 1, 1, 1)
    electrons_per_unit = photons.to(clean).reshape(shape) * camera.quantum_efficiency
    haze = background.to(clean).reshape(shape)
    electrons = detect((clean + haze).clamp(min=0.0) * electrons_per_unit, camera, generator)
    if camera.full_well_e is not None or camera.bit_depth is not None:
        electrons = (to_counts(electrons, camera) - camera.offset_adu) * camera.gain_e_per_adu
    return electrons / electrons_per_unit - haze
