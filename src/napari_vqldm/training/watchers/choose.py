"""Which watchers a stage gets."""

from __future__ import annotations

import math

from napari_vqldm.training.config import SimulatedData, StageName, TrainConfig
from napari_vqldm.training.watchers.adversary import AdversarialInstability, DeadDiscriminator
from napari_vqldm.training.watchers.base import Watcher
from napari_vqldm.training.watchers.latent import CodebookCollapse, LatentScale, PosteriorCollapse, ScaleDrift
from napari_vqldm.training.watchers.overfit import AutoencoderOverfit, DenoiserOverfit


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
    found: list[Watcher] = [ScaleDrift(max(1, settings.steps)), AdversarialInstability(), DeadDiscriminator()]
    found.append(AutoencoderOverfit(noise_ceiling_db))
    if quantizer is None:
        return [PosteriorCollapse(settings.kl_warmup_steps, settings.log_every), *found]
    volumes = config.data.num_volumes if isinstance(config.data, SimulatedData) else 0
    return [CodebookCollapse(quantizer.codebook_size, math.ceil(volumes / settings.batch_size)), *found]
