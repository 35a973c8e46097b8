"""From configuration to network: the only place that knows both."""

from __future__ import annotations

from napari_vqldm.config import AnyAutoencoderConfig, AnyDenoiserConfig, MonaiKLConfig, MonaiUNetConfig, MonaiVQConfig
from napari_vqldm.models.autoencoder import Autoencoder
from napari_vqldm.models.base import BaseAutoencoder
from napari_vqldm.models.denoiser import Denoiser
from napari_vqldm.models.reference import MonaiAutoencoderKL, MonaiDenoiser, MonaiVQVAE

AnyDenoiser = Denoiser | MonaiDenoiser


def make_autoencoder(config: AnyAutoencoderConfig) -> BaseAutoencoder:
    """Build the autoencoder that ``config`` describes."""
    if isinstance(config, MonaiKLConfig):
        return MonaiAutoencoderKL(config)
    if isinstance(config, MonaiVQConfig):
        return MonaiVQVAE(config)
    return Autoencoder(config)


def make_denoiser(config: AnyDenoiserConfig, latent_channels: int) -> AnyDenoiser:
    """Build the denoiser that ``config`` describes for latents of ``latent_channels`` channels."""
    if isinstance(config, MonaiUNetConfig):
        return MonaiDenoiser(config, latent_channels)
    return Denoiser(config, latent_channels)
