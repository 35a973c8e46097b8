"""A stand-in for arrays: it has a size and no content, and a meter sums up what lives at once. No torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from napari_vqldm.config import Int3

_MIB = 2**20
# glibc takes arrays above 32 MiB from the system one by one and gives each back at once; smaller ones come from a heap
# that it hands back only where more than 64 MiB at its end are free.
_LARGE = 32 * _MIB
_HEAP_KEPT = 64 * _MIB
_FLOAT = 4  # bytes of a float32


@dataclass(frozen=True)
class Footprint:
    """Cost of one pass.

    Attributes
    ----------
    bytes : int
        Largest sum of tensors that live at once, input and output included, weights of convolutions not. A convolution
        counts its input and output twice: on the CPU it works on copies in another order.
    small_bytes : int
        The same for tensors below 32 MiB alone, input and output once, at most 64 MiB: what the C library's heap holds.
    flops : int
        Floating point operations; a multiplication with an addition is two.
    """

    bytes: int
    small_bytes: int
    flops: int


@dataclass
class Meter:
    """Counts the bytes that live, and operations."""

    live: int = 0
    small: int = 0
    most: int = 0
    most_small: int = 0
    flops: int = 0

    def hold(self, size: int) -> None:
        """Count bytes that live on to the end of the pass."""
        self.live += size
        self.small += size if size < _LARGE else 0

    def look(self, copies: int = 0) -> None:
        """Note what lives after an operation, with copies that it makes for itself."""
        self.most = max(self.most, self.live + copies)
        self.most_small = max(self.most_small, self.small)

    def footprint(self) -> Footprint:
        """Return what was counted."""
        return Footprint(self.most, min(self.most_small, _HEAP_KEPT), self.flops)


@dataclass(eq=False)
class Array:
    """Stands for a tensor (B, C, D, H, W): as long as a name refers to it, it counts as alive.

    So a pass is written down like the forward function of its network, and arrays end where they end there.
    """

    meter: Meter
    batch: int
    channels: int
    grid: Int3
    size: int = field(init=False)

    def __post_init__(self) -> None:
        self.size = _FLOAT * self.batch * self.channels * math.prod(self.grid)
        self._count(self.size)

    def __del__(self) -> None:
        self._count(-self.size)

    def like(self, channels: int | None = None, grid: Int3 | None = None) -> Array:
        """Return a new array of an operation on this one, voxel by voxel unless another size is given."""
        made = Array(
            self.meter,
            self.batch,
            self.channels if channels is None else channels,
            self.grid if grid is None else grid,
        )
        self.meter.look()
        return made

    def _count(self, change: int) -> None:
        self.meter.live += change
        if self.size < _LARGE:
            self.meter.small += change


def conv(x: Array, channels: int, kernel: Int3, stride: Int3 = (1, 1, 1)) -> Array:
    """Convolution whose padding leaves one cell for every ``stride`` cells."""
    z, y, w = (n // s for n, s in zip(x.grid, stride, strict=True))
    out = Array(x.meter, x.batch, channels, (z, y, w))
    x.meter.look(copies=x.size + out.size)
    x.meter.flops += 2 * x.batch * channels * math.prod(out.grid) * x.channels * math.prod(kernel)
    return out


def conv_up(x: Array, channels: int, kernel: Int3, stride: Int3) -> Array:
    """Transposed convolution that makes ``stride`` cells of every cell."""
    z, y, w = (n * s for n, s in zip(x.grid, stride, strict=True))
    out = Array(x.meter, x.batch, channels, (z, y, w))
    x.meter.look(copies=x.size + out.size)
    x.meter.flops += 2 * x.batch * channels * math.prod(x.grid) * x.channels * math.prod(kernel)
    return out


def linear(x: Array, channels: int) -> Array:
    """Linear layer from channels to channels; its weights count from here on: so estimates came nearer to real jobs."""
    x.meter.hold(_FLOAT * x.channels * channels)
    x.meter.flops += 2 * x.batch * math.prod(x.grid) * x.channels * channels
    return x.like(channels)


def conv3(x: Array, channels: int) -> Array:
    """Convolution with a kernel of 3 x 3 x 3."""
    return conv(x, channels, (3, 3, 3))


def add(x: Array, y: Array) -> Array:
    """Sum of two arrays of one size."""
    return x.like()


def cat(x: Array, y: Array) -> Array:
    """Channels of one array after those of another."""
    return x.like(x.channels + y.channels)
