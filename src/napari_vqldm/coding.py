"""Encode and decode volumes of any size, in tiles that give the same result as the whole: shared by every verb.

Most networks compute nothing over the tile: a tile with a halo as wide as the receptive field sees all that it needs.
One that takes statistics over the whole volume is given the whole volume, or none of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from napari_vqldm.config import Int3
from napari_vqldm.errors import ConfigError, ShapeError
from napari_vqldm.latent import LatentSpace
from napari_vqldm.memory import trim_heap
from napari_vqldm.tiles import MAX_VOXELS, choose_tile, plan_tiles

Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class Coding:
    """Result of `encode_volume`, on the CPU.

    Attributes
    ----------
    latent : Tensor
        (1, C, d, h, w), standardised; for codes the quantized vectors.
    margin : Tensor or None
        (1, d, h, w): how much nearer the chosen code is than the second best, as a part of the distance to the latter;
        a tie at 0. None for ``ldm``.
    standard_deviation : Tensor or None
        (1, C, d, h, w), that of the posterior, in the standardised space. None for ``vq-ldm``.
    unquantized : Tensor or None
        (1, C, d, h, w), standardised: the vectors that the codes stand for, as the encoder left them. None for ``ldm``
        and where `encode_volume` was not asked to keep them.
    """

    latent: Tensor
    margin: Tensor | None
    standard_deviation: Tensor | None
    unquantized: Tensor | None = None


@dataclass(frozen=True)
class EncodeStep:
    """One tile is encoded; the last step carries the whole result."""

    index: int
    total: int
    result: Coding | None


@dataclass(frozen=True)
class DecodeStep:
    """One tile is decoded; the last step carries the whole volume (1, 1, D, H, W), float32 on the CPU."""

    index: int
    total: int
    result: Tensor | None


def encode_volume(
    space: LatentSpace,
    volume: Tensor,
    *,
    tile: Int3 | None = None,
    max_voxels: int = MAX_VOXELS,
    keep_unquantized: bool = False,
) -> Iterator[EncodeStep]:
    """Encode one volume tile by tile.

    Parameters
    ----------
    space : LatentSpace
        Autoencoder and latent statistics.
    volume : Tensor
        (1, 1, D, H, W), filament units; each axis a multiple of the downsampling factor.
    tile : tuple of int, optional
        Volume voxels (z, y, x) per tile without its halo. None: as large as ``max_voxels`` allows.
    max_voxels : int
        Volume voxels at once, halo included.
    keep_unquantized : bool
        Keep the vectors before quantization, too: as much memory again as the latent.

    Yields
    ------
    EncodeStep
        One per tile.

    Raises
    ------
    ShapeError
        If ``volume`` has another shape, or has to be cut for a network that takes statistics over the whole volume.
    """
    if volume.ndim != 5 or tuple(volume.shape[:2]) != (1, 1):
        raise ShapeError(f"expected one volume (1, 1, D, H, W), got {tuple(volume.shape)}")
    autoencoder = space.autoencoder
    factor, halo = autoencoder.downsampling_factor, autoencoder.encoder_halo
    shape = _grid(volume)
    _refuse_tiles(space, shape, tile, max_voxels)
    tiles = plan_tiles(shape, tile or choose_tile(shape, factor, halo, max_voxels), halo, factor)
    grid = tuple(n // f for n, f in zip(shape, factor, strict=True))
    latent = torch.empty(1, autoencoder.latent_channels, *grid)
    margin = None if autoencoder.quantizer is None else torch.empty(1, *grid)
    deviation = torch.empty_like(latent) if autoencoder.quantizer is None else None
    unquantized = torch.empty_like(latent) if keep_unquantized and autoencoder.quantizer is not None else None
    for index, part in enumerate(tiles):
        with exact_math(device_of(space), "fp32"):
            block = volume[(..., *part.read)].to(device_of(space), torch.float32)
            coded = encode_block(space, block)
        keep, write = _divide(part.keep, factor), _divide(part.write, factor)
        latent[(..., *write)] = coded.latent[(..., *keep)].float().cpu()
        if margin is not None and coded.margin is not None:
            margin[(..., *write)] = coded.margin[(..., *keep)].float().cpu()
        if deviation is not None and coded.standard_deviation is not None:
            deviation[(..., *write)] = coded.standard_deviation[(..., *keep)].float().cpu()
        if unquantized is not None and coded.unquantized is not None:
            unquantized[(..., *write)] = coded.unquantized[(..., *keep)].float().cpu()
        del block, coded  # not kept while the next tile, or the caller, needs memory
        trim_heap()
        is_last = index == len(tiles) - 1
        coding = Coding(latent, margin, deviation, unquantized) if is_last else None
        yield EncodeStep(index, len(tiles), coding)


def encode_block(space: LatentSpace, volumes: Tensor) -> Coding:
    """Encode volumes (B, 1, D, H, W) at once, on the device of ``space``, with the margins of their codes."""
    quantizer = space.autoencoder.quantizer
    coded = space.code(volumes)
    margin = None if quantizer is None else quantizer.margin(coded.encoding.mean.float())
    unquantized = None if quantizer is None else space.normalize(coded.encoding.mean.float())
    return Coding(coded.latent, margin, space.posterior_deviation(coded.encoding), unquantized)


def decode_latent(
    space: LatentSpace,
    latent: Tensor,
    *,
    requantize: bool = False,
    tile: Int3 | None = None,
    max_voxels: int = MAX_VOXELS,
    precision: Precision = "fp32",
) -> Iterator[DecodeStep]:
    """Decode one latent tile by tile.

    Parameters
    ----------
    space : LatentSpace
        Autoencoder and latent statistics.
    latent : Tensor
        (1, C, d, h, w), standardised.
    requantize : bool
        Replace every vector by its nearest code first; ``vq-ldm`` only.
    tile : tuple of int, optional
        Latent voxels (z, y, x) per tile without its halo. None: as large as ``max_voxels`` allows.
    max_voxels : int
        Volume voxels at once, halo included.
    precision : str
        ``"fp32"``, or ``"bf16"`` for speed: tiles then agree to about 1e-2 only.

    Yields
    ------
    DecodeStep
        One per tile.

    Raises
    ------
    ShapeError
        If ``latent`` has another shape, or has to be cut for a network that takes statistics over the whole volume.
    """
    channels = space.autoencoder.latent_channels
    if latent.ndim != 5 or tuple(latent.shape[:2]) != (1, channels):
        raise ShapeError(f"expected one latent (1, {channels}, d, h, w), got {tuple(latent.shape)}")
    factor, halo = space.autoencoder.downsampling_factor, space.autoencoder.decoder_halo
    grid = _grid(latent)
    _refuse_tiles(space, _times_int(grid, factor), None if tile is None else _times_int(tile, factor), max_voxels)
    max_cells = max(1, max_voxels // (factor[0] * factor[1] * factor[2]))
    tiles = plan_tiles(grid, tile or choose_tile(grid, (1, 1, 1), halo, max_cells), halo)
    volume = torch.empty(1, 1, *(n * f for n, f in zip(grid, factor, strict=True)))
    for index, part in enumerate(tiles):
        with exact_math(device_of(space), "fp32"):
            block = latent[(..., *part.read)].to(device_of(space), torch.float32)
            if requantize and space.family == "vq-ldm":
                block = space.snap(block)  # always in float32: close codes tie in half precision
        with exact_math(device_of(space), precision):
            decoded = space.decode(block)
        volume[(..., *_times(part.write, factor))] = decoded[(..., *_times(part.keep, factor))].float().cpu()
        del block, decoded
        trim_heap()
        yield DecodeStep(index, len(tiles), volume if index == len(tiles) - 1 else None)


def _refuse_tiles(space: LatentSpace, shape: Int3, tile: Int3 | None, max_voxels: int) -> None:
    """Refuse to cut a volume for a network that takes statistics over all of it."""
    if max_voxels < 1:
        raise ConfigError(f"expected max_voxels of 1 or more, got {max_voxels}")
    whole = tile is None or all(t >= n for t, n in zip(tile, shape, strict=True))
    if space.autoencoder.is_tileable or (whole and math.prod(shape) <= max_voxels):
        return
    raise ShapeError(
        "this model normalizes over the whole volume, so that tiles would be coded differently than the whole: "
        f"expected at most {max_voxels:,} voxels, got {shape[0]} x {shape[1]} x {shape[2]} = {math.prod(shape):,}"
        f"{'' if whole else f' in tiles of {tile}'}: crop the volume, or use a model with another autoencoder"
    )


@contextmanager
def exact_math(device: torch.device, precision: Precision) -> Iterator[None]:
    """No gradients; true float32 convolutions (no TF32, no search for kernels) or autocast to bfloat16.

    Never held across a ``yield`` of a generator: the settings belong to the thread, not to the generator.
    """
    if precision not in ("fp32", "bf16"):
        raise ConfigError(f"expected precision fp32 or bf16, got {precision!r}")
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        if precision == "bf16":
            stack.enter_context(torch.autocast(device.type, dtype=torch.bfloat16))
        if device.type == "cuda":
            exact = precision == "fp32"
            stack.enter_context(
                torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=exact, allow_tf32=not exact)
            )
        yield


def device_of(space: LatentSpace) -> torch.device:
    """Return the device on which a latent space computes."""
    return next(space.autoencoder.parameters()).device


def _grid(tensor: Tensor) -> Int3:
    z, y, x = tensor.shape[2:]
    return z, y, x


def _divide(block: tuple[slice, slice, slice], factor: Int3) -> tuple[slice, slice, slice]:
    z, y, x = (slice(s.start // f, s.stop // f) for s, f in zip(block, factor, strict=True))
    return z, y, x


def _times_int(size: Int3, factor: Int3) -> Int3:
    z, y, x = (n * f for n, f in zip(size, factor, strict=True))
    return z, y, x


def _times(block: tuple[slice, slice, slice], factor: Int3) -> tuple[slice, slice, slice]:
    z, y, x = (slice(s.start * f, s.stop * f) for s, f in zip(block, factor, strict=True))
    return z, y, x
