"""The denoiser: MONAI's `DiffusionModelUNet` with what few-step training and control need, so that neither asks for a new network.

Added to the MONAI network: a second time input (for MeanFlow or shortcut training), a condition vector that can be
dropped, and concatenated condition channels. Each addition starts at zero: a fresh `Denoiser` equals its MONAI part.
"""

from __future__ import annotations

import torch
from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet, get_timestep_embedding
from torch import Tensor, nn

from napari_vqldm.config import DenoiserConfig
from napari_vqldm.errors import ShapeError

TIME_SCALE = 1000.0  # the sinusoidal embedding expects times of the size of DDPM step numbers


class ConditionEmbedding(nn.Module):
    """Two-layer embedding of the condition vector with a learned vector for "nothing is known"; starts at zero."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.null = nn.Parameter(torch.zeros(width))
        self.is_known = nn.Linear(1, channels)  # tells the null vector from a known one of the same value
        self.layers = nn.Sequential(nn.Linear(width, channels), nn.SiLU(), nn.Linear(channels, channels))
        _zero(self.layers[-1])
        _zero(self.is_known)

    def forward(self, condition: Tensor | None, drop: Tensor | None, batch: int) -> Tensor:
        """Embed (B, width); rows where ``drop`` (B,) is true, or all without ``condition``, become the null vector."""
        null = self.null.expand(batch, -1)
        known = torch.zeros(batch, 1, device=null.device, dtype=null.dtype)
        if condition is not None:
            keep = torch.ones(batch, 1, dtype=torch.bool, device=null.device)
            if drop is not None:
                keep = ~drop.view(batch, 1)
            null = torch.where(keep, condition.to(null.dtype), null)
            known = keep.to(null.dtype)
        embedded: Tensor = self.layers(null) + self.is_known(known)
        return embedded


class Denoiser(nn.Module):
    """Predict the target of the diffusion process from a noisy standardised latent.

    Parameters
    ----------
    config : DenoiserConfig
        Channels, blocks and attention per level, condition.
    latent_channels : int
        Channels C of the latent.
    """

    def __init__(self, config: DenoiserConfig, latent_channels: int) -> None:
        super().__init__()
        self.config = config
        self.latent_channels = latent_channels
        self.unet = DiffusionModelUNet(
            spatial_dims=3,
            in_channels=latent_channels,
            out_channels=latent_channels,
            num_res_blocks=config.blocks,
            channels=config.channels,
            attention_levels=config.attention,
            norm_num_groups=config.norm_groups,
            num_head_channels=config.head_channels,
            use_flash_attention=True,
        )
        first = config.channels[0]
        embedding = first * 4
        self.second_time = nn.Sequential(nn.Linear(first, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        _zero(self.second_time[-1])
        self.condition = ConditionEmbedding(config.condition.width, embedding) if config.condition else None
        self.control = nn.Conv3d(config.condition_channels, first, 3, padding=1) if config.condition_channels else None
        if self.control is not None:
            _zero(self.control)

    @property
    def multiple(self) -> int:
        """Latent axes must be multiples of this."""
        return int(2 ** (len(self.config.channels) - 1))

    def forward(
        self,
        x_t: Tensor,
        t: Tensor,
        condition: Tensor | None = None,
        *,
        drop: Tensor | None = None,
        second_time: Tensor | None = None,
        control: Tensor | None = None,
    ) -> Tensor:
        """Predict from a noisy latent.

        Parameters
        ----------
        x_t : Tensor
            (B, C, d, h, w), standardised latent at time ``t``.
        t : Tensor
            (B,), in [0, 1]: 0 = data, 1 = noise.
        condition : Tensor, optional
            (B, width), see `encode_condition`. None: nothing is known.
        drop : Tensor, optional
            (B,) bool, rows whose condition is replaced by the null vector.
        second_time : Tensor, optional
            (B,), in [0, 1], target time of a step. None: equal to ``t``.
        control : Tensor, optional
            (B, condition_channels, d, h, w), concatenated condition channels. None: zeros.

        Returns
        -------
        Tensor
            (B, C, d, h, w).
        """
        if x_t.ndim != 5 or x_t.shape[1] != self.latent_channels or any(n % self.multiple for n in x_t.shape[2:]):
            raise ShapeError(
                f"expected a latent (B, {self.latent_channels}, d, h, w) with axes that are multiples of {self.multiple}, "
                f"got {tuple(x_t.shape)}"
            )
        unet, first = self.unet, self.config.channels[0]
        embedding = unet.time_embed(get_timestep_embedding(t.float() * TIME_SCALE, first))
        step = torch.zeros_like(t) if second_time is None else t - second_time
        embedding = embedding + self.second_time(get_timestep_embedding(step.float() * TIME_SCALE, first))
        if self.condition is not None:
            embedding = embedding + self.condition(condition, drop, len(x_t))
        h = unet.conv_in(x_t)
        if self.control is not None and control is not None:
            h = h + self.control(control)
        skips = [h]
        for block in unet.down_blocks:
            h, new = block(hidden_states=h, temb=embedding, context=None)
            skips.extend(new)
        h = unet.middle_block(hidden_states=h, temb=embedding, context=None)
        for block in unet.up_blocks:
            taken = skips[-len(block.resnets) :]
            skips = skips[: -len(block.resnets)]
            h = block(hidden_states=h, res_hidden_states_list=taken, temb=embedding, context=None)
        out: Tensor = unet.out(h)
        return out


def _zero(module: nn.Module) -> None:
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
