"""What the denoiser minimizes, as one module, so that autocast and data-parallel training see one forward call."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from napari_vqldm.diffusion import Process
from napari_vqldm.models.blocks import at_least_float32
from napari_vqldm.models.build import AnyDenoiser
from napari_vqldm.training.config import DenoiserStage


class DenoiserTask(nn.Module):
    """Mean squared error of the denoiser's prediction along the path between data and noise, weighted as configured."""

    def __init__(self, denoiser: AnyDenoiser, process: Process, config: DenoiserStage) -> None:
        super().__init__()
        self.network = denoiser
        self.process = process
        self.gamma = config.min_snr_gamma if config.loss_weighting == "min_snr" else None

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
        prediction = at_least_float32(self.network(x_t, t, condition, drop=drop))
        target = self.process.target(x_0, eps, t)
        if self.gamma is None:
            return {"loss": F.mse_loss(prediction, target)}
        errors = (prediction - target).square().flatten(1).mean(dim=1)
        weight = self.process.min_snr_weight(t, self.gamma)
        return {"loss": (weight.to(errors) * errors).mean()}
