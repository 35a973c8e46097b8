"""Configuration of each stage of a training run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from napari_vqldm.config import Config, Fraction, Int3, Positive, PositiveInt

NonNegativeInt = Annotated[int, Field(ge=0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Precision = Literal["32-true", "bf16-mixed"]


class StageConfig(Config):
    """Optimization of one network."""

    steps: PositiveInt
    batch_size: PositiveInt = 8
    learning_rate: Positive = 1e-3
    lr_schedule: Literal["cosine", "constant"] = "cosine"
    warmup_steps: NonNegativeInt = 100
    cooldown_fraction: Fraction = 0.2  # "constant": last part of the steps, linear down to the final rate
    final_lr_fraction: Fraction = 0.01
    weight_decay: NonNegative = 0.0
    betas: tuple[Fraction, Fraction] = (0.9, 0.99)
    gradient_clip: Positive = 1.0
    ema_decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.999
    log_every: PositiveInt = 10
    check_every: PositiveInt = 250  # held-out numbers and the watch for collapse
    save_every: PositiveInt = 500
    picture_every: PositiveInt = 1000
    crop: Int3 | None = None  # stage 1: volume voxels; stage 3: latent voxels; None: the whole window
    init_from: str | None = None  # run folder or checkpoint whose weights are the start


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


class LatentsStage(Config):
    """Stage 2: encode the training volumes once, one filament's peak at 1: ``data.gain_range`` is for stage 1 alone."""

    augmentations: PositiveInt = 3  # variants of each volume: flips, turns and a noise draw
    batch_size: PositiveInt = 4
    chunk: PositiveInt = 32  # latents of one cache file
    precision: Precision = "32-true"  # as `reconstruct` encodes, whatever the precision of the other stages


class DenoiserStage(StageConfig):
    """Stage 3."""

    steps: PositiveInt = 12000
    learning_rate: Positive = 5e-4
    crop_probability: Fraction = 1.0  # share of steps on crops, when ``crop`` is set
    compile: bool = False  # torch.compile beside a GPU: half the time a step, but a minute or two first; needs Triton
