"""The terms of stage 1 that need more than the two volumes: perceptual, adversarial, feature matching."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from napari_vqldm.config import Int3
from napari_vqldm.training.config import AutoencoderStage
from napari_vqldm.training.losses.adversarial import adaptive_weight, feature_matching, generator_loss
from napari_vqldm.training.losses.adversarial import strength as strength_at
from napari_vqldm.training.losses.discriminator import Discriminator, check_crop
from napari_vqldm.training.losses.perceptual import make_perceptual


def make_critics(
    config: AutoencoderStage,
    crop: Int3,
    seed: int,
    device: torch.device,
    mean_over_processes: Callable[[Tensor], Tensor],
) -> Critics:
    """Build what the weights of a configuration ask for, and nothing else.

    Parameters
    ----------
    config : AutoencoderStage
        Weights and kinds of the terms.
    crop : tuple of int
        Voxels (z, y, x) of a training sample.
    seed : int
        Of the first weights of the discriminator.
    device : torch.device
        Where to compute.
    mean_over_processes : callable
        Averages a tensor over processes, perhaps in place.

    Raises
    ------
    ConfigError
        If the crop is too small for the discriminator, or the perceptual network cannot be built.
    """
    perceptual = make_perceptual(config)
    if perceptual is not None:
        perceptual.to(device)
    discriminator = None
    if config.has_discriminator:
        check_crop(config, crop)
        discriminator = Discriminator(config, seed, device, mean_over_processes)
    return Critics(config, perceptual, discriminator, mean_over_processes)


class Critics:
    """What judges a reconstruction besides its voxels. No module: none of it is trained with the autoencoder.

    Parameters
    ----------
    config : AutoencoderStage
        Weights of the terms.
    perceptual : nn.Module or None
        See `napari_vqldm.training.losses.perceptual.make_perceptual`.
    discriminator : Discriminator or None
        For the adversarial and the feature matching loss.
    mean_over_processes : callable
        Averages a tensor over processes.
    """

    def __init__(
        self,
        config: AutoencoderStage,
        perceptual: nn.Module | None,
        discriminator: Discriminator | None,
        mean_over_processes: Callable[[Tensor], Tensor],
    ) -> None:
        self.config = config
        self.perceptual = perceptual
        self.discriminator = discriminator
        self._mean_over_processes = mean_over_processes

    def terms(
        self, reconstruction: Tensor, target: Tensor, fidelity: Tensor, last_layer: Tensor, step: int
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Judge a reconstruction.

        Parameters
        ----------
        reconstruction, target : Tensor
            (B, 1, D, H, W), filament units.
        fidelity : Tensor
            Weighted reconstruction loss, which the adaptive weight compares with.
        last_layer : Tensor
            Weight of the last layer of the decoder.
        step : int
            Optimizer steps done; the discriminator is not asked before ``adversarial_start``.

        Returns
        -------
        tuple
            What to add to the loss (None: nothing), and the terms without their weights: "perceptual",
            "adversarial", "feature_matching", "adversarial_weight" (the adaptive one), and for the step of the
            discriminator "reconstruction" and "target".
        """
        config, out = self.config, dict[str, Tensor]()
        price: Tensor | None = None
        if self.perceptual is not None:
            out["perceptual"] = self.perceptual(reconstruction, target)
            price = config.perceptual_weight * out["perceptual"]
            fidelity = fidelity + price
        strength = strength_at(step, config.adversarial_start, config.adversarial_ramp)
        if self.discriminator is None or strength == 0:
            return price, out
        self.discriminator.follow(last_layer)
        fake = self.discriminator.features(reconstruction)
        with torch.no_grad():
            real = self.discriminator.features(target)
        out["adversarial"] = generator_loss(fake[-1], config.adversarial)
        out["feature_matching"] = feature_matching(fake[:-1], real[:-1])
        weight: Tensor | float = config.adversarial_weight
        if config.adaptive_weight and weight:
            out["adversarial_weight"] = adaptive_weight(
                fidelity, out["adversarial"], last_layer, config.adaptive_weight_max, self._mean_over_processes
            )
            weight = weight * out["adversarial_weight"]
        added = weight * out["adversarial"] + config.feature_matching_weight * out["feature_matching"]
        out["reconstruction"], out["target"] = reconstruction.detach(), target.detach()
        return strength * added if price is None else price + strength * added, out
