"""What every autoencoder offers, whatever its layers: encode, decode, and how far a voxel looks around."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from napari_vqldm.config import AnyAutoencoderConfig, Int3
from napari_vqldm.errors import ShapeError
from napari_vqldm.models import reach
from napari_vqldm.quantizers import Quantizer


@dataclass(frozen=True)
class Encoding:
    """What the encoder says about a volume, on the latent grid, before normalization and quantization.

    ``mean`` (B, C, d, h, w): posterior mean, or the vectors to be quantized. ``log_variance``: alike, None for codes.
    """

    mean: Tensor
    log_variance: Tensor | None

    def sample(self, noise: Tensor) -> Tensor:
        """Draw from the posterior with standard normal ``noise`` (Eq. 4 of arXiv:1312.6114); codes have no spread."""
        if self.log_variance is None:
            return self.mean
        return self.mean + torch.exp(0.5 * self.log_variance) * noise

    def kl(self) -> Tensor:
        """KL divergence to the standard normal, nats per latent element (B, C, d, h, w); zero for codes."""
        if self.log_variance is None:
            return torch.zeros_like(self.mean)
        return 0.5 * (self.mean.square() + self.log_variance.exp() - 1.0 - self.log_variance)


class BaseAutoencoder(nn.Module, ABC):
    """Encoder, optional quantizer and decoder on one latent grid.

    Attributes
    ----------
    config : AnyAutoencoderConfig
        What it was built from.
    downsampling_factor : tuple of int
        Volume voxels per latent voxel, (z, y, x).
    latent_channels : int
        Channels C of the latent.
    quantizer : Quantizer or None
        None: a KL posterior.
    is_tileable : bool
        Whether a volume coded in tiles with a halo equals the volume coded whole; no with statistics over the volume.
    """

    config: AnyAutoencoderConfig
    downsampling_factor: Int3
    latent_channels: int
    quantizer: Quantizer | None
    is_tileable: bool = True

    @property
    def encoder_halo(self) -> Int3:
        """Volume voxels (z, y, x) around a block on which its latent depends, rounded up to whole latent voxels."""
        return reach.encoder_halo(self.config)

    @property
    def decoder_halo(self) -> Int3:
        """Latent voxels (z, y, x) around a block on which its voxels depend."""
        return reach.decoder_halo(self.config)

    @property
    @abstractmethod
    def last_layer(self) -> nn.Parameter:
        """Weight of the layer that writes voxels: where losses are balanced against each other."""

    @abstractmethod
    def _encoding(self, volumes: Tensor) -> Encoding:
        """Encode volumes of a shape that fits."""

    @abstractmethod
    def _volumes(self, latent: Tensor) -> Tensor:
        """Decode a latent of a shape that fits."""

    def encode(self, volumes: Tensor) -> Encoding:
        """Encode (B, 1, D, H, W) in filament units; each axis a multiple of the downsampling factor."""
        factor = self.downsampling_factor
        if (
            volumes.ndim != 5
            or volumes.shape[1] != 1
            or any(n % f for n, f in zip(volumes.shape[2:], factor, strict=True))
        ):
            raise ShapeError(
                f"expected volumes (B, 1, D, H, W) with D, H, W multiples of {factor}, "
                f"got {tuple(volumes.shape)}: pad them first"
            )
        return self._encoding(volumes)

    def decode(self, latent: Tensor) -> Tensor:
        """Decode a latent (B, C, d, h, w), not normalized, to volumes (B, 1, D, H, W) in filament units."""
        if latent.ndim != 5 or latent.shape[1] != self.latent_channels:
            raise ShapeError(f"expected a latent (B, {self.latent_channels}, d, h, w), got {tuple(latent.shape)}")
        return self._volumes(latent)
