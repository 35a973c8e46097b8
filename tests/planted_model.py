"""A model whose codes and atoms are known by construction: averages are encoded, a linear decoder paints a kernel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_vqldm.checkpoint import Model
from napari_vqldm.config import AutoencoderConfig, Int3, QuantizerConfig
from napari_vqldm.latent import LatentSpace
from napari_vqldm.models.base import BaseAutoencoder, Encoding
from napari_vqldm.quantizers import CodebookQuantizer
from napari_vqldm.volume import Volume

STEP = 0.25  # a cell of mean 0.25 i has code i
CODES = 8
REACH = (1, 2, 1)  # cells on each side that a cell paints


class PlantedAutoencoder(BaseAutoencoder):
    """The first channel is the mean of a cell; the decoder adds up one kernel for every channel."""

    def __init__(self) -> None:
        super().__init__()
        self.config = AutoencoderConfig(
            widths=(4, 8),
            encoder_blocks=(0, 0),
            decoder_blocks=(0, 0),
            latent_channels=2,
            quantizer=QuantizerConfig(codebook_size=CODES),
        )
        self.downsampling_factor = self.config.downsampling_factor
        self.latent_channels = 2
        self.quantizer = CodebookQuantizer(self.config.quantizer, 2)
        index = torch.arange(CODES, dtype=torch.float32)
        self.quantizer.codebook.data = torch.stack([STEP * index, 0.01 * index], dim=1)
        size = [(2 * h + 1) * f for h, f in zip(REACH, self.downsampling_factor, strict=True)]
        kernel = 0.02 * torch.randn(2, 1, *size, generator=torch.Generator().manual_seed(5))
        middle = tuple(slice(h * f, (h + 1) * f) for h, f in zip(REACH, self.downsampling_factor, strict=True))
        kernel[(0, 0, *middle)] += 1.0
        self.kernel = nn.Parameter(kernel)

    @property
    def encoder_halo(self) -> Int3:
        return 0, 0, 0

    @property
    def decoder_halo(self) -> Int3:
        return REACH

    @property
    def last_layer(self) -> nn.Parameter:
        return self.kernel

    def _encoding(self, volumes: Tensor) -> Encoding:
        mean = F.avg_pool3d(volumes, self.downsampling_factor)
        return Encoding(torch.cat([mean, torch.zeros_like(mean)], dim=1), None)

    def _volumes(self, latent: Tensor) -> Tensor:
        padding = [h * f for h, f in zip(REACH, self.downsampling_factor, strict=True)]
        return F.conv_transpose3d(latent, self.kernel, stride=self.downsampling_factor, padding=padding)


def planted_model(vq_ldm: Model) -> Model:
    """Put the planted autoencoder into a loaded model; its denoiser no longer fits."""
    autoencoder = PlantedAutoencoder()
    space = LatentSpace.unit(autoencoder).eval().requires_grad_(False)
    return replace(vq_ldm, space=space, denoiser=None)


def planted_volume(codes: np.ndarray, factor: Int3, name: str = "planted") -> Volume:
    """Return the volume, filament units, in which every cell of ``codes`` (d, h, w) is constant and has its code."""
    data = STEP * codes.astype(np.float32)
    for axis, f in enumerate(factor):
        data = data.repeat(f, axis)
    return Volume(data, (0.2, 0.1, 0.1), {}, name)
