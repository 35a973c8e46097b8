"""One pass through each network, written down with arrays that have a size alone: what lives, and how much is computed.

Every function follows the forward function of its network in `napari_vqldm.models`, or of MONAI, line by line; a test
compares them with these networks on PyTorch's meta device.
"""

from __future__ import annotations

import math

from napari_vqldm.config import (
    AnyAutoencoderConfig,
    AnyDenoiserConfig,
    AutoencoderConfig,
    ConditionConfig,
    DenoiserConfig,
    Int3,
    MonaiKLConfig,
    MonaiUNetConfig,
    MonaiVQConfig,
)
from napari_vqldm.estimate.meter import Array, add, cat, conv, conv3, conv_up, linear

_POINT, _TWICE = (1, 1, 1), (2, 2, 2)


def encode(config: AnyAutoencoderConfig, volume: Array) -> None:
    """Encode a volume (B, 1, D, H, W)."""
    if isinstance(config, MonaiKLConfig):
        _kl_encoder(config, volume)
    elif isinstance(config, MonaiVQConfig):
        _vq_encoder(config, volume)
    else:
        _norm_free_encoder(config, volume)


def decode(config: AnyAutoencoderConfig, latent: Array) -> None:
    """Decode a latent (B, C, d, h, w)."""
    if isinstance(config, MonaiKLConfig):
        _kl_decoder(config, latent)
    elif isinstance(config, MonaiVQConfig):
        _vq_decoder(config, latent)
    else:
        _norm_free_decoder(config, latent)


def denoise(config: AnyDenoiserConfig, latent: Array) -> None:
    """Call the denoiser once."""
    if isinstance(config, MonaiUNetConfig):
        _monai_unet(config, latent)
    else:
        _unet(config, latent)


# --- ours -------------------------------------------------------------------------------------------------------------


def _norm_free_encoder(config: AutoencoderConfig, x: Array) -> Array:
    for stride, width, blocks in zip(config.strides, config.widths, config.encoder_blocks, strict=True):
        z, y, w = (s + 2 for s in stride)
        x = conv(x, width, (z, y, w), stride)
        for _ in range(blocks):
            x = _residual_block(x)
    x = x.like()
    x = conv3(x, config.latent_channels * (1 if config.quantizer else 2))
    return x if config.quantizer else x.like(config.latent_channels)  # the clamped half


def _norm_free_decoder(config: AutoencoderConfig, x: Array) -> Array:
    x = conv3(x, config.widths[-1])
    for level in reversed(range(len(config.strides))):
        for _ in range(config.decoder_blocks[level]):
            x = _residual_block(x)
        x = x.like()
        channels = 1 if level == 0 else config.widths[level - 1]
        x = _sub_pixel_up(x, channels, config.strides[level], config.up_kernel(level))
    return x


def _residual_block(x: Array) -> Array:
    residual = conv3(conv3(x.like(), x.channels).like(), x.channels)
    return add(x, residual.like())


def _sub_pixel_up(x: Array, channels: int, stride: Int3, kernel: int) -> Array:
    z, y, w = (n * s for n, s in zip(x.grid, stride, strict=True))
    volumes = _rearranged(conv(x, channels * math.prod(stride), (kernel,) * 3), channels, (z, y, w))
    return volumes.like() if channels > 1 else volumes  # one channel lies the same in both orders


def _rearranged(x: Array, channels: int, grid: Int3) -> Array:
    return x.like(channels, grid)


def _unet(config: DenoiserConfig, x: Array) -> Array:
    channels, last = config.channels, len(config.channels) - 1
    embedding = _embedding(x, channels[0])
    add(embedding, _embedding(x, channels[0]))  # of the second time
    if config.condition is not None:
        _condition(x, config.condition, channels[0])
    h = conv3(x, channels[0])
    skips = [h]
    for level, width in enumerate(channels):
        for _ in range(config.blocks[level]):
            h = _attended(_resnet_block(h, width, embedding, scales=config.scale_shift), config, level)
            skips.append(h)
        if level < last:
            z, y, w = (s + 2 for s in config.strides[level])
            h = conv(h, channels[level + 1], (z, y, w), config.strides[level])
            skips.append(h)
    h = _resnet_block(h, channels[-1], embedding, scales=config.scale_shift)
    for level in reversed(range(len(channels))):
        for _ in range(config.blocks[level] + 1):
            h = _attended(
                _resnet_block(cat(h, skips.pop()), channels[level], embedding, scales=config.scale_shift), config, level
            )
        if level > 0:
            h = _repeated(conv(h, channels[level - 1], _POINT), config.strides[level - 1])
    h = h.like()
    h = h.like()
    return conv3(h, x.channels)


def _attended(x: Array, config: DenoiserConfig, level: int) -> Array:
    return _attention(x, x.channels // config.head_channels) if config.attention[level] else x


# --- shared with MONAI ------------------------------------------------------------------------------------------------


def _embedding(x: Array, first: int) -> Array:
    """Embedding of the time, (B, 4 x first channels)."""
    return linear(linear(x.like(first, _POINT), 4 * first).like(), 4 * first)


def _condition(x: Array, config: ConditionConfig, first: int) -> Array:
    """`ConditionEmbedding`."""
    known = linear(x.like(1, _POINT), 4 * first)
    return add(linear(linear(x.like(config.width, _POINT), 4 * first).like(), 4 * first), known)


def _resnet_block(x: Array, channels: int, embedding: Array, *, scales: bool = False) -> Array:
    """`DiffusionUNetResnetBlock`, or `ScaleShiftBlock`."""
    h = x
    h = h.like()
    h = h.like()
    h = conv3(h, channels)
    linear(embedding, 2 * channels if scales else channels)
    for _ in range(4 if scales else 3):  # norm, scale, shift and activation, or sum, norm and activation
        h = h.like()
    h = conv3(h, channels)
    skipped = x if x.channels == channels else conv(x, channels, _POINT)
    return add(skipped, h)


def _attention(x: Array, heads: int) -> Array:
    """`SpatialAttentionBlock`, with the whole matrix of weights: some devices do without it."""
    tokens, residual = math.prod(x.grid), x
    x = x.like()
    q, k, v = _linear(x), _linear(x), _linear(x)
    x = _weighted(q, k, v, heads, tokens)
    x = x.like()
    x = linear(x, x.channels)
    x.meter.flops += 2 * 2 * x.batch * tokens**2 * x.channels
    return add(x, residual)


def _linear(x: Array) -> Array:
    return linear(x, x.channels).like()  # product, and sum with the bias


def _weighted(q: Array, k: Array, v: Array, heads: int, tokens: int) -> Array:
    """Softmax of q k, times v."""
    scaled_q, scaled_k = q.like(), k.like()
    weights = scaled_q.like(heads, (tokens, tokens, 1))
    weights = weights.like()
    del scaled_q, scaled_k
    return v.like()


def _repeated(x: Array, stride: Int3) -> Array:
    """Each cell as often as the stride says."""
    z, y, w = (n * s for n, s in zip(x.grid, stride, strict=True))
    return x.like(grid=(z, y, w))


# --- MONAI ------------------------------------------------------------------------------------------------------------


def _kl_encoder(config: MonaiKLConfig, x: Array) -> Array:
    x = conv3(x, config.channels[0])
    last = len(config.channels) - 1
    for level, width in enumerate(config.channels):
        for _ in range(config.num_res_blocks):
            x = _kl_block(x, width)
            x = _attention(x, 1) if config.attention_levels[level] else x
        if level < last:
            x = _padded_half(x)
    if config.nonlocal_attention:
        x = _kl_block(_attention(_kl_block(x, x.channels), 1), x.channels)
    x = x.like()
    x = conv3(x, config.latent_channels)
    log_variance = conv(x, config.latent_channels, _POINT).like()
    mean = conv(x, config.latent_channels, _POINT)
    del log_variance
    return mean


def _kl_decoder(config: MonaiKLConfig, latent: Array) -> Array:
    x = conv(latent, config.latent_channels, _POINT)
    x = conv3(x, config.channels[-1])
    if config.nonlocal_attention:
        x = _kl_block(_attention(_kl_block(x, x.channels), 1), x.channels)
    for level in reversed(range(len(config.channels))):
        for _ in range(config.num_res_blocks):
            x = _kl_block(x, config.channels[level])
            x = _attention(x, 1) if config.attention_levels[level] else x
        if level > 0:
            x = conv3(_repeated(x, _TWICE), x.channels)
    x = x.like()
    return conv3(x, 1)


def _kl_block(x: Array, channels: int) -> Array:
    """`AEKLResBlock`."""
    h = x
    for _ in range(2):
        h = h.like()
        h = h.like()
        h = conv3(h, channels)
    x = x if x.channels == channels else conv(x, channels, _POINT)
    return add(x, h)


def _padded_half(x: Array) -> Array:
    """`AEKLDownsample`: one more plane at the end of each axis, then every second."""
    z, y, w = (n + 1 for n in x.grid)
    return conv(x.like(grid=(z, y, w)), x.channels, (3, 3, 3), _TWICE)


def _vq_encoder(config: MonaiVQConfig, x: Array) -> Array:
    for width, inner in zip(config.channels, config.num_res_channels, strict=True):
        x = conv(x, width, (4, 4, 4), _TWICE).like()
        for _ in range(config.num_res_layers):
            x = _vq_block(x, inner)
    return conv3(x, config.latent_channels)


def _vq_decoder(config: MonaiVQConfig, x: Array) -> Array:
    x = conv3(x, config.channels[-1])
    for level in reversed(range(len(config.channels))):
        for _ in range(config.num_res_layers):
            x = _vq_block(x, config.num_res_channels[level])
        x = conv_up(x, 1 if level == 0 else config.channels[level - 1], (4, 4, 4), _TWICE)
        x = x if level == 0 else x.like()
    return x


def _vq_block(x: Array, inner: int) -> Array:
    """`VQVAEResidualUnit`; its last activation writes in place."""
    return add(x, conv3(conv3(x, inner).like(), x.channels))


def _monai_unet(config: MonaiUNetConfig, x: Array) -> Array:
    channels, last = config.channels, len(config.channels) - 1
    embedding = _embedding(x, channels[0])
    if config.condition is not None:
        _condition(x, config.condition, channels[0])
    h = conv3(x, channels[0])
    skips = [h]
    for level, width in enumerate(channels):
        for _ in range(config.num_res_blocks):
            h = _monai_attended(_resnet_block(h, width, embedding), config, level)
            skips.append(h)
        if level < last:
            h = conv(h, width, (3, 3, 3), _TWICE)
            skips.append(h)
    h = _resnet_block(h, channels[-1], embedding)
    h = _resnet_block(_attention(h, channels[-1] // config.head_channels), channels[-1], embedding)
    for level in reversed(range(len(channels))):
        count = config.num_res_blocks + 1
        taken, skips = skips[-count:], skips[:-count]  # MONAI keeps those of a level until it is done
        for skip in reversed(taken):
            h = _monai_attended(_resnet_block(cat(h, skip), channels[level], embedding), config, level)
        if level > 0:
            h = conv3(_repeated(h, _TWICE), h.channels)
    h = h.like()
    h = h.like()
    return conv3(h, x.channels)


def _monai_attended(x: Array, config: MonaiUNetConfig, level: int) -> Array:
    return _attention(x, x.channels // config.head_channels) if config.attention[level] else x
