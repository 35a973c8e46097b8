"""What a run is refused for before anything is written or simulated."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from napari_vqldm.errors import ConfigError
from napari_vqldm.models.build import make_autoencoder, make_denoiser
from napari_vqldm.training.config import STAGES, FolderData, StageName, TrainConfig
from napari_vqldm.training.folder import RunFolder
from napari_vqldm.training.losses.discriminator import check_crop
from napari_vqldm.training.losses.perceptual import make_perceptual
from napari_vqldm.training.resume import load_record
from napari_vqldm.training.stacks import stack_files
from napari_vqldm.training.warm_start import check_start


def check_data(config: TrainConfig) -> None:
    """Refuse a folder without stacks."""
    if isinstance(config.data, FolderData):
        stack_files(config.data)


def check_critics(config: TrainConfig) -> None:
    """Refuse crops that are too small for the discriminator, and perceptual weights that are not there.

    Raises
    ------
    ConfigError
        See `napari_vqldm.training.losses.discriminator.check_crop` and
        `napari_vqldm.training.losses.perceptual.make_perceptual`.
    """
    stage = config.autoencoder
    if not stage.steps:
        return
    if stage.has_discriminator:
        check_crop(stage, stage.crop or config.model.window)
    make_perceptual(stage)


def check_order(folder: RunFolder, config: TrainConfig, stages: Sequence[StageName]) -> None:
    """Refuse stages whose earlier ones are not finished.

    Raises
    ------
    ConfigError
        The message names the stage that is missing.
    """
    for stage in STAGES[: STAGES.index(stages[0])]:
        if stage == "latents":
            done = (folder.latents / "latents.json").exists()
        else:
            record, steps = load_record(folder.state(stage)), getattr(config, stage).steps
            done = steps == 0 or (record is not None and int(record["step"]) >= steps)
        if not done:
            raise ConfigError(
                f"{folder.path}: stage {stages[0]!r} needs stage {stage!r}, which is not finished: run it first or "
                "leave out --stage"
            )


def check_starts(config: TrainConfig, folder: RunFolder, stages: Sequence[StageName], fresh: bool) -> None:
    """Refuse first weights that are missing or of another kind; an autoencoder taken as it is is needed by every stage.

    Raises
    ------
    ConfigError
        See `napari_vqldm.training.warm_start.check_start`.
    CheckpointError
        The file is no checkpoint.
    """
    for stage in STAGES:
        as_it_is = stage == "autoencoder" and config.autoencoder.steps == 0
        if stage == "latents" or not (stage in stages or as_it_is):
            continue
        source = getattr(config, stage).init_from
        begun = folder.state(stage).exists() and not (fresh and stage in stages)
        if source is not None and not begun:
            check_start(source, stage)


def build_on_meta(config: TrainConfig) -> dict[str, nn.Module]:
    """Build the networks without memory for their weights.

    Raises
    ------
    ConfigError
        If no such network can be built.
    """
    model = config.model
    try:
        with torch.device("meta"):
            networks: dict[str, nn.Module] = {"autoencoder": make_autoencoder(model.autoencoder)}
            if model.denoiser is not None:
                networks["denoiser"] = make_denoiser(model.denoiser, model.autoencoder.latent_channels)
    except (RuntimeError, TypeError, ValueError) as error:  # torch has no class of its own for sizes beyond its range
        raise ConfigError(f"{config.name}: these networks cannot be built: {str(error)[:150]}") from error
    return networks
