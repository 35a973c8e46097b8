"""What the autoencoder minimizes, as one module, so that autocast and data-parallel training see one forward call."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from napari_vqldm.models.base import BaseAutoencoder
from napari_vqldm.models.blocks import at_least_float32
from napari_vqldm.training.config import AutoencoderStage
from napari_vqldm.training.losses.critics import Critics


class AutoencoderTask(nn.Module):
    """Reconstruction, plus the price of the latent (KL, or codebook and commitment loss), plus what critics say."""

    def __init__(self, autoencoder: BaseAutoencoder, config: AutoencoderStage) -> None:
        super().__init__()
        self.network = autoencoder
        self.config = config

    def forward(
        self,
        volumes: Tensor,
        target: Tensor,
        noise: Tensor | None,
        kl_factor: float,
        quantize: bool,
        critics: Critics | None = None,
        step: int = 0,
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
        critics : Critics or None
            Perceptual and adversarial terms; an argument, since what they hold is not trained here.
        step : int
            Optimizer steps done, by which the discriminator comes in.

        Returns
        -------
        dict
            "loss" to minimize and its parts without their weights; "latent" (B, C, d, h, w) and its "latent_std"; for
            codes "code_indices" (B, d, h, w); for a KL posterior "kl_channels" (C,), mean nats of each channel; the
            terms of `Critics.terms`.
        """
        config = self.config
        encoding = self.network.encode(volumes)
        mean = at_least_float32(encoding.mean)
        out: dict[str, Tensor] = {}
        quantizer = self.network.quantizer
        if quantizer is None:
            latent = mean if noise is None else encoding.sample(noise.to(mean.dtype))
            kl = at_least_float32(encoding.kl())
            out["kl"], out["kl_channels"] = kl.mean(), kl.detach().mean(dim=(0, 2, 3, 4))
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
        out["latent_std"] = out["latent"].std(correction=0)
        reconstruction = at_least_float32(self.network.decode(latent))
        out["l1"], out["mse"] = F.l1_loss(reconstruction, target), F.mse_loss(reconstruction, target)
        weights = {
            "l1": (config.l1_weight, 0.0),
            "mse": (0.0, config.mse_weight),
            "l1+mse": (config.l1_weight, config.mse_weight),
        }
        l1_weight, mse_weight = weights[config.reconstruction]
        fidelity = l1_weight * out["l1"] + mse_weight * out["mse"]
        out["loss"] = fidelity + price
        if critics is not None:
            added, terms = critics.terms(reconstruction, target, fidelity, self.network.last_layer, step)
            out["loss"] = out["loss"] if added is None else out["loss"] + added
            out |= terms
        return out
