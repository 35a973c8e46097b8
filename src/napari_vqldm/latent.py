"""`LatentSpace`: the only way into and out of the latent. Normalization lives here and cannot be forgotten.

Three words, used everywhere:

- *raw* latent: what the encoder returns (posterior mean, or the quantized code vectors).
- *standardised* latent: (raw - mean[c]) / scale[c] with the statistics of the whole training cache. Diffusion, files,
  interpolation and users see only this one.
- *code indices*: int64 on the latent grid, for a codebook.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from napari_vqldm.config import Family, Int3
from napari_vqldm.errors import CheckpointError, ShapeError
from napari_vqldm.models.base import BaseAutoencoder, Encoding
from napari_vqldm.models.blocks import at_least_float32
from napari_vqldm.quantizers import Quantizer


@dataclass(frozen=True)
class Coded:
    """What `LatentSpace.code` returns.

    ``latent`` (B, C, d, h, w): standardised; KL posterior mean, or quantized vectors. ``encoding``: what it was made
    of, raw: the spread of the posterior, the vectors before quantization.
    """

    latent: Tensor
    encoding: Encoding


class LatentSpace(nn.Module):
    """An autoencoder with the statistics of its latents.

    Parameters
    ----------
    autoencoder : BaseAutoencoder
        Trained; put in eval mode by the caller.
    mean, scale : Tensor
        (C,), mean and standard deviation of each raw latent channel over the training cache.

    Raises
    ------
    CheckpointError
        If the statistics have the wrong length, are not finite, or a scale is not positive.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, autoencoder: BaseAutoencoder, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        channels = autoencoder.latent_channels
        mean, scale = mean.detach().float().clone(), scale.detach().float().clone()
        if mean.shape != (channels,) or scale.shape != (channels,):
            raise CheckpointError(
                f"expected latent statistics of {channels} channels, "
                f"got mean {tuple(mean.shape)} and scale {tuple(scale.shape)}"
            )
        if not (torch.isfinite(mean).all() and torch.isfinite(scale).all() and (scale > 0).all()):
            raise CheckpointError(
                f"expected finite latent means and positive scales, got {mean.tolist()}, {scale.tolist()}"
            )
        self.autoencoder = autoencoder
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)

    @classmethod
    def unit(cls, autoencoder: BaseAutoencoder) -> LatentSpace:
        """Latent space with mean 0 and scale 1: standardised equals raw. For stage 1 and for measuring statistics."""
        channels = autoencoder.latent_channels
        return cls(autoencoder, torch.zeros(channels), torch.ones(channels))

    @property
    def family(self) -> Family:
        """``vq-ldm`` with a codebook, else ``ldm``."""
        return "ldm" if self.autoencoder.quantizer is None else "vq-ldm"

    @property
    def quantizer(self) -> Quantizer:
        """The codebook; only for ``vq-ldm``."""
        if self.autoencoder.quantizer is None:
            raise CheckpointError("this model is an ldm and has no codebook: use a vq-ldm")
        return self.autoencoder.quantizer

    def grid(self, shape: Int3) -> Int3:
        """Latent grid of a volume grid that is a multiple of the downsampling factor."""
        factor = self.autoencoder.downsampling_factor
        if any(n % f for n, f in zip(shape, factor, strict=True)):
            raise ShapeError(f"expected volume axes that are multiples of {factor}, got {shape}: pad them first")
        z, y, x = (n // f for n, f in zip(shape, factor, strict=True))
        return z, y, x

    def normalize(self, raw: Tensor) -> Tensor:
        """Raw to standardised, (B, C, d, h, w)."""
        return (raw - _channels(self.mean)) / _channels(self.scale)

    def denormalize(self, latent: Tensor) -> Tensor:
        """Standardised to raw, (B, C, d, h, w)."""
        return latent * _channels(self.scale) + _channels(self.mean)

    def encode(self, volumes: Tensor) -> Tensor:
        """Standardised latent (B, C, d, h, w) of volumes (B, 1, D, H, W) in filament units.

        ``ldm``: the posterior mean. ``vq-ldm``: the quantized vectors.
        """
        return self.code(volumes).latent

    def code(self, volumes: Tensor) -> Coded:
        """Do the same as `encode` and keep the encoding: the one way from volumes to latents.

        Stage 2 of training, its gates and `reconstruct` all come through here.
        """
        encoding = self.autoencoder.encode(volumes)
        return Coded(self.latent_of(encoding), encoding)

    def latent_of(self, encoding: Encoding, noise: Tensor | None = None) -> Tensor:
        """Standardised latent of an encoding; with ``noise`` a draw from the KL posterior instead of its mean."""
        raw = at_least_float32(encoding.mean if noise is None else encoding.sample(noise))
        if self.autoencoder.quantizer is not None:
            quantizer = self.autoencoder.quantizer
            raw = quantizer.embed(quantizer.nearest(raw))
        return self.normalize(raw)

    def posterior_deviation(self, encoding: Encoding) -> Tensor | None:
        """Standard deviation (B, C, d, h, w) of the KL posterior in the standardised space; None for codes."""
        if encoding.log_variance is None:
            return None
        return torch.exp(0.5 * at_least_float32(encoding.log_variance)) / _channels(self.scale)

    def decode(self, latent: Tensor, *, requantize: bool = False) -> Tensor:
        """Volumes (B, 1, D, H, W) in filament units of a standardised latent.

        ``requantize`` replaces each vector by the nearest code first (``vq-ldm`` only; no effect on ``ldm``).
        """
        if requantize and self.autoencoder.quantizer is not None:
            latent = self.snap(latent)
        return at_least_float32(self.autoencoder.decode(self.denormalize(latent)))

    def code_indices(self, latent: Tensor) -> Tensor:
        """Nearest codes (B, d, h, w), int64, of a standardised latent."""
        return self.quantizer.nearest(self.denormalize(latent))

    def embed_codes(self, code_indices: Tensor) -> Tensor:
        """Standardised latent (B, C, d, h, w) of code indices (B, d, h, w)."""
        return self.normalize(self.quantizer.embed(code_indices))

    def snap(self, latent: Tensor) -> Tensor:
        """Standardised latent with each vector moved to its nearest code."""
        return self.embed_codes(self.code_indices(latent))


def _channels(values: Tensor) -> Tensor:
    return values.view(1, -1, 1, 1, 1)
