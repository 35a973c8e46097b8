"""The discriminator of stage 1 and its training: its own optimizer, its own state, outside the averaged weights.

It is no part of the task: the optimizer, the moving average and data-parallel wrapping see the autoencoder alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

import torch
from monai.networks.nets import PatchDiscriminator
from torch import Tensor, nn

from napari_vqldm.config import Int3
from napari_vqldm.errors import ConfigError, TrainingError
from napari_vqldm.training.config import AutoencoderStage
from napari_vqldm.training.losses.adversarial import discriminator_loss
from napari_vqldm.training.resume import optimizer_tensors, restore_optimizer

BETAS = (0.5, 0.9)  # little momentum: the opponent moves too
FEWEST_VOXELS = 4  # of the coarsest features: an instance norm over fewer leaves little but signs


def check_crop(config: AutoencoderStage, crop: Int3) -> None:
    """Refuse crops that the discriminator reduces to almost nothing.

    Raises
    ------
    ConfigError
        If its coarsest features have fewer than `FEWEST_VOXELS` voxels.
    """
    factor = 2**config.discriminator_layers  # the first layer and all but one of the others halve each axis
    z, y, x = (-(-n // factor) for n in crop)
    if z * y * x < FEWEST_VOXELS:
        raise ConfigError(
            f"autoencoder.crop: expected at least {FEWEST_VOXELS} voxels after {config.discriminator_layers} halvings "
            f"in the discriminator, got {crop} -> {(z, y, x)}: lower discriminator_layers or enlarge crop"
        )


def new_discriminator(config: AutoencoderStage, seed: int) -> PatchDiscriminator:
    """Build the discriminator; its first weights depend on ``seed`` alone.

    MONAI's ``PatchDiscriminator`` (Isola et al. 2017, arXiv:1611.07004, Sec. 3.2.2) with instance norms: a batch norm
    would let samples see each other. Kernels of 3 with padding 1 halve any axis without losing it.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PatchDiscriminator(
            spatial_dims=3,
            channels=config.discriminator_channels,
            in_channels=1,
            num_layers_d=config.discriminator_layers,
            kernel_size=3,
            norm="INSTANCE",
            padding=1,
        )


class Discriminator:
    """A discriminator and what trains it. No module, so that no module that knows it takes it for its own.

    Parameters
    ----------
    config : AutoencoderStage
        Kind of loss, widths, learning rate.
    seed : int
        Of the first weights.
    device : torch.device
        Where it lives.
    mean_over_processes : callable
        Averages a tensor over processes.
    """

    def __init__(
        self,
        config: AutoencoderStage,
        seed: int,
        device: torch.device,
        mean_over_processes: Callable[[Tensor], Tensor],
    ) -> None:
        self.config = config
        self.network: nn.Module = new_discriminator(config, seed).to(device)
        self.network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.network.requires_grad_(False)  # but in its own step: gradients pass through it, not into it
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(),
            lr=config.discriminator_learning_rate,
            betas=BETAS,
            weight_decay=0.0,
            fused=device.type == "cuda",
        )
        self._mean_over_processes = mean_over_processes

    def features(self, volumes: Tensor) -> list[Tensor]:
        """Return the features of every layer for (B, 1, D, H, W); the last are the logits (B, 1, d, h, w)."""
        found: list[Tensor] = self.network(volumes)
        return found

    def follow(self, parameter: Tensor) -> None:
        """Take the number format of a parameter of the autoencoder."""
        if next(self.network.parameters()).dtype != parameter.dtype:
            self.network.to(parameter.dtype)

    def step(
        self,
        reconstruction: Tensor,
        target: Tensor,
        autocast: Callable[[], AbstractContextManager[object]],
        rate_factor: float = 1.0,
    ) -> dict[str, Tensor]:
        """Take one optimizer step.

        Parameters
        ----------
        reconstruction, target : Tensor
            (B, 1, D, H, W) of this process, filament units, without gradient.
        autocast : callable
            Returns the context of the forward pass.
        rate_factor : float
            Times the learning rate.

        Returns
        -------
        dict
            "discriminator_loss", "logits_real" and "logits_fake" (means), "discriminator_gradient_norm" before
            clipping; scalars to log.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = rate_factor * self.config.discriminator_learning_rate
        with self._learning():
            with autocast():
                real, fake = self.features(target)[-1], self.features(reconstruction)[-1]
            loss = discriminator_loss(real, fake, self.config.adversarial)
            loss.backward()
            parameters = list(self.network.parameters())
            self._average_gradients(parameters)
            norm = nn.utils.clip_grad_norm_(parameters, self.config.gradient_clip)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        return {
            "discriminator_loss": loss.detach(),
            "logits_real": real.detach().float().mean(),
            "logits_fake": fake.detach().float().mean(),
            "discriminator_gradient_norm": norm.detach(),
        }

    def training_state(self) -> dict[str, Tensor]:
        """Weights and moments: all that a resumed run needs."""
        tensors = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        moments = optimizer_tensors(self.optimizer, self.network)
        return tensors | {f"optimizer.{name}": tensor for name, tensor in moments.items()}

    def load_training_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `training_state` returned.

        Raises
        ------
        TrainingError
            If the state has no discriminator or another one.
        """
        weights, moments = (
            {name.removeprefix(part): tensor for name, tensor in state.items() if name.startswith(part)}
            for part in ("network.", "optimizer.")
        )
        own = self.network.state_dict()
        if {n: t.shape for n, t in weights.items()} != {n: t.shape for n, t in own.items()}:
            raise TrainingError("the saved state has no such discriminator: start again with --fresh")
        self.follow(next(iter(weights.values())))
        self.network.load_state_dict(weights)
        self.optimizer.state.clear()  # a state from before the first step has no moments, and those of now must go
        restore_optimizer(self.optimizer, self.network, moments)

    @contextmanager
    def _learning(self) -> Iterator[None]:
        """Let gradients into the weights for a while."""
        self.network.requires_grad_(True)
        try:
            yield
        finally:
            self.network.requires_grad_(False)

    def _average_gradients(self, parameters: list[nn.Parameter]) -> None:
        """Average gradients over processes, all in one exchange."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        mean = self._mean_over_processes(torch.cat([g.flatten() for g in gradients]))
        for gradient, part in zip(gradients, mean.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view(gradient.shape))
