"""How far the networks of an autoencoder look around, from their configuration alone: no torch here."""

from __future__ import annotations

from collections.abc import Callable

from napari_vqldm.config import AnyAutoencoderConfig, AutoencoderConfig, Int3, MonaiKLConfig, MonaiVQConfig


def encoder_halo(config: AnyAutoencoderConfig) -> Int3:
    """Volume voxels (z, y, x) around a block on which its latent depends, rounded up to whole latent voxels.

    Zero for a network with statistics over the whole volume: nothing less than that would do.
    """
    if isinstance(config, MonaiKLConfig):
        return 0, 0, 0
    if isinstance(config, MonaiVQConfig):
        halo = _vq_encoder_reach(config)
        return halo, halo, halo
    return _per_axis(lambda axis: _encoder_reach(config, axis))


def decoder_halo(config: AnyAutoencoderConfig) -> Int3:
    """Latent voxels (z, y, x) around a block on which its voxels depend; zero as in `encoder_halo`."""
    if isinstance(config, MonaiKLConfig):
        return 0, 0, 0
    if isinstance(config, MonaiVQConfig):
        halo = _vq_decoder_reach(config)
        return halo, halo, halo
    return _per_axis(lambda axis: _decoder_reach(config, axis))


def _encoder_reach(config: AutoencoderConfig, axis: int) -> int:
    """Voxels by which the receptive field exceeds the block of one latent voxel: one of each layer's input."""
    reach, cumulative = 0, 1
    for stride, blocks in zip(config.strides, config.encoder_blocks, strict=True):
        reach += cumulative  # strided convolution
        cumulative *= stride[axis]
        reach += 2 * blocks * cumulative
    reach += cumulative  # last convolution
    return _rounded_up(reach, cumulative)


def _decoder_reach(config: AutoencoderConfig, axis: int) -> int:
    """Latent voxels beyond its own on which a voxel depends."""
    factor = config.downsampling_factor[axis]
    reach, cumulative = factor, factor  # counted in volume voxels; first convolution
    for level in reversed(range(len(config.strides))):
        reach += 2 * config.decoder_blocks[level] * cumulative
        reach += cumulative * (config.up_kernel(level) // 2)
        cumulative //= config.strides[level][axis]
    return -(-reach // factor)


def _vq_encoder_reach(config: MonaiVQConfig) -> int:
    """One voxel of each layer's input; the strided convolutions reach one beyond their own block."""
    reach, cumulative = 0, 1
    for _ in config.channels:
        reach += cumulative
        cumulative *= 2
        reach += 2 * config.num_res_layers * cumulative
    reach += cumulative
    return _rounded_up(reach, cumulative)


def _vq_decoder_reach(config: MonaiVQConfig) -> int:
    """One voxel of each layer's input; a transposed convolution of kernel 4 and stride 2 reaches one."""
    factor = config.downsampling_factor[0]
    reach, cumulative = factor, factor
    for _ in config.channels:
        reach += (2 * config.num_res_layers + 1) * cumulative
        cumulative //= 2
    return -(-reach // factor)


def _rounded_up(reach: int, multiple: int) -> int:
    return -(-reach // multiple) * multiple


def _per_axis(reach: Callable[[int], int]) -> Int3:
    return reach(0), reach(1), reach(2)
