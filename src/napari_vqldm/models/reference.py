"""MONAI's networks behind our interface: those that the seed document names, and a measure for our own.

The parameters keep MONAI's names, so that weights travel both ways (`load_monai_weights`, `monai_weights`). Each
network computes what MONAI's does with the same weights; around it scale factor, codebook and seed are ours.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from monai.networks.nets import VQVAE, AutoencoderKL, DiffusionModelUNet
from monai.networks.nets.diffusion_model_unet import get_timestep_embedding
from torch import Tensor, nn

from napari_vqldm.config import Int3, MonaiKLConfig, MonaiUNetConfig, MonaiVQConfig
from napari_vqldm.errors import CheckpointError, ConfigError
from napari_vqldm.models.base import BaseAutoencoder, Encoding
from napari_vqldm.models.blocks import at_least_float32, check_latent
from napari_vqldm.models.denoiser import TIME_SCALE, ConditionEmbedding
from napari_vqldm.quantizers import Quantizer, make_quantizer

MONAI_LOG_VARIANCE_RANGE = (-30.0, 20.0)  # as its `AutoencoderKL.encode` clamps
_CODEBOOK = "quantizer.quantizer."  # prefix of MONAI's codebook and of its moving averages


class MonaiAutoencoderKL(BaseAutoencoder):
    """MONAI's `AutoencoderKL` (Rombach et al. 2022, arXiv:2112.10752, in 3D).

    Its group normalization takes mean and variance over the whole volume, so that a part of a volume is not coded as it
    is within the whole: `is_tileable` is False.
    """

    config: MonaiKLConfig
    is_tileable = False

    def __init__(self, config: MonaiKLConfig) -> None:
        super().__init__()
        self.config = config
        self.downsampling_factor = config.downsampling_factor
        self.latent_channels = config.latent_channels
        self.quantizer: None = None
        nets = AutoencoderKL(
            spatial_dims=3,
            channels=config.channels,
            num_res_blocks=config.num_res_blocks,
            attention_levels=config.attention_levels,
            latent_channels=config.latent_channels,
            norm_num_groups=config.norm_groups,
            with_encoder_nonlocal_attn=config.nonlocal_attention,
            with_decoder_nonlocal_attn=config.nonlocal_attention,
            use_flash_attention=True,
        )
        self.encoder, self.decoder = nets.encoder, nets.decoder
        self.quant_conv_mu, self.quant_conv_log_sigma = nets.quant_conv_mu, nets.quant_conv_log_sigma
        self.post_quant_conv = nets.post_quant_conv

    @property
    def last_layer(self) -> nn.Parameter:
        """Weight of the last convolution."""
        return _last_weight(self.decoder)

    def _encoding(self, volumes: Tensor) -> Encoding:
        hidden = self.encoder(volumes)
        log_variance = at_least_float32(self.quant_conv_log_sigma(hidden)).clamp(*MONAI_LOG_VARIANCE_RANGE)
        return Encoding(self.quant_conv_mu(hidden), log_variance)

    def _volumes(self, latent: Tensor) -> Tensor:
        volumes: Tensor = self.decoder(self.post_quant_conv(latent))
        return volumes


class MonaiVQVAE(BaseAutoencoder):
    """Encoder and decoder of MONAI's `VQVAE` (van den Oord et al. 2017, arXiv:1711.00937) around one of our quantizers.

    MONAI's own quantizer moves its codebook by averages alone, so that the seed's codebook loss does not exist there.
    """

    config: MonaiVQConfig

    def __init__(self, config: MonaiVQConfig) -> None:
        super().__init__()
        self.config = config
        self.downsampling_factor = config.downsampling_factor
        self.latent_channels = config.latent_channels
        nets = _monai_vqvae(config)
        self.encoder, self.decoder = nets.encoder, nets.decoder
        self.quantizer: Quantizer = make_quantizer(config.quantizer, config.latent_channels)

    @property
    def last_layer(self) -> nn.Parameter:
        """Weight of the last transposed convolution."""
        return _last_weight(self.decoder)

    def _encoding(self, volumes: Tensor) -> Encoding:
        return Encoding(self.encoder(volumes), None)

    def _volumes(self, latent: Tensor) -> Tensor:
        volumes: Tensor = self.decoder(latent)
        return volumes


class MonaiDenoiser(DiffusionModelUNet):
    """MONAI's `DiffusionModelUNet` with the signature of `Denoiser`.

    Where the configuration has a condition, its embedding is added to that of the time; it starts at zero, so that a
    fresh network, and every network that is told nothing, can be MONAI's.
    """

    def __init__(self, config: MonaiUNetConfig, latent_channels: int) -> None:
        super().__init__(
            spatial_dims=3,
            in_channels=latent_channels,
            out_channels=latent_channels,
            num_res_blocks=config.num_res_blocks,
            channels=config.channels,
            attention_levels=config.attention,
            norm_num_groups=config.norm_groups,
            num_head_channels=config.head_channels,
            use_flash_attention=True,
        )
        self.config = config
        self.latent_channels = latent_channels
        self.multiple: Int3 = config.multiple
        self.control: nn.Module | None = None
        embedding = 4 * config.channels[0]
        self.condition = ConditionEmbedding(config.condition.width, embedding) if config.condition else None

    def forward(  # type: ignore[override]
        self,
        x_t: Tensor,
        t: Tensor,
        condition: Tensor | None = None,
        *,
        drop: Tensor | None = None,
        second_time: Tensor | None = None,
        control: Tensor | None = None,
    ) -> Tensor:
        """Predict from a noisy latent; see `Denoiser.forward`.

        Raises
        ------
        ShapeError
            If the latent does not fit.
        ConfigError
            For a second time or control channels, which MONAI's network does not have.
        """
        check_latent(x_t, self.latent_channels, self.multiple)
        if second_time is not None or control is not None:
            raise ConfigError("network 'monai-unet' takes no second time and no control channels: use network 'unet'")
        times = get_timestep_embedding(at_least_float32(t) * TIME_SCALE, self.block_out_channels[0])
        embedding = self.time_embed(times.to(x_t.dtype))
        if self.condition is not None:
            embedding = embedding + self.condition(condition, drop, len(x_t))
        h = self.conv_in(x_t)
        skips = [h]
        for down in self.down_blocks:
            h, outputs = down(hidden_states=h, temb=embedding)
            skips += outputs
        h = self.middle_block(hidden_states=h, temb=embedding)
        for up in self.up_blocks:
            count = len(up.resnets)  # type: ignore[arg-type]
            taken, skips = skips[-count:], skips[:-count]
            h = up(hidden_states=h, res_hidden_states_list=taken, temb=embedding)
        out: Tensor = self.out(h)
        return out


@torch.no_grad()
def load_monai_weights(network: MonaiAutoencoderKL | MonaiVQVAE | MonaiDenoiser, weights: Mapping[str, Tensor]) -> None:
    """Take the state dict of the MONAI network of the same sizes; what MONAI does not have starts at zero or is kept.

    Parameters
    ----------
    network : MonaiAutoencoderKL, MonaiVQVAE or MonaiDenoiser
        To be filled in place.
    weights : mapping of str to Tensor
        ``state_dict()`` of `AutoencoderKL`, `VQVAE` or `DiffusionModelUNet`.

    Raises
    ------
    CheckpointError
        If names or shapes differ.
    """
    taken = dict(weights)
    if isinstance(network, MonaiVQVAE):
        averages = {name: taken.pop(name) for name in list(taken) if name.startswith(_CODEBOOK)}
        if _CODEBOOK + "embedding.weight" not in averages:
            raise CheckpointError(f"expected {_CODEBOOK}embedding.weight of MONAI's VQVAE: it is not there")
        taken["quantizer.codebook"] = averages[_CODEBOOK + "embedding.weight"]
    own = {n: t for n, t in network.state_dict().items() if n.startswith("condition.")}
    needed = {name: tuple(t.shape) for name, t in network.state_dict().items() if name not in own}
    found = {name: tuple(t.shape) for name, t in taken.items()}
    if needed != found:
        wrong = sorted(name for name in needed.keys() | found.keys() if needed.get(name) != found.get(name))
        raise CheckpointError(
            f"these are not the weights of this network: {wrong[0]!r}: expected {needed.get(wrong[0], 'nothing')}, "
            f"got {found.get(wrong[0], 'nothing')} ({len(wrong)} differ): give it the sizes that MONAI's has"
        )
    network.load_state_dict({**own, **taken})
    if isinstance(network, MonaiVQVAE):
        state, known = network.quantizer.training_state(), averages.get
        codebook = network.quantizer.codebook.detach()
        # Without averages, those of a fresh codebook: each code counts once.
        state["ema_count"].copy_(known(_CODEBOOK + "ema_cluster_size", torch.ones(len(codebook))))
        state["ema_sum"].copy_(known(_CODEBOOK + "ema_w", codebook))


@torch.no_grad()
def monai_weights(network: MonaiAutoencoderKL | MonaiVQVAE | MonaiDenoiser) -> dict[str, Tensor]:
    """Return a state dict that the MONAI network of the same sizes loads; a condition has no place there.

    Raises
    ------
    ConfigError
        For a denoiser with a condition: without it the weights would mean something else.
    """
    weights = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    if isinstance(network, MonaiDenoiser) and network.condition is not None:
        raise ConfigError("MONAI's DiffusionModelUNet has no condition vector: export a denoiser trained without one")
    if isinstance(network, MonaiVQVAE):
        state = network.quantizer.training_state()
        weights[_CODEBOOK + "embedding.weight"] = weights.pop("quantizer.codebook")
        weights[_CODEBOOK + "ema_cluster_size"] = state["ema_count"].clone()
        weights[_CODEBOOK + "ema_w"] = state["ema_sum"].clone()
    return weights


def _monai_vqvae(config: MonaiVQConfig) -> VQVAE:
    levels = len(config.channels)
    return VQVAE(
        spatial_dims=3,
        in_channels=1,
        out_channels=1,
        channels=config.channels,
        num_res_layers=config.num_res_layers,
        num_res_channels=config.num_res_channels,
        downsample_parameters=((2, 4, 1, 1),) * levels,  # stride, kernel, dilation, padding
        upsample_parameters=((2, 4, 1, 1, 0),) * levels,  # and output padding
        num_embeddings=config.quantizer.codebook_size,
        embedding_dim=config.latent_channels,
        ddp_sync=False,
    )


def _last_weight(module: nn.Module) -> nn.Parameter:
    """Return the last weight of a convolution, in the order of the layers."""
    convolutions = [m for m in module.modules() if isinstance(m, (nn.Conv3d, nn.ConvTranspose3d))]
    weight: nn.Parameter = convolutions[-1].weight  # type: ignore[assignment]
    return weight
