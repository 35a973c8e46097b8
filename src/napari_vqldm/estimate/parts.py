"""Memory and time of the parts that jobs are made of.

Bytes per voxel of the parts that run in NumPy count the arrays that live at once in the code of each;
``benchmarks/estimates.py`` compares the sums with what jobs really take.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from napari_vqldm.config import Int3
from napari_vqldm.estimate.footprint import decoder_footprint, denoiser_footprint, encoder_footprint
from napari_vqldm.estimate.meter import Footprint
from napari_vqldm.estimate.outline import Outline
from napari_vqldm.estimate.speed import Speed
from napari_vqldm.resample import resampled_shape, target_voxel_size
from napari_vqldm.sampling_plan import Sampling, batch_on
from napari_vqldm.tiles import Tile, choose_tile, plan_tiles
from napari_vqldm.volume import Float3

if TYPE_CHECKING:
    from napari_vqldm.coding import Precision

_OVERHEAD_BYTES = 16 * 2**20  # first use of the networks: rearranged weights, compiled kernels, threads, holes
_INTENSITY_BYTES, _INTENSITY_MOST_VOXELS = 72, 2**23  # nine doubles; of larger stacks a part is looked at
_NOISE_BYTES, _NOISE_MOST_VOXELS, _NOISE_RUN, _NOISE_S = 32, 2**22, 8, 4e-7  # four doubles; planes of a run
_COMPARE_BYTES, _COMPARE_LEAST, _COMPARE_S = 4, 16 * 2**20, 1.2e-7  # percentiles; a block of similarity
_REDRAW_BYTES, _REDRAW_S = 28, 5e-8  # noise drawn again: normal numbers and their standard deviation in double
_CAMERA_BYTES = 24  # blurred, rate, counts, electrons and two between, float32
_SPREAD_BYTES, _SPREAD_S = 24, 2e-8  # three doubles beside the sums
_RESAMPLE_BYTES = 12  # the last axis, its transposed copy and the next one, float32
_PREVIEW_BYTES, _PREVIEW_S = 12, 3e-8  # features, rough volume and its crop, float32
_LATENT_BYTES = 3 * 4  # per number of a latent: coded, standardised, on the device
_ARRAY_S = 2e-8  # per voxel of one way between a stack and the networks: units, checks, fingerprint
_BF16_SHARE = 0.75  # of the activations in float32: not every operation has a half


@dataclass(frozen=True)
class Cost:
    """What a part takes: most bytes of main memory and of the device at once (equal on the CPU), and seconds."""

    main_bytes: int
    device_bytes: int
    seconds: float

    def __mul__(self, times: int) -> Cost:
        """Do the part ``times`` times: its memory is given back in between."""
        return replace(self, seconds=self.seconds * times)

    def holding(self, size: int) -> Cost:
        """Do the part while arrays of ``size`` bytes wait in main memory."""
        return replace(self, main_bytes=self.main_bytes + size)


def together(parts: Iterable[Cost]) -> Cost:
    """Return the cost of parts that run one after the other."""
    listed = list(parts)
    return Cost(
        max(part.main_bytes for part in listed),
        max(part.device_bytes for part in listed),
        sum(part.seconds for part in listed),
    )


def intensity_cost(shape: Int3, speed: Speed) -> Cost:
    """Estimate background and brightness of a stack."""
    voxels = math.prod(shape)
    seen = min(voxels, _INTENSITY_MOST_VOXELS)
    copies = 8 * seen if voxels > seen else 0  # the part that is looked at, while it is put together
    return Cost(_INTENSITY_BYTES * seen + copies, 0, speed.intensity_per_voxel * seen + _ARRAY_S * voxels)


def encoding_cost(model: Outline, shape: Int3, voxel_size_um: Float3, max_voxels: int, speed: Speed) -> Cost:
    """Bring a stack into filament units, to the voxel size of the model and through the encoder in tiles."""
    coded, padded = _coded_grid(model, shape, voxel_size_um)
    factor, halo = model.factor, model.encoder_halo
    tiles = plan_tiles(padded, choose_tile(padded, factor, halo, max_voxels), halo, factor)
    footprint = encoder_footprint(model, _largest(tiles))
    network = footprint.bytes + _holes(model, footprint)
    held = 4 * math.prod(coded) + (4 * math.prod(padded) if padded != coded else 0) + _latent_bytes(model, padded)
    seconds = speed.encode_per_voxel * _voxels_read(tiles) + _ARRAY_S * math.prod(shape)
    return together([_with_network(model, held, network, seconds), _resampling(shape, coded, speed)])


def decoding_cost(
    model: Outline, shape: Int3, voxel_size_um: Float3, max_voxels: int, speed: Speed, precision: Precision = "fp32"
) -> Cost:
    """Decode a latent in tiles, and bring the volume onto the grid and into the units of the stack."""
    coded, padded = _coded_grid(model, shape, voxel_size_um)
    factor, halo = model.factor, model.decoder_halo
    grid = model.grid(padded)
    cells = max(1, max_voxels // math.prod(factor))
    tiles = plan_tiles(grid, choose_tile(grid, (1, 1, 1), halo, cells), halo)
    footprint = decoder_footprint(model, _largest(tiles))
    network = _in_precision(footprint.bytes + _holes(model, footprint), precision)
    volume = 4 * math.prod(padded)
    seconds = speed.decode_per_voxel * _voxels_read(tiles) * math.prod(factor)
    decode = _with_network(model, volume + _latent_bytes(model, padded), network, seconds)
    cropped = 4 * math.prod(coded) if padded != coded else 0
    back = Cost(volume + cropped + 5 * math.prod(shape), 0, _ARRAY_S * math.prod(shape))  # result, and its check
    return together([decode, back, _resampling(coded, shape, speed).holding(volume)])


def preview_cost(model: Outline, shape: Int3, voxel_size_um: Float3, speed: Speed) -> Cost:
    """Decode a latent roughly, by a linear map, and bring it onto the grid of the stack."""
    coded, padded = _coded_grid(model, shape, voxel_size_um)
    voxels = math.prod(padded)
    decode = Cost(_PREVIEW_BYTES * voxels + _latent_bytes(model, padded), 0, _PREVIEW_S * voxels)
    back = Cost(4 * voxels + 8 * math.prod(shape), 0, _ARRAY_S * math.prod(shape))
    return together([decode, back, _resampling(coded, shape, speed).holding(4 * voxels)])


def sampling_cost(model: Outline, sampling: Sampling, count: int, speed: Speed, batch: int | None = None) -> Cost:
    """Walk from noise to ``count`` latents in batches."""
    size = min(batch or batch_on(model.kind), count)
    footprint = denoiser_footprint(model, size)
    network = _in_precision(footprint.bytes, sampling.precision)
    calls = 2 * sampling.steps - 1 if sampling.sampler == "heun" else sampling.steps
    is_conditional = model.config.denoiser is not None and model.config.denoiser.condition is not None
    if is_conditional and sampling.guidance_scale != 1.0:
        calls *= 2
    full, rest = divmod(count, size)
    seconds = calls * (full * speed.denoiser_call(size) + (speed.denoiser_call(rest) if rest else 0.0))
    held = 4 * size * _latent_bytes(model, model.config.window)  # states and estimates of a few steps
    if model.kind == "cpu":
        # Tensors of many sizes leave holes in the heap within a step: from none to 1.8 times as much was seen.
        held += footprint.small_bytes
    return _with_network(model, held, network, seconds)


def camera_cost(shape: Int3, speed: Speed) -> Cost:
    """Record a volume with a camera."""
    voxels = math.prod(shape)
    return Cost(_CAMERA_BYTES * voxels, 0, (speed.camera_per_voxel + _ARRAY_S) * voxels)


def noise_cost(shape: Int3) -> Cost:
    """Estimate the noise of a stack."""
    plane = shape[1] * shape[2]
    seen = plane * min(shape[0], _NOISE_RUN * max(1, _NOISE_MOST_VOXELS // (_NOISE_RUN * plane)))
    return Cost(_NOISE_BYTES * seen, 0, _NOISE_S * seen)


def comparison_cost(shape: Int3) -> Cost:
    """Compare a stack with its reconstruction, which is held meanwhile."""
    voxels = math.prod(shape)
    numbers = Cost(max(_COMPARE_BYTES * voxels, _COMPARE_LEAST), 0, _COMPARE_S * voxels)
    return together([numbers, noise_cost(shape)]).holding(4 * voxels)


def redraw_cost(shape: Int3) -> Cost:
    """Add fresh noise to a stack."""
    return Cost(_REDRAW_BYTES * math.prod(shape), 0, _REDRAW_S * math.prod(shape))


def spread_cost(shape: Int3) -> Cost:
    """Add one draw to running sums."""
    return Cost(_SPREAD_BYTES * math.prod(shape), 0, _SPREAD_S * math.prod(shape))


def _coded_grid(model: Outline, shape: Int3, voxel_size_um: Float3) -> tuple[Int3, Int3]:
    """Return the grid of a stack at a voxel size that the model knows, and the same after padding."""
    target = target_voxel_size(voxel_size_um, *model.config.voxel_size_range_um)
    coded = resampled_shape(shape, voxel_size_um, target)
    z, y, x = (-(-n // f) * f for n, f in zip(coded, model.factor, strict=True))
    return coded, (z, y, x)


def _resampling(source: Int3, target: Int3, speed: Speed) -> Cost:
    if source == target:
        return Cost(0, 0, 0.0)
    before, after = math.prod(source), math.prod(target)
    memory = 4 * before + _RESAMPLE_BYTES * max(before, after)
    return Cost(memory, 0, speed.resample_per_voxel * (before + after))


def _holes(model: Outline, footprint: Footprint) -> int:
    """Memory that tensors of many sizes leave unused in the heap: from none to over half of the small ones was seen."""
    return footprint.small_bytes // 4 if model.kind == "cpu" else 0


def _with_network(model: Outline, held: int, network: int, seconds: float) -> Cost:
    """Memory of a network: beside the arrays on the CPU, by itself on another device."""
    if model.kind == "cpu":
        return Cost(held + network + _OVERHEAD_BYTES, 0, seconds)
    return Cost(held + _OVERHEAD_BYTES, network, seconds)


def _latent_bytes(model: Outline, padded: Int3) -> int:
    return _LATENT_BYTES * model.latent_channels * model.cells(padded)


def _in_precision(size: int, precision: Precision) -> int:
    return size if precision == "fp32" else round(_BF16_SHARE * size)


def _largest(tiles: Sequence[Tile]) -> Int3:
    z, y, x = max((_size(tile) for tile in tiles), key=math.prod)
    return z, y, x


def _voxels_read(tiles: Sequence[Tile]) -> int:
    """Sum over tiles with their halo."""
    return sum(math.prod(_size(tile)) for tile in tiles)


def _size(tile: Tile) -> Int3:
    z, y, x = (block.stop - block.start for block in tile.read)
    return z, y, x
