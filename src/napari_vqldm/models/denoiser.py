"""The denoiser: a convolutional U-Net of MONAI's diffusion blocks with what few-step training and control need.

Differences from MONAI's `DiffusionModelUNet` (docs/experiments.md has the measurements): strides per axis, channels are
reduced before upsampling instead of after it, one more residual block on the way up than down, and, where the
configuration says so, the embedding scales channels instead of only shifting them. Additions: a second time
input (for MeanFlow or shortcut training), a condition vector that can be dropped, concatenated condition channels. Each
addition starts at zero, so that a fresh network ignores it.
"""

from __future__ import annotations

import torch
from monai.networks.blocks import SpatialAttentionBlock
from monai.networks.nets.diffusion_model_unet import DiffusionUNetResnetBlock, get_timestep_embedding
from torch import Tensor, nn

from napari_vqldm.config import DenoiserConfig, Int3
from napari_vqldm.models.blocks import check_latent, strided_conv

TIME_SCALE = 1000.0  # the sinusoidal embedding expects times of the size of DDPM step numbers


class ScaleShiftBlock(DiffusionUNetResnetBlock):
    """MONAI's residual block whose embedding scales and shifts the channels after the second norm.

    "Adaptive group normalization" of Dhariwal & Nichol 2021 (arXiv:2105.05233, Eq. 4). Added before that norm, as the
    parent does it, much of the embedding is normalized away again.
    """

    def __init__(self, in_channels: int, embedding: int, channels: int, norm_groups: int) -> None:
        super().__init__(3, in_channels, embedding, channels, norm_num_groups=norm_groups)
        self.time_emb_proj = nn.Linear(embedding, 2 * channels)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """Map (B, C, d, h, w) and an embedding (B, E) to (B, C', d, h, w)."""
        scale, shift = self.time_emb_proj(self.nonlinearity(emb))[:, :, None, None, None].chunk(2, dim=1)
        h = self.conv1(self.nonlinearity(self.norm1(x)))
        h = self.conv2(self.nonlinearity(self.norm2(h) * (1 + scale) + shift))
        out: Tensor = self.skip_connection(x) + h
        return out


class Level(nn.Module):
    """Residual blocks at one resolution, each followed by attention where asked."""

    def __init__(
        self, inputs: list[int], channels: int, embedding: int, config: DenoiserConfig, *, attention: bool
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            ScaleShiftBlock(n, embedding, channels, config.norm_groups)
            if config.scale_shift
            else DiffusionUNetResnetBlock(3, n, embedding, channels, norm_num_groups=config.norm_groups)
            for n in inputs
        )
        self.attentions = nn.ModuleList(
            SpatialAttentionBlock(3, channels, config.head_channels, config.norm_groups, use_flash_attention=True)
            if attention
            else nn.Identity()
            for _ in inputs
        )


class Up(nn.Module):
    """Reduce the channels with a 1x1x1 convolution, then repeat voxels: the costly order is the other one."""

    def __init__(self, in_channels: int, out_channels: int, stride: Int3) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels, 1)
        self.up = nn.Upsample(scale_factor=tuple(float(s) for s in stride), mode="nearest")

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, d, h, w) to (B, C', sd, sh, sw)."""
        up: Tensor = self.up(self.conv(x))
        return up


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
        self.multiple: Int3 = config.multiple  # latent axes (d, h, w) must be multiples of this
        first = config.channels[0]
        embedding = first * 4
        self.time = nn.Sequential(nn.Linear(first, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.second_time = nn.Sequential(nn.Linear(first, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        _zero(self.second_time[-1])
        self.condition = ConditionEmbedding(config.condition.width, embedding) if config.condition else None
        self.control = nn.Conv3d(config.condition_channels, first, 3, padding=1) if config.condition_channels else None
        if self.control is not None:
            _zero(self.control)

        channels, num_levels = config.channels, len(config.channels)
        self.conv_in = nn.Conv3d(latent_channels, first, 3, padding=1)
        self.down = nn.ModuleList()
        self.shrink = nn.ModuleList()
        self.up = nn.ModuleList()
        self.grow = nn.ModuleList()
        skips = [first]
        for level, width in enumerate(channels):
            count, attention = config.blocks[level], config.attention[level]
            self.down.append(Level([width] * count, width, embedding, config, attention=attention))
            skips += [width] * count
            if level < num_levels - 1:
                self.shrink.append(strided_conv(width, channels[level + 1], config.strides[level]))
                skips.append(channels[level + 1])
        self.middle = Level([channels[-1]], channels[-1], embedding, config, attention=False)
        current = channels[-1]
        for level in reversed(range(num_levels)):
            width, count = channels[level], config.blocks[level] + 1
            inputs = [(current if i == 0 else width) + skips.pop() for i in range(count)]
            self.up.append(Level(inputs, width, embedding, config, attention=config.attention[level]))
            current = width
            if level > 0:
                self.grow.append(Up(width, channels[level - 1], config.strides[level - 1]))
                current = channels[level - 1]
        self.out = nn.Sequential(
            nn.GroupNorm(config.norm_groups, first), nn.SiLU(), nn.Conv3d(first, latent_channels, 3, padding=1)
        )
        _zero(self.out[-1])

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
        check_latent(x_t, self.latent_channels, self.multiple)
        embedding = self._embed(x_t, t, second_time, condition, drop)
        h = self.conv_in(x_t)
        if self.control is not None and control is not None:
            h = h + self.control(control)
        skips = [h]
        for level, down in enumerate(self.down):
            for block, attention in zip(down.blocks, down.attentions, strict=True):  # type: ignore[arg-type]
                h = attention(block(h, embedding))
                skips.append(h)
            if level < len(self.shrink):
                h = self.shrink[level](h)
                skips.append(h)
        for block in self.middle.blocks:
            h = block(h, embedding)
        for level, up in enumerate(self.up):
            for block, attention in zip(up.blocks, up.attentions, strict=True):  # type: ignore[arg-type]
                h = attention(block(torch.cat([h, skips.pop()], dim=1), embedding))
            if level < len(self.grow):
                h = self.grow[level](h)
        out: Tensor = self.out(h)
        return out

    def _embed(
        self, x_t: Tensor, t: Tensor, second_time: Tensor | None, condition: Tensor | None, drop: Tensor | None
    ) -> Tensor:
        """Sum of the embeddings of time, step and condition, (B, 4 x first channels)."""
        first = self.config.channels[0]
        embedding: Tensor = self.time(get_timestep_embedding(t.float() * TIME_SCALE, first).to(x_t.dtype))
        step = torch.zeros_like(t) if second_time is None else t - second_time
        steps = get_timestep_embedding(step.float() * TIME_SCALE, first).to(x_t.dtype)
        embedding = embedding + self.second_time(steps)
        if self.condition is not None:
            embedding = embedding + self.condition(condition, drop, len(x_t))
        return embedding


def _zero(module: nn.Module) -> None:
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
