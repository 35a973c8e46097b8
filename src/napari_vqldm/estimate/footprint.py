"""What one pass through a network takes, told by its configuration: memory from the sizes of all arrays, and FLOPs."""

from __future__ import annotations

from functools import lru_cache

from napari_vqldm.config import AnyAutoencoderConfig, AnyDenoiserConfig, Int3
from napari_vqldm.estimate.meter import Array, Footprint, Meter
from napari_vqldm.estimate.outline import AnyModel, outline_of
from napari_vqldm.estimate.passes import decode, denoise, encode

CHUNK_ROWS = 8192  # vectors at once in `napari_vqldm.quantizers.codebook`, which brings torch
_DISTANCE_BYTES = 2 * 8  # two doubles per vector of a chunk and code: distances, and a copy while they are compared


def encoder_footprint(model: AnyModel, shape: Int3) -> Footprint:
    """Cost of encoding one block of ``shape`` voxels (Z, Y, X), with the search for codes."""
    return _encoder(model.config.autoencoder, shape)


def decoder_footprint(model: AnyModel, grid: Int3) -> Footprint:
    """Cost of decoding one block of ``grid`` latent cells (d, h, w)."""
    return _decoder(model.config.autoencoder, grid)


def denoiser_footprint(model: AnyModel, batch: int = 1) -> Footprint:
    """Cost of one call of the denoiser at the trained window; zero for a model without one."""
    outline = outline_of(model)
    if outline.config.denoiser is None:
        return Footprint(0, 0, 0)
    return _denoiser(outline.config.denoiser, outline.latent_channels, outline.grid(outline.config.window), batch)


@lru_cache(maxsize=256)
def _encoder(config: AnyAutoencoderConfig, shape: Int3) -> Footprint:
    meter = Meter()
    encode(config, Array(meter, 1, 1, shape))
    found = meter.footprint()
    if config.quantizer is None:
        return found
    codes, cells = config.quantizer.codebook_size, 1
    for n, f in zip(shape, config.downsampling_factor, strict=True):
        cells *= n // f
    distances = _DISTANCE_BYTES * min(cells, CHUNK_ROWS) * codes
    flops = 2 * cells * codes * config.latent_channels
    return Footprint(max(found.bytes, found.small_bytes + distances), found.small_bytes, found.flops + flops)


@lru_cache(maxsize=256)
def _decoder(config: AnyAutoencoderConfig, grid: Int3) -> Footprint:
    meter = Meter()
    decode(config, Array(meter, 1, config.latent_channels, grid))
    return meter.footprint()


@lru_cache(maxsize=64)
def _denoiser(config: AnyDenoiserConfig, channels: int, grid: Int3, batch: int) -> Footprint:
    meter = Meter()
    denoise(config, Array(meter, batch, channels, grid))
    return meter.footprint()
