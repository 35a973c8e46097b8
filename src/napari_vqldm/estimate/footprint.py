"""What one pass through a network takes, found without running it: memory from the shapes of all tensors, and FLOPs.

The network is built on PyTorch's meta device, where tensors have shapes and no memory, and every operation is watched.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from napari_vqldm.checkpoint import Model
from napari_vqldm.config import AnyAutoencoderConfig, AnyDenoiserConfig, Int3
from napari_vqldm.models.build import make_autoencoder, make_denoiser
from napari_vqldm.quantizers.codebook import CHUNK_ROWS

_MIB = 2**20
# glibc takes arrays above 32 MiB from the system one by one and gives each back at once; smaller ones come from a heap
# that it hands back only where more than 64 MiB at its end are free.
_LARGE = 32 * _MIB
_HEAP_KEPT = 64 * _MIB
_DISTANCE_BYTES = 2 * 8  # two doubles per vector of a chunk and code: distances, and a copy while they are compared


@dataclass(frozen=True)
class Footprint:
    """Cost of one pass.

    Attributes
    ----------
    bytes : int
        Largest sum of tensors that live at once, input and output included, weights not. A convolution counts its input
        and output twice: on the CPU it works on copies in another order.
    small_bytes : int
        The same for tensors below 32 MiB alone, input and output once, at most 64 MiB: what the C library's heap holds.
    flops : int
        Floating point operations; a multiplication with an addition is two.
    """

    bytes: int
    small_bytes: int
    flops: int


def encoder_footprint(model: Model, shape: Int3) -> Footprint:
    """Cost of encoding one block of ``shape`` voxels (Z, Y, X), with the search for codes."""
    return _encoder(model.config.autoencoder, shape)


def decoder_footprint(model: Model, grid: Int3) -> Footprint:
    """Cost of decoding one block of ``grid`` latent cells (d, h, w)."""
    return _decoder(model.config.autoencoder, grid)


def denoiser_footprint(model: Model, batch: int = 1) -> Footprint:
    """Cost of one call of the denoiser at the trained window; zero for a model without one."""
    config = model.config.denoiser
    if config is None:
        return Footprint(0, 0, 0)
    return _denoiser(config, model.config.autoencoder.latent_channels, model.space.grid(model.config.window), batch)


@lru_cache(maxsize=256)
def _encoder(config: AnyAutoencoderConfig, shape: Int3) -> Footprint:
    with torch.device("meta"):
        network = make_autoencoder(config).eval().requires_grad_(False)
        volumes = torch.empty(1, 1, *shape)
    found = _watch(lambda: network.encode(volumes))
    if network.quantizer is None:
        return found
    codes = len(network.quantizer.codebook)
    cells = math.prod(n // f for n, f in zip(shape, network.downsampling_factor, strict=True))
    rows = min(cells, CHUNK_ROWS)
    distances = _DISTANCE_BYTES * rows * codes
    flops = 2 * cells * codes * network.latent_channels
    return Footprint(max(found.bytes, found.small_bytes + distances), found.small_bytes, found.flops + flops)


@lru_cache(maxsize=256)
def _decoder(config: AnyAutoencoderConfig, grid: Int3) -> Footprint:
    with torch.device("meta"):
        network = make_autoencoder(config).eval().requires_grad_(False)
        latent = torch.empty(1, network.latent_channels, *grid)
    return _watch(lambda: network.decode(latent))


@lru_cache(maxsize=64)
def _denoiser(config: AnyDenoiserConfig, channels: int, grid: Int3, batch: int) -> Footprint:
    with torch.device("meta"):
        network = make_denoiser(config, channels).eval().requires_grad_(False)
        x_t, t = torch.empty(batch, channels, *grid), torch.empty(batch)
    return _watch(lambda: network(x_t, t, None))


def _watch(run: Callable[[], object]) -> Footprint:
    peak, flops = _PeakMode(), FlopCounterMode(display=False)
    with torch.no_grad(), flops, peak:
        run()
    return Footprint(peak.most, min(peak.most_small, _HEAP_KEPT), int(flops.get_total_flops()))


class _PeakMode(TorchDispatchMode):
    """Adds up the storages that live after every operation."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = 0
        self.most_small = 0
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        inputs, outputs = _tensors(args), _tensors(result)
        for tensor in (*inputs, *outputs):
            storage = tensor.untyped_storage()
            reference = StorageWeakRef(storage)
            self._live.setdefault(storage._cdata, (reference, storage.nbytes()))
        self._live = {key: value for key, value in self._live.items() if not value[0].expired()}
        copies = 0
        if func is torch.ops.aten.convolution.default:
            copies = _size(inputs[0]) + _size(outputs[0])
        sizes = [size for _, size in self._live.values()]
        self.most = max(self.most, sum(sizes) + copies)
        self.most_small = max(self.most_small, sum(size for size in sizes if size < _LARGE))
        return result


def _tensors(values: Any) -> list[Tensor]:
    return [
        leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor) and not isinstance(leaf, torch.nn.Parameter)
    ]


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
