"""From centre lines to the noise-free image: splat on a padded grid, multiply by the transfer function, crop.

Points along the lines are spread over 4 x 4 x 4 voxels with cubic B-splines, and the transfer function is divided by
the spectrum of the sampled spline. Together that is the point spread function, moved to each point by cubic spline
interpolation: no blur is left behind, and a point in the centre of a voxel gives the samples of `psf` themselves.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from scipy.fft import next_fast_len
from torch import Tensor

from napari_vqldm.config import Float3, Int3, OpticsConfig
from napari_vqldm.simulate.filaments import FloatArray
from napari_vqldm.simulate.optics import psf

RENDER_STEP_UM = 0.05
_CACHED_TRANSFER_FUNCTIONS = 32


Light = float | FloatArray  # brightness of one line, or of each of its segments


def line_samples(
    lines: Sequence[FloatArray], brightness: Sequence[Light], low: FloatArray, high: FloatArray
) -> npt.NDArray[np.float32]:
    """Return (n, 4): positions (z, y, x) in um and weight (brightness times um) of points along lines inside a box.

    The brightness of a line of n points is one number or one per segment, (n - 1,).
    """
    if not lines:
        return np.zeros((0, 4), dtype=np.float32)
    start = np.concatenate([line[:-1] for line in lines])
    delta = np.concatenate([line[1:] for line in lines]) - start
    light = np.concatenate(
        [np.broadcast_to(np.float64(b), len(line) - 1) for line, b in zip(lines, brightness, strict=True)]
    )
    near = ((start > low) & (start < high)).all(axis=1)
    start, delta, light = start[near], delta[near], light[near]
    length = np.linalg.norm(delta, axis=1)
    parts = max(1, int(np.ceil(length.max(initial=0.0) / RENDER_STEP_UM - 1e-6)))
    fractions = (np.arange(parts) + 0.5) / parts
    samples = np.empty((parts, len(start), 4), dtype=np.float32)
    samples[..., :3] = start + fractions[:, None, None] * delta
    samples[..., 3] = light * length / parts
    return samples.reshape(-1, 4)


def _spline_weights(fraction: Tensor) -> Tensor:
    """Weights (n, 4) of the cubic B-spline at voxels floor - 1, floor, floor + 1, floor + 2."""
    f, g = fraction, 1.0 - fraction
    return torch.stack([g**3, 4.0 - 6.0 * f**2 + 3.0 * f**3, 4.0 - 6.0 * g**2 + 3.0 * g**3, f**3], dim=-1) * (1.0 / 6.0)


def splat(samples: Tensor, voxel_size_um: Float3, padding: Int3, shape: Int3) -> Tensor:
    """Spread weighted points over a grid.

    Parameters
    ----------
    samples : Tensor
        (n, 4): position in um relative to the corner of the window, and weight.
    voxel_size_um, padding, shape : tuple
        Voxel size, voxels before the window, and size of the padded grid.

    Returns
    -------
    Tensor
        float32 of ``shape``; the sum is that of the weights of the points whose 4 x 4 x 4 voxels lie on the grid.
    """
    device = samples.device
    size = torch.tensor(voxel_size_um, dtype=torch.float32, device=device)
    offset = torch.tensor([p - 0.5 for p in padding], dtype=torch.float32, device=device)  # centres of voxels
    position = samples[:, :3] / size + offset
    base = position.floor()
    limit = torch.tensor(shape, dtype=torch.float32, device=device) - 2.0
    inside = ((base >= 1.0) & (base < limit)).all(dim=1)
    # Points off the grid get weight 0 at a valid place: no data-dependent shapes, so no waiting for the device.
    base = torch.where(inside[:, None], base, torch.ones_like(base))
    weight = torch.where(inside, samples[:, 3], torch.zeros_like(samples[:, 3]))
    wz, wy, wx = _spline_weights((position - base).clamp(0.0, 1.0)).unbind(dim=1)
    corner = base.long() - 1
    index = (corner[:, 0] * shape[1] + corner[:, 1]) * shape[2] + corner[:, 2]
    steps = torch.arange(4, device=device)
    offsets = (steps[:, None, None] * shape[1] + steps[:, None]) * shape[2] + steps
    plane = wy[:, :, None] * wx[:, None, :]
    values = (wz * weight[:, None])[:, :, None, None] * plane[:, None]
    grid = torch.zeros(shape[0] * shape[1] * shape[2], dtype=torch.float32, device=device)
    grid.index_add_(0, (index[:, None] + offsets.reshape(-1)).reshape(-1), values.reshape(-1))
    return grid.reshape(shape)


class Renderer:
    """Renders lines into a window of fixed shape; keeps the transfer functions that it has used.

    Parameters
    ----------
    shape : tuple of int
        Window (z, y, x), voxels.
    optics : OpticsConfig
        Microscope.
    margin : tuple of int
        Voxels beyond each face of the window from which light arrives.
    device : torch.device
        Where the images are made.
    """

    def __init__(self, shape: Int3, optics: OpticsConfig, margin: Int3, device: torch.device) -> None:
        self.shape = shape
        self.optics = optics
        self.margin = margin
        self.device = device
        z, y, x = (int(next_fast_len(n + 2 * m, real=True)) for n, m in zip(shape, margin, strict=True))
        self.padded: Int3 = (z, y, x)
        self._cache: OrderedDict[tuple[Float3, float], Tensor] = OrderedDict()

    def transfer_function(self, voxel_size_um: Float3, width_factor: float) -> Tensor:
        """Return the transfer function (z, y, x // 2 + 1), spectrum of the spline divided out; real where possible."""
        key = (voxel_size_um, width_factor)
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        mz, my, mx = self.margin
        kernel = psf(self.optics, voxel_size_um, width_factor, (2 * mz + 1, 2 * my + 1, 2 * mx + 1))
        grid = np.zeros(self.padded, dtype=np.float32)
        # The centre of the kernel lies on the first voxel, what is before it at the far end.
        wrapped = (np.arange(-m, m + 1) % n for m, n in zip(self.margin, self.padded, strict=True))
        grid[np.ix_(*wrapped)] = kernel
        transfer: Tensor = torch.fft.rfftn(torch.from_numpy(grid))
        if not self.optics.is_aberrated:
            transfer = transfer.real.contiguous()  # the PSF is even: its spectrum has no imaginary part
        for axis, n in enumerate(self.padded):
            frequency = np.fft.rfftfreq(n) if axis == 2 else np.fft.fftfreq(n)
            spectrum = torch.from_numpy(((2.0 + np.cos(2.0 * np.pi * frequency)) / 3.0).astype(np.float32))
            transfer /= spectrum.reshape([-1 if a == axis else 1 for a in range(3)])
        transfer = transfer.to(self.device)
        self._cache[key] = transfer
        if len(self._cache) > _CACHED_TRANSFER_FUNCTIONS:
            self._cache.popitem(last=False)
        return transfer

    def render(
        self, lines: Sequence[FloatArray], brightness: Sequence[Light], voxel_size_um: Float3, width_factor: float
    ) -> Tensor:
        """Return the noise-free image (z, y, x), float32, in filament units, of lines in um relative to the window."""
        size = np.asarray(voxel_size_um)
        margin = np.asarray(self.margin) * size
        samples = line_samples(lines, brightness, -margin, np.asarray(self.shape) * size + margin)
        grid = splat(torch.from_numpy(samples).to(self.device), voxel_size_um, self.margin, self.padded)
        spectrum = torch.fft.rfftn(grid) * self.transfer_function(voxel_size_um, width_factor)
        image: Tensor = torch.fft.irfftn(spectrum, s=self.padded)
        (mz, my, mx), (nz, ny, nx) = self.margin, self.shape
        return image[mz : mz + nz, my : my + ny, mx : mx + nx].clamp(min=0.0)
