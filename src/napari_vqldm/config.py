"""Frozen, validated configuration of every part; the networks and the whole model are here.

No torch here: the card of a checkpoint is read and checked with these models alone.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from napari_vqldm.config_base import (
    MAX_WINDOW,
    ORGANISATIONS,
    VOXEL_SIZE_RANGE_UM,
    Config,
    Family,
    Float3,
    Fraction,
    Int3,
    Organisation,
    Positive,
    PositiveInt,
    Range,
    check_voxel_size,
    read_toml,
    to_json,
    validate,
)
from napari_vqldm.config_simulation import (
    BuckleConfig,
    BundleConfig,
    CameraConfig,
    CellConfig,
    HazeConfig,
    IlluminationConfig,
    LabellingConfig,
    OpticsConfig,
    SimulationConfig,
    SpindleConfig,
)

__all__ = [
    "MAX_WINDOW",
    "ORGANISATIONS",
    "SAMPLERS_OF",
    "VOXEL_SIZE_RANGE_UM",
    "AutoencoderConfig",
    "BuckleConfig",
    "BundleConfig",
    "CameraConfig",
    "CellConfig",
    "ConditionConfig",
    "Config",
    "DenoiserConfig",
    "DiffusionConfig",
    "Family",
    "Float3",
    "Fraction",
    "HazeConfig",
    "IlluminationConfig",
    "Int3",
    "LabellingConfig",
    "ModelConfig",
    "OpticsConfig",
    "Organisation",
    "Positive",
    "PositiveInt",
    "QuantizerConfig",
    "Range",
    "SimulationConfig",
    "SpindleConfig",
    "read_toml",
    "to_json",
    "validate",
]


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
        z = y = x = 1
        for sz, sy, sx in self.strides:
            z, y, x = z * sz, y * sy, x * sx
        return z, y, x


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
        if any(channels % self.norm_groups for channels in self.channels):
            raise ValueError(f"channels: expected multiples of norm_groups = {self.norm_groups}, got {self.channels}")
        attended = [c for c, attention in zip(self.channels, self.attention, strict=True) if attention]
        if any(channels % self.head_channels for channels in attended):
            raise ValueError(
                f"channels: expected multiples of head_channels = {self.head_channels} where there is attention, "
                f"got {tuple(attended)}"
            )
        return self


SAMPLERS_OF = {"flow": ("euler", "heun", "dpmpp_2m_sde"), "epsilon": ("ddim", "ddpm")}


class DiffusionConfig(Config):
    """Path between data and noise, and what the denoiser predicts.

    ``flow``: x_t = (1 - t) x_0 + t eps, t in [0, 1], the network predicts v = eps - x_0 (rectified flow).
    ``epsilon``: DDPM with ``num_train_timesteps`` steps, the network predicts eps.
    """

    objective: Literal["flow", "epsilon"] = "flow"
    num_train_timesteps: PositiveInt = 1000
    beta_start: Positive = 0.0015
    beta_end: Positive = 0.0195
    schedule: Literal["linear_beta", "scaled_linear_beta"] = "scaled_linear_beta"
    time_sampling: Literal["uniform", "logit_normal"] = "logit_normal"
    time_shift: Annotated[float, Field(ge=1.0, le=100.0)] = 1.0  # flow: more training times and steps near the noise
    steps: PositiveInt = 30  # default number of inference steps
    sampler: Literal["euler", "heun", "dpmpp_2m_sde", "ddim", "ddpm"] = "euler"
    guidance_scale: Annotated[float, Field(ge=0.0, le=100.0)] = 1.0  # default of `generate`; 1 is none
    requantize: bool = True  # vq-ldm: nearest codes once more before decoding

    @model_validator(mode="after")
    def _sampler_fits_objective(self) -> Self:
        if self.sampler not in SAMPLERS_OF[self.objective]:
            uses = ", ".join(f"{name} uses {' or '.join(fitting)}" for name, fitting in SAMPLERS_OF.items())
            raise ValueError(f"sampler {self.sampler!r} does not fit objective {self.objective!r}: {uses}")
        if self.objective == "epsilon" and self.time_shift != 1.0:
            raise ValueError("time_shift is for objective 'flow': epsilon's times follow from its schedule of betas")
        return self


class ModelConfig(Config):
    """Everything that is needed to build the networks of one checkpoint and to call them rightly."""

    family: Family
    name: str = "unnamed"
    autoencoder: AutoencoderConfig = AutoencoderConfig()
    denoiser: DenoiserConfig | None = DenoiserConfig()
    diffusion: DiffusionConfig = DiffusionConfig()
    window: Int3 = (32, 128, 128)  # trained window, voxels
    # Trained (low, high), each (z, y, x).
    voxel_size_range_um: tuple[Float3, Float3] = ((0.2, 0.1, 0.1), (0.2, 0.1, 0.1))
    target: Literal["clean", "input"] = "clean"  # what stage 1 learned to return
    simulation: SimulationConfig | None = None  # what the model was trained on; None for user folders

    @model_validator(mode="after")
    def _family_fits(self) -> Self:
        if (self.family == "vq-ldm") != (self.autoencoder.quantizer is not None):
            raise ValueError(f"family {self.family!r}: a vq-ldm needs [autoencoder.quantizer], an ldm has none")
        factor = self.autoencoder.downsampling_factor
        if any(n % f for n, f in zip(self.window, factor, strict=True)):
            raise ValueError(f"window {self.window} is not a multiple of the downsampling factor {factor}")
        if not all(2 <= n <= MAX_WINDOW for n in self.window):
            raise ValueError(f"window: expected 2 to {MAX_WINDOW} voxels per axis, got {self.window}")
        low, high = self.voxel_size_range_um
        for size in (low, high):
            check_voxel_size("voxel_size_range_um", size)
        if any(a > b for a, b in zip(low, high, strict=True)):
            raise ValueError(f"voxel_size_range_um: expected low <= high per axis, got {low} and {high}")
        return self
