"""One autoencoder for both families: a KL posterior (`ldm`) or one learned codebook (`vq-ldm`) on the same latent grid.

Fully convolutional, norm-free, anisotropic strides, most work at the latent resolution, sub-pixel decoder.
Kingma & Welling 2014 (arXiv:1312.6114) for the posterior, van den Oord et al. 2017 (arXiv:1711.00937) for the codes.
"""

from __future__ import annotations

from torch import Tensor, nn

from napari_vqldm.config import AutoencoderConfig, Int3
from napari_vqldm.errors import ShapeError
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
            is_last = level == 0
            # The last step writes voxels and needs its neighbours; the others are followed by blocks that mix them.
            decoder += [
                nn.SiLU(),
                SubPixelUp(
                    config.widths[level],
                    1 if is_last else config.widths[level - 1],
                    config.strides[level],
                    kernel_size=3 if is_last or config.decoder_blocks[level - 1] == 0 else 1,
                ),
            ]
        self.decoder = nn.Sequential(*decoder)
        self.quantizer: Quantizer | None = (
            make_quantizer(config.quantizer, config.latent_channels) if config.quantizer else None
        )

    @property
    def encoder_halo(self) -> Int3:
        """Volume voxels (z, y, x) around a block on which its latent depends, rounded up to whole latent voxels."""
        return self._per_axis(self._encoder_reach)

    @property
    def decoder_halo(self) -> Int3:
        """Latent voxels (z, y, x) around a block on which its voxels depend."""
        return self._per_axis(self._decoder_reach)

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

    def _encoder_reach(self, axis: int) -> int:
        """Voxels by which the receptive field exceeds the block of one latent voxel: one of each layer's input."""
        reach, cumulative = 0, 1
        for stride, blocks in zip(self.config.strides, self.config.encoder_blocks, strict=True):
            reach += cumulative  # strided convolution
            cumulative *= stride[axis]
            reach += 2 * blocks * cumulative
        reach += cumulative  # last convolution
        factor = self.downsampling_factor[axis]
        return -(-reach // factor) * factor

    def _decoder_reach(self, axis: int) -> int:
        """Latent voxels beyond its own on which a voxel depends."""
        factor = self.downsampling_factor[axis]
        reach, cumulative = factor, factor  # counted in volume voxels; first convolution
        for level in reversed(range(len(self.config.strides))):
            reach += 2 * self.config.decoder_blocks[level] * cumulative
            up = self.decoder[self._up_index(level)]
            if isinstance(up, SubPixelUp):
                reach += cumulative * (up.conv.kernel_size[0] // 2)
            cumulative //= self.config.strides[level][axis]
        return -(-reach // factor)

    def _up_index(self, level: int) -> int:
        index = 1
        for current in reversed(range(len(self.config.strides))):
            index += self.config.decoder_blocks[current] + 1
            if current == level:
                return index
            index += 1
        raise ShapeError(f"expected a level below {len(self.config.strides)}, got {level}")

    @staticmethod
    def _per_axis(reach: object) -> Int3:
        z, y, x = (reach(axis) for axis in range(3))  # type: ignore[operator]
        return z, y, x
