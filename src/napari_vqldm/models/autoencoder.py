"""One autoencoder for both families: a KL posterior (`ldm`) or one learned codebook (`vq-ldm`) on the same latent grid.

Fully convolutional, norm-free, anisotropic strides, most work at the latent resolution, sub-pixel decoder.
Kingma & Welling 2014 (arXiv:1312.6114) for the posterior, van den Oord et al. 2017 (arXiv:1711.00937) for the codes.
"""

from __future__ import annotations

from torch import Tensor, nn

from napari_vqldm.config import AutoencoderConfig, Int3
from napari_vqldm.models.base import BaseAutoencoder, Encoding
from napari_vqldm.models.blocks import ResidualBlock, SubPixelUp, at_least_float32, strided_conv
from napari_vqldm.quantizers import Quantizer, make_quantizer

LOG_VARIANCE_RANGE = (-20.0, 10.0)


class Autoencoder(BaseAutoencoder):
    """Encoder, optional quantizer and decoder.

    Parameters
    ----------
    config : AutoencoderConfig
        Strides (fine to coarse, per axis), widths, numbers of residual blocks, latent channels, quantizer.
    """

    config: AutoencoderConfig

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.downsampling_factor: Int3 = config.downsampling_factor
        self.latent_channels = config.latent_channels
        moments = config.latent_channels * (1 if config.quantizer else 2)

        encoder: list[nn.Module] = []
        previous = 1
        for stride, width, blocks in zip(config.strides, config.widths, config.encoder_blocks, strict=True):
            encoder += [strided_conv(previous, width, stride), *(ResidualBlock(width) for _ in range(blocks))]
            previous = width
        encoder += [nn.SiLU(), nn.Conv3d(previous, moments, 3, padding=1)]
        self.encoder = nn.Sequential(*encoder)

        decoder: list[nn.Module] = [nn.Conv3d(config.latent_channels, previous, 3, padding=1)]
        for level in reversed(range(len(config.strides))):
            decoder += [ResidualBlock(config.widths[level]) for _ in range(config.decoder_blocks[level])]
            decoder += [
                nn.SiLU(),
                SubPixelUp(
                    config.widths[level],
                    1 if level == 0 else config.widths[level - 1],
                    config.strides[level],
                    kernel_size=config.up_kernel(level),
                ),
            ]
        self.decoder = nn.Sequential(*decoder)
        self.quantizer: Quantizer | None = (
            make_quantizer(config.quantizer, config.latent_channels) if config.quantizer else None
        )

    @property
    def last_layer(self) -> nn.Parameter:
        """Weight of the convolution before the last depth-to-space."""
        weight: nn.Parameter = self.decoder[-1].conv.weight  # type: ignore[assignment, union-attr]
        return weight

    def _encoding(self, volumes: Tensor) -> Encoding:
        moments = self.encoder(volumes)
        if self.quantizer is not None:
            return Encoding(moments, None)
        mean, log_variance = moments.chunk(2, dim=1)
        return Encoding(mean, at_least_float32(log_variance).clamp(*LOG_VARIANCE_RANGE))

    def _volumes(self, latent: Tensor) -> Tensor:
        volumes: Tensor = self.decoder(latent)
        return volumes
