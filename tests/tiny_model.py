"""A model that runs in milliseconds, for tests of the command line and of the dock."""

from __future__ import annotations

from pathlib import Path

WINDOW = (8, 16, 16)


def tiny_model(path: Path, family: str, *, steps: int) -> Path:
    """Write a checkpoint with random weights, of a model that denoises in so many steps windows of 8 x 16 x 16."""
    import torch

    from napari_vqldm.checkpoint import save_checkpoint
    from napari_vqldm.config import (
        AutoencoderConfig,
        DenoiserConfig,
        DiffusionConfig,
        ModelConfig,
        QuantizerConfig,
        SimulationConfig,
    )
    from napari_vqldm.latent import LatentSpace
    from napari_vqldm.models.autoencoder import Autoencoder
    from napari_vqldm.models.denoiser import Denoiser

    torch.manual_seed(0)
    config = ModelConfig(
        family=family,
        name=f"tiny-{family}",
        autoencoder=AutoencoderConfig(
            widths=(4, 8),
            encoder_blocks=(0, 0),
            decoder_blocks=(0, 0),
            latent_channels=3,
            quantizer=QuantizerConfig(codebook_size=16) if family == "vq-ldm" else None,
        ),
        denoiser=DenoiserConfig(
            channels=(8, 8),
            blocks=(1, 1),
            strides=((2, 2, 2),),
            attention=(False, False),
            norm_groups=4,
            head_channels=4,
        ),
        diffusion=DiffusionConfig(steps=steps),
        window=WINDOW,
        voxel_size_range_um=((0.2, 0.1, 0.1), (0.25, 0.3, 0.3)),
        simulation=SimulationConfig(shape=WINDOW),
    )
    autoencoder = Autoencoder(config.autoencoder)
    channels = config.autoencoder.latent_channels
    space = LatentSpace(autoencoder, torch.zeros(channels), torch.ones(channels))
    return save_checkpoint(path, config=config, space=space, denoiser=Denoiser(config.denoiser, channels))
