"""Which watchers a stage gets."""

from __future__ import annotations

import math

from napari_vqldm.training.config import SimulatedData, StageName, TrainConfig
from napari_vqldm.training.watchers.adversary import AdversarialInstability, DeadDiscriminator
from napari_vqldm.training.watchers.base import Watcher
from napari_vqldm.training.watchers.latent import (
    COMMITMENT_WEIGHT,
    KL_WEIGHT,
    CodebookCollapse,
    LatentScale,
    PosteriorCollapse,
    ScaleDrift,
)
from napari_vqldm.training.watchers.overfit import AutoencoderOverfit, DenoiserOverfit

SILENT_START = 10  # one in so many steps of stage 1


def watchers_for(stage: StageName, config: TrainConfig, *, noise_ceiling_db: float | None = None) -> list[Watcher]:
    """Return new watchers for a stage; one whose terms never come stays silent.

    Parameters
    ----------
    stage : str
        "autoencoder" or "denoiser"; "latents" trains nothing and gets none.
    config : TrainConfig
        The run.
    noise_ceiling_db : float or None
        See `AutoencoderOverfit`.
    """
    if stage == "latents":
        return []
    if stage == "denoiser":
        return [LatentScale(), DenoiserOverfit()]
    settings, quantizer = config.autoencoder, config.model.autoencoder.quantizer
    found: list[Watcher] = [
        ScaleDrift(max(1, settings.steps), price=KL_WEIGHT if quantizer is None else COMMITMENT_WEIGHT),
        AdversarialInstability(after=0 if quantizer is None else settings.kmeans_after),
        DeadDiscriminator(),
        AutoencoderOverfit(noise_ceiling_db),
    ]
    if quantizer is None:
        # An encoder starts with small weights, and its posterior as the prior.
        after = max(settings.kl_warmup_steps, settings.steps // SILENT_START)
        return [PosteriorCollapse(after, settings.log_every), *found]
    volumes = config.data.num_volumes if isinstance(config.data, SimulatedData) else 0
    return [CodebookCollapse(quantizer.codebook_size, math.ceil(volumes / settings.batch_size)), *found]
