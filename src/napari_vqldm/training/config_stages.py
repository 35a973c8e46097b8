"""Configuration of each stage of a training run."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from napari_vqldm.config import Config, Fraction, Int3, Positive, PositiveInt

NonNegativeInt = Annotated[int, Field(ge=0)]
NonNegative = Annotated[float, Field(ge=0.0)]
BelowOne = Annotated[float, Field(ge=0.0, lt=1.0)]
Precision = Literal["32-true", "bf16-mixed"]
TrainingPrecision = Literal["32-true", "bf16-mixed", "64-true"]  # 64 bits: to compare ways of computing


class StageConfig(Config):
    """Optimization of one network."""

    steps: PositiveInt
    batch_size: PositiveInt = 8  # per process
    accumulate: PositiveInt = 1  # equal parts in which a batch is computed, one after the other
    checkpoint_activations: bool = False  # residual blocks are computed again in the backward pass: less memory
    learning_rate: Positive = 1e-3
    lr_schedule: Literal["cosine", "constant"] = "cosine"
    warmup_steps: NonNegativeInt = 100
    cooldown_fraction: Fraction = 0.2  # "constant": last part of the steps, linear down to the final rate
    final_lr_fraction: Fraction = 0.01
    weight_decay: NonNegative = 0.0
    betas: tuple[BelowOne, BelowOne] = (0.9, 0.99)
    gradient_clip: Positive = 1.0
    ema: Literal["exponential", "power"] = "exponential"  # averaged weights
    ema_decay: BelowOne = 0.999  # exponential
    # "power": widths of the averages as shares of the training; the best one at the end is kept.
    ema_lengths: Annotated[tuple[Annotated[float, Field(gt=0.0, lt=0.28)], ...], Field(min_length=1, max_length=3)] = (
        0.05,
        0.10,
    )
    log_every: PositiveInt = 10
    check_every: PositiveInt = 250  # held-out numbers and the watch for collapse
    save_every: PositiveInt = 500
    picture_every: PositiveInt = 1000
    crop: Int3 | None = None  # stage 1: volume voxels; stage 3: latent voxels; None: the whole window
    init_from: str | None = None  # run folder or checkpoint whose weights are the start

    @model_validator(mode="after")
    def _parts_are_equal(self) -> Self:
        if self.batch_size % self.accumulate:
            raise ValueError(f"accumulate: expected a divisor of batch_size = {self.batch_size}, got {self.accumulate}")
        if len(set(self.ema_lengths)) < len(self.ema_lengths):
            raise ValueError(f"ema_lengths: expected different lengths, got {self.ema_lengths}")
        return self


class AutoencoderStage(StageConfig):
    """Stage 1. Weights multiply means over elements."""

    steps: NonNegativeInt = 3000  # 0: the autoencoder of ``init_from`` as it is
    reconstruction: Literal["l1", "mse", "l1+mse"] = "l1+mse"
    l1_weight: NonNegative = 1.0
    mse_weight: NonNegative = 1.0
    kl_weight: NonNegative = 1e-4  # times nats per latent element
    kl_warmup_steps: NonNegativeInt = 500
    kmeans_after: NonNegativeInt = 200  # steps without quantization before the codebook starts from encoder vectors
    collapse_grace: NonNegativeInt = 500  # steps before the watch for collapse begins
    perceptual: Literal["gradient", "monai"] = "gradient"  # edges at several scales; ResNet-50 of slices
    perceptual_weight: NonNegative = 0.0
    perceptual_scales: PositiveInt = 3  # gradient: levels, each half as fine
    perceptual_weights: str | None = None  # monai: local .safetensors file of torchvision's resnet50
    adversarial: Literal["least_squares", "hinge"] = "least_squares"
    adversarial_weight: NonNegative = 0.0
    adversarial_start: NonNegativeInt = 0  # steps without the discriminator
    adversarial_ramp: NonNegativeInt = 100  # steps in which its terms grow to their weights
    adaptive_weight: bool = False  # adversarial_weight times what makes it pull as hard as the reconstruction
    adaptive_weight_max: Positive = 100.0
    feature_matching_weight: NonNegative = 0.0
    discriminator_channels: PositiveInt = 32
    discriminator_layers: PositiveInt = 3  # halvings of each axis
    discriminator_learning_rate: Positive = 5e-4  # constant

    @property
    def has_discriminator(self) -> bool:
        """Whether a discriminator is trained beside the autoencoder."""
        return self.adversarial_weight > 0 or self.feature_matching_weight > 0

    @model_validator(mode="after")
    def _terms_come_in(self) -> Self:
        weights = {"l1": self.l1_weight, "mse": self.mse_weight, "l1+mse": self.l1_weight + self.mse_weight}
        if not weights[self.reconstruction]:
            raise ValueError(
                f"reconstruction {self.reconstruction!r} with a weight of 0: nothing would be reconstructed"
            )
        if self.steps and self.has_discriminator and self.adversarial_start >= self.steps:
            raise ValueError(
                f"adversarial_start: expected fewer than steps = {self.steps}, got {self.adversarial_start}: the "
                "discriminator would never be asked; start it earlier, or set adversarial_weight and "
                "feature_matching_weight to 0"
            )
        return self


class LatentsStage(Config):
    """Stage 2: encode the training volumes once, one filament's peak at 1: ``data.gain_range`` is for stage 1 alone."""

    augmentations: PositiveInt = 3  # variants of each volume: flips, turns and a noise draw
    batch_size: PositiveInt = 4
    chunk: PositiveInt = 32  # latents of one cache file
    normalization: Literal["channel", "scalar"] = "channel"  # mean and std of each channel, or one std and no mean
    precision: Precision = "32-true"  # as `reconstruct` encodes, whatever the precision of the other stages


class DenoiserStage(StageConfig):
    """Stage 3."""

    steps: PositiveInt = 12000
    learning_rate: Positive = 5e-4
    crop_probability: Fraction = 1.0  # share of steps on crops, when ``crop`` is set
    loss_weighting: Literal["none", "min_snr"] = "none"  # min_snr: times of little noise count less
    min_snr_gamma: Positive = 5.0  # min_snr: highest weight of the squared error of the clean latent
    compile: bool = False  # torch.compile beside a GPU: half the time a step, but a minute or two first; needs Triton
