"""Building blocks of the autoencoder: convolutions that keep every voxel independent of the tile around it.

No layer computes a statistic over the tile (no batch, group or instance norm), so that a volume coded in tiles with a
halo equals the volume coded whole. Residual branches start at zero instead (SkipInit: De & Smith 2020,
arXiv:2002.10444), which keeps a norm-free network trainable.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from napari_vqldm.config import Int3
from napari_vqldm.errors import ShapeError


class ResidualBlock(nn.Module):
    """``x + gain * conv(act(conv(act(x))))`` at constant width; ``gain`` is one learned number that starts at 0."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv3d(channels, channels, 3, padding=1)
        self.gain = nn.Parameter(torch.zeros(1))
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, D, H, W) to the same shape."""
        residual: Tensor = self.conv2(self.act(self.conv1(self.act(x))))
        return x + self.gain.to(residual.dtype) * residual


def strided_conv(in_channels: int, out_channels: int, stride: Int3) -> nn.Conv3d:
    """Convolution that divides each axis by its stride: kernel stride + 2, one voxel of reach beyond its own block."""
    z, y, x = stride
    return nn.Conv3d(in_channels, out_channels, (z + 2, y + 2, x + 2), stride=stride, padding=1)


class SubPixelUp(nn.Module):
    """Convolution, then depth-to-space (Shi et al. 2016, arXiv:1609.05158): (B, C, D, H, W) to (B, C', sD, sH, sW).

    Initialised so that all sub-voxels of one voxel start equal (ICNR, arXiv:1707.02937): no checkerboard at the start.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: Int3, kernel_size: int) -> None:
        super().__init__()
        self.stride = stride
        sub_voxels = stride[0] * stride[1] * stride[2]
        self.conv = nn.Conv3d(in_channels, out_channels * sub_voxels, kernel_size, padding=kernel_size // 2)
        with torch.no_grad():
            weight = self.conv.weight[::sub_voxels].clone()
            self.conv.weight.copy_(weight.repeat_interleave(sub_voxels, dim=0))
            self.conv.bias.zero_()  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, D, H, W) to (B, C', D*sz, H*sy, W*sx)."""
        sz, sy, sx = self.stride
        volumes: Tensor = rearrange(
            self.conv(x), "b (c sz sy sx) d h w -> b c (d sz) (h sy) (w sx)", sz=sz, sy=sy, sx=sx
        )
        return volumes.contiguous(memory_format=torch.channels_last_3d)


def at_least_float32(x: Tensor) -> Tensor:
    """Return half precision as float32 and everything else as it is: sums and losses need the digits."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def check_latent(x_t: Tensor, channels: int, multiple: Int3) -> None:
    """Refuse a latent that a denoiser cannot take: (B, channels, d, h, w) with axes that are multiples of ``multiple``.

    Raises
    ------
    ShapeError
        The message names what was expected and what came.
    """
    if x_t.ndim != 5 or x_t.shape[1] != channels or any(n % m for n, m in zip(x_t.shape[2:], multiple, strict=True)):
        raise ShapeError(
            f"expected a latent (B, {channels}, d, h, w), axes multiples of {multiple}, got {tuple(x_t.shape)}"
        )
