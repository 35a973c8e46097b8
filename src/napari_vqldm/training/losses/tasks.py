"""What each stage minimizes. One module per stage, so that autocast and data-parallel training see one forward call."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from napari_vqldm.diffusion.process import Process
from napari_vqldm.models.autoencoder import Autoencoder
from napari_vqldm.models.denoiser import Denoiser
from napari_vqldm.training.config import AutoencoderStage


class AutoencoderTask(nn.Module):
    """Reconstruction plus the price of the latent: KL divergence, or codebook and commitment loss."""

    def __init__(self, autoencoder: Autoencoder, config: AutoencoderStage) -> None:
        super().__init__()
        self.network = autoencoder
        self.config = config

    def forward(
        self, volumes: Tensor, target: Tensor, noise: Tensor | None, kl_factor: float, quantize: bool
    ) -> dict[str, Tensor]:
        """Return the terms of the loss.

        Parameters
        ----------
        volumes, target : Tensor
            (B, 1, D, H, W), filament units.
        noise : Tensor or None
            Standard normal (B, C, d, h, w) for the KL posterior; unused for codes.
        kl_factor : float
            Warm-up factor of the KL weight, 0 to 1.
        quantize : bool
            False: codes are skipped (before the codebook has started).

        Returns
        -------
        dict
            "loss" to minimize, its parts, and, for codes, "latent" (B, C, d, h, w) and "code_indices" for the update.
        """
        config = self.config
        encoding = self.network.encode(volumes)
        mean = encoding.mean.float()
        out: dict[str, Tensor] = {}
        quantizer = self.network.quantizer
        if quantizer is None:
            latent = mean if noise is None else encoding.sample(noise.to(mean.dtype))
            out["kl"] = encoding.kl().float().mean()
            price = config.kl_weight * kl_factor * out["kl"]
        elif quantize:
            quantization = quantizer(mean)
            latent = quantization.quantized
            settings = self.network.config.quantizer
            out["codebook"], out["commitment"] = quantization.codebook_loss, quantization.commitment_loss
            out["code_indices"] = quantization.code_indices
            price = (settings.codebook_weight if settings and settings.kind == "gradient" else 0.0) * out["codebook"]
            price = price + (settings.commitment_weight if settings else 0.0) * out["commitment"]
        else:
            latent, price = mean, mean.new_zeros(())
        out["latent"] = mean.detach()
        reconstruction = self.network.decode(latent).float()
        out["l1"], out["mse"] = F.l1_loss(reconstruction, target), F.mse_loss(reconstruction, target)
        weights = {
            "l1": (config.l1_weight, 0.0),
            "mse": (0.0, config.mse_weight),
            "l1+mse": (config.l1_weight, config.mse_weight),
        }
        l1_weight, mse_weight = weights[config.reconstruction]
        out["loss"] = l1_weight * out["l1"] + mse_weight * out["mse"] + price
        return out


class DenoiserTask(nn.Module):
    """Mean squared error of the denoiser's prediction along the path between data and noise."""

    def __init__(self, denoiser: Denoiser, process: Process) -> None:
        super().__init__()
        self.network = denoiser
        self.process = process

    def forward(
        self, x_0: Tensor, eps: Tensor, t: Tensor, condition: Tensor | None, drop: Tensor | None
    ) -> dict[str, Tensor]:
        """Return {"loss": ...}.

        Parameters
        ----------
        x_0, eps : Tensor
            Standardised latents and standard normal noise, (B, C, d, h, w).
        t : Tensor
            (B,), time of each sample.
        condition, drop : Tensor or None
            (B, width) and (B,) bool: rows that are told nothing.
        """
        x_t = self.process.noisy(x_0, eps, t)
        prediction = self.network(x_t, t, condition, drop=drop)
        return {"loss": F.mse_loss(prediction.float(), self.process.target(x_0, eps, t))}
