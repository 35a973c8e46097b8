"""Configuration of the networks: quantizer, autoencoder, denoiser and what the denoiser is told."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from napari_vqldm.config_base import ORGANISATIONS, Config, Fraction, Int3, Organisation, Positive, PositiveInt


def _product(strides: tuple[Int3, ...]) -> Int3:
    """Multiply strides (z, y, x) axis by axis."""
    z, y, x = (math.prod(stride[axis] for stride in strides) for axis in range(3))
    return z, y, x


def _check_groups(channels: tuple[int, ...], norm_groups: int) -> None:
    """Refuse channels that cannot be normalized in groups."""
    if any(width % norm_groups for width in channels):
        raise ValueError(f"channels: expected multiples of norm_groups = {norm_groups}, got {channels}")


def _check_heads(attended: tuple[int, ...], head_channels: int) -> None:
    """Refuse channels that cannot be shared out to attention heads."""
    if any(width % head_channels for width in attended):
        raise ValueError(
            f"channels: expected multiples of head_channels = {head_channels} where there is attention, got {attended}"
        )


class QuantizerConfig(Config):
    """One learned codebook (van den Oord et al. 2017)."""

    kind: Literal["gradient", "ema"] = "gradient"  # who moves the codebook: the optimizer, or moving averages
    codebook_size: Annotated[int, Field(ge=2)] = 1024  # one code alone has no second nearest
    codebook_weight: Annotated[float, Field(ge=0.0)] = 1.0  # ||sg[z] - z_q||^2
    commitment_weight: Annotated[float, Field(ge=0.0)] = 0.25  # ||z - sg[z_q]||^2
    ema_decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.99
    restart_after: PositiveInt = 200  # updates without use after which a code is dead
    restart: bool = True


class AutoencoderConfig(Config):
    """Norm-free convolutional autoencoder with anisotropic strides and a sub-pixel decoder."""

    network: Literal["norm-free"] = "norm-free"
    strides: tuple[Int3, ...] = ((1, 2, 2), (2, 2, 2))  # fine to coarse, (z, y, x)
    widths: tuple[PositiveInt, ...] = (24, 64)  # channels after each stride
    encoder_blocks: tuple[Annotated[int, Field(ge=0)], ...] = (1, 2)
    decoder_blocks: tuple[Annotated[int, Field(ge=0)], ...] = (1, 3)
    latent_channels: Annotated[int, Field(ge=1, le=32)] = 4
    quantizer: QuantizerConfig | None = None  # None: KL posterior

    @model_validator(mode="after")
    def _levels_agree(self) -> Self:
        n = len(self.strides)
        if n < 1 or not (len(self.widths) == len(self.encoder_blocks) == len(self.decoder_blocks) == n):
            raise ValueError(
                f"strides, widths, encoder_blocks and decoder_blocks need one entry per level, got {n} strides"
            )
        if any(s not in (1, 2, 4) for stride in self.strides for s in stride):
            raise ValueError(f"strides: expected 1, 2 or 4 per axis, got {self.strides}")
        return self

    @property
    def downsampling_factor(self) -> Int3:
        """Volume voxels per latent voxel, (z, y, x)."""
        return _product(self.strides)

    def up_kernel(self, level: int) -> int:
        """Kernel of the convolution before the depth-to-space of one level, 0 being the last and finest.

        The last one writes voxels and needs its neighbours; the others are followed by blocks that mix them, if any.
        """
        return 3 if level == 0 or self.decoder_blocks[level - 1] == 0 else 1

    @property
    def num_blocks(self) -> int:
        """Parts of the network that own at least one tensor each."""
        return sum(self.encoder_blocks) + sum(self.decoder_blocks) + len(self.strides)


class MonaiKLConfig(Config):
    """MONAI's `AutoencoderKL`: group normalization, every stride 2 on all axes."""

    network: Literal["monai-kl"]
    channels: tuple[PositiveInt, ...] = (32, 64, 128)  # per level; one level less of downsampling by 2
    num_res_blocks: PositiveInt = 2  # per level
    attention_levels: tuple[bool, ...] = (False, False, False)
    nonlocal_attention: bool = False  # between encoder and latent, latent and decoder
    norm_groups: PositiveInt = 16
    latent_channels: Annotated[int, Field(ge=1, le=32)] = 4

    @model_validator(mode="after")
    def _levels_agree(self) -> Self:
        if len(self.channels) < 2 or len(self.attention_levels) != len(self.channels):
            raise ValueError(
                "expected at least two levels and one entry of attention_levels per level, "
                f"got {self.channels} and {self.attention_levels}"
            )
        _check_groups(self.channels, self.norm_groups)
        return self

    @property
    def quantizer(self) -> None:
        """No codebook: a KL posterior."""
        return None

    @property
    def downsampling_factor(self) -> Int3:
        """Volume voxels per latent voxel, (z, y, x)."""
        factor = 2 ** (len(self.channels) - 1)
        return factor, factor, factor

    @property
    def num_blocks(self) -> int:
        """Parts of the network that own at least one tensor each."""
        return 2 * self.num_res_blocks * len(self.channels)


class MonaiVQConfig(Config):
    """Encoder and decoder of MONAI's `VQVAE`, every stride 2 on all axes, around one of our quantizers."""

    network: Literal["monai-vq"]
    channels: tuple[PositiveInt, ...] = (64, 128)  # per level of downsampling by 2
    num_res_layers: PositiveInt = 2
    num_res_channels: tuple[PositiveInt, ...] = (64, 128)
    latent_channels: Annotated[int, Field(ge=1, le=256)] = 4  # MONAI's embedding_dim
    quantizer: QuantizerConfig = QuantizerConfig()

    @model_validator(mode="after")
    def _levels_agree(self) -> Self:
        if not self.channels or len(self.num_res_channels) != len(self.channels):
            raise ValueError(
                "expected one entry of num_res_channels per entry of channels, "
                f"got {self.num_res_channels} and {self.channels}"
            )
        return self

    @property
    def downsampling_factor(self) -> Int3:
        """Volume voxels per latent voxel, (z, y, x)."""
        factor = 2 ** len(self.channels)
        return factor, factor, factor

    @property
    def num_blocks(self) -> int:
        """Parts of the network that own at least one tensor each."""
        return 2 * self.num_res_layers * len(self.channels)


AnyAutoencoderConfig = Annotated[AutoencoderConfig | MonaiKLConfig | MonaiVQConfig, Field(discriminator="network")]


class ConditionConfig(Config):
    """What the denoiser is told about a volume: standardised numbers plus a one-hot organisation.

    ``names`` are continuous entries: (log(value) - log_mean) / log_sd. The whole vector is replaced by a
    learned null vector with probability ``dropout`` during training.
    """

    names: tuple[str, ...] = (
        "length_density_um_per_um3",
        "persistence_length_um",
        "psf_width_um",
        "voxel_size_z_um",
        "voxel_size_xy_um",
    )
    log_mean: tuple[float, ...] = (-1.5, 2.8, -1.5, -1.6, -2.3)
    log_sd: tuple[Positive, ...] = (0.5, 0.7, 0.15, 0.15, 0.15)
    organisations: tuple[Organisation, ...] = ORGANISATIONS
    dropout: Fraction = 0.1

    @model_validator(mode="after")
    def _lengths_agree(self) -> Self:
        if not len(self.names) == len(self.log_mean) == len(self.log_sd):
            raise ValueError("names, log_mean and log_sd need the same length")
        return self

    @property
    def width(self) -> int:
        """Entries of the condition vector."""
        return len(self.names) + len(self.organisations)


class DenoiserConfig(Config):
    """Convolutional U-Net that predicts from (x_t, t, second time, condition)."""

    network: Literal["unet"] = "unet"
    channels: tuple[PositiveInt, ...] = (48, 96, 128)
    blocks: tuple[PositiveInt, ...] = (1, 2, 2)  # on the way down; one more on the way up
    strides: tuple[Int3, ...] = ((2, 2, 2), (2, 2, 2))
    attention: tuple[bool, ...] = (False, False, True)
    head_channels: PositiveInt = 32
    norm_groups: PositiveInt = 8
    scale_shift: bool = False  # the embedding scales and shifts channels after a norm; False: is added before it
    condition_channels: Annotated[int, Field(ge=0)] = 4  # concatenated control channels, zero-initialised
    condition: ConditionConfig | None = ConditionConfig()  # None: nothing is known about the training volumes

    @model_validator(mode="after")
    def _levels_agree(self) -> Self:
        n = len(self.channels)
        if not (len(self.blocks) == len(self.attention) == n and len(self.strides) == n - 1):
            raise ValueError("channels, blocks and attention need one entry per level and strides one less")
        _check_groups(self.channels, self.norm_groups)
        attended = tuple(c for c, attention in zip(self.channels, self.attention, strict=True) if attention)
        _check_heads(attended, self.head_channels)
        return self

    @property
    def multiple(self) -> Int3:
        """Latent axes (z, y, x) must be multiples of it."""
        return _product(self.strides)

    @property
    def num_blocks(self) -> int:
        """Parts of the network that own at least one tensor each."""
        return sum(self.blocks)


class MonaiUNetConfig(Config):
    """MONAI's `DiffusionModelUNet`; the condition vector is added to its time embedding and starts at zero."""

    network: Literal["monai-unet"]
    channels: tuple[PositiveInt, ...] = (64, 128, 256)
    num_res_blocks: PositiveInt = 2  # per level
    attention: tuple[bool, ...] = (False, False, True)  # MONAI's attention_levels
    head_channels: PositiveInt = 32  # MONAI's num_head_channels
    norm_groups: PositiveInt = 32
    condition: ConditionConfig | None = None  # the seed's U-Net is told the time alone

    @model_validator(mode="after")
    def _levels_agree(self) -> Self:
        if len(self.attention) != len(self.channels):
            raise ValueError(
                f"expected one entry of attention per entry of channels, got {self.attention} and {self.channels}"
            )
        _check_groups(self.channels, self.norm_groups)
        attended = tuple(c for c, attention in zip(self.channels, self.attention, strict=True) if attention)
        _check_heads(attended, self.head_channels)
        return self

    @property
    def multiple(self) -> Int3:
        """Latent axes (z, y, x) must be multiples of it."""
        factor = 2 ** (len(self.channels) - 1)
        return factor, factor, factor

    @property
    def num_blocks(self) -> int:
        """Parts of the network that own at least one tensor each."""
        return 2 * self.num_res_blocks * len(self.channels)


AnyDenoiserConfig = Annotated[DenoiserConfig | MonaiUNetConfig, Field(discriminator="network")]

# Configurations written before there was a choice, and those that do not care, mean these.
DEFAULT_NETWORKS = {"autoencoder": "norm-free", "denoiser": "unet"}
